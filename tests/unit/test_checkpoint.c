/* Binding: every way a weights file may not fit its config.json. */
#include "model/files/checkpoint.h"

#include <math.h>

#include "tests/support/testing.h"

enum { TENSORS_MAX = 64, VALUES_MAX = 64, FILE_MAX = 1 << 20 };

static const char config_text[] =
    "{\"model_type\":\"bert\",\"hidden_size\":4,\"num_attention_heads\":2,"
    "\"intermediate_size\":6,\"num_hidden_layers\":2,\"vocab_size\":5,"
    "\"max_position_embeddings\":8}";

/* A tiny model as a list of tensors that a test may change before it is written. */
struct tiny {
    struct scratch scratch;
    struct config config;
    struct checkpoint_param params[TENSORS_MAX];
    char names[TENSORS_MAX][128];
    struct tensor_source tensors[TENSORS_MAX];
    size_t n;
    float values[VALUES_MAX];
};

/* Gives the folder the tensors of its configuration, each as many values behind the one before. */
static void set_tensors(struct tiny *tiny, const float *values, size_t apart)
{
    tiny->n = checkpoint_param_count(&tiny->config);
    for (size_t i = 0; i < tiny->n; i++) {
        struct checkpoint_param *param = &tiny->params[i];
        checkpoint_param(&tiny->config, NULL, i, param);
        (void)snprintf(tiny->names[i], sizeof tiny->names[i], "%s", param->name);
        tiny->tensors[i] = (struct tensor_source){
            tiny->names[i], param->rank, {param->shape[0], param->shape[1]}, values + apart * i};
    }
}

static int set_up(void **state)
{
    struct tiny *tiny = calloc(1, sizeof *tiny);
    assert_non_null(tiny);
    scratch_make(&tiny->scratch);
    scratch_text(&tiny->scratch, "config.json", config_text);
    struct err err = ERR_INIT;
    assert_int_equal(config_load(tiny->scratch.dir, &tiny->config, &err), ERR_OK);
    for (size_t i = 0; i < VALUES_MAX; i++) {
        tiny->values[i] = (float)i / 7;
    }
    set_tensors(tiny, tiny->values, 0);
    *state = tiny;
    return 0;
}

static int tear_down(void **state)
{
    struct tiny *tiny = *state;
    config_done(&tiny->config);
    scratch_remove(&tiny->scratch);
    free(tiny);
    return 0;
}

static struct tensor_source *find(struct tiny *tiny, const char *name)
{
    for (size_t i = 0; i < tiny->n; i++) {
        if (strcmp(tiny->tensors[i].name, name) == 0) {
            return &tiny->tensors[i];
        }
    }
    fail_msg("no %s", name);
    return NULL;
}

/* Adds one, or gives every tensor a prefix. */
static void add(struct tiny *tiny, const char *name, size_t rows, size_t columns)
{
    (void)snprintf(tiny->names[tiny->n], sizeof tiny->names[0], "%s", name);
    tiny->tensors[tiny->n] = (struct tensor_source){
        tiny->names[tiny->n], columns ? 2 : 1, {rows, columns}, tiny->values};
    tiny->n++;
}

static void prefix_all(struct tiny *tiny, const char *prefix)
{
    for (size_t i = 0; i < tiny->n; i++) {
        char old[128];
        memcpy(old, tiny->names[i], sizeof old);
        (void)snprintf(tiny->names[i], sizeof tiny->names[i], "%s%s", prefix, old);
    }
}

/* Writes the file; where patch is given, its first F32 behind that name gets another dtype. */
static void write_model(struct tiny *tiny, const char *patch, const char *dtype)
{
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, FILE_MAX);
    assert_int_equal(safetensors_write(tiny->tensors, tiny->n, NULL, 0, &out, &err), ERR_OK);
    if (patch) {
        char *at = memmem(out.data, out.size, patch, strlen(patch));
        assert_non_null(at);
        at = memmem(at, out.size - (size_t)(at - out.data), "F32", 3);
        assert_non_null(at);
        memcpy(at, dtype, 3);
    }
    scratch_write(&tiny->scratch, "model.safetensors", out.data, out.size);
    buf_done(&out);
}

static void expect_refused(struct tiny *tiny, enum err_code expected, const char *const *words)
{
    struct checkpoint *checkpoint = NULL;
    struct err err = ERR_INIT;
    enum err_code code = checkpoint_open(tiny->scratch.dir, 2, &checkpoint, &err);
    expect_error(&err, code, expected, words);
    assert_non_null(strstr(err.text, "/model.safetensors"));
    assert_null(checkpoint);
}

