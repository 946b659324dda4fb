#include "base/err.h"

#include <errno.h>

#include "base/size.h"
#include "tests/support/testing.h"

static void test_first_error_wins(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, ERR_LIMIT, "at most %d", 3), ERR_LIMIT);
    assert_int_equal(err_set(&err, ERR_IO, "later"), ERR_IO); /* the caller's own code still */
    assert_int_equal(err.code, ERR_LIMIT);
    assert_string_equal(err.text, "at most 3");
    assert_int_equal(err_set_errno(&err, ERR_IO, ENOENT, "later"), ERR_IO);
    assert_int_equal(err_nomem(&err, 7), ERR_NOMEM);
    assert_string_equal(err.text, "at most 3");
}

static void test_errno_text(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set_errno(&err, ERR_IO, ENOENT, "file %s", "x"), ERR_IO);
    assert_string_equal(err.text, "file x: No such file or directory");
    err = ERR_INIT;
    assert_int_equal(err_nomem(&err, 1234), ERR_NOMEM);
    assert_non_null(strstr(err.text, "1234"));
}

static void test_prefix(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_prefix(&err, "nothing yet"), ERR_OK);
    assert_string_equal(err.text, "");
    err_set(&err, ERR_INVALID, "bad");
    assert_int_equal(err_prefix(&err, "%s", "heads.st"), ERR_INVALID);
    assert_string_equal(err.text, "heads.st: bad");
}

/* A quoted input can't forge a second line, and no text overruns. */
static void test_text_is_one_bounded_line(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    err_set(&err, ERR_INVALID, "%s", "a\nb\tc\x1b[31m\x7f");
    assert_string_equal(err.text, "a?b?c?[31m?");
    char longer[2 * ERR_TEXT_MAX];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err = ERR_INIT;
    err_set(&err, ERR_INVALID, "%s", longer);
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
    err_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
    err = ERR_INIT;
    err_set_errno(&err, ERR_IO, ENOENT, "%s", longer);
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void test_without_struct(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_LIMIT, "x"), ERR_LIMIT);
    assert_int_equal(err_set_errno(NULL, ERR_IO, EIO, "x"), ERR_IO);
    assert_int_equal(err_prefix(NULL, "x"), ERR_OK);
    assert_int_equal(err_nomem(NULL, 1), ERR_NOMEM);
}

static void test_names(void **state)
{
    (void)state;
    for (int code = ERR_OK; code <= ERR_USAGE; code++) {
        assert_string_not_equal(err_name((enum err_code)code), "unknown");
        for (int other = ERR_OK; other < code; other++) {
            assert_string_not_equal(err_name((enum err_code)code), err_name((enum err_code)other));
        }
    }
    assert_string_equal(err_name((enum err_code)999), "unknown");
}

static void test_sizes(void **state)
{
    (void)state;
    size_t result = 7;
    assert_true(size_mul(SIZE_MAX / 2, 2, &result));
    assert_int_equal(result, SIZE_MAX - 1);
    result = 7;
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &result));
    assert_false(size_add(SIZE_MAX, 1, &result));
    assert_int_equal(result, 7);
    assert_true(size_add(SIZE_MAX - 1, 1, &result));
    assert_int_equal(result, SIZE_MAX);
    assert_int_equal(size_div_up(0, 8), 0);
    assert_int_equal(size_div_up(9, 8), 2);
    assert_int_equal(size_div_up(SIZE_MAX, 2), SIZE_MAX / 2 + 1);
    assert_int_equal(size_round_up(9, 8), 16);
    assert_int_equal(size_min(1, 2), 1);
    assert_int_equal(size_max(1, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_errno_text),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_text_is_one_bounded_line),
        cmocka_unit_test(test_without_struct),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
