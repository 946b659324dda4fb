/* golden/training.json: five epochs over the notebook's five texts as PyTorch trains them, in
 * eight modes. Needs the real model; two modes by default, all with ORTHRUS_FULL=1. */
#include <math.h>

#include "base/jval.h"
#include "tests/support/tasks.h"
#include "tests/support/testing.h"
#include "train/optimize/learner.h"
#include "train/train.h"

#define GOLDEN ORTHRUS_TEST_DATA "/golden/"

enum { TEXTS = 5, TOKENS_MAX = 128 };

static const double loss_tolerance = 2e-3; /* relative */
static const double norm_tolerance = 1e-3; /* relative */
/* A key's bias has no gradient in theory, 1e-9 in practice: rounding alone. */
static const double norm_floor = 1e-6;
/* Fifteen steps of at most lr each; Adam turns rounding of a tiny gradient into a whole step. */
static const double head_tolerance = 2e-5;

struct fixture {
    const char *model_dir; /* NULL: skip */
    struct checkpoint *checkpoint;
    struct heads *heads;
    struct jval *golden;
    int32_t ids[TEXTS][TOKENS_MAX];
    size_t n_ids[TEXTS];
    int32_t labels[TWO_TASKS][TEXTS];
};

static double number(const struct jval *value)
{
    double out = 0;
    assert_true(jval_double(value, &out));
    return out;
}

