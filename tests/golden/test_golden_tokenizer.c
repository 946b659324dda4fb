/* The tokenizer against tokenizer.jsonl: ids (cut at 128), full length and offsets, exactly. */
#include "base/jval.h"
#include "model/text/tokenizer.h"
#include "tests/support/testing.h"

enum { LINES = 1446, MAX_LENGTH = 128, FILE_BYTES_MAX = 1 << 24 };

static void expect_ids(const struct tokens *tokens, const struct jval *ids, size_t line)
{
    if (tokens->n != jval_array_size(ids)) {
        fail_msg("line %zu: %zu tokens instead of %zu", line, tokens->n, jval_array_size(ids));
    }
    for (size_t i = 0; i < tokens->n; i++) {
        int64_t id = -1;
        assert_true(jval_int(jval_at(ids, i), &id));
        if (tokens->ids[i] != id) {
            fail_msg("line %zu: token %zu is %d instead of %lld", line, i, tokens->ids[i],
                     (long long)id);
        }
    }
}

static void expect_offsets(const struct tokens *tokens, const struct jval *offsets, size_t line)
{
    assert_int_equal(tokens->n, jval_array_size(offsets));
    for (size_t i = 0; i < tokens->n; i++) {
        const struct jval *pair = jval_at(offsets, i);
        int64_t start = -1;
        int64_t stop = -1;
        assert_true(jval_int(jval_at(pair, 0), &start) && jval_int(jval_at(pair, 1), &stop));
        if (tokens->starts[i] != start || tokens->stops[i] != stop) {
            fail_msg("line %zu: token %zu is at %u to %u instead of %lld to %lld", line, i,
                     tokens->starts[i], tokens->stops[i], (long long)start, (long long)stop);
        }
    }
}

static void check_line(const struct tokenizer *tokenizer, const struct jval *golden, size_t line,
                       struct tokens *tokens)
{
    struct encode_options options = {
        .max_length = MAX_LENGTH, .add_special_tokens = true, .offsets = true};
    struct err err = ERR_INIT;
    size_t size;
    const char *text = NULL;
    int64_t full = 0;
    assert_true(jval_string(jval_get(golden, "text"), &text, &size));
    assert_true(jval_int(jval_get(golden, "n_full"), &full));

    assert_int_equal(tokenizer_encode(tokenizer, text, size, &options, tokens, &err), ERR_OK);
    expect_ids(tokens, jval_get(golden, "ids"), line);
    assert_int_equal(tokens->truncated, full > MAX_LENGTH);
    const struct jval *offsets = jval_get(golden, "offsets");
    if (offsets && !jval_is_null(offsets)) {
        expect_offsets(tokens, offsets, line);
    }

    options.max_length = SIZE_MAX;
    assert_int_equal(tokenizer_encode(tokenizer, text, size, &options, tokens, &err), ERR_OK);
    assert_int_equal(tokens->n, full);
    assert_false(tokens->truncated);
}

static void test_golden(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(
        tokenizer_create(ORTHRUS_TEST_DATA "/bert-vocab.txt", &options, &tokenizer, &err), ERR_OK);
    char *data = NULL;
    size_t size;
    assert_int_equal(
        file_read(ORTHRUS_TEST_DATA "/golden/tokenizer.jsonl", FILE_BYTES_MAX, &data, &size, &err),
        ERR_OK);
    struct tokens tokens = {0};
    size_t line = 0;
    for (char *begin = data, *end; (end = strchr(begin, '\n')); begin = end + 1) {
        struct jval *golden = NULL;
        line++;
        assert_int_equal(jval_parse(begin, (size_t)(end - begin), &golden, &err), ERR_OK);
        check_line(tokenizer, golden, line, &tokens);
        jval_free(golden);
    }
    assert_int_equal(line, LINES);
    tokens_done(&tokens);
    free(data);
    tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
