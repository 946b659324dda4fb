#include "base/jval.h"

#include "tests/support/testing.h"

static struct jval *parse(const char *text)
{
    struct jval *value = NULL;
    struct err err = ERR_INIT;
    if (jval_parse(text, strlen(text), &value, &err) != ERR_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return value;
}

static void test_reads_every_kind(void **state)
{
    (void)state;
    struct jval *root = parse("{\"s\":\"a\\u0000\xc3\xa9\",\"i\":-5,\"d\":2.5,\"t\":true,"
                              "\"n\":null,\"a\":[1,[2]],\"o\":{}}");
    const char *text;
    size_t size;
    int64_t integer;
    double number;
    bool truth;
    assert_true(jval_is_object(root));
    assert_int_equal(jval_object_size(root), 7);
    assert_true(jval_string(jval_get(root, "s"), &text, &size));
    assert_int_equal(size, 4);
    assert_memory_equal(text, "a\0\xc3\xa9", 5);
    assert_true(jval_int(jval_get(root, "i"), &integer) && integer == -5);
    assert_true(jval_double(jval_get(root, "i"), &number) && number == -5);
    assert_true(jval_double(jval_get(root, "d"), &number) && number == 2.5);
    assert_true(jval_bool(jval_get(root, "t"), &truth) && truth);
    assert_true(jval_is_null(jval_get(root, "n")));
    assert_true(jval_is_array(jval_get(root, "a")));
    assert_int_equal(jval_array_size(jval_get(root, "a")), 2);
    assert_true(jval_int(jval_at(jval_get(root, "a"), 0), &integer) && integer == 1);
    assert_null(jval_at(jval_get(root, "a"), 2));
    assert_null(jval_get(root, "absent"));
    assert_null(jval_get(jval_get(root, "a"), "x"));
    assert_int_equal(jval_array_size(root), 0);
    jval_free(root);
    jval_free(NULL);
}

static void test_wrong_kinds_leave_the_output(void **state)
{
    (void)state;
    struct jval *root = parse("[\"s\",1,1.5,null]");
    const char *text = "kept";
    size_t size = 9;
    int64_t integer = 9;
    double number = 9;
    bool truth = true;
    assert_false(jval_string(jval_at(root, 1), &text, &size));
    assert_false(jval_string(NULL, &text, &size));
    assert_false(jval_int(jval_at(root, 2), &integer));
    assert_false(jval_int(NULL, &integer));
    assert_false(jval_double(jval_at(root, 0), &number));
    assert_false(jval_double(NULL, &number));
    assert_false(jval_bool(jval_at(root, 1), &truth));
    assert_false(jval_bool(NULL, &truth));
    assert_true(strcmp(text, "kept") == 0 && size == 9 && integer == 9 && number == 9 && truth);
    assert_false(jval_is_null(NULL) || jval_is_object(NULL) || jval_is_array(NULL));
    jval_free(root);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,\"a\":2}",
        "[nul]",
        "[1] 2",
        "[\"\xff\"]",
        "[\"\xc0\x80\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\\ud800\"]",
        "[\"\\udc00\"]",
        "{\"a\\u0000\":1}",
        "['a']",
        "[NaN]",
        "[1e999]",
        "[99999999999999999999]",
        "[01]",
        "[\"a\nb\"]",
        "[1]]",
        "1",
        "\"text\"", /* a text is an object or an array */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct jval *value = NULL;
        struct err err = ERR_INIT;
        if (jval_parse(bad[i], strlen(bad[i]), &value, &err) != ERR_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_non_null(strstr(err.text, "JSON"));
        assert_null(value);
    }
    struct jval *value = NULL;
    assert_int_equal(jval_parse("[1]\0", 4, &value, NULL), ERR_INVALID);
}

static void test_depth(void **state)
{
    (void)state;
    char text[2 * JVAL_DEPTH_MAX + 8] = "";
    memset(text, '[', JVAL_DEPTH_MAX);
    memset(text + JVAL_DEPTH_MAX, ']', JVAL_DEPTH_MAX);
    jval_free(parse(text));
    memset(text, '[', JVAL_DEPTH_MAX + 1);
    memset(text + JVAL_DEPTH_MAX + 1, ']', JVAL_DEPTH_MAX + 1);
    struct jval *value;
    struct err err = ERR_INIT;
    expect_error(&err, jval_parse(text, strlen(text), &value, &err), ERR_INVALID,
                 WORDS("nested deeper than 32"));
    assert_true(jval_depth_ok("[[]]", 4, 2));
    assert_false(jval_depth_ok("[[]]", 4, 1));
    assert_true(jval_depth_ok("[\"[[[\\\"[[\"]", 12, 1));
    assert_true(jval_depth_ok("[][][]", 6, 1));
    assert_true(jval_depth_ok("]]]][", 5, 1));
    assert_true(jval_depth_ok("\"\\", 2, 0));
}

static void test_walks_in_order(void **state)
{
    (void)state;
    struct jval *root = parse("{\"z\":1,\"a\":2,\"m\":3}");
    char order[4] = "";
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    for (size_t i = 0; (iter = jval_object_next(root, iter, &key, &value)); i++) {
        int64_t integer;
        assert_true(jval_int(value, &integer) && integer == (int64_t)i + 1);
        order[i] = key[0];
    }
    assert_string_equal(order, "zam");
    jval_free(root);
    assert_null(jval_object_next(NULL, NULL, &key, &value));
}

static void test_reads_files(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    scratch_text(&scratch, "good.json", "{\"a\":1}");
    scratch_text(&scratch, "bad.json", "{\n\"a\":}");
    struct jval *value = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(jval_read_file(scratch_path(&scratch, "good.json"), 7, &value, &err), ERR_OK);
    jval_free(value);
    value = NULL;
    enum err_code code = jval_read_file(scratch_path(&scratch, "good.json"), 6, &value, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("good.json", "6 bytes"));
    err = ERR_INIT;
    code = jval_read_file(scratch_path(&scratch, "bad.json"), 100, &value, &err);
    expect_error(&err, code, ERR_INVALID, WORDS("bad.json: ", "line 2"));
    err = ERR_INIT;
    code = jval_read_file(scratch_path(&scratch, "none.json"), 100, &value, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("none.json"));
    assert_null(value);
    scratch_remove(&scratch);
}

static void test_appends_strings(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1000);
    buf_append_char(&buf, '[');
    assert_true(jval_append_string(&buf, "a\"\\/\n\r\t\x01\0\xc3\xa9", 11));
    buf_append_char(&buf, ']');
    assert_string_equal(buf.data, "[\"a\\\"\\\\/\\n\\r\\t\\u0001\\u0000\xc3\xa9\"]");
    struct jval *value = parse(buf.data);
    const char *text;
    size_t size;
    assert_true(jval_string(jval_at(value, 0), &text, &size));
    assert_int_equal(size, 11);
    assert_memory_equal(text, "a\"\\/\n\r\t\x01\0\xc3\xa9", 11);
    jval_free(value);
    buf_clear(&buf);
    buf.ceiling = 3;
    assert_false(jval_append_string(&buf, "ab", 2));
    buf_done(&buf);
}

