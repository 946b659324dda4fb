/* Named heads of every kind: what a file may say, what is refused, sets without one, arithmetic. */
#include <math.h>

#include "model/heads/heads.h"
#include "tests/support/linear_testing.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/testing.h"

enum { HIDDEN = 4, POOLED = 8, INNER = 3, TENSORS_MAX = 8, METADATA_MAX = 8 };

static const struct heads_fit fit = {.hidden = HIDDEN, .pooled = POOLED, .pooling = POOLING_MEAN};
static float ramp[64];

struct file {
    struct tensor_source tensors[TENSORS_MAX];
    struct metadata_source metadata[METADATA_MAX];
};

static enum err_code make_set(const struct file *file, const struct heads *base,
                              struct heads **ret_heads, struct err *err)
{
    size_t n = 0;
    size_t n_metadata = 0;
    while (n < TENSORS_MAX && file->tensors[n].name) {
        n++;
    }
    while (n_metadata < METADATA_MAX && file->metadata[n_metadata].key) {
        n_metadata++;
    }
    struct buf out;
    buf_init(&out, TEST_FILE_MAX);
    assert_int_equal(safetensors_write(file->tensors, n, file->metadata, n_metadata, &out, NULL),
                     ERR_OK);
    enum err_code code = heads_create(out.data, out.size, "up.st", &fit, true, base, ret_heads,
                                      err);
    buf_done(&out);
    return code;
}

