/* The whole network's way back on the tiny model against finite differences of a double reference:
 * mean and first-token pooling, with dropout, partly frozen. */
#include "tests/support/reference.h"
#include "tests/support/tasks.h"
#include "train/network/dropout.h"
#include "train/optimize/learner.h"

struct reference {
    const struct params *params;
    double **w; /* [n] values in double, in the params' order */
    const struct batch *batch;
    const int32_t *labels[TWO_TASKS];
    double weights[TWO_TASKS];
    enum pooling pooling;
    double rate;
    uint64_t seed;
    uint32_t step;
};

static void drop(const struct reference *ref, uint32_t place, size_t row, double *x, size_t n)
{
    float mask[256];
    struct dropout dropout = {(float)ref->rate, ref->seed, ref->step, place};
    assert_true(n <= 256);
    for (size_t i = 0; i < n; i++) {
        mask[i] = 1;
    }
    dropout_row(&dropout, row, mask, n);
    for (size_t i = 0; i < n; i++) {
        x[i] *= (double)mask[i];
    }
}

static void dense_reference(const double *x, const double *w, const double *b, size_t rows,
                            size_t in, size_t out, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < out; o++) {
            double sum = b[o];
            for (size_t i = 0; i < in; i++) {
                sum += x[r * in + i] * w[o * in + i];
            }
            y[r * out + o] = sum;
        }
    }
}

static void norm_rows(const struct reference *ref, const double *w, const double *b, size_t rows,
                      double *x)
{
    size_t h = ref->params->config.hidden;
    const float zeros[256] = {0};
    for (size_t r = 0; r < rows; r++) {
        double row[256];
        memcpy(row, x + r * h, h * sizeof *row);
        norm_reference(row, w, b, zeros, h, (double)ref->params->config.layer_norm_eps, x + r * h);
    }
}

static void attention_reference(const struct reference *ref, const double *qkv[3], size_t n,
                                size_t text_row, uint32_t place, double *context)
{
    const struct config *config = &ref->params->config;
    size_t h = config->hidden;
    size_t d = h / config->heads;
    const float zeros[256] = {0};
    for (size_t head = 0; head < config->heads; head++) {
        for (size_t i = 0; i < n; i++) {
            double scores[256], p[256];
            for (size_t j = 0; j < n; j++) {
                scores[j] = 0;
                for (size_t k = head * d; k < (head + 1) * d; k++) {
                    scores[j] += qkv[0][i * h + k] * qkv[1][j * h + k];
                }
            }
            softmax_reference(scores, zeros, n, 1 / sqrt((double)d), p);
            drop(ref, place, text_row * config->heads + head * n + i, p, n);
            for (size_t k = head * d; k < (head + 1) * d; k++) {
                context[i * h + k] = 0;
                for (size_t j = 0; j < n; j++) {
                    context[i * h + k] += p[j] * qkv[2][j * h + k];
                }
            }
        }
    }
}

enum { TOKENS_MAX = 64, WIDE_MAX = 64 };

/* One layer over one text of n tokens in x [n,H]. */
static void layer_reference(const struct reference *ref, size_t layer, size_t first, size_t n,
                            double *x)
{
    const struct config *config = &ref->params->config;
    size_t h = config->hidden;
    size_t wide = config->intermediate;
    double *const *w = ref->w + 5 + 16 * layer;
    uint32_t place = (uint32_t)(1 + 3 * layer);
    static double parts[3][TOKENS_MAX * WIDE_MAX], context[TOKENS_MAX * WIDE_MAX];
    static double sum[TOKENS_MAX * WIDE_MAX], ffn[TOKENS_MAX * WIDE_MAX];
    for (size_t k = 0; k < 3; k++) {
        dense_reference(x, w[2 * k], w[2 * k + 1], n, h, h, parts[k]);
    }
    const double *qkv[3] = {parts[0], parts[1], parts[2]};
    attention_reference(ref, qkv, n, first, place, context);
    dense_reference(context, w[6], w[7], n, h, h, sum);
    for (size_t t = 0; t < n; t++) {
        drop(ref, place + 1, first + t, sum + t * h, h);
    }
    for (size_t i = 0; i < n * h; i++) {
        x[i] += sum[i];
    }
    norm_rows(ref, w[8], w[9], n, x);
    dense_reference(x, w[10], w[11], n, h, wide, ffn);
    for (size_t i = 0; i < n * wide; i++) {
        ffn[i] = gelu_reference(ffn[i]);
    }
    dense_reference(ffn, w[12], w[13], n, wide, h, sum);
    for (size_t t = 0; t < n; t++) {
        drop(ref, place + 2, first + t, sum + t * h, h);
    }
    for (size_t i = 0; i < n * h; i++) {
        x[i] += sum[i];
    }
    norm_rows(ref, w[14], w[15], n, x);
}

