/* Whole runs on the tiny model: what they leave, that they repeat and resume to the same bits, and
 * what they refuse. */
#include "base/jval.h"
#include "model/model.h"
#include "tests/support/testing.h"
#include "train/measure/eval.h"
#include "train/train.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { EXAMPLES = 12 };

struct fixture {
    struct scratch scratch;
    char data[512];
    size_t epochs; /* seen by the callback */
    struct epoch_result last;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    jval_global_init();
    scratch_make(&fixture.scratch);
    static const char *const words[] = {"good day", "bad rain", "what is it", "the news said"};
    char text[EXAMPLES * 128] = "";
    for (size_t i = 0; i < EXAMPLES; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used,
                       i == 5 ? "{\"text\": \"%s %zu\"}\n"
                              : "{\"text\": \"%s %zu\", \"classifier\": %zu, \"sentiment\": %zu}\n",
                       words[i % 4], i, i % 6, i % 3);
    }
    scratch_text(&fixture.scratch, "data.jsonl", text);
    (void)snprintf(fixture.data, sizeof fixture.data, "%s/data.jsonl", fixture.scratch.dir);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    scratch_remove(&fixture->scratch);
    return 0;
}

static void on_epoch(void *context, const struct tasks *tasks, const struct epoch_result *result)
{
    assert_true(tasks->n >= 1);
    struct fixture *fixture = context;
    fixture->epochs++;
    fixture->last = *result;
}

/* One run into a folder of the scratch; options are changed by the caller before. */
static enum err_code train(struct fixture *fixture, const char *output,
                           struct train_options *options, struct err *err)
{
    char path[600];
    struct train_callbacks callbacks = {.context = fixture, .on_epoch = on_epoch};
    (void)snprintf(path, sizeof path, "%s/%s", fixture->scratch.dir, output);
    options->model_dir = options->model_dir ? options->model_dir : TINY;
    options->data = options->data ? options->data : fixture->data;
    options->output = path;
    options->overwrite = !options->resume;
    fixture->epochs = 0;
    enum err_code code = train_run(options, &callbacks, err);
    options->output = NULL;
    return code;
}

static void train_well(struct fixture *fixture, const char *output, struct train_options *options)
{
    struct err err = ERR_INIT;
    if (train(fixture, output, options, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
}

static struct train_options defaults(void)
{
    struct train_options options;
    train_options_default(&options);
    options.lr = 1e-3;
    options.batch_size = 4;
    options.epochs = 3;
    options.threads = 2;
    return options;
}

static void assert_same_file(struct fixture *fixture, const char *a, const char *b)
{
    char *data[2];
    size_t size[2];
    const char *const names[2] = {a, b};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            file_read(scratch_path(&fixture->scratch, names[i]), 1 << 26, &data[i], &size[i], &err),
            ERR_OK);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    free(data[0]);
    free(data[1]);
}

static bool there(struct fixture *fixture, const char *name)
{
    return file_exists(scratch_path(&fixture->scratch, name));
}

static void test_deep_output(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    options.eval_split = 0.25;
    train_well(fixture, "deep", &options);
    assert_int_equal(fixture->epochs, 3);
    assert_int_equal(fixture->last.train.n, 9);
    assert_int_equal(fixture->last.eval.n, 3);
    static const char *const files[] = {"heads.safetensors", "model.safetensors", "config.json",
                                        "vocab.txt",         "train.jsonl",       "report.json",
                                        "report.html"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "deep/%s", files[i]);
        assert_true(there(fixture, name));
    }
    /* The folder loads as a model whose digest its heads name, and isn't the old encoder. */
    struct encoder_options encoder = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct model *model, *old;
    struct heads *heads;
    struct err err = ERR_INIT;
    assert_int_equal(model_load(scratch_path(&fixture->scratch, "deep"), &encoder, &model, &err),
                     ERR_OK);
    assert_int_equal(model_load(TINY, &encoder, &old, &err), ERR_OK);
    assert_string_not_equal(model->encoder_sha256, old->encoder_sha256);
    struct heads_fit fit = model_heads_fit(model, POOLING_MEAN);
    const char *path = scratch_path(&fixture->scratch, "deep/heads.safetensors");
    assert_int_equal(heads_load(path, &fit, true, &heads, &err), ERR_OK);
    assert_true(heads_find(heads, "classifier") && heads_find(heads, "sentiment"));
    heads_release(heads);
    struct heads_fit old_fit = model_heads_fit(old, POOLING_MEAN);
    expect_error(&err, heads_load(path, &old_fit, true, &heads, &err), ERR_CONFLICT,
                 WORDS("encoder"));
    model_destroy(old);
    model_destroy(model);
}