static void read_ids(struct fixture *fixture)
{
    FILE *file = fopen(GOLDEN "tokenizer.jsonl", "r");
    assert_non_null(file);
    static char line[1 << 20];
    for (size_t i = 0; i < TEXTS; i++) {
        struct err err = ERR_INIT;
        struct jval *value = NULL;
        assert_non_null(fgets(line, sizeof line, file));
        assert_int_equal(jval_parse(line, strlen(line), &value, &err), ERR_OK);
        const struct jval *ids = jval_get(value, "ids");
        fixture->n_ids[i] = jval_array_size(ids);
        for (size_t j = 0; j < fixture->n_ids[i]; j++) {
            fixture->ids[i][j] = (int32_t)number(jval_at(ids, j));
        }
        jval_free(value);
    }
    fclose(file);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct err err = ERR_INIT;
    *state = &fixture;
    fixture.model_dir = getenv("ORTHRUS_TEST_MODEL");
    if (!fixture.model_dir || !*fixture.model_dir) {
        print_message("ORTHRUS_TEST_MODEL names no folder of bert-base-uncased: skipped\n");
        fixture.model_dir = NULL;
        return 0;
    }
    if (checkpoint_open(fixture.model_dir, 2, &fixture.checkpoint, &err) != ERR_OK ||
        jval_read_file(GOLDEN "training.json", 64 << 20, &fixture.golden, &err) != ERR_OK) {
        print_error("%s\n", err.text);
        return 1;
    }
    struct heads_fit fit = {.hidden = fixture.checkpoint->config.hidden,
                            .encoder_sha256 = fixture.checkpoint->encoder_sha256,
                            .pooling = POOLING_MEAN};
    if (heads_load(GOLDEN "heads-init.safetensors", &fit, true, &fixture.heads, &err) != ERR_OK) {
        print_error("%s\n", err.text);
        return 1;
    }
    read_ids(&fixture);
    static const char *const keys[] = {"classifier_labels", "sentiment_labels"};
    for (size_t kind = 0; kind < TWO_TASKS; kind++) {
        for (size_t i = 0; i < TEXTS; i++) {
            fixture.labels[kind][i] = (int32_t)number(
                jval_at(jval_get(fixture.golden, keys[kind]), i));
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    heads_release(fixture->heads);
    checkpoint_close(fixture->checkpoint);
    jval_free(fixture->golden);
    return 0;
}

/* The mode's words as the trainer's options. */
static void read_mode(const struct jval *mode, size_t layers, struct plan *plan,
                      struct learner_options *options, struct tasks *tasks)
{
    struct err err = ERR_INIT;
    bool truth = false;
    int64_t n = 0;
    const char *word = NULL;
    size_t size = 0;
    *plan = (struct plan){.layer_decay = 1};
    if (jval_bool(jval_get(mode, "freeze_backbone"), &truth) && truth) {
        assert_int_equal(plan_freeze(plan, "backbone", layers, tasks, &err), ERR_OK);
    }
    const struct jval *heads = jval_get(mode, "freeze_heads");
    for (size_t i = 0; i < jval_array_size(heads); i++) {
        assert_true(jval_string(jval_at(heads, i), &word, &size));
        assert_int_equal(plan_freeze(plan, word, layers, tasks, &err), ERR_OK);
    }
    if (jval_int(jval_get(mode, "freeze_layers"), &n)) {
        char range[32];
        snprintf(range, sizeof range, "layers:0-%d", (int)n - 1);
        assert_int_equal(plan_freeze(plan, "embeddings", layers, tasks, &err), ERR_OK);
        assert_int_equal(plan_freeze(plan, range, layers, tasks, &err), ERR_OK);
    }
    jval_double(jval_get(mode, "layer_decay"), &plan->layer_decay);
    for (size_t i = 0; i < jval_array_size(jval_get(mode, "loss_weights")); i++) {
        tasks->at[i].weight = number(jval_at(jval_get(mode, "loss_weights"), i));
    }
    if (jval_double(jval_get(mode, "weight_decay"), &options->optimizer.weight_decay)) {
        options->optimizer.kind = OPTIMIZER_ADAMW;
    }
}

static void near(double found, double expected, double relative, double floor, const char *what)
{
    if (!(fabs(found - expected) <= relative * fabs(expected) + floor)) {
        fail_msg("%s: %.8g, expected %.8g", what, found, expected);
    }
}

static void check_norms(struct learner *learner, const struct jval *norms)
{
    const struct params *params = learner_params(learner);
    size_t trainable = 0;
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        const struct jval *expected = jval_get(norms, param->name);
        assert_true(param->trainable == (expected != NULL));
        if (expected) {
            near(optimizer_param_norm(param), number(expected), norm_tolerance, norm_floor,
                 param->name);
            trainable++;
        }
    }
    assert_int_equal(trainable, jval_object_size(norms));
}

static void check_heads(struct learner *learner, const struct jval *heads)
{
    const struct params *params = learner_params(learner);
    for (size_t i = params->n_encoder; i < params->n; i++) {
        const struct param *param = &params->at[i];
        const struct jval *expected = jval_get(heads, param->name);
        size_t count = jval_array_size(expected); /* the first of them */
        assert_true(count > 0 && count <= param->count);
        for (size_t j = 0; j < count; j++) {
            near((double)param->value[j], number(jval_at(expected, j)), 0, head_tolerance,
                 param->name);
        }
    }
}

/* One pass over the texts in order; returns how many texts each head got right. */
static void run_epoch(const struct fixture *fixture, struct learner *learner, struct batch *batch,
                      const struct jval *run, size_t *step, const struct tasks *tasks,
                      const struct jval *epoch)
{
    const struct jval *steps = jval_get(run, "steps");
    static const char *const names[] = {"classifier_accuracy", "sentiment_accuracy"};
    double sum = 0;
    size_t right[TWO_TASKS] = {0};
    for (size_t first = 0; first < TEXTS; first += 2) {
        struct losses losses;
        struct lesson lesson = {.batch = batch};
        batch_clear(batch);
        while (lesson.n < 2 && first + lesson.n < TEXTS) {
            size_t i = first + lesson.n++;
            assert_true(batch_add(batch, fixture->ids[i], fixture->n_ids[i]));
        }
        for (size_t kind = 0; kind < TWO_TASKS; kind++) {
            lesson.labels.labels[kind] = fixture->labels[kind] + first;
        }
        learner_gradients(learner, &lesson, &losses);
        for (size_t kind = 0; kind < TWO_TASKS; kind++) {
            char what[32];
            snprintf(what, sizeof what, "step %zu, %s", *step + 1, tasks->at[kind].name);
            near(losses_mean(&losses, kind), number(jval_at(jval_at(steps, *step), kind)),
                 loss_tolerance, 0, what);
            for (size_t i = 0; i < lesson.n; i++) {
                right[kind] += learner_predicted(learner, kind)[i] == lesson.labels.labels[kind][i];
            }
        }
        sum += losses_total(&losses, tasks) * (double)lesson.n;
        if (*step == 0) {
            check_norms(learner, jval_get(run, "grad_norms_step1"));
        }
        learner_update(learner, 2e-5, 2e-5);
        ++*step;
    }
    near(sum / TEXTS, number(jval_get(epoch, "loss")), loss_tolerance, 0, "the epoch's loss");
    for (size_t kind = 0; kind < TWO_TASKS; kind++) {
        near((double)right[kind] / TEXTS, number(jval_get(epoch, names[kind])), 0, 1e-6,
             names[kind]);
    }
}

static void check_run(const struct fixture *fixture, const struct jval *run)
{
    const struct config *config = &fixture->checkpoint->config;
    struct err err = ERR_INIT;
    struct plan plan;
    struct tasks tasks = two_tasks(1, 1, fixture->heads);
    struct learner_options options = {
        .plan = &plan,
        .pooling = POOLING_MEAN,
        .max_texts = 2,
        .max_tokens = 2 * TOKENS_MAX,
        .longest = TOKENS_MAX,
        .threads = 2,
    };
    read_mode(jval_get(run, "mode"), config->layers, &plan, &options, &tasks);
    struct learner *learner;
    assert_int_equal(learner_create(config, fixture->checkpoint, &tasks, &options, &learner, &err),
                     ERR_OK);
    params_init_heads(learner_params(learner), 0);
    struct batch batch;
    assert_true(batch_init(&batch, 2, 2 * TOKENS_MAX));
    size_t step = 0;
    const struct jval *epochs = jval_get(run, "epochs");
    for (size_t i = 0; i < jval_array_size(epochs); i++) {
        run_epoch(fixture, learner, &batch, run, &step, &tasks, jval_at(epochs, i));
    }
    assert_int_equal(step, jval_array_size(jval_get(run, "steps")));
    check_heads(learner, jval_get(run, "final_heads"));

    batch_clear(&batch);
    assert_true(batch_add(&batch, fixture->ids[0], fixture->n_ids[0]));
    struct losses losses;
    struct lesson lesson = {
        .n = 1, .batch = &batch, .labels = {.labels = {fixture->labels[0], fixture->labels[1]}}};
    learner_evaluate(learner, &lesson, &losses);
    const struct jval *embedding = jval_get(run, "final_embedding_first24_of_text0");
    for (size_t i = 0; i < jval_array_size(embedding); i++) {
        near((double)learner_pooled(learner)[i], number(jval_at(embedding, i)), 0, 2e-2,
             "the embedding behind training");
    }
    batch_done(&batch);
    learner_destroy(learner);
}

/* The same through the whole trainer: data from a file, heads from a file, losses from
 * train.jsonl. */
static void check_whole(const struct fixture *fixture, size_t index, const char *const *freeze,
                        size_t n_freeze)
{
    const struct jval *run = jval_at(jval_get(fixture->golden, "runs"), index);
    const struct jval *steps = jval_get(run, "steps");
    const struct jval *texts = jval_get(fixture->golden, "texts");
    struct scratch scratch;
    struct train_options options;
    struct err err = ERR_INIT;
    char data[512];
    char output[512];
    scratch_make(&scratch);
    snprintf(data, sizeof data, "%s/data.jsonl", scratch.dir);
    snprintf(output, sizeof output, "%s/out", scratch.dir);
    FILE *file = fopen(data, "w");
    assert_non_null(file);
    for (size_t i = 0; i < TEXTS; i++) {
        struct buf line;
        const char *text;
        size_t size;
        buf_init(&line, 1 << 16);
        assert_true(jval_string(jval_at(texts, i), &text, &size));
        assert_true(jval_append_string(&line, text, size));
        fprintf(file, "{\"text\": %s, \"classifier\": %d, \"sentiment\": %d}\n", line.data,
                (int)fixture->labels[CLASSIFIER][i], (int)fixture->labels[SENTIMENT][i]);
        buf_done(&line);
    }
    assert_int_equal(fclose(file), 0);
    train_options_default(&options);
    options.model_dir = fixture->model_dir;
    options.data = data;
    options.output = output;
    options.init_heads = GOLDEN "heads-init.safetensors";
    options.dropout = 0;
    options.shuffle = false;
    options.freeze = freeze;
    options.n_freeze = n_freeze;
    options.threads = 2;
    if (train_run(&options, NULL, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    file = fopen(scratch_path(&scratch, "out/train.jsonl"), "r");
    assert_non_null(file);
    char line[4096];
    size_t step = 0;
    for (; fgets(line, sizeof line, file); step++) {
        struct jval *object;
        assert_int_equal(jval_parse(line, strlen(line), &object, &err), ERR_OK);
        near(number(jval_get(object, "loss_classifier")), number(jval_at(jval_at(steps, step), 0)),
             loss_tolerance, 0, "classifier, from train.jsonl");
        near(number(jval_get(object, "loss_sentiment")), number(jval_at(jval_at(steps, step), 1)),
             loss_tolerance, 0, "sentiment, from train.jsonl");
        jval_free(object);
    }
    fclose(file);
    assert_int_equal(step, jval_array_size(steps));
    scratch_remove(&scratch);
}

static bool is_full(void)
{
    const char *full = getenv("ORTHRUS_FULL");
    return full && strcmp(full, "1") == 0;
}

static void test_whole_frozen(void **state)
{
    const struct fixture *fixture = *state;
    const char *const freeze[] = {"backbone"};
    if (!fixture->model_dir) {
        skip();
    }
    check_whole(fixture, 1, freeze, 1);
}

static void test_whole_all(void **state)
{
    const struct fixture *fixture = *state;
    if (!fixture->model_dir || !is_full()) {
        skip();
    }
    check_whole(fixture, 0, NULL, 0);
}

static void check_mode(void **state, size_t index)
{
    const struct fixture *fixture = *state;
    bool by_default = index == 0 || index == 4;
    if (!fixture->model_dir || (!by_default && !is_full())) {
        skip();
    }
    const struct jval *runs = jval_get(fixture->golden, "runs");
    assert_int_equal(jval_array_size(runs), 8);
    check_run(fixture, jval_at(runs, index));
}

#define MODE(name, index)           \
    static void name(void **state)  \
    {                               \
        check_mode(state, (index)); \
    }

MODE(test_all, 0)
MODE(test_frozen_backbone, 1)
MODE(test_frozen_classifier, 2)
MODE(test_frozen_sentiment, 3)
MODE(test_frozen_layers, 4)
MODE(test_layer_decay, 5)
MODE(test_loss_weights, 6)
MODE(test_adamw, 7)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_frozen_backbone),
        cmocka_unit_test(test_frozen_classifier),
        cmocka_unit_test(test_frozen_sentiment),
        cmocka_unit_test(test_frozen_layers),
        cmocka_unit_test(test_layer_decay),
        cmocka_unit_test(test_loss_weights),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_whole_frozen),
        cmocka_unit_test(test_whole_all),
    };
    return cmocka_run_group_tests_name("golden training", tests, set_up, tear_down);
}
