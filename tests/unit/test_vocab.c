/* vocab.txt: what is read, what is refused, and the longest match. */
#include "model/text/bert/vocab.h"
#include "tests/support/testing.h"

static enum err_code parse(const char *data, size_t size, struct vocab **ret_vocab, struct err *err)
{
    char *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    copy[size] = '\0';
    return vocab_parse(copy, size, "words", ret_vocab, err);
}

static struct vocab *vocab_of(const char *data)
{
    struct vocab *vocab = NULL;
    struct err err = ERR_INIT;
    if (parse(data, strlen(data), &vocab, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return vocab;
}

static void refuse(const char *data, size_t size, enum err_code expected, const char *const *words)
{
    struct vocab *vocab = NULL;
    struct err err = ERR_INIT;
    enum err_code code = parse(data, size, &vocab, &err);
    expect_error(&err, code, expected, words);
    assert_null(vocab);
}

static void test_lines(void **state)
{
    (void)state;
    static const char *const files[] = {"a\nb\nc", "a\nb\nc\n", "a\r\nb\r\nc\r\n",
                                        "a \nb\t\xe3\x80\x80\nc\xc2\xa0 \r\r\n"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct vocab *vocab = vocab_of(files[i]);
        assert_int_equal(vocab_size(vocab), 3);
        assert_string_equal(vocab_word(vocab, 0), "a");
        assert_string_equal(vocab_word(vocab, 1), "b");
        assert_string_equal(vocab_word(vocab, 2), "c");
        assert_int_equal(vocab_find(vocab, "c"), 2);
        assert_int_equal(vocab_find(vocab, "d"), VOCAB_NONE);
        assert_int_equal(vocab_find(vocab, ""), VOCAB_NONE);
        vocab_destroy(vocab);
    }
}

static void test_empty_lines_count(void **state)
{
    (void)state;
    struct vocab *vocab = vocab_of("\na\n\n b\n");
    assert_int_equal(vocab_size(vocab), 4);
    assert_int_equal(vocab_find(vocab, "a"), 1);
    assert_int_equal(vocab_find(vocab, " b"), 3);
    assert_string_equal(vocab_word(vocab, 2), "");
    vocab_destroy(vocab);

    vocab = vocab_of("");
    assert_int_equal(vocab_size(vocab), 0);
    assert_int_equal(vocab_find(vocab, "a"), VOCAB_NONE);
    vocab_destroy(vocab);
}

static void test_last_of_equal_words_counts(void **state)
{
    (void)state;
    struct vocab *vocab = vocab_of("a\nb\na\nab\na\nb\n");
    assert_int_equal(vocab_size(vocab), 6);
    assert_int_equal(vocab_find(vocab, "a"), 4);
    assert_int_equal(vocab_find(vocab, "b"), 5);
    assert_int_equal(vocab_find(vocab, "ab"), 3);
    vocab_destroy(vocab);
}

static void test_refused(void **state)
{
    (void)state;
    refuse("a\nb\xff\n", 5, ERR_INVALID, WORDS("words", "line 2", "UTF-8"));
    refuse("a\n\xc3", 3, ERR_INVALID, WORDS("line 2", "UTF-8"));
    refuse("a\nb\nc\0d\n", 8, ERR_INVALID, WORDS("line 3", "NUL"));

    size_t many = VOCAB_WORDS_MAX + 1;
    char *lines = malloc(many);
    assert_non_null(lines);
    memset(lines, '\n', many);
    refuse(lines, many, ERR_LIMIT, WORDS("4194305 words", "4194304"));
    struct vocab *vocab = NULL;
    assert_int_equal(parse(lines, many - 1, &vocab, NULL), ERR_OK);
    assert_int_equal(vocab_size(vocab), VOCAB_WORDS_MAX);
    vocab_destroy(vocab);
    free(lines);
}

static void test_files(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    struct vocab *vocab = NULL;
    struct err err = ERR_INIT;
    enum err_code code = vocab_read(scratch_path(&scratch, "none.txt"), &vocab, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("none.txt"));

    scratch_text(&scratch, "big.txt", "a\n");
    assert_int_equal(truncate(scratch_path(&scratch, "big.txt"), VOCAB_FILE_MAX + 1), 0);
    err = ERR_INIT;
    code = vocab_read(scratch.path, &vocab, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("big.txt"));
    assert_null(vocab);
    scratch_remove(&scratch);
}

static void test_longest(void **state)
{
    (void)state;
    struct vocab *vocab = vocab_of("un\nunaff\n##aff\n##a\n##able\n##\n#\n##a\n\xc3\xa9\n\xc3\xaf");
    size_t size = 0;
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "unaffable", 9, &size), 1);
    assert_int_equal(size, 5);
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "unaffable", 4, &size), 0);
    assert_int_equal(size, 2);
    assert_int_equal(vocab_longest(vocab, VOCAB_CONTINUES, "affable", 7, &size), 2);
    assert_int_equal(size, 3);
    assert_int_equal(vocab_longest(vocab, VOCAB_CONTINUES, "afar", 4, &size), 7);
    assert_int_equal(size, 1);
    assert_int_equal(vocab_longest(vocab, VOCAB_CONTINUES, "unaff", 5, &size), VOCAB_NONE);
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "u", 1, &size), VOCAB_NONE);
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "", 0, &size), VOCAB_NONE);
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "\xc3\xb1", 2, &size), VOCAB_NONE);
    assert_int_equal(vocab_longest(vocab, VOCAB_BEGINS, "\xc3\xaf", 2, &size), 9);
    vocab_destroy(vocab);
}

