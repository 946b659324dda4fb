/* Problem bodies: what a client reads when something was wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/problem.h"
#include "base/jval.h"
#include "base/utf8.h"

static void assert_native(const struct problem *problem, const char *request_id,
                          const char *expected)
{
    struct buf out;
    buf_init(&out, 4096);
    problem_write(problem, request_id, &out);
    assert_false(buf_failed(&out));
    assert_string_equal(out.data, expected);
    buf_done(&out);
}

static void test_native_body(void **state)
{
    (void)state;
    struct problem problem = {0};
    assert_false(problem_set(&problem, PROBLEM_FIELD_TYPE, "inputs[3]", "must be %s", "a string"));
    assert_native(&problem, "r-1",
                  "{\"error\":\"must be a string\",\"error_type\":\"Validation\","
                  "\"code\":\"wrong_type\",\"param\":\"inputs[3]\",\"request_id\":\"r-1\"}");
}

static void test_null_members(void **state)
{
    (void)state;
    struct problem problem = {0};
    problem_set(&problem, PROBLEM_OVERLOADED, NULL, "the queue is full");
    assert_native(&problem, NULL,
                  "{\"error\":\"the queue is full\",\"error_type\":\"Overloaded\","
                  "\"code\":\"overloaded\",\"param\":null,\"request_id\":null}");
}

static void test_first_one_wins(void **state)
{
    (void)state;
    struct problem problem = {0};
    problem_set(&problem, PROBLEM_NOT_JSON, NULL, "first");
    problem_set(&problem, PROBLEM_INTERNAL, "x", "second");
    assert_int_equal(problem.kind, PROBLEM_NOT_JSON);
    assert_string_equal(problem.text, "first");
    assert_string_equal(problem.param, "");
}

static void test_openai_body(void **state)
{
    (void)state;
    static const struct {
        enum problem_kind kind;
        const char *type;
        int status;
    } cases[] = {
        {PROBLEM_FIELD_RANGE, "invalid_request_error", 400},
        {PROBLEM_EMPTY_INPUTS, "invalid_request_error", 400},
        {PROBLEM_TOO_MANY, "invalid_request_error", 413},
        {PROBLEM_KEY_MISSING, "authentication_error", 401},
        {PROBLEM_MODEL_UNKNOWN, "invalid_request_error", 404},
        {PROBLEM_OVERLOADED, "rate_limit_error", 429},
        {PROBLEM_NOT_READY, "server_error", 503},
        {PROBLEM_DEADLINE, "server_error", 504},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct problem problem = {0};
        problem_set(&problem, cases[i].kind, "input", "why");
        struct buf out;
        struct buf expected;
        buf_init(&out, 4096);
        buf_init(&expected, 4096);
        problem_write_openai(&problem, &out);
        buf_printf(&expected,
                   "{\"error\":{\"message\":\"why\",\"type\":\"%s\",\"param\":\"input\","
                   "\"code\":\"%s\"}}",
                   cases[i].type, problem_row(cases[i].kind)->code);
        assert_string_equal(out.data, expected.data);
        assert_int_equal(problem_openai_status(cases[i].kind), cases[i].status);
        buf_done(&out);
        buf_done(&expected);
    }
}

/* Every kind has its row, every code is its own. */
static void test_table(void **state)
{
    (void)state;
    static const char *const types[] = {"Validation", "Empty",   "Overloaded",
                                        "Unhealthy",  "Backend", "Tokenizer"};
    for (int kind = PROBLEM_NONE + 1; kind < PROBLEM_KIND_COUNT; kind++) {
        const struct problem_row *row = problem_row((enum problem_kind)kind);
        assert_in_range(row->status, 400, 504);
        bool known = false;
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            known |= strcmp(types[i], row->error_type) == 0;
        }
        assert_true(known);
        assert_int_equal(strspn(row->code, "abcdefghijklmnopqrstuvwxyz0123456789_"),
                         strlen(row->code));
        for (int other = PROBLEM_NONE + 1; other < kind; other++) {
            assert_string_not_equal(row->code, problem_row((enum problem_kind)other)->code);
        }
    }
}

/* A text that another module's error brought along: whatever it holds, the body is JSON. */
static void test_hostile_text(void **state)
{
    (void)state;
    char longest[600];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    /* The last byte that fits is the first of a two-byte character. */
    struct problem probe;
    memcpy(longest + sizeof(probe.text) - 2, "\xc3\xa9", 2);
    const char *const texts[] = {"a \"quoted\" \\ path", "line\nbreak\x7f\x01", "caf\xc3\xa9",
                                 "cut \xc3", longest};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct problem problem = {0};
        problem_set(&problem, PROBLEM_HEADS_INVALID, texts[i], "%s", texts[i]);
        assert_int_equal(strcspn(problem.text, "\n\x7f\x01"), strlen(problem.text));
        struct buf out;
        buf_init(&out, 8192);
        problem_write(&problem, "id", &out);
        assert_true(utf8_valid(out.data, out.size));
        struct jval *body = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(jval_parse(out.data, out.size, &body, &err), ERR_OK);
        jval_free(body);
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_native_body),    cmocka_unit_test(test_null_members),
        cmocka_unit_test(test_first_one_wins), cmocka_unit_test(test_openai_body),
        cmocka_unit_test(test_table),          cmocka_unit_test(test_hostile_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
