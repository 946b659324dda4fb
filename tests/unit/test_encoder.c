/* The encoder as a whole on tiny-bert: what it promises beyond agreeing with PyTorch, which
 * tests/golden holds. */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/encoder.h"
#include "tests/support/kernels_testing.h"

enum { TEXTS = 40, LENGTH_MAX = 64, TOKENS_MAX = TEXTS * LENGTH_MAX, WIDTH_MAX = 3 };
/* From here on members share a row block's columns. */
enum { WIDE_TEAM = 4 };

static struct checkpoint *checkpoint; /* of the group: opened once */

static int open_tiny(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    return checkpoint_open(ORTHRUS_TEST_DATA "/golden/tiny-bert", 1, &checkpoint, &err);
}

static int close_tiny(void **state)
{
    (void)state;
    checkpoint_close(checkpoint);
    return 0;
}

struct texts {
    int32_t ids[TEXTS][LENGTH_MAX];
    size_t lengths[TEXTS];
};

static void make_texts(struct texts *texts)
{
    uint32_t seed = 99;
    for (size_t i = 0; i < TEXTS; i++) {
        texts->lengths[i] = i < 20 ? i + 1 : 1 + (size_t)(fabsf(test_random(&seed)) * 63.0f);
        for (size_t t = 0; t < texts->lengths[i]; t++) {
            texts->ids[i][t] = (int32_t)(fabsf(test_random(&seed)) *
                                         (float)(checkpoint->config.vocab - 1));
        }
    }
}

struct fixture {
    struct encoder *encoder;
    struct workspace *workspace;
    struct batch batch;
};

static bool open_fixture(struct fixture *fixture, enum isa isa, enum precision precision)
{
    struct err err = ERR_INIT;
    const struct encoder_options options = {.isa = isa, .precision = precision, .threads = 2};
    enum err_code code = encoder_create(checkpoint, &options, &fixture->encoder, &err);
    if (code == ERR_UNSUPPORTED) {
        return false;
    }
    assert_int_equal(code, ERR_OK);
    assert_int_equal(encoder_isa(fixture->encoder), isa);
    assert_int_equal(encoder_precision(fixture->encoder), precision);
    assert_int_equal(
        workspace_create(fixture->encoder, TEXTS, TOKENS_MAX, &fixture->workspace, &err), ERR_OK);
    assert_true(batch_init(&fixture->batch, TEXTS, TOKENS_MAX));
    return true;
}

static void close_fixture(struct fixture *fixture)
{
    batch_done(&fixture->batch);
    workspace_destroy(fixture->workspace);
    encoder_destroy(fixture->encoder);
}

/* One pass by `width` threads, the caller's among them. */
static void forward(struct fixture *fixture, enum pooling pooling, unsigned width, float *out)
{
    encoder_forward_together(fixture->encoder, fixture->workspace, &fixture->batch, pooling, width,
                             &(struct outputs){.pooled = out});
}

/* What a pass may leave beside the pooled vectors: the hidden states, and each text's first. */
static void test_outputs_beside_the_pooled(void **state)
{
    (void)state;
    struct fixture fixture;
    if (!open_fixture(&fixture, ISA_GENERIC, PRECISION_FP32)) {
        return;
    }
    struct texts texts;
    make_texts(&texts);
    size_t width = checkpoint->config.hidden;
    batch_clear(&fixture.batch);
    for (size_t i = 0; i < TEXTS; i++) {
        assert_true(batch_add(&fixture.batch, texts.ids[i], texts.lengths[i]));
    }
    size_t total = fixture.batch.total;
    float *cls = calloc(TEXTS * width, sizeof *cls);
    float *tokens = calloc(total * width, sizeof *tokens);
    assert_true(cls && tokens);
    struct team team;
    team_init(&team, 1);
    encoder_forward(fixture.encoder, fixture.workspace, &fixture.batch, POOLING_MEAN, &team,
                    &(struct outputs){.cls = cls, .tokens = tokens});
    const float *hidden = workspace_hidden(fixture.workspace);
    assert_true(same_bits(tokens, hidden, total * width));
    for (size_t i = 0; i < TEXTS; i++) {
        assert_true(same_bits(cls + i * width, hidden + fixture.batch.starts[i] * width, width));
    }
    free(cls);
    free(tokens);
    close_fixture(&fixture);
}

