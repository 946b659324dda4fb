/* Heads files: what is refused and why, merging, and the arithmetic. */
#include "model/heads/heads.h"

#include <math.h>
#include <pthread.h>

#include "tests/support/safetensors_bytes.h"
#include "tests/support/testing.h"

enum { HIDDEN = 4, VALUES_MAX = 64 };

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER  "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const struct heads_fit fit = {
    .hidden = HIDDEN, .encoder_sha256 = DIGEST, .pooling = POOLING_MEAN};

static float ramp[VALUES_MAX];

/* A heads file; zero classes leave a head out. */
struct recipe {
    size_t classifier;
    size_t sentiment;
    struct metadata_source metadata[4]; /* a NULL key ends them */
    const float *values;                /* ramp where NULL */
};

static struct buf write_heads(const struct recipe *recipe)
{
    struct tensor_source tensors[4];
    size_t n = 0;
    const float *values = recipe->values ? recipe->values : ramp;
    if (recipe->classifier) {
        tensors[n++] = (struct tensor_source){
            "classifier.weight", 2, {recipe->classifier, HIDDEN}, values};
        tensors[n++] = (struct tensor_source){"classifier.bias", 1, {recipe->classifier}, values};
    }
    if (recipe->sentiment) {
        tensors[n++] = (struct tensor_source){
            "sentiment.weight", 2, {recipe->sentiment, HIDDEN}, values + 3};
        tensors[n++] = (struct tensor_source){"sentiment.bias", 1, {recipe->sentiment}, values};
    }
    size_t n_metadata = 0;
    while (n_metadata < 4 && recipe->metadata[n_metadata].key) {
        n_metadata++;
    }
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, TEST_FILE_MAX);
    assert_int_equal(safetensors_write(tensors, n, recipe->metadata, n_metadata, &out, &err),
                     ERR_OK);
    return out;
}

