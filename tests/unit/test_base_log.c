/* Log lines as they leave the process: stderr is a pipe here. */
#include "base/log.h"

#include <fcntl.h>
#include <math.h>

#include "base/jval.h"
#include "tests/support/testing.h"

enum { OUTPUT_MAX = 65536 };

static int saved_stderr;
static int pipe_ends[2];

static void capture_start(void)
{
    assert_int_equal(pipe(pipe_ends), 0);
    assert_true(fcntl(pipe_ends[1], F_SETPIPE_SZ, OUTPUT_MAX) > 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0 && dup2(pipe_ends[1], STDERR_FILENO) >= 0);
}

/* What was written since; free it. */
static char *capture_end(void)
{
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    assert_int_equal(close(saved_stderr), 0);
    assert_int_equal(close(pipe_ends[1]), 0);
    char *text = calloc(1, OUTPUT_MAX + 1);
    assert_non_null(text);
    size_t used = 0;
    ssize_t got;
    while ((got = read(pipe_ends[0], text + used, OUTPUT_MAX - used)) > 0) {
        used += (size_t)got;
    }
    assert_int_equal(close(pipe_ends[0]), 0);
    return text;
}

static struct jval *parse_line(const char *text)
{
    const char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_int_equal(end[1], 0); /* exactly one line */
    struct jval *value;
    struct err err = ERR_INIT;
    if (jval_parse(text, (size_t)(end - text), &value, &err) != ERR_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return value;
}

static void test_json(void **state)
{
    (void)state;
    log_setup(LOG_DEBUG, LOG_JSON);
    capture_start();
    LOG(LOG_WARN, "a \"message\"\n", LOG_S("text", "x\ny"), LOG_S("none", NULL), LOG_U("n", 42),
        LOG_D("d", 0.5), LOG_D("nan", (double)NAN), LOG_B("yes", true));
    char *text = capture_end();
    struct jval *line = parse_line(text);
    const char *word;
    size_t size;
    int64_t integer;
    double number;
    bool truth;
    assert_true(jval_string(jval_get(line, "level"), &word, &size));
    assert_string_equal(word, "warn");
    assert_true(jval_string(jval_get(line, "message"), &word, &size));
    assert_string_equal(word, "a \"message\"\n");
    assert_true(jval_string(jval_get(line, "time"), &word, &size));
    assert_int_equal(size, strlen("2026-01-31T12:00:00.123Z"));
    assert_true(jval_string(jval_get(line, "text"), &word, &size));
    assert_string_equal(word, "x\ny");
    assert_true(jval_is_null(jval_get(line, "none")));
    assert_true(jval_is_null(jval_get(line, "nan")));
    assert_true(jval_int(jval_get(line, "n"), &integer) && integer == 42);
    assert_true(jval_double(jval_get(line, "d"), &number) && number == 0.5);
    assert_true(jval_bool(jval_get(line, "yes"), &truth) && truth);
    jval_free(line);
    free(text);
}

static void test_text(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    capture_start();
    LOG(LOG_INFO, "started", LOG_S("plain", "word"), LOG_S("spaced", "two words\n"),
        LOG_S("none", NULL), LOG_S("empty", ""), LOG_B("no", false));
    LOG(LOG_ERROR, "no fields");
    char *text = capture_end();
    assert_non_null(strstr(text, " info  started plain=word spaced=\"two words\\n\" none=- "
                                 "empty=\"\" no=false\n"));
    assert_non_null(strstr(text, " error no fields\n"));
    free(text);
}

static void test_level(void **state)
{
    (void)state;
    log_setup(LOG_WARN, LOG_TEXT);
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARN));
    capture_start();
    LOG(LOG_INFO, "hidden");
    LOG(LOG_DEBUG, "hidden");
    char *text = capture_end();
    assert_string_equal(text, "");
    free(text);
}

/* Cut at a field, still valid JSON, still one line. */
static void test_long_lines(void **state)
{
    (void)state;
    char value[6000];
    memset(value, '"', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    log_setup(LOG_INFO, LOG_JSON);
    capture_start();
    LOG(LOG_INFO, "long", LOG_S("a", value), LOG_S("b", value), LOG_S("c", value),
        LOG_S("d", value), LOG_U("last", 1));
    char *text = capture_end();
    assert_true(strlen(text) <= 8200);
    struct jval *line = parse_line(text);
    assert_non_null(jval_get(line, "a"));
    assert_null(jval_get(line, "d"));
    assert_non_null(jval_get(line, "last"));
    jval_free(line);
    free(text);
}

static void test_words(void **state)
{
    (void)state;
    enum log_level level = LOG_ERROR;
    enum log_format format = LOG_JSON;
    struct err err = ERR_INIT;
    assert_int_equal(log_level_parse("debug", &level, &err), ERR_OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("warn", &level, &err), ERR_OK);
    assert_int_equal(level, LOG_WARN);
    assert_int_equal(log_format_parse("text", &format, &err), ERR_OK);
    assert_int_equal(format, LOG_TEXT);
    expect_error(&err, log_level_parse("verbose", &level, &err), ERR_USAGE,
                 WORDS("debug", "error"));
    err = ERR_INIT;
    expect_error(&err, log_format_parse("xml", &format, &err), ERR_USAGE, WORDS("text", "json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_level), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