/* Nobody makes one; who did would be told so, not divide by its row blocks. */
static void test_an_empty_batch_is_our_own_bug(void **state)
{
    (void)state;
    struct fixture fixture;
    if (!open_fixture(&fixture, ISA_GENERIC, PRECISION_FP32)) {
        return;
    }
    batch_clear(&fixture.batch);
    pid_t child = fork();
    if (child == 0) {
        struct team team;
        team_init(&team, WIDE_TEAM);
        (void)signal(SIGFPE, SIG_DFL); /* cmocka's would go on as a second test */
        encoder_forward(fixture.encoder, fixture.workspace, &fixture.batch, POOLING_MEAN, &team,
                        &(struct outputs){.cls = NULL});
        _exit(0);
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    close_fixture(&fixture);
}

static float largest_difference(const float *a, const float *b, size_t n)
{
    float largest = 0.0f;
    for (size_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(a[i] - b[i]));
    }
    return largest;
}

static void expect_same(enum isa isa, const float *a, const float *b, size_t n)
{
    if (isa == ISA_GENERIC) {
        assert_true(largest_difference(a, b, n) <= 2e-6f);
    } else {
        assert_true(same_bits(a, b, n));
    }
}

/* Every text alone, then the texts in batches cut and ordered at random, at every team width. */
static void invariance(enum isa isa, enum precision precision)
{
    struct fixture fixture;
    if (!open_fixture(&fixture, isa, precision)) {
        return;
    }
    print_message("%s, %s\n", isa_name(isa), precision_name(precision));
    struct texts texts;
    make_texts(&texts);
    size_t width = checkpoint->config.hidden;
    uint32_t seed = 4;
    float *alone = test_floats(TEXTS * width, &seed);
    float *out = test_floats(TEXTS * width, &seed);
    for (size_t i = 0; i < TEXTS; i++) {
        batch_clear(&fixture.batch);
        assert_true(batch_add(&fixture.batch, texts.ids[i], texts.lengths[i]));
        forward(&fixture, POOLING_MEAN, 1, alone + i * width);
    }
    for (unsigned round = 0; round < 30; round++) {
        size_t n = 1 + (size_t)(fabsf(test_random(&seed)) * (TEXTS - 1));
        size_t picked[TEXTS];
        batch_clear(&fixture.batch);
        for (size_t i = 0; i < n; i++) {
            picked[i] = (size_t)(fabsf(test_random(&seed)) * (TEXTS - 1));
            assert_true(batch_add(&fixture.batch, texts.ids[picked[i]], texts.lengths[picked[i]]));
        }
        forward(&fixture, POOLING_MEAN, 1 + round % WIDTH_MAX, out);
        for (size_t i = 0; i < n; i++) {
            expect_same(isa, out + i * width, alone + picked[i] * width, width);
        }
    }
    free(out);
    free(alone);
    close_fixture(&fixture);
}

static void invariance_of_isa(enum isa isa)
{
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        invariance(isa, precision);
    }
}

static void test_same_bits_alone_in_batches_and_teams(void **state)
{
    (void)state;
    for_each_isa(invariance_of_isa);
}

static void near_fp32(enum isa isa)
{
    struct fixture exact;
    struct fixture rounded;
    struct texts texts;
    size_t width = checkpoint->config.hidden;
    make_texts(&texts);
    assert_true(open_fixture(&exact, ISA_GENERIC, PRECISION_FP32));
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (!open_fixture(&rounded, isa, precision)) {
            continue;
        }
        for (size_t i = 0; i < TEXTS; i++) {
            float a[256];
            float b[256];
            batch_clear(&exact.batch);
            batch_clear(&rounded.batch);
            assert_true(batch_add(&exact.batch, texts.ids[i], texts.lengths[i]));
            assert_true(batch_add(&rounded.batch, texts.ids[i], texts.lengths[i]));
            forward(&exact, POOLING_MEAN, 1, a);
            forward(&rounded, POOLING_MEAN, 1, b);
            embeddings_normalize(a, 1, width);
            embeddings_normalize(b, 1, width);
            static const float allowed[] = {2e-6f, 0.01f, 0.05f};
            assert_true(largest_difference(a, b, width) <= allowed[precision]);
        }
        close_fixture(&rounded);
    }
    close_fixture(&exact);
}

static void test_every_path_near_fp32(void **state)
{
    (void)state;
    for_each_isa(near_fp32);
}

static void test_cls_pooling_is_the_first_token(void **state)
{
    (void)state;
    struct fixture fixture;
    struct texts texts;
    size_t width = checkpoint->config.hidden;
    float out[2 * 256];
    make_texts(&texts);
    assert_true(open_fixture(&fixture, cpu_detect(), PRECISION_FP32));
    assert_true(batch_add(&fixture.batch, texts.ids[8], texts.lengths[8]));
    assert_true(batch_add(&fixture.batch, texts.ids[5], texts.lengths[5]));
    forward(&fixture, POOLING_CLS, 1, out);
    const float *hidden = workspace_hidden(fixture.workspace);
    assert_true(same_bits(out, hidden, width));
    assert_true(same_bits(out + width, hidden + texts.lengths[8] * width, width));
    close_fixture(&fixture);
}

