/* Any bytes as a tokenizer.json, and as a text for it behind a NUL. Held: a message where it is
 * refused; else ids have words, places are within the text, truncation takes a part of the tokens,
 * decoding ends. Seeds: tests/data/tokenizers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"
#include "model/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KEEP = 5, DECODED_MAX = 1 << 20 };

static char folder[64];
static char path[128];

static void remove_folder(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/orthrus-fuzz-XXXXXX");
    CHECK(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    CHECK(atexit(remove_folder) == 0);
}

static struct tokenizer *open_bytes(const char *json, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(json, 1, size, file) == size && fclose(file) == 0);
    const struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    enum err_code code = tokenizer_open(folder, &options, &tokenizer, &err);
    CHECK(code == ERR_OK ? tokenizer != NULL : err.code == code && err.text[0]);
    return tokenizer;
}

static void check_cut(const struct tokenizer *tokenizer, const char *text, size_t size,
                      const struct tokens *all)
{
    struct tokens cut = {0};
    size_t n = all->n < KEEP ? all->n : KEEP;
    for (enum truncate_side side = TRUNCATE_RIGHT; side <= TRUNCATE_LEFT; side++) {
        const struct encode_options options = {.max_length = KEEP, .side = side};
        CHECK(tokenizer_encode(tokenizer, text, size, &options, &cut, NULL) == ERR_OK);
        CHECK(cut.n == n && cut.truncated == (all->n > n));
        const int32_t *ids = side == TRUNCATE_RIGHT ? all->ids : all->ids + all->n - n;
        CHECK(n == 0 || memcmp(cut.ids, ids, n * sizeof *ids) == 0);
    }
    tokens_done(&cut);
}

static void check_text(const struct tokenizer *tokenizer, const char *text, size_t size)
{
    const struct encode_options options = {.max_length = SIZE_MAX, .offsets = true};
    struct tokens tokens = {0};
    CHECK(tokenizer_encode(tokenizer, text, size, &options, &tokens, NULL) == ERR_OK);
    for (size_t i = 0; i < tokens.n; i++) {
        CHECK((size_t)tokens.ids[i] < tokenizer_vocab_size(tokenizer));
        CHECK(tokenizer_word(tokenizer, tokens.ids[i]));
    }
    check_cut(tokenizer, text, size, &tokens);
    struct buf decoded;
    buf_init(&decoded, DECODED_MAX);
    enum err_code code = tokenizer_decode(tokenizer, tokens.ids, tokens.n, true, &decoded, NULL);
    CHECK(code == ERR_OK || code == ERR_LIMIT || !tokenizer_can_decode(tokenizer));
    buf_done(&decoded);
    const struct tokenizer_text pair[2] = {{text, size}, {text, size}};
    const struct encode_options tight = {.max_length = 64 + KEEP, .add_special_tokens = true};
    CHECK(tokenizer_encode_pair(tokenizer, pair, &tight, &tokens, NULL) == ERR_OK);
    CHECK(tokens.n <= 64 + KEEP);
    tokens_done(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!folder[0]) {
        make_folder();
    }
    const char *json = (const char *)data;
    const char *nul = size ? memchr(json, 0, size) : NULL;
    size_t json_size = nul ? (size_t)(nul - json) : size;
    struct tokenizer *tokenizer = open_bytes(json, json_size);
    if (tokenizer) {
        const char *text = nul ? nul + 1 : "The [MASK] caf\xc3\xa9 <s> a";
        size_t text_size = nul ? size - json_size - 1 : strlen(text);
        if (utf8_valid(text, text_size)) {
            check_text(tokenizer, text, text_size);
        }
        tokenizer_destroy(tokenizer);
    }
    return 0;
}
