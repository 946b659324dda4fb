/* The encoder against PyTorch's answers (tests/data/golden/README.md), on every instruction set
 * and precision of this machine. The real models are ORTHRUS_TEST_MODEL (bert-base-uncased) and
 * all-MiniLM-L6-v2 beside it. */
#include <math.h>

#include "base/jval.h"
#include "model/encoder/attention.h"
#include "model/encoder/encoder.h"
#include "model/heads/heads.h"
#include "model/text/tokenizer.h"
#include "tests/support/testing.h"

enum { TEXTS_MAX = 128, TOKENS_MAX = 4096, FILE_BYTES_MAX = 1 << 26 };

static const char *golden(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/golden/%s", ORTHRUS_TEST_DATA, name);
    return path;
}

static const char *real_model(void)
{
    const char *dir = getenv("ORTHRUS_TEST_MODEL");
    if (!dir) {
        print_message("skipped: ORTHRUS_TEST_MODEL does not name bert-base-uncased\n");
        skip();
    }
    return dir;
}

static void expect_ok(enum err_code code, const struct err *err)
{
    if (code != ERR_OK) {
        fail_msg("%s: %s", err_name(code), err->text);
    }
}

/* What a run needs: a model under one instruction set and precision. */
struct fixture {
    struct checkpoint *checkpoint;
    struct encoder *encoder;
    struct workspace *workspace;
    struct batch batch;
    float *out; /* [TEXTS_MAX,H] */
};

static void open_rounded(struct fixture *fixture, const char *dir, enum isa isa,
                         enum precision precision, enum precision attention)
{
    struct err err = ERR_INIT;
    const struct encoder_options options = {
        .precision = precision, .isa = isa, .attention = attention, .threads = 2};
    expect_ok(checkpoint_open(dir, 2, &fixture->checkpoint, &err), &err);
    expect_ok(encoder_create(fixture->checkpoint, &options, &fixture->encoder, &err), &err);
    expect_ok(workspace_create(fixture->encoder, TEXTS_MAX, TOKENS_MAX, &fixture->workspace, &err),
              &err);
    assert_true(batch_init(&fixture->batch, TEXTS_MAX, TOKENS_MAX));
    fixture->out = calloc(TEXTS_MAX * fixture->checkpoint->config.hidden, sizeof(float));
    assert_non_null(fixture->out);
}

static void open_fixture(struct fixture *fixture, const char *dir, enum isa isa,
                         enum precision precision)
{
    open_rounded(fixture, dir, isa, precision, PRECISION_FP32);
}

static void close_fixture(struct fixture *fixture)
{
    free(fixture->out);
    batch_done(&fixture->batch);
    workspace_destroy(fixture->workspace);
    encoder_destroy(fixture->encoder);
    checkpoint_close(fixture->checkpoint);
}

static void forward(struct fixture *fixture)
{
    struct team team;
    team_init(&team, 1);
    encoder_forward(fixture->encoder, fixture->workspace, &fixture->batch, POOLING_MEAN, &team,
                    &(struct outputs){.pooled = fixture->out});
}

/* A golden tensor's numbers, malloc'ed. */
static float *read_tensor(const char *file_name, const char *name, size_t count)
{
    struct err err = ERR_INIT;
    struct safetensors *file;
    expect_ok(safetensors_open(golden(file_name), &file, &err), &err);
    const struct tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->count, count);
    float *values = calloc(count, sizeof *values);
    assert_non_null(values);
    tensor_to_f32(tensor, 0, count, values);
    safetensors_close(file);
    return values;
}

static double largest_difference(const float *a, const float *b, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        largest = difference <= largest ? largest : difference;
    }
    return largest;
}

static void expect_close(const char *what, const float *a, const float *b, size_t n,
                         double tolerance)
{
    double largest = largest_difference(a, b, n);
    print_message("%s: max abs difference %.2e\n", what, largest);
    if (!(largest <= tolerance)) {
        fail_msg("%s: %.3e is more than %.0e", what, largest, tolerance);
    }
}

static double cosine(const float *a, const float *b, size_t n)
{
    double dot = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return dot / sqrt(aa * bb);
}