static struct checkpoint *open_model(struct tiny *tiny, unsigned threads)
{
    struct checkpoint *checkpoint = NULL;
    struct err err = ERR_INIT;
    if (checkpoint_open(tiny->scratch.dir, threads, &checkpoint, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return checkpoint;
}

static void test_binds_every_field(void **state)
{
    struct tiny *tiny = *state;
    write_model(tiny, NULL, NULL);
    struct checkpoint *checkpoint = open_model(tiny, 1);
    assert_int_equal(checkpoint_param_count(&tiny->config), 5 + 16 * 2);
    assert_string_equal(checkpoint->word->name, "embeddings.word_embeddings.weight");
    assert_string_equal(checkpoint->embeddings_ln_b->name, "embeddings.LayerNorm.bias");
    const struct layer_tensors *last = &checkpoint->layers[1];
    assert_string_equal(last->query_w->name, "encoder.layer.1.attention.self.query.weight");
    assert_string_equal(last->key_b->name, "encoder.layer.1.attention.self.key.bias");
    assert_string_equal(last->value_w->name, "encoder.layer.1.attention.self.value.weight");
    assert_string_equal(last->attention_out_w->name,
                        "encoder.layer.1.attention.output.dense.weight");
    assert_string_equal(last->attention_ln_w->name,
                        "encoder.layer.1.attention.output.LayerNorm.weight");
    assert_string_equal(last->ffn_in_w->name, "encoder.layer.1.intermediate.dense.weight");
    assert_string_equal(last->ffn_out_b->name, "encoder.layer.1.output.dense.bias");
    assert_string_equal(last->ffn_ln_b->name, "encoder.layer.1.output.LayerNorm.bias");
    for (size_t i = 0; i < checkpoint_param_count(&tiny->config); i++) {
        struct checkpoint_param param;
        checkpoint_param(&checkpoint->config, checkpoint, i, &param);
        assert_string_equal(param.name, tiny->params[i].name);
        assert_string_equal(param.tensor->name, param.name);
        assert_int_equal(param.tensor->rank, param.rank);
        assert_memory_equal(param.tensor->shape, param.shape, param.rank * sizeof(size_t));
    }
    checkpoint_close(checkpoint);
    checkpoint_close(NULL);
}

static void test_order_is_pytorchs(void **state)
{
    struct tiny *tiny = *state;
    assert_string_equal(tiny->params[0].name, "embeddings.word_embeddings.weight");
    assert_string_equal(tiny->params[1].name, "embeddings.position_embeddings.weight");
    assert_string_equal(tiny->params[2].name, "embeddings.token_type_embeddings.weight");
    assert_string_equal(tiny->params[3].name, "embeddings.LayerNorm.weight");
    assert_string_equal(tiny->params[5].name, "encoder.layer.0.attention.self.query.weight");
    assert_string_equal(tiny->params[6].name, "encoder.layer.0.attention.self.query.bias");
    assert_string_equal(tiny->params[20].name, "encoder.layer.0.output.LayerNorm.bias");
    assert_string_equal(tiny->params[21].name, "encoder.layer.1.attention.self.query.weight");
    assert_null(tiny->params[0].tensor);
}

static void test_missing_tensor(void **state)
{
    struct tiny *tiny = *state;
    find(tiny, "encoder.layer.1.output.dense.weight")->name = "elsewhere";
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_NOT_FOUND,
                   WORDS("encoder.layer.1.output.dense.weight", "[4, 6]", "missing"));
}

static void test_missing_names_the_prefix(void **state)
{
    struct tiny *tiny = *state;
    prefix_all(tiny, "bert.");
    find(tiny, "bert.encoder.layer.0.attention.self.key.bias")->name = "elsewhere";
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_NOT_FOUND,
                   WORDS("bert.encoder.layer.0.attention.self.key.bias", "[4]"));
}

static void test_no_encoder_at_all(void **state)
{
    struct tiny *tiny = *state;
    prefix_all(tiny, "roberta.");
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_NOT_FOUND, WORDS("embeddings.word_embeddings.weight", "bert."));
}

static void test_ambiguous_prefix(void **state)
{
    struct tiny *tiny = *state;
    add(tiny, "bert.embeddings.word_embeddings.weight", 5, 4);
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_INVALID,
                   WORDS("holds both embeddings.word_embeddings.weight",
                         "bert.embeddings.word_embeddings.weight"));
}

