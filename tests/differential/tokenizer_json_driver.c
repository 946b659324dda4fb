/* Tokenizes with many tokenizer.json files, for test_tokenizer_json.py: FOLDER.
 *
 * stdin holds cases: the size of a tokenizer.json (uint32) and its bytes, a count of texts (uint32)
 * and for each its size (uint32) and UTF-8. The answer to a case is 0 and for each text
 *   n, ids [n], starts [n], stops [n], types [n]   the text with its template
 *   the size and bytes of what the ids decode to; of what they decode to without specials
 * then n, ids [n], types [n] of the first two texts as a pair cut to PAIR_LENGTH; or, where the
 * file is refused, 1 and the size and bytes of the message. All numbers are 32 bits in the
 * machine's byte order. FOLDER is where the files are written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "model/text/tokenizer.h"

enum { INPUT_MAX = 1 << 30, PAIR_LENGTH = 12, DECODED_MAX = 1 << 26 };

struct input {
    const char *data;
    size_t size, at;
};

static uint32_t take_number(struct input *input)
{
    uint32_t number;
    CHECK(input->size - input->at >= sizeof number);
    memcpy(&number, input->data + input->at, sizeof number);
    input->at += sizeof number;
    return number;
}

static struct tokenizer_text take_text(struct input *input)
{
    uint32_t size = take_number(input);
    CHECK(input->size - input->at >= size);
    struct tokenizer_text text = {input->data + input->at, size};
    input->at += size;
    return text;
}

static void give(const void *data, size_t size)
{
    CHECK(size == 0 || fwrite(data, size, 1, stdout) == 1);
}

static void give_number(size_t number)
{
    uint32_t value = (uint32_t)number;
    give(&value, sizeof value);
}

static void give_types(const struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->n; i++) {
        give_number(tokens->types[i]);
    }
}

static void give_decoded(const struct tokenizer *tokenizer, const struct tokens *tokens,
                         bool skip_special)
{
    struct buf text;
    struct err err = ERR_INIT;
    buf_init(&text, DECODED_MAX);
    CHECK(!tokenizer_can_decode(tokenizer) ||
          tokenizer_decode(tokenizer, tokens->ids, tokens->n, skip_special, &text, &err) == ERR_OK);
    give_number(text.size);
    give(text.data, text.size);
    buf_done(&text);
}

/* Without offsets, and cut on either side, the ids are the same or a part of them. */
static void check_other_ways(const struct tokenizer *tokenizer, const struct tokenizer_text *text,
                             const struct tokens *whole, struct tokens *other)
{
    const size_t added = tokenizer_added(tokenizer, false);
    const size_t limits[] = {SIZE_MAX, added + 3};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < 4; i++) {
        const struct encode_options options = {
            .max_length = limits[i / 2], .side = i % 2, .add_special_tokens = false};
        CHECK(tokenizer_encode(tokenizer, text->text, text->size, &options, other, &err) == ERR_OK);
        const size_t n = whole->n - added;
        const size_t kept = n < options.max_length ? n : options.max_length;
        size_t first = 0;
        while (first < whole->n && whole->parts[first] == TOKEN_ADDED) {
            first++;
        }
        first += options.side == TRUNCATE_LEFT ? n - kept : 0;
        CHECK(other->n == kept && other->truncated == (kept < n));
        CHECK(kept == 0 || memcmp(other->ids, whole->ids + first, kept * sizeof *other->ids) == 0);
    }
}

static void answer_text(const struct tokenizer *tokenizer, const struct tokenizer_text *text,
                        struct tokens *tokens, struct tokens *other)
{
    const struct encode_options options = {
        .max_length = SIZE_MAX, .add_special_tokens = true, .offsets = true};
    struct err err = ERR_INIT;
    CHECK(tokenizer_encode(tokenizer, text->text, text->size, &options, tokens, &err) == ERR_OK);
    check_other_ways(tokenizer, text, tokens, other);
    give_number(tokens->n);
    give(tokens->ids, tokens->n * sizeof *tokens->ids);
    give(tokens->starts, tokens->n * sizeof *tokens->starts);
    give(tokens->stops, tokens->n * sizeof *tokens->stops);
    give_types(tokens);
    give_decoded(tokenizer, tokens, false);
    give_decoded(tokenizer, tokens, true);
}

static void answer_pair(const struct tokenizer *tokenizer, const struct tokenizer_text pair[2],
                        struct tokens *tokens)
{
    const struct encode_options options = {.max_length = PAIR_LENGTH, .add_special_tokens = true};
    struct err err = ERR_INIT;
    CHECK(tokenizer_encode_pair(tokenizer, pair, &options, tokens, &err) == ERR_OK);
    give_number(tokens->n);
    give(tokens->ids, tokens->n * sizeof *tokens->ids);
    give_types(tokens);
}

static void answer_case(const char *folder, struct input *input, struct tokens *tokens,
                        struct tokens *other)
{
    struct tokenizer_text json = take_text(input);
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(json.text, json.size, 1, file) == 1 && fclose(file) == 0);
    struct tokenizer_options bert = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    enum err_code code = tokenizer_open(folder, &bert, &tokenizer, &err);
    give_number(code != ERR_OK);
    if (code != ERR_OK) {
        give_number(strlen(err.text));
        give(err.text, strlen(err.text));
    }
    struct tokenizer_text pair[2] = {{"", 0}, {"", 0}};
    uint32_t n = take_number(input);
    for (uint32_t i = 0; i < n; i++) {
        struct tokenizer_text text = take_text(input);
        if (code == ERR_OK) {
            answer_text(tokenizer, &text, tokens, other);
        }
        pair[i < 2 ? i : 1] = i < 2 ? text : pair[1];
    }
    if (code == ERR_OK) {
        answer_pair(tokenizer, pair, tokens);
    }
    tokenizer_destroy(tokenizer);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    char *data;
    size_t size;
    if (argc != 2 || file_read("/dev/stdin", INPUT_MAX, &data, &size, &err) != ERR_OK) {
        (void)fprintf(stderr, "tokenizer_json_driver: %s\n", err.text);
        return 1;
    }
    struct input input = {data, size, 0};
    struct tokens tokens = {0};
    struct tokens other = {0};
    while (input.at < input.size) {
        answer_case(argv[1], &input, &tokens, &other);
    }
    tokens_done(&other);
    tokens_done(&tokens);
    free(data);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
