/* Each rule of the format has a file that breaks it. */
#include "model/files/safetensors.h"

#include <math.h>

#include "tests/support/safetensors_bytes.h"
#include "tests/support/testing.h"

struct rule {
    const char *header;
    size_t data_size;
    enum err_code code;
    const char *words[4]; /* must be in the message; NULL-terminated */
};

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

static const struct rule rules[] = {
    /* The header as JSON. */
    {"", 0, ERR_INVALID, {"file.st", "'{'"}},
    {" {}", 0, ERR_INVALID, {"file.st", "'{'"}},
    {"[]", 0, ERR_INVALID, {"'{'"}},
    {"{", 0, ERR_INVALID, {"file.st", "header", "JSON"}},
    {"{}x", 0, ERR_INVALID, {"JSON"}},
    {"{}{}", 0, ERR_INVALID, {"JSON"}},
    {"{\"a\":1,}", 0, ERR_INVALID, {"JSON"}},
    {"{\"\xff\":1}", 0, ERR_INVALID, {"JSON"}},
    {"{\"\xed\xa0\x80\":1}", 0, ERR_INVALID, {"JSON"}},
    {"{\"\\ud800\":1}", 0, ERR_INVALID, {"JSON"}},
    {"{\"a\\u0000b\":1}", 0, ERR_INVALID, {"JSON"}},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("a", "F32", "[1]", 4, 8) "}",
     8,
     ERR_INVALID,
     {"JSON"}},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     ERR_INVALID,
     {"JSON"}},
    {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
     0,
     ERR_INVALID,
     {"nested"}},
    /* Metadata. */
    {"{\"__metadata__\":[]}", 0, ERR_INVALID, {"__metadata__", "object"}},
    {"{\"__metadata__\":null}", 0, ERR_INVALID, {"__metadata__", "object"}},
    {"{\"__metadata__\":{\"k\":1}}", 0, ERR_INVALID, {"__metadata__", "k is not a string"}},
    {"{\"__metadata__\":{\"k\":\"a\\u0000b\"}}", 0, ERR_INVALID, {"k holds a NUL"}},
    /* One tensor's fields. */
    {"{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     ERR_INVALID,
     {"empty name"}},
    {"{\"a\":1}", 0, ERR_INVALID, {"tensor a", "dtype, shape and data_offsets"}},
    {"{\"a\":null}", 0, ERR_INVALID, {"tensor a"}},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, ERR_INVALID, {"tensor a", "dtype"}},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, ERR_INVALID, {"tensor a", "shape"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, ERR_INVALID, {"tensor a", "data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}",
     4,
     ERR_INVALID,
     {"tensor a", "nothing else"}},
    {"{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     ERR_INVALID,
     {"tensor a", "unknown dtype"}},
    {"{" TENSOR("a", "F31", "[1]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "unknown dtype"}},
    {"{" TENSOR("a", "f32", "[1]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "unknown dtype"}},
    {"{" TENSOR("a", "F32\\u0000", "[1]", 0, 4) "}", 4, ERR_INVALID, {"unknown dtype"}},
    {"{" TENSOR("a", "F32", "{}", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "shape must be"}},
    {"{" TENSOR("a", "F32", "[1.0]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "integers"}},
    {"{" TENSOR("a", "F32", "[\"1\"]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "integers"}},
    {"{" TENSOR("a", "F32", "[null]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "integers"}},
    {"{" TENSOR("a", "F32", "[-1]", 0, 4) "}", 4, ERR_INVALID, {"negative"}},
    {"{" TENSOR("a", "F32", "[-0]", 0, 0) "}", 0, ERR_INVALID, {"negative"}},
    {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}",
     4,
     ERR_LIMIT,
     {"tensor a", "9 dimensions", "8"}},
    {"{" TENSOR("a", "F32", "[99999999999999999999]", 0, 4) "}", 4, ERR_INVALID, {"JSON"}},
    {"{" TENSOR("a", "F32", "[4294967296,4294967296]", 0, 0) "}",
     0,
     ERR_INVALID,
     {"tensor a", "overflow"}},
    {"{" TENSOR("a", "F32", "[4294967296,4294967296,0]", 0, 0) "}", 0, ERR_INVALID, {"overflow"}},
    {"{" TENSOR("a", "F32", "[4611686018427387904]", 0, 0) "}",
     0,
     ERR_INVALID,
     {"tensor a", "[4611686018427387904]"}},
    {"{" TENSOR("a", "F32", "[2]", 0, 4) "}", 4, ERR_INVALID, {"tensor a", "F32 [2]", "4 bytes"}},
    {"{" TENSOR("a", "F16", "[2,3]", 0, 24) "}", 24, ERR_INVALID, {"tensor a", "F16 [2, 3]"}},
    {"{" TENSOR("a", "F32", "[]", 0, 0) "}", 0, ERR_INVALID, {"tensor a", "F32 []"}},
    /* The places of the tensors. */
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
     4,
     ERR_INVALID,
     {"tensor a", "data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}",
     4,
     ERR_INVALID,
     {"data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}}",
     4,
     ERR_INVALID,
     {"data_offsets"}},
    {"{" TENSOR("a", "F32", "[1]", "0", 4) "}", 4, ERR_INVALID, {"data_offsets"}},
    {"{" TENSOR("a", "F32", "[1]", 0.0, 4) "}", 4, ERR_INVALID, {"data_offsets"}},
    {"{" TENSOR("a", "F32", "[1]", 4, 0) "}", 4, ERR_INVALID, {"tensor a", "data_offsets"}},
    {"{" TENSOR("a", "F32", "[2]", 0, 8) "}", 4, ERR_INVALID, {"tensor a", "truncated"}},
    {"{" TENSOR("a", "F32", "[1]", 9223372036854775803, 9223372036854775807) "}",
     4,
     ERR_INVALID,
     {"tensor a", "truncated"}},
    {"{" TENSOR("a", "F32", "[1]", 4, 8) "}", 8, ERR_INVALID, {"tensor a", "hole"}},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F32", "[1]", 8, 12) "}",
     12,
     ERR_INVALID,
     {"tensor b", "byte 8", "hole"}},
    {"{" TENSOR("a", "F32", "[2]", 0, 8) "," TENSOR("b", "F32", "[2]", 4, 12) "}",
     12,
     ERR_INVALID,
     {"tensor b", "overlaps"}},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F32", "[1]", 0, 4) "}",
     4,
     ERR_INVALID,
     {"tensor b", "overlaps"}},
    {"{" TENSOR("a", "F32", "[1]", 0, 4) "}", 5, ERR_INVALID, {"1 bytes behind"}},
    {"{}", 1, ERR_INVALID, {"1 bytes behind"}},
    /* What a message may quote. */
    {"{\"a\\nb\":1}", 0, ERR_INVALID, {"tensor (name not printable)"}},
    {"{\"\xc3\xa9\":1}", 0, ERR_INVALID, {"tensor (name not printable)"}},
};

static void test_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct buf file;
        make_file(&file, rules[i].header, strlen(rules[i].header), NULL, rules[i].data_size);
        struct safetensors *parsed = NULL;
        struct err err = ERR_INIT;
        enum err_code code = safetensors_parse(file.data, file.size, "file.st", &parsed, &err);
        expect_error(&err, code, rules[i].code, rules[i].words);
        assert_non_null(strstr(err.text, "file.st"));
        assert_null(parsed);
        buf_done(&file);
    }
}

static void expect_refusal(const void *data, size_t size, enum err_code expected,
                           const char *const *words)
{
    struct safetensors *parsed = NULL;
    struct err err = ERR_INIT;
    enum err_code code = safetensors_parse(data, size, "file.st", &parsed, &err);
    expect_error(&err, code, expected, words);
    assert_null(parsed);
}

static void test_lengths(void **state)
{
    (void)state;
    expect_refusal(NULL, 0, ERR_INVALID, WORDS("file.st", "0 bytes"));
    expect_refusal("\0\0\0\0\0\0\0", 7, ERR_INVALID, WORDS("7 bytes"));
    expect_refusal("\3\0\0\0\0\0\0\0{}", 10, ERR_INVALID, WORDS("truncated"));
    expect_refusal("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, ERR_LIMIT, WORDS("100000000"));
    expect_refusal("\x01\xe1\xf5\x05\0\0\0\0{}", 10, ERR_LIMIT, WORDS("100000001", "100000000"));
    expect_refusal("\x00\xe1\xf5\x05\0\0\0\0{}", 10, ERR_INVALID, WORDS("truncated"));
    expect_refusal("\3\0\0\0\0\0\0\0{}\0", 11, ERR_INVALID, WORDS("JSON"));
}

/* Every cut of a good file is refused, and so is every byte too many. */
static void test_truncation(void **state)
{
    (void)state;
    static const char header[] = "{" TENSOR("a", "F32", "[2,2]", 0, 16) "," TENSOR("b", "U8", "[3]",
                                                                                   16, 19) "}";
    struct buf file;
    make_file(&file, header, strlen(header), NULL, 19);
    for (size_t size = 0; size < file.size; size++) {
        char *cut = malloc(size ? size : 1);
        assert_non_null(cut);
        memcpy(cut, file.data, size);
        expect_refusal(cut, size, ERR_INVALID, WORDS("file.st"));
        free(cut);
    }
    expect_refusal(file.data, file.size + 1, ERR_INVALID, WORDS("1 bytes behind"));
    buf_done(&file);
}

static void test_accepts(void **state)
{
    (void)state;
    /* Out of order, an empty tensor where another begins, a scalar, a name with spaces, padding. */
    /* clang-format off */
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"empty\":\"\"},"
                                 TENSOR("late", "BF16", "[2,1]", 5, 9) ","
                                 TENSOR("first", "F32", "[]", 0, 4) ","
                                 TENSOR("none", "I64", "[0,7]", 4, 4) ","
                                 TENSOR("a b", "BOOL", "[1,1,1,1,1,1,1,1]", 4, 5) "}  \n";
    /* clang-format on */
    struct buf file;
    make_file(&file, header, strlen(header), "\0\0\x80\x3f\x01\x80\x3f\0\xc0", 9);
    struct safetensors *parsed;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_parse(file.data, file.size, "file.st", &parsed, &err), ERR_OK);
    assert_string_equal(safetensors_label(parsed), "file.st");
    size_t size;
    assert_ptr_equal(safetensors_bytes(parsed, &size), file.data);
    assert_int_equal(size, file.size);
    assert_int_equal(safetensors_count(parsed), 4);
    static const char *const order[] = {"first", "none", "a b", "late"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(safetensors_at(parsed, i)->name, order[i]);
        assert_ptr_equal(safetensors_find(parsed, order[i]), safetensors_at(parsed, i));
    }
    assert_null(safetensors_at(parsed, 4));
    assert_null(safetensors_find(parsed, "firs"));
    assert_null(safetensors_find(parsed, "__metadata__"));
    const struct tensor *late = safetensors_find(parsed, "late");
    assert_int_equal(late->dtype, DTYPE_BF16);
    assert_int_equal(late->rank, 2);
    assert_int_equal(late->count, 2);
    assert_int_equal(late->size, 4);
    float values[2];
    tensor_to_f32(late, 0, 2, values);
    assert_true(values[0] == 1.0f && values[1] == -2.0f);
    tensor_to_f32(safetensors_find(parsed, "first"), 0, 1, values);
    assert_true(values[0] == 1.0f);
    assert_int_equal(jval_object_size(safetensors_metadata(parsed)), 2);
    safetensors_close(parsed);
    buf_done(&file);
}

static void test_empty_file(void **state)
{
    (void)state;
    struct safetensors *parsed;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_parse("\2\0\0\0\0\0\0\0{}", 10, "x", &parsed, &err), ERR_OK);
    assert_int_equal(safetensors_count(parsed), 0);
    assert_null(safetensors_find(parsed, "a"));
    assert_null(safetensors_metadata(parsed));
    safetensors_close(parsed);
    safetensors_close(NULL);
}

/* n tensors of no bytes. */
static void make_many(struct buf *file, size_t n)
{
    struct buf header;
    buf_init(&header, TEST_FILE_MAX);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&header, "%s\"t%zu\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                   i ? "," : "{", i);
    }
    assert_true(buf_append_char(&header, '}'));
    make_file(file, header.data, header.size, NULL, 0);
    buf_done(&header);
}

static void test_tensor_limit(void **state)
{
    (void)state;
    struct buf file;
    make_many(&file, SAFETENSORS_TENSORS_MAX + 1);
    expect_refusal(file.data, file.size, ERR_LIMIT, WORDS("65537 tensors", "65536"));
    buf_done(&file);

    make_many(&file, SAFETENSORS_TENSORS_MAX);
    struct safetensors *parsed;
    struct err err = ERR_INIT;
    assert_int_equal(safetensors_parse(file.data, file.size, "x", &parsed, &err), ERR_OK);
    for (size_t i = 0; i < SAFETENSORS_TENSORS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%zu", i);
        assert_string_equal(safetensors_find(parsed, name)->name, name);
    }
    safetensors_close(parsed);
    buf_done(&file);
}

/* A header must not take many times its size in memory. */
static void test_value_limit(void **state)
{
    (void)state;
    struct buf header;
    buf_init(&header, TEST_FILE_MAX);
    buf_append_str(&header, "{\"a\":{\"dtype\":\"F32\",\"shape\":[0");
    for (size_t i = 0; i < SAFETENSORS_VALUES_MAX; i++) {
        buf_append_str(&header, ",0");
    }
    assert_true(buf_append_str(&header, "],\"data_offsets\":[0,0]}}"));
    struct buf file;
    make_file(&file, header.data, header.size, NULL, 0);
    expect_refusal(file.data, file.size, ERR_LIMIT, WORDS("values"));
    buf_done(&file);
    buf_done(&header);
}

static void test_open(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    struct safetensors *file = NULL;
    struct err err = ERR_INIT;
    enum err_code code = safetensors_open(scratch_path(&scratch, "none.st"), &file, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("none.st"));
    err = ERR_INIT;
    code = safetensors_open(scratch.dir, &file, &err);
    expect_error(&err, code, ERR_INVALID, WORDS(scratch.dir, "regular"));
    scratch_text(&scratch, "empty.st", "");
    err = ERR_INIT;
    code = safetensors_open(scratch_path(&scratch, "empty.st"), &file, &err);
    expect_error(&err, code, ERR_INVALID, WORDS("empty.st", "0 bytes"));
    scratch_text(&scratch, "page.st", "<!DOCTYPE html><html>not the file</html>");
    err = ERR_INIT;
    code = safetensors_open(scratch_path(&scratch, "page.st"), &file, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("page.st", "is it safetensors?"));
    assert_null(file);
    scratch_remove(&scratch);
}

/* Every half there is, against the formula of IEEE 754 in double. */
static void test_f16_exact(void **state)
{
    (void)state;
    enum { COUNT = 65536 };
    static uint16_t halves[COUNT];
    static float values[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        halves[i] = (uint16_t)i;
    }
    struct tensor tensor = {.dtype = DTYPE_F16,
                            .rank = 1,
                            .shape = {COUNT},
                            .count = COUNT,
                            .data = (const unsigned char *)halves,
                            .size = sizeof halves};
    tensor_to_f32(&tensor, 0, COUNT, values);
    for (unsigned i = 0; i < COUNT; i++) {
        int exponent = (int)(i >> 10 & 31);
        int mantissa = (int)(i & 1023);
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        assert_int_equal(bits >> 31, i >> 15);
        if (exponent == 31) {
            assert_int_equal(bits & 0x7fffffff, 0x7f800000 | (unsigned)mantissa << 13);
            continue;
        }
        double expected = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        assert_true((double)fabsf(values[i]) == expected);
    }
    /* Any first and count gives the same values, blocks or not. */
    float some[40];
    for (size_t first = 0; first < 20; first++) {
        for (size_t count = 0; count <= 40; count++) {
            tensor_to_f32(&tensor, 1000 + first, count, some);
            assert_memory_equal(some, values + 1000 + first, count * sizeof *some);
        }
    }
}

static void test_bf16_exact(void **state)
{
    (void)state;
    enum { COUNT = 65536 };
    static unsigned char bytes[2 * COUNT + 1];
    static float values[COUNT];
    for (size_t i = 0; i < COUNT; i++) { /* unaligned on purpose */
        bytes[2 * i + 1] = (unsigned char)(i & 255);
        bytes[2 * i + 2] = (unsigned char)(i >> 8);
    }
    struct tensor tensor = {.dtype = DTYPE_BF16,
                            .rank = 1,
                            .shape = {COUNT},
                            .count = COUNT,
                            .data = bytes + 1,
                            .size = (size_t)2 * COUNT};
    tensor_to_f32(&tensor, 0, COUNT, values);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        assert_int_equal(bits, i << 16);
    }
}

static void test_first_nonfinite(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    float values[COUNT];
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    static const float good[] = {0, -0.0f, 1, -3.4028234e38f, 3.4028234e38f, 1e-45f};
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = good[i % 6];
    }
    assert_int_equal(floats_first_nonfinite(values, COUNT), COUNT);
    assert_int_equal(floats_first_nonfinite(values, 0), 0);
    for (size_t i = 0; i < COUNT; i++) {
        float kept = values[i];
        for (size_t b = 0; b < 4; b++) {
            values[i] = bad[b];
            assert_int_equal(floats_first_nonfinite(values, COUNT), i);
            assert_int_equal(floats_first_nonfinite(values, i), i);
        }
        values[i] = kept;
    }
}

static void test_dtypes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t size;
    } known[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                 {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        enum dtype dtype;
        assert_true(dtype_parse(known[i].name, &dtype));
        assert_string_equal(dtype_name(dtype), known[i].name);
        assert_int_equal(dtype_size(dtype), known[i].size);
        bool is_float = strcmp(known[i].name, "F32") == 0 || strcmp(known[i].name, "F16") == 0 ||
                        strcmp(known[i].name, "BF16") == 0;
        assert_int_equal(dtype_is_float(dtype), is_float);
    }
}

