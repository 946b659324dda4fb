/* Loading with every allocation failing in turn, until it succeeds: each time the right error,
 * nothing leaked (LeakSanitizer looks), no output touched. jansson's own allocations are left
 * alone: its lexer ignores some failures and would read a shortened text. */
#include "model/files/safetensors.h"
#include "model/model.h"
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

/* Two files, made while no allocation fails: one with a head whose labels take more memory than its
 * weights, one with the other head. */
static struct {
    struct buf classifier;
    struct buf sentiment;
    struct heads *base; /* of the first */
} uploads;

static int make_uploads(void **state)
{
    (void)state;
    enum { CLASSES = 40 };
    static const float zeros[CLASSES * 32];
    char labels[CLASSES * 260];
    size_t used = 0;
    for (int k = 0; k < CLASSES; k++) {
        int put = snprintf(labels + used, sizeof labels - used, "%c\"%0255d\"", k ? ',' : '[', k);
        used += (size_t)put;
    }
    (void)snprintf(labels + used, sizeof labels - used, "]");
    const struct metadata_source many = {"classifier.labels", labels};
    const struct metadata_source few = {"sentiment.labels", "[\"no\",\"yes\"]"};
    const struct tensor_source classifier[] = {{"classifier.weight", 2, {CLASSES, 32}, zeros},
                                               {"classifier.bias", 1, {CLASSES}, zeros}};
    const struct tensor_source sentiment[] = {{"sentiment.weight", 2, {2, 32}, zeros},
                                              {"sentiment.bias", 1, {2}, zeros}};
    buf_init(&uploads.classifier, FILE_MAX);
    buf_init(&uploads.sentiment, FILE_MAX);
    bool made = safetensors_write(classifier, 2, &many, 1, &uploads.classifier, NULL) == ERR_OK &&
                safetensors_write(sentiment, 2, &few, 1, &uploads.sentiment, NULL) == ERR_OK &&
                heads_create(uploads.classifier.data, uploads.classifier.size, "base", &fit, true,
                             NULL, &uploads.base, NULL) == ERR_OK;
    return made ? 0 : -1;
}

static int free_uploads(void **state)
{
    (void)state;
    heads_release(uploads.base);
    buf_done(&uploads.sentiment);
    buf_done(&uploads.classifier);
    return 0;
}

static enum err_code create_from(const struct buf *file, const struct heads *base, struct err *err)
{
    struct heads *heads = NULL;
    enum err_code code = heads_create(file->data, file->size, "upload", &fit, true, base, &heads,
                                      err);
    assert_int_equal(code == ERR_OK, heads != NULL);
    for (size_t i = 0; heads && i < heads->n; i++) {
        for (size_t k = 0; k < heads->list[i].classes; k++) {
            assert_non_null(heads->list[i].labels[k]);
        }
    }
    heads_release(heads);
    return code;
}

static enum err_code create_heads(struct err *err)
{
    return create_from(&uploads.classifier, NULL, err);
}

static enum err_code merge_heads(struct err *err)
{
    return create_from(&uploads.sentiment, uploads.base, err);
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
    try_every_allocation(create_heads);
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
    return cmocka_run_group_tests(tests, make_uploads, free_uploads);
}