/* The trie against a search through all words. */
static int32_t longest_by_search(const struct vocab *vocab, const char *prefix, const char *text,
                                 size_t size, size_t *ret_size)
{
    int32_t found = VOCAB_NONE;
    size_t skip = strlen(prefix);
    *ret_size = 0;
    for (int32_t id = 0; (size_t)id < vocab_size(vocab); id++) {
        const char *word = vocab_word(vocab, id);
        size_t length = strlen(word);
        if (length > skip && strncmp(word, prefix, skip) == 0 && length - skip <= size &&
            length - skip >= *ret_size && memcmp(word + skip, text, length - skip) == 0) {
            *ret_size = length - skip;
            found = id;
        }
    }
    return found;
}

static void test_longest_of_random_words(void **state)
{
    (void)state;
    unsigned random = 1;
    char data[4096];
    size_t size = 0;
    while (size + 16 < sizeof data) {
        random = random * 1103515245 + 12345;
        size_t length = random >> 16 & 7;
        size += (size_t)snprintf(data + size, 3, "%s", random & 0x100000 ? "##" : "");
        for (size_t i = 0; i < length; i++) {
            random = random * 1103515245 + 12345;
            data[size++] = "abc"[(random >> 16) % 3];
        }
        data[size++] = '\n';
    }
    data[size] = '\0';
    struct vocab *vocab = vocab_of(data);
    char text[10];
    for (unsigned i = 0; i < 59049; i++) {
        unsigned digits = i;
        for (size_t j = 0; j < sizeof text; j++, digits /= 3) {
            text[j] = "abc"[digits % 3];
        }
        for (enum vocab_place place = VOCAB_BEGINS; i % 97 == 0 && place <= VOCAB_CONTINUES;
             place++) {
            size_t expected_size;
            size_t found_size = 0;
            int32_t expected = longest_by_search(vocab, place == VOCAB_BEGINS ? "" : "##", text,
                                                 sizeof text, &expected_size);
            assert_int_equal(vocab_longest(vocab, place, text, sizeof text, &found_size), expected);
            assert_int_equal(found_size, expected_size);
        }
    }
    vocab_destroy(vocab);
}

static void test_every_word_of_bert_is_found(void **state)
{
    (void)state;
    struct vocab *vocab = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(vocab_read(ORTHRUS_TEST_DATA "/bert-vocab.txt", &vocab, &err), ERR_OK);
    assert_int_equal(vocab_size(vocab), 30522);
    for (int32_t id = 0; id < 30522; id++) {
        assert_int_equal(vocab_find(vocab, vocab_word(vocab, id)), id);
    }
    vocab_destroy(vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_empty_lines_count),
        cmocka_unit_test(test_last_of_equal_words_counts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_longest_of_random_words),
        cmocka_unit_test(test_every_word_of_bert_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
