#include "model/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/text/text.h"
#include "model/text/vocab.h"

struct tokenizer {
    struct unicode unicode;
    struct vocab *vocab; /* owned */
    int32_t specials[TEXT_SPECIALS];
};

struct tokenizer_options tokenizer_options_default(void)
{
    return (struct tokenizer_options){
        .lower_case = true,
        .strip_accents = true,
        .tokenize_chinese_chars = true,
    };
}

static enum err_code find_specials(struct tokenizer *tokenizer, const char *label, struct err *err)
{
    for (enum text_special i = 0; i < TEXT_SPECIALS; i++) {
        tokenizer->specials[i] = vocab_find(tokenizer->vocab, text_special_word(i));
        if (tokenizer->specials[i] == VOCAB_NONE) {
            return err_set(err, ERR_INVALID, "%s: the word %s is missing", label,
                           text_special_word(i));
        }
    }
    return ERR_OK;
}

enum err_code tokenizer_create(const char *vocab_path, const struct tokenizer_options *options,
                               struct tokenizer **ret_tokenizer, struct err *err)
{
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        return err_nomem(err, sizeof *tokenizer);
    }
    enum err_code code = vocab_read(vocab_path, &tokenizer->vocab, err);
    code = code == ERR_OK ? find_specials(tokenizer, vocab_path, err) : code;
    code = code == ERR_OK ? unicode_init(&tokenizer->unicode, options, err) : code;
    if (code != ERR_OK) {
        tokenizer_destroy(tokenizer);
        return code;
    }
    *ret_tokenizer = tokenizer;
    return ERR_OK;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer) {
        unicode_done(&tokenizer->unicode);
        vocab_destroy(tokenizer->vocab);
        free(tokenizer);
    }
}

void tokens_done(struct tokens *tokens)
{
    if (tokens) {
        free(tokens->ids);
        free(tokens->starts);
        free(tokens->stops);
        *tokens = (struct tokens){0};
    }
}

/* Where the tokens of one encode go. Lifetime: the call. */
struct sink {
    struct tokens *tokens;
    size_t first; /* tokens before the text's own */
    size_t keep;  /* at most so many of the text's own stay */
    enum truncate_side side;
    bool offsets;
};

/* Grows an array to `bytes`; false when memory is out, the array is as it was then. */
static bool grow(void *array, size_t bytes)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, bytes);
    if (grown) {
        memcpy(array, &grown, sizeof grown);
    }
    return grown != NULL;
}

/* Room for n more tokens. */
static enum err_code reserve(const struct sink *sink, size_t n, struct err *err)
{
    struct tokens *tokens = sink->tokens;
    size_t needed = tokens->n + n;
    bool has_offsets = !sink->offsets || tokens->starts;
    if (needed <= tokens->room && has_offsets) {
        return ERR_OK;
    }
    size_t room = size_max(size_max(2 * needed, tokens->room), 64);
    bool offsets = sink->offsets || tokens->starts;
    /* room is what all arrays have, so it counts only once the last one has grown. */
    if (!grow(&tokens->ids, room * sizeof *tokens->ids) ||
        (offsets && (!grow(&tokens->stops, room * sizeof *tokens->stops) ||
                     !grow(&tokens->starts, room * sizeof *tokens->starts)))) {
        return err_nomem(err, room * sizeof *tokens->ids);
    }
    tokens->room = room;
    return ERR_OK;
}

/* Where there is room. */
static void put(const struct sink *sink, int32_t id, uint32_t start, uint32_t stop)
{
    struct tokens *tokens = sink->tokens;
    tokens->ids[tokens->n] = id;
    if (sink->offsets) {
        tokens->starts[tokens->n] = start;
        tokens->stops[tokens->n] = stop;
    }
    tokens->n++;
}

/* One word's tokens. Worker's stack. */
struct pieces {
    size_t n;
    int32_t ids[TEXT_WORD_CHARS];
    uint32_t starts[TEXT_WORD_CHARS];
    uint32_t stops[TEXT_WORD_CHARS];
};

static void set_piece(struct pieces *pieces, size_t i, int32_t id, uint32_t start, uint32_t stop)
{
    pieces->ids[i] = id;
    pieces->starts[i] = start;
    pieces->stops[i] = stop;
    pieces->n = i + 1;
}

/* WordPiece: the longest word of the vocabulary again and again; all or nothing. */
static void split_word(const struct tokenizer *tokenizer, const struct text_word *word,
                       struct pieces *pieces)
{
    pieces->n = 0;
    size_t at = 0;
    while (word->chars <= TEXT_WORD_CHARS && at < word->size) {
        size_t size = 0;
        int32_t id = vocab_longest(tokenizer->vocab, at ? VOCAB_CONTINUES : VOCAB_BEGINS,
                                   word->bytes + at, word->size - at, &size);
        if (id == VOCAB_NONE) {
            break;
        }
        set_piece(pieces, pieces->n, id, word->source[at], word->source[at + size - 1] + 1);
        at += size;
    }
    if (word->chars > TEXT_WORD_CHARS || at < word->size) {
        set_piece(pieces, 0, tokenizer->specials[TEXT_UNK], word->start, word->stop);
    }
}