static void pooled_reference(const struct reference *ref, size_t text, double *pooled)
{
    const struct config *config = &ref->params->config;
    size_t h = config->hidden;
    size_t first = ref->batch->starts[text];
    size_t n = ref->batch->starts[text + 1] - first;
    static double x[TOKENS_MAX * WIDE_MAX];
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < h; j++) {
            x[t * h + j] = ref->w[0][(size_t)ref->batch->ids[first + t] * h + j] +
                           ref->w[1][t * h + j] + ref->w[2][j];
        }
    }
    norm_rows(ref, ref->w[3], ref->w[4], n, x);
    for (size_t t = 0; t < n; t++) {
        drop(ref, 0, first + t, x + t * h, h);
    }
    for (size_t i = 0; i < config->layers; i++) {
        layer_reference(ref, i, first, n, x);
    }
    for (size_t j = 0; j < h; j++) {
        pooled[j] = 0;
        for (size_t t = 0; t < (ref->pooling == POOLING_CLS ? 1 : n); t++) {
            pooled[j] += x[t * h + j] / (ref->pooling == POOLING_CLS ? 1.0 : (double)n);
        }
    }
}

/* The whole loss. Tiny-bert's heads come behind the encoder's 5 + 16·L parameters. */
static double loss_reference(const struct reference *ref)
{
    const struct params *params = ref->params;
    double total[TWO_TASKS] = {0};
    double labelled[TWO_TASKS] = {0};
    for (size_t i = 0; i < ref->batch->n; i++) {
        double pooled[WIDE_MAX];
        pooled_reference(ref, i, pooled);
        double *const *w = ref->w + params->n_encoder;
        for (size_t kind = 0; kind < TWO_TASKS; kind++, w += 2) {
            int32_t label = ref->labels[kind][i];
            size_t classes = params->tasks.at[kind].classes;
            double logits[16];
            const float zeros[16] = {0};
            double p[16];
            if (label == LABEL_NONE) {
                continue;
            }
            dense_reference(pooled, w[0], w[1], 1, params->config.hidden, classes, logits);
            softmax_reference(logits, zeros, classes, 1, p);
            total[kind] -= log(p[label]);
            labelled[kind]++;
        }
    }
    double loss = 0;
    for (size_t kind = 0; kind < TWO_TASKS; kind++) {
        loss += labelled[kind] > 0 ? ref->weights[kind] * total[kind] / labelled[kind] : 0;
    }
    return loss;
}

struct tiny {
    struct checkpoint *checkpoint;
    struct learner *learner;
    struct batch batch;
    int32_t labels[TWO_TASKS][3];
    struct lesson lesson;
};

static void tiny_open(struct tiny *tiny, const struct plan *plan, float rate, enum pooling pooling,
                      unsigned threads)
{
    static const int32_t texts[3][9] = {
        {2, 50, 51, 50, 3}, {2, 3}, {2, 100, 70, 7, 50, 400, 412, 99, 3}};
    static const size_t n[3] = {5, 2, 9};
    struct err err = ERR_INIT;
    struct tasks tasks = two_tasks(1, 0.5, NULL);
    struct learner_options options = {
        .plan = plan,
        .pooling = pooling,
        .hidden_dropout = rate,
        .attention_dropout = rate,
        .seed = 42,
        .max_texts = 3,
        .max_tokens = 16,
        .longest = 9,
        .threads = threads,
    };
    *tiny = (struct tiny){.labels = {{5, 0, 2}, {LABEL_NONE, 2, 1}}};
    assert_int_equal(
        checkpoint_open(ORTHRUS_TEST_DATA "/golden/tiny-bert", 1, &tiny->checkpoint, &err), ERR_OK);
    assert_int_equal(learner_create(&tiny->checkpoint->config, tiny->checkpoint, &tasks, &options,
                                    &tiny->learner, &err),
                     ERR_OK);
    params_init_heads(learner_params(tiny->learner), 1);
    assert_true(batch_init(&tiny->batch, 3, 16));
    for (size_t i = 0; i < 3; i++) {
        assert_true(batch_add(&tiny->batch, texts[i], n[i]));
    }
    tiny->lesson = (struct lesson){
        .n = 3, .batch = &tiny->batch, .labels = {.labels = {tiny->labels[0], tiny->labels[1]}}};
}

static void tiny_close(struct tiny *tiny)
{
    learner_destroy(tiny->learner);
    checkpoint_close(tiny->checkpoint);
    batch_done(&tiny->batch);
}

