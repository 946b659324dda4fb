/* Any text, any vocabulary. The first byte picks: a vocabulary of the rest, or options and a limit
 * for the text that is the rest. Held: ids and positions are in range and in order, truncation cuts
 * the whole text's tokens, a vocabulary finds its own words. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"
#include "model/text/bert/vocab.h"
#include "model/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPTIONS = 8, VOCABULARY = 0x80 };

/* Enough for words that are found, words that are split and words that are unknown. */
static const char words[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nb\n##b\nab\n##ba\n!\n[\n"
                            "\xc3\xa9\n##\xc3\xa9\n\xe4\xb8\xad\ni\n##i\n##\xcc\x87\n"
                            "\xe1\x84\x92\n##\xe1\x85\xa1\n##\xe1\x86\xab\n##\xf0\x9d\x85\xa5\n";

/* Made once for each set of options, and freed with the process. */
static const struct tokenizer *tokenizer_for(unsigned flags)
{
    static struct tokenizer *tokenizers[OPTIONS];
    if (!tokenizers[flags]) {
        char path[] = "/tmp/fuzz-tokenizer-XXXXXX";
        int fd = mkstemp(path);
        CHECK(fd >= 0 && write(fd, words, sizeof words - 1) == (ssize_t)(sizeof words - 1));
        const struct tokenizer_options options = {.lower_case = (flags & 1) == 0,
                                                  .strip_accents = (flags & 2) == 0,
                                                  .tokenize_chinese_chars = (flags & 4) == 0};
        CHECK(tokenizer_create(path, &options, &tokenizers[flags], NULL) == ERR_OK);
        CHECK(close(fd) == 0 && unlink(path) == 0);
    }
    return tokenizers[flags];
}

static void check_tokens(const struct tokenizer *tokenizer, const struct tokens *tokens,
                         size_t length)
{
    for (size_t i = 0; i < tokens->n; i++) {
        CHECK(tokenizer_word(tokenizer, tokens->ids[i]));
        CHECK(tokens->starts[i] < tokens->stops[i] && tokens->stops[i] <= length);
        CHECK(i == 0 || tokens->starts[i] >= tokens->starts[i - 1]);
    }
}

/* The side goes by the text's size: each execution pays for one, both are tried all the time. */
static void check_truncation(const struct tokenizer *tokenizer, const char *text, size_t size,
                             const struct tokens *all, size_t max_length)
{
    struct tokens cut = {0};
    size_t n = all->n < max_length ? all->n : max_length;
    enum truncate_side side = size % 2 ? TRUNCATE_LEFT : TRUNCATE_RIGHT;
    const struct encode_options options = {.max_length = max_length, .side = side};
    CHECK(tokenizer_encode(tokenizer, text, size, &options, &cut, NULL) == ERR_OK);
    CHECK(cut.n == n && cut.truncated == (all->n > n));
    const int32_t *ids = side == TRUNCATE_RIGHT ? all->ids : all->ids + all->n - n;
    CHECK(n == 0 || memcmp(cut.ids, ids, n * sizeof *ids) == 0);
    tokens_done(&cut);
}

static void encode(uint8_t choice, const char *text, size_t size)
{
    if (!utf8_valid(text, size)) {
        return;
    }
    const struct tokenizer *tokenizer = tokenizer_for(choice % OPTIONS);
    const struct encode_options options = {.max_length = SIZE_MAX, .offsets = true};
    struct tokens tokens = {0};
    CHECK(tokenizer_encode(tokenizer, text, size, &options, &tokens, NULL) == ERR_OK);
    check_tokens(tokenizer, &tokens, utf8_length(text, size));
    check_truncation(tokenizer, text, size, &tokens, choice / OPTIONS);
    tokens_done(&tokens);
}

static void read_vocabulary(const char *data, size_t size)
{
    char *copy = malloc(size + 1);
    CHECK(copy);
    memcpy(copy, data, size);
    copy[size] = '\0';
    struct vocab *vocab = NULL;
    struct err err = ERR_INIT;
    if (vocab_parse(copy, size, "vocab", &vocab, &err) != ERR_OK) {
        CHECK(err.code == ERR_INVALID && err.text[0] && !vocab);
        return;
    }
    for (int32_t id = 0; (size_t)id < vocab_size(vocab); id++) {
        const char *word = vocab_word(vocab, id);
        size_t length = strlen(word);
        int32_t found = vocab_find(vocab, word);
        CHECK(length == 0 || length > 400 || found >= id);
        CHECK(found == VOCAB_NONE || strcmp(vocab_word(vocab, found), word) == 0);
        size_t longest = 0;
        if (length > 2 && length <= 400 && memcmp(word, "##", 2) == 0) {
            CHECK(vocab_longest(vocab, VOCAB_CONTINUES, word + 2, length - 2, &longest) >= id);
            CHECK(longest == length - 2);
        }
    }
    vocab_destroy(vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] & VOCABULARY) {
        read_vocabulary((const char *)data + 1, size - 1);
    } else if (size > 0) {
        encode(data[0], (const char *)data + 1, size - 1);
    }
    return 0;
}