static void test_wrong_shape(void **state)
{
    struct tiny *tiny = *state;
    struct tensor_source *tensor = find(tiny, "embeddings.word_embeddings.weight");
    tensor->shape[0] = 6;
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_MISMATCH,
                   WORDS("embeddings.word_embeddings.weight", "is [6, 4]", "must be [5, 4]"));
}

static void test_wrong_rank(void **state)
{
    struct tiny *tiny = *state;
    struct tensor_source *tensor = find(tiny, "encoder.layer.0.output.dense.bias");
    tensor->rank = 2;
    tensor->shape[1] = 1;
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_MISMATCH,
                   WORDS("encoder.layer.0.output.dense.bias", "is [4, 1]", "must be [4]"));
}

static void test_transposed(void **state)
{
    struct tiny *tiny = *state;
    struct tensor_source *tensor = find(tiny, "encoder.layer.0.intermediate.dense.weight");
    tensor->shape[0] = 4;
    tensor->shape[1] = 6;
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_MISMATCH, WORDS("is [4, 6]", "must be [6, 4]"));
}

static void test_wrong_dtype(void **state)
{
    struct tiny *tiny = *state;
    write_model(tiny, "encoder.layer.1.attention.self.key.weight", "I32");
    expect_refused(tiny, ERR_UNSUPPORTED,
                   WORDS("encoder.layer.1.attention.self.key.weight", "I32", "F32, F16 or BF16"));
}

static void test_more_layers_than_config(void **state)
{
    struct tiny *tiny = *state;
    add(tiny, "encoder.layer.2.attention.self.query.weight", 4, 4);
    write_model(tiny, NULL, NULL);
    expect_refused(tiny, ERR_MISMATCH, WORDS("encoder.layer.2", "num_hidden_layers", "is 2"));
}

static void test_nonfinite(void **state)
{
    struct tiny *tiny = *state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float values[VALUES_MAX] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        values[13] = bad[i];
        find(tiny, "encoder.layer.1.output.dense.weight")->data = values;
        write_model(tiny, NULL, NULL);
        expect_refused(tiny, ERR_INVALID,
                       WORDS("encoder.layer.1.output.dense.weight", "value 13", "finite"));
    }
}

static void test_ignores_the_rest(void **state)
{
    struct tiny *tiny = *state;
    write_model(tiny, NULL, NULL);
    struct checkpoint *plain = open_model(tiny, 1);
    add(tiny, "pooler.dense.weight", 4, 4);
    add(tiny, "cls.predictions.bias", 5, 0);
    add(tiny, "anything", 3, 0);
    write_model(tiny, "pooler.dense.weight", "I32");
    struct checkpoint *more = open_model(tiny, 1);
    assert_string_equal(plain->encoder_sha256, more->encoder_sha256);
    checkpoint_close(plain);
    checkpoint_close(more);
}

static void test_digest(void **state)
{
    struct tiny *tiny = *state;
    write_model(tiny, NULL, NULL);
    struct checkpoint *checkpoint = open_model(tiny, 1);
    char digest[SHA256_HEX_SIZE + 1];
    memcpy(digest, checkpoint->encoder_sha256, sizeof digest);
    checkpoint_close(checkpoint);
    static const unsigned threads[] = {0, 2, 3, 64, 1000};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        checkpoint = open_model(tiny, threads[i]);
        assert_string_equal(checkpoint->encoder_sha256, digest);
        checkpoint_close(checkpoint);
    }
    /* The bits of the values count: -0 is not 0. */
    float values[VALUES_MAX];
    memcpy(values, tiny->values, sizeof values);
    values[0] = -values[0];
    find(tiny, "embeddings.LayerNorm.bias")->data = values;
    write_model(tiny, NULL, NULL);
    checkpoint = open_model(tiny, 2);
    assert_string_not_equal(checkpoint->encoder_sha256, digest);
    checkpoint_close(checkpoint);
}

/* A model whose tensors are several blocks of SHA-256 long, most with a rest behind the last. */
enum { LARGE_VOCAB = 701, LARGE_HIDDEN = 36, LARGE_VALUES = LARGE_VOCAB * LARGE_HIDDEN };

static void make_large(struct tiny *tiny, float *values)
{
    scratch_text(&tiny->scratch, "config.json",
                 "{\"model_type\":\"bert\",\"hidden_size\":36,\"num_attention_heads\":4,"
                 "\"intermediate_size\":53,\"num_hidden_layers\":3,\"vocab_size\":701,"
                 "\"max_position_embeddings\":9}");
    struct err err = ERR_INIT;
    config_done(&tiny->config);
    assert_int_equal(config_load(tiny->scratch.dir, &tiny->config, &err), ERR_OK);
    for (size_t i = 0; i < LARGE_VALUES; i++) {
        values[i] = (float)(i * 2654435761 % 65536) / 32768 - 1;
    }
    set_tensors(tiny, values, 1);
}