static struct heads *create(const struct buf *file, bool strict, const struct heads *base)
{
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    if (heads_create(file->data, file->size, "up.st", &fit, strict, base, &heads, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return heads;
}

static struct heads *make(const struct recipe *recipe, const struct heads *base)
{
    struct buf file = write_heads(recipe);
    struct heads *heads = create(&file, true, base);
    buf_done(&file);
    return heads;
}

static void expect_bytes_refused(const struct buf *file, enum err_code expected,
                                 const char *const *words)
{
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    enum err_code code = heads_create(file->data, file->size, "up.st", &fit, true, NULL, &heads,
                                      &err);
    expect_error(&err, code, expected, words);
    assert_non_null(strstr(err.text, "up.st"));
    assert_null(heads);
}

static void test_refused_metadata(void **state)
{
    (void)state;
    char long_label[400];
    memset(long_label, 'x', sizeof long_label);
    memcpy(long_label, "[\"a\",\"b\",\"", 10);
    memcpy(long_label + 10 + 257, "\"]", 3);
    const struct {
        const char *key;
        const char *value;
        enum err_code code;
        const char *words[4]; /* NULL-terminated */
    } cases[] = {
        {"sentiment.labels", "[\"a\",\"b\"]", ERR_INVALID, {"sentiment.labels", "3 strings"}},
        {"sentiment.labels", "[\"a\",\"b\",\"c\",\"d\"]", ERR_INVALID, {"3 strings"}},
        {"sentiment.labels", "{}", ERR_INVALID, {"sentiment.labels", "JSON array"}},
        {"sentiment.labels", "a,b,c", ERR_INVALID, {"sentiment.labels", "JSON"}},
        {"sentiment.labels", "", ERR_INVALID, {"sentiment.labels", "JSON"}},
        {"sentiment.labels", "[\"a\",\"b\",\"a\"]", ERR_INVALID, {"sentiment.labels[2]", "[0]"}},
        {"sentiment.labels", "[\"a\",\"\",\"c\"]", ERR_INVALID, {"sentiment.labels[1]"}},
        {"sentiment.labels", "[\"a\",1,\"c\"]", ERR_INVALID, {"sentiment.labels[1]"}},
        {"sentiment.labels", "[\"a\",\"b\",\"c\\u0000\"]", ERR_INVALID, {"sentiment.labels[2]"}},
        {"sentiment.labels", "[\"a\",\"b\\n\",\"c\"]", ERR_INVALID, {"[1]", "control"}},
        {"sentiment.labels", long_label, ERR_INVALID, {"sentiment.labels[2]", "256"}},
        {"encoder.sha256", OTHER, ERR_CONFLICT, {"ff1122334455", "001122334455"}},
        {"encoder.sha256", "0011", ERR_INVALID, {"encoder.sha256", "64 hexadecimal"}},
        {"encoder.sha256", DIGEST "0", ERR_INVALID, {"64 hexadecimal"}},
        {"encoder.sha256", "", ERR_INVALID, {"64 hexadecimal"}},
        {"pooling", "cls", ERR_CONFLICT, {"cls pooling", "mean"}},
        {"pooling", "median", ERR_INVALID, {"pooling", "mean or cls"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct recipe recipe = {6, 3, {{cases[i].key, cases[i].value}}, NULL};
        struct buf file = write_heads(&recipe);
        expect_bytes_refused(&file, cases[i].code, cases[i].words);
        buf_done(&file);
    }
}

static void test_refused_headers(void **state)
{
    (void)state;
#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"
#define BIAS T("sentiment.bias", "F32", "[3]", 48, 60)
    static const struct {
        const char *header;
        size_t data_size;
        enum err_code code;
        const char *words[4]; /* NULL-terminated */
    } cases[] = {
        {"{}", 0, ERR_NOT_FOUND, {"no head", "classifier.weight"}},
        {"{" T("other", "F32", "[1]", 0, 4) "}",
         4,
         ERR_INVALID,
         {"tensor other", "classifier.weight"}},
        {"{" T("classifier.Weight", "F32", "[1]", 0, 4) "}", 4, ERR_INVALID, {"classifier.Weight"}},
        {"{" T("sentiment.weight", "F32", "[3,4]", 0, 48) "}",
         48,
         ERR_INVALID,
         {"sentiment.bias is missing"}},
        {"{" T("sentiment.bias", "F32", "[3]", 0, 12) "}",
         12,
         ERR_INVALID,
         {"sentiment.weight is missing"}},
        {"{" T("sentiment.weight", "F32", "[4,3]", 0, 48) "," T("sentiment.bias", "F32", "[4]", 48,
                                                                64) "}",
         64,
         ERR_MISMATCH,
         {"sentiment.weight is [4, 3]", "[4, 4]"}},
        {"{" T("sentiment.weight", "F32", "[12]", 0, 48) "," BIAS "}",
         60,
         ERR_MISMATCH,
         {"sentiment.weight is [12]", "[classes, hidden]"}},
        {"{" T("sentiment.weight", "F32", "[3,4,1]", 0, 48) "," BIAS "}",
         60,
         ERR_MISMATCH,
         {"sentiment.weight is [3, 4, 1]"}},
        {"{" T("sentiment.weight", "F32", "[3,4]", 0, 48) "," T("sentiment.bias", "F32", "[4]", 48,
                                                                64) "}",
         64,
         ERR_MISMATCH,
         {"sentiment.bias is [4]", "expected is [3]"}},
        {"{" T("sentiment.weight", "F32", "[3,4]", 0, 48) "," T("sentiment.bias", "F32", "[1,3]",
                                                                48, 60) "}",
         60,
         ERR_MISMATCH,
         {"sentiment.bias is [1, 3]"}},
        {"{" T("sentiment.weight", "I32", "[3,4]", 0, 48) "," BIAS "}",
         60,
         ERR_UNSUPPORTED,
         {"sentiment.weight is I32", "F32, F16 or BF16"}},
        {"{" T("sentiment.weight", "F32", "[1,4]", 0, 16) "," T("sentiment.bias", "F32", "[1]", 16,
                                                                20) "}",
         20,
         ERR_INVALID,
         {"sentiment has 1 classes", "at least 2"}},
        {"{" T("sentiment.weight", "F32", "[0,4]", 0, 0) "," T("sentiment.bias", "F32", "[0]", 0,
                                                               0) "}",
         0,
         ERR_INVALID,
         {"0 classes"}},
        {"{" T("sentiment.weight", "F32", "[1025,4]", 0, 16400) "," T("sentiment.bias", "F32",
                                                                      "[1025]", 16400, 20500) "}",
         20500,
         ERR_LIMIT,
         {"1025 classes", "1024"}},
        {"{" T("sentiment.weight", "F32", "[2,4]", 0, 32) "," T("sentiment.bias", "F32", "[2]", 32,
                                                                40) "}",
         40,
         ERR_INVALID,
         {"2 classes and no labels", "add sentiment.labels", "tools/label-heads"}},
    };
#undef BIAS
#undef T
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf file;
        make_file(&file, cases[i].header, strlen(cases[i].header), NULL, cases[i].data_size);
        expect_bytes_refused(&file, cases[i].code, cases[i].words);
        buf_done(&file);
    }
}

static void test_nonfinite(void **state)
{
    (void)state;
    float values[VALUES_MAX] = {0};
    values[3 + 2 * HIDDEN + 1] = INFINITY; /* sentiment.weight[2, 1] */
    struct recipe recipe = {0, 3, {{0}}, values};
    struct buf file = write_heads(&recipe);
    expect_bytes_refused(&file, ERR_INVALID, WORDS("sentiment.weight", "[2, 1]", "finite"));
    buf_done(&file);
    values[3 + 2 * HIDDEN + 1] = 0;
    values[1] = NAN; /* sentiment.bias[1] */
    file = write_heads(&recipe);
    expect_bytes_refused(&file, ERR_INVALID, WORDS("sentiment.bias", "[1]", "finite"));
    buf_done(&file);
}

static void test_whole_set(void **state)
{
    (void)state;
    struct recipe recipe = {6, 3, {{"encoder.sha256", DIGEST}, {"pooling", "mean"}}, NULL};
    struct buf file = write_heads(&recipe);
    struct heads *heads = create(&file, true, NULL);
    assert_true(heads_find(heads, "classifier") && heads_find(heads, "sentiment"));
    assert_int_equal(heads_find(heads, "classifier")->classes, 6);
    assert_memory_equal(heads_find(heads, "classifier")->weight, ramp, sizeof *ramp * 6 * HIDDEN);
    assert_memory_equal(heads_find(heads, "sentiment")->weight, ramp + 3,
                        sizeof *ramp * 3 * HIDDEN);
    assert_memory_equal(heads_find(heads, "sentiment")->bias, ramp, sizeof *ramp * 3);
    assert_string_equal(heads_find(heads, "classifier")->labels[0], "Expression");
    assert_string_equal(heads_find(heads, "classifier")->labels[5], "Other");
    assert_string_equal(heads_find(heads, "sentiment")->labels[0], "Neutral");
    assert_string_equal(heads_find(heads, "sentiment")->labels[1], "Positive");
    assert_string_equal(heads_find(heads, "sentiment")->labels[2], "Negative");
    /* The file comes back byte for byte under its own digest. */
    assert_int_equal(heads->file_size, file.size);
    assert_memory_equal(heads->file, file.data, file.size);
    char digest[SHA256_HEX_SIZE + 1];
    sha256_of(file.data, file.size, digest);
    assert_string_equal(heads->sha256, digest);
    heads_release(heads);
    buf_done(&file);
    assert_false(heads_find(NULL, "classifier"));
}

static void test_own_labels(void **state)
{
    (void)state;
    struct recipe recipe = {2,
                            3,
                            {{"classifier.labels", "[\"\xc3\xa9t\xc3\xa9\",\"\\\"q\\\"\"]"},
                             {"sentiment.labels", "[\"x\",\"y\",\"z\"]"},
                             {"encoder.sha256", "00112233445566778899AABBCCDDEEFF"
                                                "00112233445566778899aabbccddeeff"}},
                            NULL};
    struct heads *heads = make(&recipe, NULL);
    assert_string_equal(heads_find(heads, "classifier")->labels[0], "\xc3\xa9t\xc3\xa9");
    assert_string_equal(heads_find(heads, "classifier")->labels[1], "\"q\"");
    assert_string_equal(heads_find(heads, "sentiment")->labels[2], "z");
    heads_release(heads);
}

/* A file in 16 bits stays as it is; its values are exact. */
static void test_f16_file(void **state)
{
    (void)state;
    static const char header[] =
        "{\"sentiment.weight\":{\"dtype\":\"F16\",\"shape\":[3,4],\"data_offsets\":[0,24]},"
        "\"sentiment.bias\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]}}";
    unsigned char data[30];
    for (size_t i = 0; i < 12; i++) {
        data[2 * i] = 0;
        data[2 * i + 1] = 0x3e; /* 1.5 */
    }
    for (size_t i = 0; i < 3; i++) {
        data[24 + 2 * i] = 0x80;
        data[25 + 2 * i] = 0xbf; /* -1 */
    }
    struct buf file;
    make_file(&file, header, strlen(header), data, sizeof data);
    struct heads *heads = create(&file, true, NULL);
    assert_false(heads_find(heads, "classifier"));
    for (size_t i = 0; i < 12; i++) {
        assert_true(heads_find(heads, "sentiment")->weight[i] == 1.5f);
    }
    assert_true(heads_find(heads, "sentiment")->bias[2] == -1.0f);
    assert_int_equal(heads->file_size, file.size);
    assert_memory_equal(heads->file, file.data, file.size);
    heads_release(heads);
    buf_done(&file);
}

static const char *metadata_of(const struct safetensors *file, const char *key)
{
    const char *text = NULL;
    size_t size;
    (void)jval_string(jval_get(safetensors_metadata(file), key), &text, &size);
    return text;
}

static void test_merge(void **state)
{
    (void)state;
    float other[VALUES_MAX];
    for (size_t i = 0; i < VALUES_MAX; i++) {
        other[i] = -(float)i;
    }
    struct recipe both = {
        2, 3, {{"classifier.labels", "[\"a\",\"b\"]"}, {"pooling", "mean"}, {"note", "old"}}, NULL};
    struct recipe one = {0, 2, {{"note", "new"}, {"sentiment.labels", "[\"no\",\"yes\"]"}}, other};
    struct heads *base = make(&both, NULL);
    struct heads *merged = make(&one, base);
    struct heads *again = make(&one, base);
    char base_digest[SHA256_HEX_SIZE + 1];
    memcpy(base_digest, base->sha256, sizeof base_digest);
    heads_release(base); /* sets live independently */

    assert_int_equal(heads_find(merged, "classifier")->classes, 2);
    assert_memory_equal(heads_find(merged, "classifier")->weight, ramp, sizeof *ramp * 2 * HIDDEN);
    assert_string_equal(heads_find(merged, "classifier")->labels[1], "b");
    assert_int_equal(heads_find(merged, "sentiment")->classes, 2);
    assert_memory_equal(heads_find(merged, "sentiment")->weight, other + 3,
                        sizeof *other * 2 * HIDDEN);
    assert_string_equal(heads_find(merged, "sentiment")->labels[1], "yes");
    assert_string_not_equal(merged->sha256, base_digest);
    assert_string_equal(merged->sha256, again->sha256);
    assert_int_equal(merged->file_size, again->file_size);
    assert_memory_equal(merged->file, again->file, again->file_size);

    /* The new file says it all and gives the same set again. */
    struct safetensors *file;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_parse(merged->file, merged->file_size, "m", &file, &err), ERR_OK);
    assert_string_equal(metadata_of(file, "classifier.labels"), "[\"a\",\"b\"]");
    assert_string_equal(metadata_of(file, "sentiment.labels"), "[\"no\",\"yes\"]");
    assert_string_equal(metadata_of(file, "pooling"), "mean");
    assert_string_equal(metadata_of(file, "note"), "new");
    assert_null(metadata_of(file, "encoder.sha256"));
    safetensors_close(file);
    struct buf bytes = {.data = merged->file, .size = merged->file_size};
    struct heads *reread = create(&bytes, true, NULL);
    assert_string_equal(reread->sha256, merged->sha256);
    assert_memory_equal(heads_find(reread, "sentiment")->weight,
                        heads_find(merged, "sentiment")->weight, sizeof *other * 2 * HIDDEN);
    heads_release(reread);
    heads_release(again);
    heads_release(merged);
}

/* A file with both heads takes nothing from the base and stays as it is. */
static void test_merge_of_whole(void **state)
{
    (void)state;
    struct recipe recipe = {6, 3, {{0}}, NULL};
    struct heads *base = make(&recipe, NULL);
    struct buf file = write_heads(&recipe);
    struct heads *heads = create(&file, true, base);
    assert_string_equal(heads->sha256, base->sha256);
    heads_release(base);
    heads_release(heads);
    buf_done(&file);
    /* One head on a base with the same one: nothing to merge. */
    struct recipe one = {0, 3, {{0}}, NULL};
    base = make(&one, NULL);
    heads = make(&one, base);
    assert_string_equal(heads->sha256, base->sha256);
    assert_false(heads_find(heads, "classifier"));
    heads_release(base);
    heads_release(heads);
}

static void test_merge_refuses_and_keeps_base(void **state)
{
    (void)state;
    struct recipe recipe = {6, 3, {{0}}, NULL};
    struct recipe wrong = {0, 3, {{"encoder.sha256", OTHER}}, NULL};
    struct heads *base = make(&recipe, NULL);
    struct buf file = write_heads(&wrong);
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(heads_create(file.data, file.size, "up.st", &fit, true, base, &heads, &err),
                     ERR_CONFLICT);
    assert_null(heads);
    assert_int_equal(heads_find(base, "sentiment")->classes, 3);
    buf_done(&file);
    heads_release(base);
}

/* Out of a whole checkpoint the heads alone are kept. */
static void test_not_strict(void **state)
{
    (void)state;
    const struct tensor_source tensors[] = {
        {"bert.embeddings.word_embeddings.weight", 2, {2, 2}, ramp},
        {"classifier.weight", 2, {6, HIDDEN}, ramp},
        {"classifier.bias", 1, {6}, ramp}};
    struct buf file;
    struct err err = ERR_INIT;
    buf_init(&file, TEST_FILE_MAX);
    assert_int_equal(safetensors_write(tensors, 3, NULL, 0, &file, &err), ERR_OK);
    struct heads *heads = create(&file, false, NULL);
    assert_true(heads_find(heads, "classifier"));
    assert_null(memmem(heads->file, heads->file_size, "bert", 4));
    assert_non_null(memmem(heads->file, heads->file_size, "Expression", 10));
    struct buf bytes = {.data = heads->file, .size = heads->file_size};
    struct heads *reread = create(&bytes, true, NULL);
    assert_string_equal(reread->sha256, heads->sha256);
    heads_release(reread);
    heads_release(heads);
    expect_bytes_refused(&file, ERR_INVALID, WORDS("bert.embeddings.word_embeddings.weight"));
    buf_done(&file);
}

static void test_load(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    struct recipe recipe = {6, 3, {{0}}, NULL};
    struct buf file = write_heads(&recipe);
    scratch_write(&scratch, "h.safetensors", file.data, file.size);
    struct heads *strict = NULL;
    struct heads *loose = NULL;
    struct err err = ERR_INIT;
    const char *path = scratch_path(&scratch, "h.safetensors");
    assert_int_equal(heads_load(path, &fit, true, &strict, &err), ERR_OK);
    assert_int_equal(heads_load(path, &fit, false, &loose, &err), ERR_OK);
    assert_string_equal(strict->sha256, loose->sha256);
    heads_release(strict);
    heads_release(loose);
    struct heads *none = NULL;
    enum err_code code = heads_load(scratch_path(&scratch, "absent"), &fit, true, &none, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("absent"));
    err = ERR_INIT;
    code = heads_load(scratch_path(&scratch, "absent"), &fit, false, &none, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("absent"));
    assert_null(none);
    buf_done(&file);
    scratch_remove(&scratch);
}

/* The heads that ship fit bert-base-uncased, whose digest this is. */
static void test_shipped_file(void **state)
{
    (void)state;
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    struct heads_fit base = {
        .hidden = 768,
        .encoder_sha256 = "f29c6ea7a75eecfa9336bc9089ed22f1c02dddc1b31a3bc979056202fd4c9305",
        .pooling = POOLING_MEAN,
    };
    const char *path = ORTHRUS_TEST_DATA "/../../heads/default.safetensors";
    if (heads_load(path, &base, true, &heads, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    assert_true(heads_find(heads, "classifier") && heads_find(heads, "sentiment"));
    heads_release(heads);
}

static void test_golden_files(void **state)
{
    (void)state;
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    struct heads_fit tiny = {.hidden = 32, .encoder_sha256 = DIGEST, .pooling = POOLING_MEAN};
    const char *path = ORTHRUS_TEST_DATA "/golden/tiny-bert/heads.safetensors";
    assert_int_equal(heads_load(path, &tiny, true, &heads, &err), ERR_OK);
    heads_release(heads);
    enum err_code code = heads_load(ORTHRUS_TEST_DATA "/golden/heads-init.safetensors", &tiny, true,
                                    &heads, &err);
    expect_error(&err, code, ERR_MISMATCH, WORDS("classifier.weight is [6, 768]", "[6, 32]"));
}

/* n texts at once give each row the bits it has alone. */
static void test_logits_do_not_see_the_batch(void **state)
{
    (void)state;
    enum { N = 5, K = 3, H = 37 };
    float weight[K * H];
    float embeddings[N * H];
    static const float bias[K] = {0.25f, -1, 2};
    uint32_t seed = 1;
    for (size_t i = 0; i < N * H; i++) {
        seed = seed * 1664525u + 1013904223u;
        embeddings[i] = (float)(seed >> 8) / 8388608.0f - 1;
        if (i < K * H) {
            weight[i] = (float)(seed >> 4 & 0xffff) / 32768.0f - 1;
        }
    }
    const struct head head = {.classes = K, .width = H, .weight = weight, .bias = bias};
    float together[N * K];
    head_logits(&head, embeddings, N, together);
    for (size_t i = 0; i < N; i++) {
        float alone[K];
        head_logits(&head, embeddings + i * H, 1, alone);
        assert_memory_equal(alone, together + i * K, sizeof alone);
        for (size_t k = 0; k < K; k++) {
            double exact = (double)bias[k];
            for (size_t h = 0; h < H; h++) {
                exact += (double)weight[k * H + h] * (double)embeddings[i * H + h];
            }
            assert_true(fabs(exact - (double)alone[k]) < 1e-5);
        }
    }
}

static void test_softmax(void **state)
{
    (void)state;
    float even[] = {5, 5, 5, 5};
    head_softmax(even, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(even[i] == 0.25f);
    }
    float known[] = {1, 2, 3};
    head_softmax(known, 3);
    assert_true(fabsf(known[0] - 0.09003057f) < 1e-7f);
    assert_true(fabsf(known[1] - 0.24472847f) < 1e-7f);
    assert_true(fabsf(known[2] - 0.66524096f) < 1e-7f);
    float far[] = {-1e30f, 1e30f, 3e38f};
    head_softmax(far, 3);
    assert_true(far[0] == 0 && far[1] == 0 && far[2] == 1);
}

static void *acquire_and_release(void *context)
{
    struct heads *heads = context;
    for (size_t i = 0; i < 10000; i++) {
        struct heads *mine = heads_acquire(heads);
        if (heads_find(mine, "sentiment")->classes != 3) {
            return mine;
        }
        heads_release(mine);
    }
    heads_release(heads);
    return NULL;
}

/* The last of several threads frees it, under the sanitizers' eyes. */
static void test_references(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct recipe recipe = {6, 3, {{0}}, NULL};
    struct heads *heads = make(&recipe, NULL);
    pthread_t ids[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_ptr_equal(heads_acquire(heads), heads);
        assert_int_equal(pthread_create(&ids[i], NULL, acquire_and_release, heads), 0);
    }
    heads_release(heads);
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(ids[i], &failed), 0);
        assert_null(failed);
    }
    assert_null(heads_acquire(NULL));
    heads_release(NULL);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "classifier", "intent-v2", "x_1", "embedding"};
    static const char *const bad[] = {"",      "A",       "1a",     "_a",       "a.b",        "a b",
                                      "embed", "pooling", "shadow", "rollback", "caf\xc3\xa9"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(head_name_ok(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(head_name_ok(bad[i]));
    }
    char longest[HEADS_NAME_MAX + 2];
    memset(longest, 'n', sizeof longest);
    longest[HEADS_NAME_MAX + 1] = '\0';
    assert_false(head_name_ok(longest));
    longest[HEADS_NAME_MAX] = '\0';
    assert_true(head_name_ok(longest));
}

static int fill_ramp(void **state)
{
    (void)state;
    for (size_t i = 0; i < VALUES_MAX; i++) {
        ramp[i] = (float)i / 8;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_metadata),
        cmocka_unit_test(test_refused_headers),
        cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_whole_set),
        cmocka_unit_test(test_own_labels),
        cmocka_unit_test(test_f16_file),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_merge_of_whole),
        cmocka_unit_test(test_merge_refuses_and_keeps_base),
        cmocka_unit_test(test_not_strict),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_golden_files),
        cmocka_unit_test(test_shipped_file),
        cmocka_unit_test(test_logits_do_not_see_the_batch),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, fill_ramp, NULL);
}