static void test_write_then_parse(void **state)
{
    (void)state;
    static const float weight[] = {1, 2, 3, 4, 5, 6};
    static const float bias[] = {-1};
    const struct tensor_source tensors[] = {{"w \"quoted\"", 2, {2, 3}, weight},
                                            {"b", 1, {1}, bias}};
    const struct metadata_source metadata[] = {{"labels", "[\"\xc3\xa9\",\"\\n\"]"},
                                               {"tab\t", "line\n"}};
    struct buf out;
    struct buf again;
    struct err err = ERR_INIT;
    buf_init(&out, 4096);
    buf_init(&again, 4096);
    assert_int_equal(safetensors_write(tensors, 2, metadata, 2, &out, &err), ERR_OK);
    assert_int_equal(safetensors_write(tensors, 2, metadata, 2, &again, &err), ERR_OK);
    assert_int_equal(out.size, again.size);
    assert_memory_equal(out.data, again.data, out.size);
    uint64_t length;
    memcpy(&length, out.data, sizeof length);
    assert_int_equal(length % 8, 0);

    struct safetensors *file;
    assert_int_equal(safetensors_parse(out.data, out.size, "out", &file, &err), ERR_OK);
    float values[6];
    tensor_to_f32(safetensors_find(file, "w \"quoted\""), 0, 6, values);
    assert_memory_equal(values, weight, sizeof weight);
    tensor_to_f32(safetensors_find(file, "b"), 0, 1, values);
    assert_memory_equal(values, bias, sizeof bias);
    const char *text;
    size_t size;
    assert_true(jval_string(jval_get(safetensors_metadata(file), "labels"), &text, &size));
    assert_string_equal(text, metadata[0].value);
    assert_true(jval_string(jval_get(safetensors_metadata(file), "tab\t"), &text, &size));
    assert_string_equal(text, metadata[1].value);
    safetensors_close(file);

    buf_clear(&again);
    again.ceiling = out.size - 1;
    enum err_code code = safetensors_write(tensors, 2, metadata, 2, &again, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("bytes to write"));
    buf_done(&again);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_empty_file),
        cmocka_unit_test(test_tensor_limit),
        cmocka_unit_test(test_value_limit),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_f16_exact),
        cmocka_unit_test(test_bf16_exact),
        cmocka_unit_test(test_first_nonfinite),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_write_then_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
