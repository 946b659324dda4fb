/* Tokenizing with every allocation failing in turn: the right error, and the same struct tokens
 * serves the next text as if nothing had been. */
#include "model/text/tokenizer.h"
#include "tests/fault/chaos.h"
#include "tests/support/testing.h"

enum { TEXT_SIZE = 4000, ATTEMPTS_MAX = 1000 };

static void encode_every_way(const struct tokenizer *tokenizer, const char *text, size_t n,
                             struct tokens *tokens, struct err *err)
{
    const struct encode_options options = {
        .max_length = SIZE_MAX, .add_special_tokens = true, .offsets = n % 2 == 0};
    *err = ERR_INIT;
    enum err_code code = tokenizer_encode(tokenizer, text, TEXT_SIZE, &options, tokens, err);
    assert_int_equal(code, err->code);
    if (code == ERR_OK) {
        assert_int_equal(tokens->n, TEXT_SIZE / 2 + 2);
        for (size_t i = 1; options.offsets && i + 1 < tokens->n; i++) {
            assert_int_equal(tokens->starts[i], 2 * (i - 1));
            assert_int_equal(tokens->stops[i], 2 * (i - 1) + 1);
        }
    }
}

static void test_encode(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(
        tokenizer_create(ORTHRUS_TEST_DATA "/bert-vocab.txt", &options, &tokenizer, &err), ERR_OK);
    char text[TEXT_SIZE];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = "! "[i % 2];
    }
    bool failed = true;
    size_t n = 1;
    for (; failed && n < ATTEMPTS_MAX; n++) {
        struct tokens tokens = {0};
        chaos_fail_at(n);
        encode_every_way(tokenizer, text, 0, &tokens, &err);
        failed = chaos_failed();
        chaos_fail_at(0);
        assert_int_equal(err.code, failed ? ERR_NOMEM : ERR_OK);
        for (size_t again = 0; again < 3; again++) {
            encode_every_way(tokenizer, text, again + 1, &tokens, &err);
            assert_int_equal(err.code, ERR_OK);
        }
        tokens_done(&tokens);
    }
    print_message("%zu allocations\n", n - 2);
    assert_false(failed);
    tokenizer_destroy(tokenizer);
}

static enum err_code create(struct err *err)
{
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    enum err_code code = tokenizer_create(ORTHRUS_TEST_DATA "/bert-vocab.txt", &options, &tokenizer,
                                          err);
    assert_int_equal(code == ERR_OK, tokenizer != NULL);
    tokenizer_destroy(tokenizer);
    return code;
}

static void test_create(void **state)
{
    (void)state;
    bool failed = true;
    for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
        struct err err = ERR_INIT;
        chaos_fail_at(n);
        enum err_code code = create(&err);
        failed = chaos_failed();
        chaos_fail_at(0);
        /* One allocation may fail without harm: the one that makes a table smaller. */
        if (code != ERR_OK && !(failed && code == ERR_NOMEM)) {
            fail_msg("allocation %zu: %s: %s", n, err_name(code), err.text);
        }
    }
    assert_false(failed);
}

static const char *const kinds[] = {"wordpiece", "added", "normalizers", "unigram", "byte-level"};

enum { KINDS = sizeof kinds / sizeof *kinds };

static enum err_code open_kind(const char *kind, struct tokenizer **ret_tokenizer, struct err *err)
{
    char path[512];
    struct tokenizer_options options = tokenizer_options_default();
    (void)snprintf(path, sizeof path, "%s/tokenizers/%s", ORTHRUS_TEST_DATA, kind);
    return tokenizer_open(path, &options, ret_tokenizer, err);
}

static void test_open_json(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        bool failed = true;
        for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
            struct err err = ERR_INIT;
            struct tokenizer *tokenizer = NULL;
            chaos_fail_at(n);
            enum err_code code = open_kind(kinds[k], &tokenizer, &err);
            failed = chaos_failed();
            chaos_fail_at(0);
            assert_int_equal(code == ERR_OK, tokenizer != NULL);
            if (code != ERR_OK && !(failed && code == ERR_NOMEM)) {
                fail_msg("%s, allocation %zu: %s: %s", kinds[k], n, err_name(code), err.text);
            }
            tokenizer_destroy(tokenizer);
        }
        assert_false(failed);
    }
}

/* A text that makes every part work: added tokens, marks out of order, unknown characters. */
static const char mixed[] =
    "The [MASK] caf\xc3\xa9 e\xcc\x81\xcc\xa3 <s> \xef\xac\x81 \xe6\x97\xa5 naively";

static void test_encode_json(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct tokenizer *tokenizer = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(open_kind(kinds[k], &tokenizer, &err), ERR_OK);
        const struct tokenizer_text pair[2] = {{mixed, sizeof mixed - 1}, {"a b", 3}};
        const struct encode_options options = {
            .max_length = SIZE_MAX, .add_special_tokens = true, .offsets = true};
        struct tokens expected = {0};
        assert_int_equal(tokenizer_encode_pair(tokenizer, pair, &options, &expected, &err), ERR_OK);
        bool failed = true;
        for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
            struct tokens tokens = {0};
            chaos_fail_at(n);
            enum err_code code = tokenizer_encode_pair(tokenizer, pair, &options, &tokens, &err);
            failed = chaos_failed();
            chaos_fail_at(0);
            assert_true(code == ERR_OK || (failed && code == ERR_NOMEM));
            err = ERR_INIT;
            code = tokenizer_encode_pair(tokenizer, pair, &options, &tokens, &err);
            assert_int_equal(code, ERR_OK);
            assert_int_equal(tokens.n, expected.n);
            assert_memory_equal(tokens.ids, expected.ids, tokens.n * sizeof *tokens.ids);
            tokens_done(&tokens);
        }
        assert_false(failed);
        tokens_done(&expected);
        tokenizer_destroy(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_open_json),
        cmocka_unit_test(test_encode_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