/* Drops the text's tokens but for the last ones, as many as stay. */
static void drop_left(const struct sink *sink)
{
    struct tokens *tokens = sink->tokens;
    size_t to = sink->first;
    size_t from = tokens->n - sink->keep;
    memmove(tokens->ids + to, tokens->ids + from, sink->keep * sizeof *tokens->ids);
    if (sink->offsets) {
        memmove(tokens->starts + to, tokens->starts + from, sink->keep * sizeof *tokens->starts);
        memmove(tokens->stops + to, tokens->stops + from, sink->keep * sizeof *tokens->stops);
    }
    tokens->n = to + sink->keep;
    tokens->truncated = true;
}

/* Takes one word's tokens. *ret_full: no further ones can matter. */
static enum err_code sink_add(const struct sink *sink, const struct pieces *pieces, bool *ret_full,
                              struct err *err)
{
    struct tokens *tokens = sink->tokens;
    size_t left = sink->keep - size_min(tokens->n - sink->first, sink->keep);
    size_t n = sink->side == TRUNCATE_RIGHT ? size_min(pieces->n, left) : pieces->n;
    /* One more for [SEP]. */
    enum err_code code = reserve(sink, n + 1, err);
    if (code != ERR_OK) {
        return code;
    }
    for (size_t i = 0; i < n; i++) {
        put(sink, pieces->ids[i], pieces->starts[i], pieces->stops[i]);
    }
    if (n < pieces->n) {
        tokens->truncated = true;
        *ret_full = true;
    }
    /* The left end is dropped once it is as long as the rest: that costs no more than making the
     * tokens did, and memory is bounded by what stays. */
    if (left == 0 && tokens->n - sink->first - sink->keep > size_max(sink->keep, 64)) {
        drop_left(sink);
    }
    return ERR_OK;
}

static enum err_code encode_words(const struct tokenizer *tokenizer, struct text_cursor *cursor,
                                  const struct sink *sink, struct err *err)
{
    struct text_word word;
    struct pieces pieces;
    bool full = false;
    while (!full) {
        enum text_found found = text_next(cursor, &word);
        if (found == TEXT_END) {
            break;
        }
        if (found == TEXT_SPECIAL) {
            set_piece(&pieces, 0, tokenizer->specials[word.special], word.start, word.stop);
        } else {
            split_word(tokenizer, &word, &pieces);
        }
        enum err_code code = sink_add(sink, &pieces, &full, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    if (sink->tokens->n - sink->first > sink->keep) {
        drop_left(sink);
    }
    return ERR_OK;
}

enum err_code tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                               const struct encode_options *options, struct tokens *tokens,
                               struct err *err)
{
    const size_t added = options->add_special_tokens ? 2 : 0;
    CHECK(options->max_length >= added);
    tokens->n = 0;
    tokens->truncated = false;
    if (size > UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "a text of %zu bytes, at most %u are allowed", size,
                       UINT32_MAX);
    }
    const struct sink sink = {
        .tokens = tokens,
        .first = added / 2,
        .keep = options->max_length - added,
        .side = options->side,
        .offsets = options->offsets,
    };
    enum err_code code = reserve(&sink, added, err);
    if (code == ERR_OK && added) {
        put(&sink, tokenizer->specials[TEXT_CLS], 0, 0);
    }
    struct text_cursor cursor = {.unicode = &tokenizer->unicode, .text = text, .size = size};
    code = code == ERR_OK ? encode_words(tokenizer, &cursor, &sink, err) : code;
    if (code == ERR_OK && added) {
        put(&sink, tokenizer->specials[TEXT_SEP], 0, 0);
    }
    return code;
}

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return vocab_size(tokenizer->vocab);
}

const char *tokenizer_word(const struct tokenizer *tokenizer, int32_t id)
{
    bool known = id >= 0 && (size_t)id < vocab_size(tokenizer->vocab);
    return known ? vocab_word(tokenizer->vocab, id) : NULL;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    for (enum text_special i = 0; i < TEXT_SPECIALS; i++) {
        if (tokenizer->specials[i] == id) {
            return true;
        }
    }
    return false;
}

int32_t tokenizer_cls_id(const struct tokenizer *tokenizer)
{
    return tokenizer->specials[TEXT_CLS];
}

int32_t tokenizer_sep_id(const struct tokenizer *tokenizer)
{
    return tokenizer->specials[TEXT_SEP];
}