/* The file's first texts, tokenized, as one batch. */
static void batch_texts(struct fixture *fixture, const char *dir, size_t n)
{
    struct err err = ERR_INIT;
    struct jval *texts;
    struct tokenizer *tokenizer;
    struct tokens tokens = {0};
    char *vocab = file_join(dir, "vocab.txt");
    const struct encode_options options = {.max_length = 128, .add_special_tokens = true};
    expect_ok(jval_read_file(golden("encoder-texts.json"), FILE_BYTES_MAX, &texts, &err), &err);
    expect_ok(tokenizer_create(vocab, &fixture->checkpoint->config.tokenizer, &tokenizer, &err),
              &err);
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t size;
        assert_true(jval_string(jval_at(texts, i), &text, &size));
        expect_ok(tokenizer_encode(tokenizer, text, size, &options, &tokens, &err), &err);
        assert_true(batch_add(&fixture->batch, tokens.ids, tokens.n));
    }
    tokens_done(&tokens);
    tokenizer_destroy(tokenizer);
    free(vocab);
    jval_free(texts);
}

/* Calls f for every instruction set that has fp32 kernels of its own and that this machine runs. */
static void for_each_isa(void (*f)(enum isa isa, void *context), void *context)
{
    static const enum isa sets[] = {ISA_GENERIC, ISA_AVX2, ISA_AVX512};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (cpu_has(sets[i])) {
            print_message("%s\n", isa_name(sets[i]));
            f(sets[i], context);
        } else {
            print_message("skipped: this machine has no %s\n", isa_name(sets[i]));
        }
    }
}

/* tiny-bert ------------------------------------------------------------------------------- */

static void batch_tiny(struct fixture *fixture)
{
    struct err err = ERR_INIT;
    struct jval *root;
    expect_ok(jval_read_file(golden("tiny-bert/texts.json"), FILE_BYTES_MAX, &root, &err), &err);
    const struct jval *ids = jval_get(root, "ids");
    for (size_t i = 0; i < jval_array_size(ids); i++) {
        const struct jval *row = jval_at(ids, i);
        int32_t text[64];
        size_t n = jval_array_size(row);
        assert_true(n <= 64);
        for (size_t t = 0; t < n; t++) {
            int64_t id;
            assert_true(jval_int(jval_at(row, t), &id));
            text[t] = (int32_t)id;
        }
        assert_true(batch_add(&fixture->batch, text, n));
    }
    jval_free(root);
}

struct tiny {
    const char *weights; /* file of tiny-bert/ */
    const char *expected;
};

static void run_tiny(enum isa isa, void *context)
{
    const struct tiny *tiny = context;
    char weights[256];
    struct scratch scratch;
    struct fixture fixture;
    scratch_make(&scratch);
    (void)snprintf(weights, sizeof weights, "tiny-bert/%s", tiny->weights);
    scratch_copy(&scratch, golden(weights), "model.safetensors");
    scratch_copy(&scratch, golden("tiny-bert/config.json"), "config.json");
    scratch_copy(&scratch, golden("tiny-bert/vocab.txt"), "vocab.txt");
    scratch_copy(&scratch, golden("tiny-bert/tokenizer_config.json"), "tokenizer_config.json");
    open_fixture(&fixture, scratch.dir, isa, PRECISION_FP32);
    batch_tiny(&fixture);
    forward(&fixture);
    size_t count = fixture.batch.n * fixture.checkpoint->config.hidden;
    float *expected = read_tensor("tiny-bert/expected.safetensors", tiny->expected, count);
    expect_close(tiny->weights, fixture.out, expected, count, 1e-5);
    free(expected);
    close_fixture(&fixture);
    scratch_remove(&scratch);
}