static struct heads *must(const struct file *file, const struct heads *base)
{
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    if (make_set(file, base, &heads, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return heads;
}

#define LINEAR(name, k, in)             \
    {name ".weight", 2, {k, in}, ramp}, \
    {                                   \
        name ".bias", 1, {k}, ramp      \
    }
#define DENSE(name, m, in)                    \
    {name ".dense.weight", 2, {m, in}, ramp}, \
    {                                         \
        name ".dense.bias", 1, {m}, ramp      \
    }

static const struct file every_kind = {{LINEAR("tags", 3, HIDDEN), LINEAR("rank", 1, INNER),
                                        DENSE("rank", INNER, HIDDEN), LINEAR("topics", 2, POOLED)},
                                       {{"tags.kind", "tokens"},
                                        {"tags.labels", "[\"O\",\"B-X\",\"I-X\"]"},
                                        {"rank.kind", "score"},
                                        {"rank.input", "cls"},
                                        {"rank.activation", "tanh"},
                                        {"rank.function", "none"},
                                        {"topics.kind", "sigmoid"},
                                        {"topics.labels", "[\"a\",\"b\"]"}}};

static const struct file one_more = {{LINEAR("mood", 2, POOLED)},
                                     {{"mood.labels", "[\"down\",\"up\"]"},
                                      {"mood.temperature", "1.5"},
                                      {"mood.thresholds", "[0.5, 0.75]"},
                                      {"note", "kept"}}};

static void test_every_kind(void **state)
{
    (void)state;
    struct heads *heads = must(&every_kind, NULL);
    assert_int_equal(heads->n, 3);
    const struct head *rank = heads_find(heads, "rank");
    assert_string_equal(heads->list[0].name, "rank");
    assert_int_equal(rank->type, HEAD_SCORE);
    assert_int_equal(rank->input, HEAD_INPUT_CLS);
    assert_int_equal(rank->inner, INNER);
    assert_int_equal(rank->width, HIDDEN);
    assert_true(rank->identity);
    assert_string_equal(rank->labels[0], "LABEL_0");
    const struct head *tags = heads_find(heads, "tags");
    assert_int_equal(tags->input, HEAD_INPUT_TOKENS);
    assert_int_equal(tags->width, HIDDEN);
    assert_int_equal(heads_find(heads, "topics")->width, POOLED);
    assert_null(heads_find(heads, "classifier"));
    heads_release(heads);
}

/* A merged set's file says all of it again; the set without a head too. */
static void test_written_anew(void **state)
{
    (void)state;
    struct heads *base = must(&every_kind, NULL);
    struct heads *merged = must(&one_more, base);
    heads_release(base);
    struct heads *again = NULL;
    struct heads *rest = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(
        heads_create(merged->file, merged->file_size, "m", &fit, true, NULL, &again, &err), ERR_OK);
    assert_int_equal(again->n, 4);
    const struct head *mood = heads_find(again, "mood");
    assert_true(mood->temperature == 1.5f && mood->thresholds[1] == 0.75f);
    const struct head *rank = heads_find(again, "rank");
    assert_true(rank->identity && rank->type == HEAD_SCORE && rank->activation == HEAD_TANH);
    assert_memory_equal(rank->dense_weight, ramp, sizeof *ramp * INNER * HIDDEN);
    assert_int_equal(heads_find(again, "topics")->type, HEAD_SIGMOID);
    assert_int_equal(heads_without(again, "rank", &fit, &rest, &err), ERR_OK);
    assert_int_equal(rest->n, 3);
    assert_null(heads_find(rest, "rank"));
    assert_null(memmem(rest->file, rest->file_size, "rank", 4));
    assert_non_null(memmem(rest->file, rest->file_size, "kept", 4));
    heads_release(rest);
    rest = NULL;
    assert_int_equal(heads_without(again, "nobody", &fit, &rest, &err), ERR_NOT_FOUND);
    heads_release(again);
    heads_release(merged);
    struct heads *one = must(&one_more, NULL);
    err = ERR_INIT;
    expect_error(&err, heads_without(one, "mood", &fit, &rest, &err), ERR_CONFLICT,
                 WORDS("mood", "last"));
    assert_null(rest);
    heads_release(one);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        struct file file;
        enum err_code code;
        const char *words[3];
    } cases[] = {
        {{{LINEAR("embed", 2, POOLED)}, {{0}}}, ERR_INVALID, {"embed", "reserved"}},
        {{{LINEAR("Upper", 2, POOLED)}, {{0}}}, ERR_INVALID, {"Upper.weight"}},
        {{{LINEAR("x", 2, POOLED)}, {{0}}}, ERR_INVALID, {"no labels", "x.labels"}},
        {{{LINEAR("x", 2, POOLED)}, {{"x.kind", "maybe"}}}, ERR_INVALID, {"x.kind", "softmax"}},
        {{{LINEAR("x", 2, POOLED)}, {{"x.input", "last"}}}, ERR_INVALID, {"x.input", "cls"}},
        {{{LINEAR("x", 2, HIDDEN)}, {{"x.input", "tokens"}}}, ERR_INVALID, {"kind tokens"}},
        {{{LINEAR("x", 2, HIDDEN)}, {{"x.kind", "tokens"}, {"x.input", "cls"}}},
         ERR_INVALID,
         {"x.input", "tokens"}},
        {{{LINEAR("x", 2, POOLED)}, {{"x.kind", "score"}}}, ERR_INVALID, {"2 classes", "has 1"}},
        {{{LINEAR("x", 1, POOLED)}, {{"x.labels", "[\"a\"]"}}}, ERR_INVALID, {"at least 2"}},
        {{{LINEAR("x", 2, HIDDEN)}, {{"x.labels", "[\"a\",\"b\"]"}}},
         ERR_MISMATCH,
         {"[2, 4]", "[2, 8]"}},
        {{{LINEAR("x", 2, INNER), DENSE("x", INNER, POOLED)}, {{"x.labels", "[\"a\",\"b\"]"}}},
         ERR_INVALID,
         {"x.activation", "tanh"}},
        {{{LINEAR("x", 2, POOLED)}, {{"x.activation", "tanh"}}}, ERR_INVALID, {"no dense layer"}},
        {{{DENSE("x", INNER, POOLED)}, {{0}}}, ERR_INVALID, {"x.weight is missing"}},
        {{{LINEAR("x", 2, INNER), {"x.dense.weight", 2, {INNER, POOLED}, ramp}}, {{0}}},
         ERR_INVALID,
         {"x.dense.bias is missing"}},
        {{{LINEAR("x", 2, POOLED)}, {{"x.function", "none"}}}, ERR_INVALID, {"kind score"}},
        {{{LINEAR("x", 1, POOLED)}, {{"x.kind", "score"}, {"x.function", "tanh"}}},
         ERR_INVALID,
         {"x.function", "none"}},
        {{{LINEAR("classifier", 6, POOLED)}, {{"classifier.temperature", "0"}}},
         ERR_INVALID,
         {"temperature", "0.001"}},
        {{{LINEAR("classifier", 6, POOLED)}, {{"classifier.temperature", "nan"}}},
         ERR_INVALID,
         {"temperature"}},
        {{{LINEAR("sentiment", 3, POOLED)}, {{"sentiment.thresholds", "[0.1,0.2]"}}},
         ERR_INVALID,
         {"thresholds", "each label"}},
        {{{LINEAR("sentiment", 3, POOLED)}, {{"sentiment.thresholds", "[0.1,0.2,2]"}}},
         ERR_INVALID,
         {"thresholds"}},
        {{{LINEAR("x", 1, POOLED)}, {{"x.kind", "score"}, {"x.thresholds", "[0.1]"}}},
         ERR_INVALID,
         {"thresholds", "softmax"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct heads *heads = NULL;
        struct err err = ERR_INIT;
        enum err_code code = make_set(&cases[i].file, NULL, &heads, &err);
        expect_error(&err, code, cases[i].code, cases[i].words);
        assert_null(heads);
    }
}

static void test_at_most_64(void **state)
{
    (void)state;
    struct tensor_source tensors[2 * (HEADS_MAX + 1)];
    char names[2 * (HEADS_MAX + 1)][32];
    struct metadata_source metadata[HEADS_MAX + 1];
    char keys[HEADS_MAX + 1][32];
    for (size_t i = 0; i <= HEADS_MAX; i++) {
        (void)snprintf(names[2 * i], sizeof *names, "h%zu.weight", i);
        (void)snprintf(names[2 * i + 1], sizeof *names, "h%zu.bias", i);
        (void)snprintf(keys[i], sizeof *keys, "h%zu.labels", i);
        tensors[2 * i] = (struct tensor_source){names[2 * i], 2, {2, POOLED}, ramp};
        tensors[2 * i + 1] = (struct tensor_source){names[2 * i + 1], 1, {2}, ramp};
        metadata[i] = (struct metadata_source){keys[i], "[\"a\",\"b\"]"};
    }
    for (size_t n = HEADS_MAX; n <= HEADS_MAX + 1; n++) {
        struct buf out;
        struct err err = ERR_INIT;
        struct heads *heads = NULL;
        buf_init(&out, TEST_FILE_MAX);
        assert_int_equal(safetensors_write(tensors, 2 * n, metadata, n, &out, NULL), ERR_OK);
        enum err_code code = heads_create(out.data, out.size, "up", &fit, true, NULL, &heads, &err);
        buf_done(&out);
        if (n > HEADS_MAX) {
            expect_error(&err, code, ERR_LIMIT, WORDS("64 heads"));
            break;
        }
        assert_int_equal(code, ERR_OK);
        /* One more beside those in service is too many as well. */
        struct heads *merged = NULL;
        code = make_set(&one_more, heads, &merged, &err);
        expect_error(&err, code, ERR_LIMIT, WORDS("64 heads"));
        heads_release(heads);
    }
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-5 * fmax(1, fabs(b)))) {
        fail_msg("%.9g is not %.9g", a, b);
    }
}

static void test_scores(void **state)
{
    (void)state;
    struct head head = {.classes = 2, .temperature = 2, .type = HEAD_SOFTMAX};
    const float logits[] = {1, 3};
    float scores[2];
    head_scores(&head, logits, scores);
    near((double)scores[1], 1 / (1 + exp(-1)));
    head.type = HEAD_SIGMOID;
    head_scores(&head, logits, scores);
    near((double)scores[0], 1 / (1 + exp(-0.5)));
    near((double)scores[1], 1 / (1 + exp(-1.5)));
    const float far[] = {-2e38f, 2e38f};
    head_scores(&head, far, scores);
    assert_true(scores[0] == 0 && scores[1] == 1);
    head = (struct head){.classes = 1, .temperature = 1, .type = HEAD_SCORE, .identity = true};
    head_scores(&head, logits, scores);
    assert_true(scores[0] == 1);
}

/* bias + Σ shares = logit, exactly for a linear head, and by its gradient with a dense layer. */
static void test_explain(void **state)
{
    (void)state;
    enum { N = 5, W = 7, M = 6, K = 2 };
    uint32_t seed = 3;
    float *hidden = test_floats(N * W, &seed);
    float *dense = test_floats(M * W + M, &seed);
    float *weight = test_floats(K * W + K, &seed);
    float pooled[W] = {0};
    for (size_t i = 0; i < N * W; i++) {
        pooled[i % W] += hidden[i] / N;
    }
    for (unsigned activation = 0; activation <= HEAD_ACTIVATIONS; activation++) {
        bool linear = activation == HEAD_ACTIVATIONS;
        const struct head head = {.classes = K,
                                  .width = W,
                                  .inner = linear ? 0 : M,
                                  .activation = (enum head_activation)activation,
                                  .dense_weight = dense,
                                  .dense_bias = dense + M * W,
                                  .weight = weight,
                                  .bias = weight + K * W,
                                  .temperature = 3};
        float logits[K];
        float scratch[W];
        float shares[N];
        float bias;
        head_logits(&head, pooled, 1, logits);
        head_explain(&head, hidden, N, pooled, 1, logits[1], scratch, shares, &bias);
        double sum = (double)bias;
        for (size_t t = 0; t < N; t++) {
            sum += (double)shares[t];
        }
        near(sum, (double)logits[1]);
        assert_true(!linear || bias == head.bias[1]);
        /* What the logit gains when token 2's state grows by a little of itself. */
        float moved[W];
        for (size_t i = 0; i < W; i++) {
            moved[i] = pooled[i] + 1e-2f * hidden[2 * W + i] / N;
        }
        float other[K];
        head_logits(&head, moved, 1, other);
        assert_true(fabs((double)(other[1] - logits[1]) / 1e-2 - (double)shares[2]) < 2e-3);
    }
    free(weight);
    free(dense);
    free(hidden);
}

static int fill_ramp(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ramp / sizeof *ramp; i++) {
        ramp[i] = (float)i / 8;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind), cmocka_unit_test(test_written_anew),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_at_most_64),
        cmocka_unit_test(test_scores),     cmocka_unit_test(test_explain),
    };
    return cmocka_run_group_tests(tests, fill_ramp, NULL);
}