static double number_in_file(struct scratch *scratch, const char *text)
{
    struct jval *root;
    struct err err = ERR_INIT;
    double number = -1;
    scratch_text(scratch, "a.json", text);
    if (jval_read_file(scratch_path(scratch, "a.json"), 1000, &root, &err) != ERR_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    assert_true(jval_double(jval_get(root, "n"), &number));
    jval_free(root);
    return number;
}

/* transformers writes int(1e30) for "no limit": more than jansson's integers hold. */
static void test_integers_of_any_length_in_files(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    double huge = number_in_file(&scratch, "{\"n\":1000000000000000019884624838656}");
    assert_true(huge > 0.999e30 && huge < 1.001e30);
    huge = number_in_file(&scratch, "{\"n\": -9999999999999999999}");
    assert_true(huge < -9.99e18 && huge > -1.001e19);
    scratch_text(&scratch, "i.json", "[9223372036854775807,-9223372036854775807]");
    struct jval *integers;
    struct err unused = ERR_INIT;
    int64_t integer;
    assert_int_equal(jval_read_file(scratch_path(&scratch, "i.json"), 1000, &integers, &unused),
                     ERR_OK);
    assert_true(jval_int(jval_at(integers, 0), &integer) && integer == INT64_MAX);
    assert_true(jval_int(jval_at(integers, 1), &integer) && integer == -INT64_MAX);
    jval_free(integers);
    assert_true(number_in_file(&scratch, "{\"n\":1e-0000000000000000000002}") == 0.01);
    assert_true(number_in_file(&scratch, "{\"n\":0.50000000000000000000000}") == 0.5);
    assert_true(number_in_file(&scratch, "{\"a\":\"\\\"1\",\"n\":20000000000000000000.0}") == 2e19);
    scratch_text(&scratch, "b.json", "{\"12345678901234567890123\":\"12345678901234567890123\"}");
    struct jval *root;
    struct err err = ERR_INIT;
    assert_int_equal(jval_read_file(scratch_path(&scratch, "b.json"), 1000, &root, &err), ERR_OK);
    const char *text;
    size_t size;
    assert_true(jval_string(jval_get(root, "12345678901234567890123"), &text, &size));
    assert_string_equal(text, "12345678901234567890123");
    jval_free(root);
    scratch_remove(&scratch);
}

int main(void)
{
    jval_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_kind),
        cmocka_unit_test(test_integers_of_any_length_in_files),
        cmocka_unit_test(test_wrong_kinds_leave_the_output),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_walks_in_order),
        cmocka_unit_test(test_reads_files),
        cmocka_unit_test(test_appends_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