static void test_tiny_every_dtype_and_naming(void **state)
{
    (void)state;
    static const struct tiny cases[] = {
        {"model.safetensors", "embeddings"},
        {"variant-f16.safetensors", "embeddings_f16_weights"},
        {"variant-bf16.safetensors", "embeddings_bf16_weights"},
        {"variant-bert-prefix-gamma-beta.safetensors", "embeddings"},
        {"variant-multitask-whole.safetensors", "embeddings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny tiny = cases[i];
        for_each_isa(run_tiny, &tiny);
    }
}

/* bert-base-uncased ----------------------------------------------------------------------- */

static void check_logits(const struct fixture *fixture, const char *head_name, const char *name)
{
    struct err err = ERR_INIT;
    struct heads *heads;
    const struct config *config = &fixture->checkpoint->config;
    const struct heads_fit fit = {.hidden = config->hidden,
                                  .encoder_sha256 = fixture->checkpoint->encoder_sha256,
                                  .pooling = POOLING_MEAN};
    expect_ok(heads_load(golden("heads-init.safetensors"), &fit, true, &heads, &err), &err);
    const struct head *head = heads_find(heads, head_name);
    size_t count = fixture->batch.n * head->classes;
    float *logits = calloc(count, sizeof *logits);
    assert_non_null(logits);
    head_logits(head, fixture->out, fixture->batch.n, logits);
    float *expected = read_tensor("encoder.safetensors", name, count);
    expect_close(name, logits, expected, count, 1e-4);
    free(expected);
    free(logits);
    heads_release(heads);
}

static void run_encoder_fp32(enum isa isa, void *context)
{
    const char *dir = context;
    struct fixture fixture;
    open_fixture(&fixture, dir, isa, PRECISION_FP32);
    batch_texts(&fixture, dir, 71);
    forward(&fixture);
    size_t width = fixture.checkpoint->config.hidden;
    float *expected = read_tensor("encoder.safetensors", "embeddings", 71 * width);
    expect_close("embeddings", fixture.out, expected, 71 * width, 1e-4);
    for (size_t i = 0; i < 71; i++) {
        assert_true(cosine(fixture.out + i * width, expected + i * width, width) >= 0.999999);
    }
    free(expected);
    check_logits(&fixture, "classifier", "classifier_logits");
    check_logits(&fixture, "sentiment", "sentiment_logits");
    close_fixture(&fixture);
}

static void test_bert_base_fp32(void **state)
{
    (void)state;
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", real_model());
    for_each_isa(run_encoder_fp32, dir);
}

/* What rounding may cost on these texts, against PyTorch's fp32. */
static const struct bound {
    enum precision precision;
    enum precision attention;
    double mean;
    double least;
} bounds[] = {
    {PRECISION_BF16, PRECISION_FP32, 0.99999, 0.9995},
    {PRECISION_INT8, PRECISION_FP32, 0.9999, 0.998},
    {PRECISION_INT8, PRECISION_BF16, 0.9999, 0.998},
};

static void expect_cosines(enum isa isa, const struct bound *bound, const float *found,
                           const float *expected, size_t n, size_t width)
{
    double sum = 0.0;
    double least = 1.0;
    for (size_t i = 0; i < n; i++) {
        double one = cosine(found + i * width, expected + i * width, width);
        sum += one;
        least = fmin(least, one);
    }
    print_message("%s %s, attention %s: mean cosine %.6f, least %.6f\n", isa_name(isa),
                  precision_name(bound->precision), precision_name(bound->attention),
                  sum / (double)n, least);
    assert_true(sum / (double)n >= bound->mean);
    assert_true(least >= bound->least);
}

static void check_cosines(const char *dir, enum isa isa, const struct bound *bound)
{
    struct fixture fixture;
    open_rounded(&fixture, dir, isa, bound->precision, bound->attention);
    batch_texts(&fixture, dir, 71);
    forward(&fixture);
    size_t width = fixture.checkpoint->config.hidden;
    float *expected = read_tensor("encoder.safetensors", "embeddings", 71 * width);
    expect_cosines(isa, bound, fixture.out, expected, 71, width);
    free(expected);
    close_fixture(&fixture);
}

static void test_bert_base_rounded(void **state)
{
    (void)state;
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", real_model());
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
            enum precision precision;
            struct err err = ERR_INIT;
            bool same = bounds[i].attention != PRECISION_FP32 &&
                        attention_tile(isa, PRECISION_BF16) == attention_tile(isa, PRECISION_FP32);
            if (cpu_has(isa) && !same &&
                precision_parse(precision_name(bounds[i].precision), isa, &precision, &err) ==
                    ERR_OK) {
                check_cosines(dir, isa, &bounds[i]);
            }
        }
    }
}