/* A handful of each tensor's elements: its largest gradient, and a spread. */
static void check_param(struct reference *ref, size_t index)
{
    const struct param *param = &ref->params->at[index];
    double largest = 0;
    size_t where = 0;
    for (size_t i = 0; i < param->count; i++) {
        if (fabs((double)param->grad[i]) > largest) {
            largest = fabs((double)param->grad[i]);
            where = i;
        }
    }
    for (size_t k = 0; k < 7; k++) {
        size_t i = k == 0 ? where : random_below(3, (uint32_t)index, k, param->count);
        const double h = 1e-5;
        double *at = &ref->w[index][i];
        double kept = *at;
        *at = kept + h;
        double up = loss_reference(ref);
        *at = kept - h;
        double down = loss_reference(ref);
        *at = kept;
        near((double)param->grad[i], (up - down) / (2 * h), 2e-5 * largest + 1e-7, param->name, i);
    }
}

static void check_tiny(float rate, enum pooling pooling)
{
    struct plan plan = {.layer_decay = 1};
    struct tiny tiny;
    struct losses losses;
    tiny_open(&tiny, &plan, rate, pooling, 2);
    const struct params *params = learner_params(tiny.learner);
    struct reference ref = {
        .params = params,
        .batch = &tiny.batch,
        .labels = {tiny.labels[0], tiny.labels[1]},
        .weights = {1, 0.5},
        .pooling = pooling,
        .rate = (double)rate,
        .seed = 42,
    };
    ref.w = calloc(params->n, sizeof *ref.w);
    assert_non_null(ref.w);
    for (size_t i = 0; i < params->n; i++) {
        ref.w[i] = calloc(params->at[i].count, sizeof **ref.w);
        assert_non_null(ref.w[i]);
        for (size_t j = 0; j < params->at[i].count; j++) {
            ref.w[i][j] = (double)params->at[i].value[j];
        }
    }
    learner_gradients(tiny.learner, &tiny.lesson, &losses);
    near(losses_total(&losses, &params->tasks), loss_reference(&ref), 2e-6, "loss", 0);
    for (size_t i = 0; i < params->n; i++) {
        check_param(&ref, i);
    }
    for (size_t i = 0; i < params->n; i++) {
        free(ref.w[i]);
    }
    free(ref.w);
    tiny_close(&tiny);
}

static void test_network_mean(void **state)
{
    (void)state;
    check_tiny(0, POOLING_MEAN);
}

static void test_network_cls(void **state)
{
    (void)state;
    check_tiny(0, POOLING_CLS);
}

static void test_network_dropout(void **state)
{
    (void)state;
    check_tiny(0.25f, POOLING_MEAN);
}

/* What is frozen has no gradient and what isn't has the same one as without freezing. */
static void check_frozen(const char *const *what, size_t n_what)
{
    struct plan plan = {.layer_decay = 1};
    struct plan frozen = {.layer_decay = 1};
    struct err err = ERR_INIT;
    struct tasks tasks = two_tasks(1, 1, NULL);
    for (size_t i = 0; i < n_what; i++) {
        assert_int_equal(plan_freeze(&frozen, what[i], 2, &tasks, &err), ERR_OK);
    }
    struct tiny whole, part;
    struct losses losses;
    tiny_open(&whole, &plan, 0, POOLING_MEAN, 1);
    tiny_open(&part, &frozen, 0, POOLING_MEAN, 1);
    learner_gradients(whole.learner, &whole.lesson, &losses);
    learner_gradients(part.learner, &part.lesson, &losses);
    const struct params *a = learner_params(whole.learner);
    const struct params *b = learner_params(part.learner);
    for (size_t i = 0; i < a->n; i++) {
        assert_true(b->at[i].trainable == plan_trains(&frozen, b->at[i].group, b->at[i].layer));
        if (b->at[i].trainable) {
            assert_memory_equal(a->at[i].grad, b->at[i].grad, a->at[i].count * sizeof(float));
        } else {
            assert_null(b->at[i].grad);
        }
    }
    tiny_close(&whole);
    tiny_close(&part);
}

static void test_frozen(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"embeddings", "embeddings"},
                                           {"layers:0", "embeddings"},
                                           {"layers:1", "classifier"},
                                           {"layers:0-1", "sentiment"},
                                           {"backbone", "classifier"},
                                           {"layers:0", "layers:0"},
                                           {"all", "all"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_frozen(cases[i], 2);
    }
}

/* Gradients are written, not added up: rows of the word embeddings too. */
static void test_again(void **state)
{
    (void)state;
    struct plan plan = {.layer_decay = 1};
    struct tiny tiny;
    struct losses losses;
    tiny_open(&tiny, &plan, 0, POOLING_MEAN, 2);
    const struct param *word = &learner_params(tiny.learner)->at[0];
    float *first = calloc(word->count, sizeof *first);
    assert_non_null(first);
    learner_gradients(tiny.learner, &tiny.lesson, &losses);
    memcpy(first, word->grad, word->count * sizeof *first);
    learner_gradients(tiny.learner, &tiny.lesson, &losses);
    assert_memory_equal(first, word->grad, word->count * sizeof *first);
    free(first);
    tiny_close(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_mean),    cmocka_unit_test(test_network_cls),
        cmocka_unit_test(test_network_dropout), cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
