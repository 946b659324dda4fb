/* Whole folders: what model_load gives, and which heads are found for it. */
#include "model/model.h"

#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert/"

static const struct encoder_options options = {
    .precision = PRECISION_FP32, .isa = ISA_GENERIC, .threads = 1};

/* A folder with config, vocabulary and one of the golden weight files. */
static int set_up(void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    scratch_make(scratch);
    scratch_copy(scratch, TINY "config.json", "config.json");
    scratch_copy(scratch, TINY "vocab.txt", "vocab.txt");
    scratch_copy(scratch, TINY "model.safetensors", "model.safetensors");
    *state = scratch;
    return 0;
}

static int tear_down(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

static struct model *load(const char *dir)
{
    struct model *model = NULL;
    struct err err = ERR_INIT;
    if (model_load(dir, &options, &model, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return model;
}

/* What model_default_heads finds; the file's path must end in `source` (NULL: no heads), the
 * warning hold `warning` (NULL: none). */
static void expect_heads(const struct model *model, enum pooling pooling, const char *shipped,
                         const char *source, const char *warning)
{
    struct heads *heads = NULL;
    char *found = NULL;
    struct err why = ERR_INIT;
    struct err err = ERR_INIT;
    assert_int_equal(model_default_heads(model, pooling, shipped, &heads, &found, &why, &err),
                     ERR_OK);
    assert_int_equal(heads != NULL, source != NULL);
    assert_int_equal(found != NULL, source != NULL);
    if (source && found) {
        assert_true(strlen(found) >= strlen(source));
        assert_string_equal(found + strlen(found) - strlen(source), source);
    }
    if (warning && !strstr(why.text, warning)) {
        fail_msg("\"%s\" is not in: %s", warning, why.text);
    }
    assert_int_equal(why.code != ERR_OK, warning != NULL);
    heads_release(heads);
    free(found);
}

static void test_loads(void **state)
{
    struct scratch *scratch = *state;
    struct model *model = load(scratch->dir);
    assert_string_equal(model->encoder_sha256,
                        "ce561ced16a83dc73ab32f3381c3304af9977966102858eb51ebf41da4bfe029");
    assert_int_equal(model->config.hidden, 32);
    assert_int_equal(tokenizer_vocab_size(model->tokenizer), 413);
    assert_string_equal(model->dir, scratch->dir);
    assert_string_equal(model->name, strrchr(scratch->dir, '/') + 1);
    assert_null(model->own_heads);
    struct heads_fit fit = model_heads_fit(model, POOLING_CLS);
    assert_int_equal(fit.hidden, 32);
    assert_string_equal(fit.encoder_sha256, model->encoder_sha256);
    assert_int_equal(fit.pooling, POOLING_CLS);
    model_destroy(model);
    model_destroy(NULL);
}

static void test_name(void **state)
{
    struct scratch *scratch = *state;
    const char *base = strrchr(scratch->dir, '/') + 1;
    const struct {
        const char *suffix;
        const char *name;
    } cases[] = {{"/", base}, {"///", base}, {"/.", base}, {"/sub/..", base}};
    scratch_mkdir(scratch, "sub");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[300];
        (void)snprintf(dir, sizeof dir, "%s%s", scratch->dir, cases[i].suffix);
        struct model *model = load(dir);
        assert_string_equal(model->name, cases[i].name);
        model_destroy(model);
    }
}

static void test_vocabulary_too_large(void **state)
{
    struct scratch *scratch = *state;
    FILE *file = fopen(scratch_path(scratch, "vocab.txt"), "a");
    assert_non_null(file);
    assert_true(fputs("onewordmore\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    struct model *model = NULL;
    struct err err = ERR_INIT;
    enum err_code code = model_load(scratch->dir, &options, &model, &err);
    expect_error(&err, code, ERR_MISMATCH, WORDS("vocab.txt", "414 words", "413"));
    assert_null(model);
}

static void test_missing_files(void **state)
{
    struct scratch *scratch = *state;
    static const char *const names[] = {"vocab.txt", "model.safetensors", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(unlink(scratch_path(scratch, names[i])), 0);
        struct model *model = NULL;
        struct err err = ERR_INIT;
        enum err_code code = model_load(scratch->dir, &options, &model, &err);
        expect_error(&err, code, ERR_NOT_FOUND, WORDS(names[i]));
        assert_null(model);
    }
}

static void test_order_of_heads(void **state)
{
    struct scratch *scratch = *state;
    const char *shipped = TINY "heads.safetensors";
    struct model *model = load(scratch->dir);
    expect_heads(model, POOLING_MEAN, NULL, NULL, NULL);
    expect_heads(model, POOLING_MEAN, "/nonexistent", NULL, NULL);
    expect_heads(model, POOLING_MEAN, shipped, "tiny-bert/heads.safetensors", NULL);
    /* Shipped ones for a wider encoder. */
    expect_heads(model, POOLING_MEAN, ORTHRUS_TEST_DATA "/golden/heads-init.safetensors", NULL,
                 "[6, 768]");
    /* Those beside the model come first, unless they don't fit. */
    scratch_copy(scratch, shipped, "heads.safetensors");
    char beside[512];
    (void)snprintf(beside, sizeof beside, "%s", scratch_path(scratch, "heads.safetensors"));
    expect_heads(model, POOLING_MEAN, shipped, beside, NULL);
    scratch_text(scratch, "heads.safetensors", "broken");
    expect_heads(model, POOLING_MEAN, shipped, "tiny-bert/heads.safetensors", beside);
    expect_heads(model, POOLING_MEAN, NULL, NULL, beside);
    model_destroy(model);
}

static void test_heads_inside(void **state)
{
    struct scratch *scratch = *state;
    scratch_copy(scratch, TINY "variant-multitask-whole.safetensors", "model.safetensors");
    struct model *model = load(scratch->dir);
    assert_true(heads_find(model->own_heads, "classifier"));
    assert_true(heads_find(model->own_heads, "sentiment"));
    /* The set's file holds the heads alone. */
    assert_true(model->own_heads->file_size < 4096);
    expect_heads(model, POOLING_MEAN, TINY "heads.safetensors", "/model.safetensors", NULL);
    expect_heads(model, POOLING_CLS, NULL, "/model.safetensors", NULL);
    struct heads *beside = NULL;
    struct err err = ERR_INIT;
    struct heads_fit fit = model_heads_fit(model, POOLING_MEAN);
    assert_int_equal(heads_load(TINY "heads.safetensors", &fit, true, &beside, &err), ERR_OK);
    for (size_t i = 0; i < beside->n; i++) {
        const struct head *inside = &model->own_heads->list[i];
        assert_memory_equal(inside->weight, beside->list[i].weight,
                            inside->classes * 32 * sizeof *inside->weight);
    }
    heads_release(beside);
    model_destroy(model);
}

/* The multi-task file with one piece of its header replaced. */
static void patch_inside(struct scratch *scratch, const char *from, const char *to)
{
    char *data;
    size_t size;
    struct err err = ERR_INIT;
    const char *path = TINY "variant-multitask-whole.safetensors";
    assert_int_equal(file_read(path, 1 << 20, &data, &size, &err), ERR_OK);
    char *at = memmem(data, size, from, strlen(from));
    assert_non_null(at);
    uint64_t length;
    memcpy(&length, data, sizeof length);
    length += strlen(to) - strlen(from);
    memcpy(data, &length, sizeof length);
    struct buf out;
    buf_init(&out, 1 << 20);
    buf_append(&out, data, (size_t)(at - data));
    buf_append_str(&out, to);
    at += strlen(from);
    assert_true(buf_append(&out, at, size - (size_t)(at - data)));
    scratch_write(scratch, "model.safetensors", out.data, out.size);
    buf_done(&out);
    free(data);
}

static void test_heads_inside_that_do_not_fit(void **state)
{
    struct scratch *scratch = *state;
    patch_inside(scratch, "sentiment.bias", "sentiment.bios");
    struct model *model = load(scratch->dir);
    assert_null(model->own_heads);
    expect_heads(model, POOLING_MEAN, NULL, NULL, "sentiment.bias is missing");
    expect_heads(model, POOLING_MEAN, TINY "heads.safetensors", "heads.safetensors",
                 "sentiment.bias is missing");
    model_destroy(model);
}

/* Heads that name a pooling serve under that one alone, whichever is the folder's. */
static void test_heads_inside_with_pooling(void **state)
{
    struct scratch *scratch = *state;
    patch_inside(scratch, "\"format\":\"pt\"", "\"pooling\":\"cls\"");
    struct model *model = load(scratch->dir);
    assert_non_null(model->own_heads);
    expect_heads(model, POOLING_CLS, NULL, "/model.safetensors", NULL);
    expect_heads(model, POOLING_MEAN, NULL, NULL, "cls pooling");
    model_destroy(model);
}

/* A narrow model has no accuracy to spare in int8: its attention is fp32 whatever is asked for. */
static void test_a_narrow_model_attends_in_fp32(void **state)
{
    const struct scratch *scratch = *state;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (!cpu_has(isa) || !isa_multiplies(isa, PRECISION_INT8)) {
            continue;
        }
        const struct encoder_options rounded = {
            .precision = PRECISION_INT8, .attention = PRECISION_BF16, .isa = isa, .threads = 1};
        struct model *model = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(model_load(scratch->dir, &rounded, &model, &err), ERR_OK);
        assert_int_equal(encoder_attention(model->encoder), PRECISION_FP32);
        model_destroy(model);
    }
}

#define FOLDER_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_loads),
        FOLDER_TEST(test_a_narrow_model_attends_in_fp32),
        FOLDER_TEST(test_name),
        FOLDER_TEST(test_vocabulary_too_large),
        FOLDER_TEST(test_missing_files),
        FOLDER_TEST(test_order_of_heads),
        FOLDER_TEST(test_heads_inside),
        FOLDER_TEST(test_heads_inside_that_do_not_fit),
        FOLDER_TEST(test_heads_inside_with_pooling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