struct captured {
    float *layers[4]; /* after layer 0, 1, 6, 12: [T,H] */
};

static const size_t captured_layers[4] = {0, 1, 6, 12};

static void capture(void *context, size_t layer, const float *hidden, size_t total, size_t width)
{
    struct captured *captured = context;
    for (size_t i = 0; i < 4; i++) {
        if (captured_layers[i] == layer) {
            captured->layers[i] = malloc(total * width * sizeof(float));
            assert_non_null(captured->layers[i]);
            memcpy(captured->layers[i], hidden, total * width * sizeof(float));
        }
    }
}

static void run_hidden(enum isa isa, void *context)
{
    struct fixture fixture;
    struct captured captured = {{NULL}};
    struct observer observer = {.on_layer = capture, .context = &captured};
    open_fixture(&fixture, context, isa, PRECISION_FP32);
    batch_texts(&fixture, context, 1);
    assert_int_equal(fixture.batch.total, 20);
    workspace_observe(fixture.workspace, &observer);
    forward(&fixture);
    size_t count = fixture.batch.total * fixture.checkpoint->config.hidden;
    for (size_t i = 0; i < 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "hidden_%zu", captured_layers[i]);
        float *expected = read_tensor("hidden.safetensors", name, count);
        assert_non_null(captured.layers[i]);
        expect_close(name, captured.layers[i], expected, count, 1e-4);
        free(expected);
        free(captured.layers[i]);
    }
    close_fixture(&fixture);
}

static void test_bert_base_hidden_states(void **state)
{
    (void)state;
    char dir[512];
    (void)snprintf(dir, sizeof dir, "%s", real_model());
    for_each_isa(run_hidden, dir);
}

/* all-MiniLM-L6-v2 ------------------------------------------------------------------------ */

static void find_minilm(char *dir, size_t size)
{
    (void)snprintf(dir, size, "%s/../all-MiniLM-L6-v2", real_model());
    if (!file_exists(dir)) {
        print_message("skipped: no all-MiniLM-L6-v2 beside ORTHRUS_TEST_MODEL\n");
        skip();
    }
}

static void run_minilm(enum isa isa, void *context)
{
    struct fixture fixture;
    open_fixture(&fixture, context, isa, PRECISION_FP32);
    batch_texts(&fixture, context, 24);
    forward(&fixture);
    size_t width = fixture.checkpoint->config.hidden;
    embeddings_normalize(fixture.out, 24, width);
    float *expected = read_tensor("minilm-encoder.safetensors", "embeddings_normalized",
                                  24 * width);
    expect_close("minilm", fixture.out, expected, 24 * width, 1e-5);
    free(expected);
    close_fixture(&fixture);
}

static void test_minilm(void **state)
{
    (void)state;
    char dir[600];
    find_minilm(dir, sizeof dir);
    for_each_isa(run_minilm, dir);
}

/* The same bounds as bert-base's: a narrow model averages fewer roundings. */
static void run_minilm_int8(enum isa isa, const char *dir)
{
    enum precision precision;
    struct err err = ERR_INIT;
    if (!cpu_has(isa) || precision_parse("int8", isa, &precision, &err) != ERR_OK) {
        return;
    }
    struct fixture fixture;
    open_fixture(&fixture, dir, isa, precision);
    batch_texts(&fixture, dir, 24);
    forward(&fixture);
    size_t width = fixture.checkpoint->config.hidden;
    float *expected = read_tensor("minilm-encoder.safetensors", "embeddings_normalized",
                                  24 * width);
    expect_cosines(isa, &bounds[1], fixture.out, expected, 24, width);
    free(expected);
    close_fixture(&fixture);
}

static void test_minilm_int8(void **state)
{
    (void)state;
    char dir[600];
    find_minilm(dir, sizeof dir);
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        run_minilm_int8(isa, dir);
    }
}

int main(void)
{
    jval_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_every_dtype_and_naming),
        cmocka_unit_test(test_bert_base_fp32),
        cmocka_unit_test(test_bert_base_rounded),
        cmocka_unit_test(test_bert_base_hidden_states),
        cmocka_unit_test(test_minilm),
        cmocka_unit_test(test_minilm_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