static void test_steps_are_logged(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    const char *frozen[] = {"backbone"};
    options.freeze = frozen;
    options.n_freeze = 1;
    train_well(fixture, "log", &options);
    char *data;
    size_t size;
    struct err err = ERR_INIT;
    assert_int_equal(
        file_read(scratch_path(&fixture->scratch, "log/train.jsonl"), 1 << 20, &data, &size, &err),
        ERR_OK);
    size_t lines = 0;
    for (char *line = data; *line != '\0'; lines++) {
        char *newline = strchr(line, '\n');
        struct jval *object;
        int64_t step, epoch;
        double number;
        assert_non_null(newline);
        assert_int_equal(jval_parse(line, (size_t)(newline - line), &object, &err), ERR_OK);
        assert_int_equal(jval_object_size(object), 7);
        assert_true(jval_int(jval_get(object, "step"), &step));
        assert_true(jval_int(jval_get(object, "epoch"), &epoch));
        assert_int_equal(step, lines + 1);
        assert_int_equal(epoch, lines / 3 + 1);
        static const char *const keys[] = {"loss", "loss_classifier", "loss_sentiment", "lr",
                                           "grad_norm"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            assert_true(jval_double(jval_get(object, keys[i]), &number) && number > 0);
        }
        jval_free(object);
        line = newline + 1;
    }
    assert_int_equal(lines, 9);
    free(data);
    /* A frozen encoder is not written again. */
    assert_false(there(fixture, "log/model.safetensors"));
}

/* Two epochs and then two more are four, bit for bit: encoder with dropout, shuffled. */
static void check_resume(struct fixture *fixture, const char *const *freeze, size_t n_freeze,
                         bool deep)
{
    struct train_options options = defaults();
    options.epochs = 4;
    options.freeze = freeze;
    options.n_freeze = n_freeze;
    options.eval_split = 0.25;
    options.optimizer = (struct optimizer_options){OPTIMIZER_ADAMW, 0.01, 0.5};
    options.warmup_steps = 5;
    train_well(fixture, "whole", &options);
    options.epochs = 2;
    train_well(fixture, "parts", &options);
    options.epochs = 4;
    options.resume = true;
    train_well(fixture, "parts", &options);
    assert_int_equal(fixture->epochs, 2);
    assert_same_file(fixture, "whole/heads.safetensors", "parts/heads.safetensors");
    assert_same_file(fixture, "whole/train.jsonl", "parts/train.jsonl");
    if (deep) {
        assert_same_file(fixture, "whole/model.safetensors", "parts/model.safetensors");
    }
    /* A run that is through has nothing left to do, and leaves the same. */
    train_well(fixture, "parts", &options);
    assert_int_equal(fixture->epochs, 0);
    assert_same_file(fixture, "whole/heads.safetensors", "parts/heads.safetensors");

    options.lr = 2e-3;
    struct err err = ERR_INIT;
    expect_error(&err, train(fixture, "parts", &options, &err), ERR_MISMATCH,
                 WORDS("--resume", "--lr"));
    err = ERR_INIT;
    expect_error(&err, train(fixture, "fresh", &options, &err), ERR_NOT_FOUND,
                 WORDS("checkpoint.safetensors"));
}

static void test_resume_deep(void **state)
{
    check_resume(*state, NULL, 0, true);
}

static void test_resume_heads(void **state)
{
    const char *const frozen[] = {"backbone"};
    check_resume(*state, frozen, 1, false);
}