static size_t count_of(const struct tensor_source *tensor)
{
    return tensor->shape[0] * (tensor->rank == 2 ? tensor->shape[1] : 1);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* model/files/checkpoint.h's definition, tensor by tensor. */
static void test_digest_by_its_definition(void **state)
{
    struct tiny *tiny = *state;
    float *values = calloc(LARGE_VALUES, sizeof *values);
    assert_non_null(values);
    make_large(tiny, values);
    write_model(tiny, NULL, NULL);
    char *lines[TENSORS_MAX];
    for (size_t i = 0; i < tiny->n; i++) {
        const struct tensor_source *tensor = &tiny->tensors[i];
        char shape[64];
        char hex[SHA256_HEX_SIZE + 1];
        size_t count = count_of(tensor);
        (void)snprintf(shape, sizeof shape, tensor->rank == 2 ? "%zux%zu" : "%zu", tensor->shape[0],
                       tensor->shape[1]);
        sha256_of(tensor->data, count * sizeof(float), hex);
        assert_true(asprintf(&lines[i], "%s %s %s\n", tensor->name, shape, hex) > 0);
    }
    qsort(lines, tiny->n, sizeof *lines, compare_lines);
    struct buf all;
    buf_init(&all, FILE_MAX);
    for (size_t i = 0; i < tiny->n; i++) {
        buf_append_str(&all, lines[i]);
        free(lines[i]);
    }
    char expected[SHA256_HEX_SIZE + 1];
    sha256_of(all.data, all.size, expected);
    buf_done(&all);
    for (unsigned threads = 1; threads < 4; threads++) {
        struct checkpoint *checkpoint = open_model(tiny, threads);
        assert_string_equal(checkpoint->encoder_sha256, expected);
        checkpoint_close(checkpoint);
    }
    free(values);
}

/* In every tensor, in its first value, its last and one between. */
static void test_nonfinite_anywhere(void **state)
{
    struct tiny *tiny = *state;
    float *values = calloc(LARGE_VALUES, sizeof *values);
    float *bad = calloc(LARGE_VALUES, sizeof *bad);
    assert_true(values && bad);
    make_large(tiny, values);
    for (size_t i = 0; i < tiny->n; i++) {
        struct tensor_source *tensor = &tiny->tensors[i];
        size_t count = count_of(tensor);
        const size_t places[] = {0, count / 2 + i % 5, count - 1};
        size_t place = places[i % 3];
        const void *good = tensor->data;
        memcpy(bad, good, count * sizeof *bad);
        bad[place] = i % 2 ? NAN : -INFINITY;
        tensor->data = bad;
        write_model(tiny, NULL, NULL);
        char value[32];
        (void)snprintf(value, sizeof value, "value %zu is not finite", place);
        expect_refused(tiny, ERR_INVALID, WORDS(tensor->name, value));
        tensor->data = good;
    }
    free(bad);
    free(values);
}

static void test_absent_files(void **state)
{
    struct tiny *tiny = *state;
    expect_refused(tiny, ERR_NOT_FOUND, WORDS("model.safetensors"));
    struct checkpoint *checkpoint = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(unlink(scratch_path(&tiny->scratch, "config.json")), 0);
    enum err_code code = checkpoint_open(tiny->scratch.dir, 1, &checkpoint, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("config.json"));
}

#define MODEL_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODEL_TEST(test_binds_every_field),
        MODEL_TEST(test_order_is_pytorchs),
        MODEL_TEST(test_missing_tensor),
        MODEL_TEST(test_missing_names_the_prefix),
        MODEL_TEST(test_no_encoder_at_all),
        MODEL_TEST(test_ambiguous_prefix),
        MODEL_TEST(test_wrong_shape),
        MODEL_TEST(test_wrong_rank),
        MODEL_TEST(test_transposed),
        MODEL_TEST(test_wrong_dtype),
        MODEL_TEST(test_more_layers_than_config),
        MODEL_TEST(test_nonfinite),
        MODEL_TEST(test_ignores_the_rest),
        MODEL_TEST(test_digest),
        MODEL_TEST(test_digest_by_its_definition),
        MODEL_TEST(test_nonfinite_anywhere),
        MODEL_TEST(test_absent_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
