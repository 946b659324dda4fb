/* Loading with every allocation failing in turn, until it succeeds: each time the right error,
 * nothing leaked (LeakSanitizer looks), no output touched. jansson's own allocations are left
 * alone: its lexer ignores some failures and would read a shortened text. */
#include "model/model.h"
#include "model/safetensors.h"
#include "tests/fault/chaos.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

#define DIGEST "ce561ced16a83dc73ab32f3381c3304af9977966102858eb51ebf41da4bfe029"

enum { ATTEMPTS_MAX = 100000, FILE_MAX = 1 << 20 };

static const struct heads_fit fit = {
    .hidden = 32, .encoder_sha256 = DIGEST, .pooling = POOLING_MEAN};

/* One operation: makes something, checks it, frees it. Returns the code. */
typedef enum err_code operation(struct err *err);

/* A failed allocation ends in ERR_NOMEM, or in success where there is another way. */
static void try_every_allocation(operation *operate)
{
    for (size_t n = 1; n < ATTEMPTS_MAX; n++) {
        struct err err = ERR_INIT;
        chaos_fail_at(n);
        enum err_code code = operate(&err);
        bool failed = chaos_failed();
        chaos_fail_at(0);
        if (code != ERR_OK && !(failed && code == ERR_NOMEM && err.code == ERR_NOMEM)) {
            fail_msg("allocation %zu: %s: %s", n, err_name(code), err.text);
        }
        if (!failed) {
            print_message("%zu allocations\n", n - 1);
            return;
        }
    }
    fail_msg("no end after %d allocations", ATTEMPTS_MAX);
}

static enum err_code open_checkpoint(struct err *err)
{
    struct checkpoint *checkpoint = NULL;
    enum err_code code = checkpoint_open(TINY, 2, &checkpoint, err);
    assert_int_equal(code == ERR_OK, checkpoint != NULL);
    if (checkpoint) {
        assert_string_equal(checkpoint->encoder_sha256, DIGEST);
    }
    checkpoint_close(checkpoint);
    return code;
}

static enum err_code load_heads(struct err *err)
{
    struct heads *heads = NULL;
    enum err_code code = heads_load(TINY "/heads.safetensors", &fit, true, &heads, err);
    assert_int_equal(code == ERR_OK, heads != NULL);
    heads_release(heads);
    return code;
}

static enum err_code load_heads_inside(struct err *err)
{
    struct heads *heads = NULL;
    enum err_code code = heads_load(TINY "/variant-multitask-whole.safetensors", &fit, false,
                                    &heads, err);
    assert_int_equal(code == ERR_OK, heads != NULL);
    heads_release(heads);
    return code;
}

static const char one_head[] =
    "{\"__metadata__\":{\"sentiment.labels\":\"[\\\"no\\\",\\\"yes\\\"]\",\"pooling\":\"mean\"},"
    "\"sentiment.weight\":{\"dtype\":\"F16\",\"shape\":[2,32],\"data_offsets\":[0,128]},"
    "\"sentiment.bias\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[128,132]}}";

static enum err_code merge_heads(struct err *err)
{
    static struct heads *base; /* made once, before allocations fail */
    static char file[sizeof(uint64_t) + sizeof one_head - 1 + 132];
    if (!base) {
        chaos_fail_at(0);
        uint64_t length = sizeof one_head - 1;
        memcpy(file, &length, sizeof length);
        memcpy(file + sizeof length, one_head, sizeof one_head - 1);
        assert_int_equal(heads_load(TINY "/heads.safetensors", &fit, true, &base, err), ERR_OK);
        chaos_fail_at(1);
    }
    struct heads *heads = NULL;
    enum err_code code = heads_create(file, sizeof file, "upload", &fit, true, base, &heads, err);
    assert_int_equal(code == ERR_OK, heads != NULL);
    heads_release(heads);
    if (!chaos_failed()) {
        heads_release(base);
        base = NULL;
    }
    return code;
}

static enum err_code load_model(struct err *err)
{
    struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = ISA_GENERIC, .threads = 2};
    struct model *model = NULL;
    enum err_code code = model_load(TINY, &options, &model, err);
    assert_int_equal(code == ERR_OK, model != NULL);
    if (model) {
        struct heads *heads = NULL;
        char *source = NULL;
        struct err warning = ERR_INIT;
        code = model_default_heads(model, POOLING_MEAN, NULL, &heads, &source, &warning, err);
        assert_int_equal(code == ERR_OK, heads != NULL);
        heads_release(heads);
        free(source);
    }
    model_destroy(model);
    return code;
}

static enum err_code fill_batch(struct err *err)
{
    struct batch batch;
    if (!batch_init(&batch, 3, 7)) {
        return err_nomem(err, 1);
    }
    batch_done(&batch);
    return ERR_OK;
}

static void test_checkpoint(void **state)
{
    (void)state;
    try_every_allocation(open_checkpoint);
}

static void test_heads(void **state)
{
    (void)state;
    try_every_allocation(load_heads);
}

static void test_heads_inside(void **state)
{
    (void)state;
    try_every_allocation(load_heads_inside);
}

static void test_merge(void **state)
{
    (void)state;
    try_every_allocation(merge_heads);
}

static void test_model(void **state)
{
    (void)state;
    try_every_allocation(load_model);
}

static void test_batch(void **state)
{
    (void)state;
    try_every_allocation(fill_batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint),   cmocka_unit_test(test_heads),
        cmocka_unit_test(test_heads_inside), cmocka_unit_test(test_merge),
        cmocka_unit_test(test_model),        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