static void test_resume_partly_frozen(void **state)
{
    const char *const frozen[] = {"embeddings", "layers:0", "sentiment"};
    check_resume(*state, frozen, 3, true);
}

/* Lines that a killed run wrote behind its last checkpoint are done again. */
static void test_resume_after_kill(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    options.epochs = 3;
    train_well(fixture, "whole", &options);
    options.epochs = 2;
    train_well(fixture, "killed", &options);
    FILE *log = fopen(scratch_path(&fixture->scratch, "killed/train.jsonl"), "a");
    assert_non_null(log);
    assert_true(fputs("{\"step\": 7, \"epoch\": 3, \"lo", log) >= 0);
    assert_int_equal(fclose(log), 0);
    options.epochs = 3;
    options.resume = true;
    train_well(fixture, "killed", &options);
    assert_same_file(fixture, "whole/train.jsonl", "killed/train.jsonl");
    assert_same_file(fixture, "whole/model.safetensors", "killed/model.safetensors");
}

static void test_damaged_checkpoint(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    const char *const frozen[] = {"backbone"};
    options.freeze = frozen;
    options.n_freeze = 1;
    train_well(fixture, "damaged", &options);
    const char *path = scratch_path(&fixture->scratch, "damaged/checkpoint.safetensors");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 4), 0);
    options.resume = true;
    struct err err = ERR_INIT;
    expect_error(&err, train(fixture, "damaged", &options, &err), ERR_INVALID,
                 WORDS("checkpoint.safetensors"));
    /* A heads file is no checkpoint. */
    scratch_copy(&fixture->scratch, TINY "/heads.safetensors", "damaged/checkpoint.safetensors");
    err = ERR_INIT;
    expect_error(&err, train(fixture, "damaged", &options, &err), ERR_INVALID,
                 WORDS("no checkpoint"));
}

static void test_nothing_trains(void **state)
{
    struct fixture *fixture = *state;
    const char *const all[] = {"all"};
    const char *const each[] = {"backbone", "classifier", "sentiment"};
    for (size_t i = 0; i < 2; i++) {
        struct train_options options = defaults();
        struct err err = ERR_INIT;
        options.freeze = i == 0 ? all : each;
        options.n_freeze = i == 0 ? 1 : 3;
        options.init_heads = TINY "/heads.safetensors";
        expect_error(&err, train(fixture, "frozen", &options, &err), ERR_USAGE, WORDS("--freeze"));
        assert_false(there(fixture, "frozen"));
    }
}

/* A deep run with a rate of 0 for the encoder gives the heads of a frozen one. */
static void test_frozen_is_the_same_learning(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    options.lr = 0;
    options.head_lr = 1e-2;
    options.dropout = 0;
    train_well(fixture, "still", &options);
    double deep = fixture->last.train.loss;
    const char *const frozen[] = {"backbone"};
    options.freeze = frozen;
    options.n_freeze = 1;
    train_well(fixture, "cached", &options);
    double difference = deep - fixture->last.train.loss;
    assert_true(difference < 1e-5 && difference > -1e-5);
}

static void test_patience_keeps_the_best(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    const char *const frozen[] = {"backbone"};
    options.freeze = frozen;
    options.n_freeze = 1;
    options.lr = 0.5; /* so far off that the first epochs are the best */
    options.epochs = 50;
    options.patience = 2;
    options.eval_split = 0.25;
    train_well(fixture, "patient", &options);
    size_t ran = fixture->epochs;
    assert_true(ran >= 3 && ran < 50);
    options.patience = 0;
    options.epochs = ran - 2;
    train_well(fixture, "straight", &options);
    assert_same_file(fixture, "straight/heads.safetensors", "patient/heads.safetensors");
}