static uint64_t fake_now(void)
{
    static uint64_t ticks;
    return ticks += 10;
}

static void count_layer(void *context, size_t layer, const float *hidden, size_t total,
                        size_t width)
{
    size_t *calls = context;
    assert_int_equal(layer, *calls);
    assert_true(isfinite(hidden[total * width - 1]));
    ++*calls;
}

static void test_observer_sees_phases_and_layers(void **state)
{
    (void)state;
    struct fixture fixture;
    struct texts texts;
    size_t calls = 0;
    float out[256];
    struct observer observer = {.now_ns = fake_now, .on_layer = count_layer, .context = &calls};
    make_texts(&texts);
    assert_true(open_fixture(&fixture, cpu_detect(), PRECISION_FP32));
    workspace_observe(fixture.workspace, &observer);
    assert_true(batch_add(&fixture.batch, texts.ids[3], texts.lengths[3]));
    forward(&fixture, POOLING_MEAN, 2, out);
    size_t layers = checkpoint->config.layers;
    assert_int_equal(calls, layers + 1);
    assert_int_equal(observer.phase_ns[PHASE_EMBED], 10);
    assert_int_equal(observer.phase_ns[PHASE_QKV], 10 * layers);
    assert_int_equal(observer.phase_ns[PHASE_FFN_OUT], 10 * layers);
    assert_int_equal(observer.phase_ns[PHASE_POOL], 10);
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        assert_true(strlen(phase_name(phase)) > 0);
    }
    close_fixture(&fixture);
}

static void test_unsupported_options_are_errors(void **state)
{
    (void)state;
    struct encoder *encoder = NULL;
    struct err err = ERR_INIT;
    struct encoder_options options = {.isa = ISA_GENERIC, .precision = PRECISION_BF16};
    expect_error(&err, encoder_create(checkpoint, &options, &encoder, &err), ERR_UNSUPPORTED,
                 WORDS("bf16", "generic"));
    err = ERR_INIT;
    options = (struct encoder_options){.isa = ISA_AMX, .precision = PRECISION_FP32};
    if (!cpu_has(ISA_AMX)) {
        expect_error(&err, encoder_create(checkpoint, &options, &encoder, &err), ERR_UNSUPPORTED,
                     WORDS("amx"));
    }
    assert_null(encoder);
    encoder_destroy(NULL);
    workspace_destroy(NULL);
}

static void test_workspace_has_limits(void **state)
{
    (void)state;
    struct fixture fixture;
    struct workspace *workspace = NULL;
    struct err err = ERR_INIT;
    assert_true(open_fixture(&fixture, ISA_GENERIC, PRECISION_FP32));
    assert_int_equal(workspace_create(fixture.encoder, 1, 0, &workspace, &err), ERR_LIMIT);
    err = ERR_INIT;
    assert_int_equal(workspace_create(fixture.encoder, 1, SIZE_MAX, &workspace, &err), ERR_LIMIT);
    assert_null(workspace);
    assert_true(encoder_bytes(fixture.encoder) >= 32 * 413 * sizeof(float));
    /* 2 layers of 4·H² + 2·H·I products and 2·n·H a token for attention */
    double products = 2.0 * (10.0 * (4.0 * 32 * 32 + 2.0 * 32 * 64) + 2.0 * 100.0 * 32);
    assert_true(fabs(encoder_flops(fixture.encoder, 10) - 2.0 * products) < 1.0);
    close_fixture(&fixture);
}

static void test_normalize(void **state)
{
    (void)state;
    float rows[2][4] = {{3.0f, 0.0f, 4.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
    embeddings_normalize(rows[0], 2, 4);
    assert_true(fabsf(rows[0][0] - 0.6f) < 1e-7f && fabsf(rows[0][2] - 0.8f) < 1e-7f);
    assert_true(rows[1][0] == 0.0f && rows[1][3] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_alone_in_batches_and_teams),
        cmocka_unit_test(test_every_path_near_fp32),
        cmocka_unit_test(test_cls_pooling_is_the_first_token),
        cmocka_unit_test(test_outputs_beside_the_pooled),
        cmocka_unit_test(test_an_empty_batch_is_our_own_bug),
        cmocka_unit_test(test_observer_sees_phases_and_layers),
        cmocka_unit_test(test_unsupported_options_are_errors),
        cmocka_unit_test(test_workspace_has_limits),
        cmocka_unit_test(test_normalize),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