/* A head that no line teaches isn't in the output. */
static void test_one_task(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    char path[600];
    scratch_text(&fixture->scratch, "one.jsonl",
                 "{\"text\": \"a\", \"sentiment\": 1}\n{\"text\": \"b\", \"sentiment\": 2}\n");
    (void)snprintf(path, sizeof path, "%s/one.jsonl", fixture->scratch.dir);
    options.data = path;
    train_well(fixture, "one", &options);
    struct safetensors *file;
    struct err err = ERR_INIT;
    assert_int_equal(
        safetensors_open(scratch_path(&fixture->scratch, "one/heads.safetensors"), &file, &err),
        ERR_OK);
    assert_non_null(safetensors_find(file, "sentiment.weight"));
    assert_null(safetensors_find(file, "classifier.weight"));
    safetensors_close(file);
    scratch_text(&fixture->scratch, "one.jsonl", "{\"text\": \"a\"}\n");
    expect_error(&err, train(fixture, "none", &options, &err), ERR_INVALID,
                 WORDS("one.jsonl", "label"));
}

static void test_refuses(void **state)
{
    struct fixture *fixture = *state;
    const char *const layers[] = {"layers:0-2"};
    struct train_options bad[7];
    const char *const words[7] = {"--epochs",     "--batch-size", "--patience",   "--eval-split",
                                  "--max-length", "--freeze",     "--layer-decay"};
    for (size_t i = 0; i < 7; i++) {
        bad[i] = defaults();
    }
    bad[0].epochs = 0;
    bad[1].batch_size = 0;
    bad[2].patience = 1;
    bad[3].eval_split = 1;
    bad[4].max_length = 65;
    bad[5].freeze = layers;
    bad[5].n_freeze = 1;
    bad[6].layer_decay = 0;
    for (size_t i = 0; i < 7; i++) {
        struct err err = ERR_INIT;
        expect_error(&err, train(fixture, "refused", &bad[i], &err), ERR_USAGE, WORDS(words[i]));
    }
    assert_false(there(fixture, "refused"));
    struct train_options options = defaults();
    options.lr = 1e30;
    struct err err = ERR_INIT;
    expect_error(&err, train(fixture, "wild", &options, &err), ERR_INVALID,
                 WORDS("diverged", "--lr"));
}

/* eval on what was trained agrees with the run's own last numbers. */
static void test_eval(void **state)
{
    struct fixture *fixture = *state;
    struct train_options options = defaults();
    options.eval_data = fixture->data;
    train_well(fixture, "evaluated", &options);
    struct encoder_options encoder = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct model *model;
    struct heads *heads;
    struct eval_result result;
    struct err err = ERR_INIT;
    assert_int_equal(
        model_load(scratch_path(&fixture->scratch, "evaluated"), &encoder, &model, &err), ERR_OK);
    struct heads_fit fit = model_heads_fit(model, POOLING_MEAN);
    struct eval_options evaluate = {
        .data = fixture->data, .pooling = POOLING_MEAN, .max_length = 64, .threads = 2};
    assert_int_equal(heads_load(scratch_path(&fixture->scratch, "evaluated/heads.safetensors"),
                                &fit, true, &heads, &err),
                     ERR_OK);
    assert_int_equal(eval_run(model, heads, &evaluate, &result, &err), ERR_OK);
    for (size_t kind = 0; kind < 2; kind++) {
        struct tally_score score = tally_score(&result.head[kind]);
        const struct tally_score *last = &fixture->last.eval.head[kind];
        double difference = score.loss - last->loss;
        assert_int_equal(score.labelled, EXAMPLES - 1);
        assert_true(difference < 1e-5 && difference > -1e-5);
        assert_true(score.accuracy == last->accuracy && score.macro_f1 == last->macro_f1);
    }
    eval_result_done(&result);
    heads_release(heads);
    model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deep_output),
        cmocka_unit_test(test_steps_are_logged),
        cmocka_unit_test(test_resume_deep),
        cmocka_unit_test(test_resume_heads),
        cmocka_unit_test(test_resume_partly_frozen),
        cmocka_unit_test(test_resume_after_kill),
        cmocka_unit_test(test_damaged_checkpoint),
        cmocka_unit_test(test_nothing_trains),
        cmocka_unit_test(test_frozen_is_the_same_learning),
        cmocka_unit_test(test_patience_keeps_the_best),
        cmocka_unit_test(test_one_task),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_eval),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
