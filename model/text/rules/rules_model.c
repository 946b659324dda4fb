/* The member "model" of a tokenizer.json. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/text/byte_level.h"
#include "model/text/rules/rules.h"

#include "base/utf8.h"

static const char *const models[] = {
    [SUBWORD_WORDPIECE] = "WordPiece", [SUBWORD_UNIGRAM] = "Unigram", [SUBWORD_BPE] = "BPE", NULL};

/* Files of 2020 have no type: it is told by the members. */
static enum err_code read_kind(const struct members *model, enum subword_kind *ret_kind)
{
    if (jval_get(model->object, "type")) {
        size_t place;
        enum err_code code = members_type(model, models, &place);
        *ret_kind = code == ERR_OK ? (enum subword_kind)place : *ret_kind;
        return code;
    }
    *ret_kind = jval_get(model->object, "merges")                      ? SUBWORD_BPE
                : jval_get(model->object, "continuing_subword_prefix") ? SUBWORD_WORDPIECE
                                                                       : SUBWORD_UNIGRAM;
    return ERR_OK;
}

static enum err_code add_word(const struct members *model, struct words *words, const char *bytes,
                              size_t size, int64_t id)
{
    if (size > RULES_WORD_MAX) {
        return err_set(model->err, ERR_LIMIT, "%s: model.vocab: a word of %zu bytes, at most %d",
                       model->file, size, RULES_WORD_MAX);
    }
    enum err_code code = words_add(words, bytes, size, id, model->err);
    return code == ERR_OK ? code : err_prefix(model->err, "%s: model.vocab", model->file);
}

/* {"word": id, …} */
static enum err_code read_words(const struct members *model, struct words *words)
{
    const struct jval *vocab = jval_get(model->object, "vocab");
    if (!jval_is_object(vocab)) {
        return members_wrong(model, "vocab", ERR_INVALID, "an object of words and ids");
    }
    const char *key;
    const struct jval *value;
    for (void *at = jval_object_next(vocab, NULL, &key, &value); at;
         at = jval_object_next(vocab, at, &key, &value)) {
        int64_t id;
        if (!jval_int(value, &id)) {
            return err_set(model->err, ERR_INVALID, "%s: model.vocab: an id that is no number",
                           model->file);
        }
        enum err_code code = add_word(model, words, key, strlen(key), id);
        if (code != ERR_OK) {
            return code;
        }
    }
    return ERR_OK;
}

/* A short text of the model, as a prefix. */
static enum err_code read_affix(const struct members *model, const char *key, bool required,
                                char out[SUBWORD_AFFIX_MAX], size_t *ret_size)
{
    const char *text = "";
    size_t size = 0;
    enum err_code code = members_string(model, key, required, SUBWORD_AFFIX_MAX, &text, &size);
    if (code == ERR_OK) {
        memcpy(out, text, size);
        *ret_size = size;
    }
    return code;
}

static enum err_code read_unk(const struct members *model, bool required, struct subword *subword)
{
    const char *unk = NULL;
    size_t size = 0;
    enum err_code code = members_string(model, "unk_token", required, RULES_WORD_MAX, &unk, &size);
    subword->unk = WORDS_NONE;
    if (code == ERR_OK && unk) {
        subword->unk = words_find(&subword->words, unk, size);
        if (subword->unk == WORDS_NONE && required) {
            code = members_wrong(model, "unk_token", ERR_INVALID, "a word of the vocabulary");
        }
    }
    return code;
}

/* --- WordPiece -------------------------------------------------------------------------------- */

static enum err_code read_wordpiece(const struct members *model, struct subword *subword)
{
    static const char *const known[] = {
        "type",  "unk_token", "continuing_subword_prefix", "max_input_chars_per_word",
        "vocab", NULL};
    int64_t max_chars = 0;
    members_known(model, known);
    enum err_code code = read_words(model, &subword->words);
    code = code == ERR_OK ? read_unk(model, true, subword) : code;
    code = code == ERR_OK ? read_affix(model, "continuing_subword_prefix", true, subword->prefix,
                                       &subword->prefix_size)
                          : code;
    code = code == ERR_OK ? members_integer(model, "max_input_chars_per_word", true, 0,
                                            RULES_CHARS_MAX, &max_chars)
                          : code;
    subword->max_chars = (size_t)max_chars;
    return code;
}

/* --- Unigram ---------------------------------------------------------------------------------- */

/* The reference reads a number as its digits times a power of ten, which rounds twice where there
 * are more than 15 digits. Files have the shortest digits that give the number back, so those are
 * what it saw; and scores that differ in the last bit may split a text another way. */
static double as_reference(double exact)
{
    char digits[32];
    int precision = 15;
    do {
        (void)snprintf(digits, sizeof digits, "%.*e", precision - 1, exact);
    } while (strtod(digits, NULL) != exact && ++precision <= 17);
    char *exponent = strchr(digits, 'e');
    if (precision <= 15 || !exponent) {
        return exact;
    }
    uint64_t significand = 0;
    for (const char *c = digits; c < exponent; c++) {
        significand = *c >= '0' && *c <= '9' ? 10 * significand + (uint64_t)(*c - '0')
                                             : significand;
    }
    long power = strtol(exponent + 1, NULL, 10) - (precision - 1);
    if (labs(power) > 22) {
        return exact;
    }
    double scale = 1;
    for (long i = 0; i < labs(power); i++) {
        scale *= 10; /* exact up to 10²² */
    }
    double value = power < 0 ? (double)significand / scale : (double)significand * scale;
    return exact < 0 ? -value : value;
}

static enum err_code read_score(const struct members *model, const struct jval *pair, size_t index,
                                struct subword *subword, double *ret_min)
{
    const char *text;
    size_t size;
    double score;
    if (jval_array_size(pair) != 2 || !jval_string(jval_at(pair, 0), &text, &size) ||
        !jval_double(jval_at(pair, 1), &score) || !isfinite(score)) {
        return err_set(model->err, ERR_INVALID, "%s: model.vocab[%zu]: not a word with its score",
                       model->file, index);
    }
    if (!utf8_valid(text, size)) {
        return err_set(model->err, ERR_INVALID, "%s: model.vocab[%zu]: not UTF-8", model->file,
                       index);
    }
    score = as_reference(score);
    subword->scores[index] = score;
    *ret_min = score < *ret_min ? score : *ret_min;
    return add_word(model, &subword->words, text, size, (int64_t)index);
}

static enum err_code read_unigram(const struct members *model, struct subword *subword)
{
    static const char *const known[] = {"type", "unk_id", "vocab", "byte_fallback", NULL};
    enum { UNKNOWN_PENALTY = 10 };
    const struct jval *vocab = NULL;
    members_known(model, known);
    enum err_code code = members_array(model, "vocab", true, &vocab);
    size_t n = jval_array_size(vocab);
    if (code != ERR_OK || n == 0 || n > WORDS_MAX) {
        return code == ERR_OK
                   ? err_set(model->err, ERR_LIMIT, "%s: model.vocab: %zu words, allowed 1 to %d",
                             model->file, n, WORDS_MAX)
                   : code;
    }
    subword->scores = calloc(n, sizeof *subword->scores);
    if (!subword->scores) {
        return err_nomem(model->err, n * sizeof *subword->scores);
    }
    double min = INFINITY;
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        code = read_score(model, jval_at(vocab, i), i, subword, &min);
    }
    subword->unk_score = min - UNKNOWN_PENALTY;
    int64_t unk = WORDS_NONE;
    code = code == ERR_OK ? members_integer(model, "unk_id", true, 0, (int64_t)n - 1, &unk) : code;
    subword->unk = (int32_t)unk;
    return code == ERR_OK ? members_bool(model, "byte_fallback", false, &subword->byte_fallback)
                          : code;
}

/* --- Byte-pair encoding ----------------------------------------------------------------------- */

/* ["left", "right"], or "left right" as older files have it. */
static bool split_merge(const struct jval *merge, const char *ret[2], size_t ret_sizes[2])
{
    const char *text;
    size_t size;
    if (jval_string(merge, &text, &size)) {
        const char *space = memchr(text, ' ', size);
        if (!space || memchr(space + 1, ' ', size - (size_t)(space + 1 - text))) {
            return false;
        }
        ret[0] = text;
        ret_sizes[0] = (size_t)(space - text);
        ret[1] = space + 1;
        ret_sizes[1] = size - ret_sizes[0] - 1;
        return true;
    }
    return jval_array_size(merge) == 2 && jval_string(jval_at(merge, 0), &ret[0], &ret_sizes[0]) &&
           jval_string(jval_at(merge, 1), &ret[1], &ret_sizes[1]);
}

static enum err_code read_merge(const struct members *model, const struct jval *merge, size_t index,
                                char *joined, struct subword *subword)
{
    const char *words[2];
    size_t sizes[2];
    int32_t ids[2] = {WORDS_NONE, WORDS_NONE};
    int32_t result = WORDS_NONE;
    if (split_merge(merge, words, sizes) && sizes[1] >= subword->prefix_size &&
        sizes[0] <= RULES_WORD_MAX && sizes[1] <= RULES_WORD_MAX) {
        ids[0] = words_find(&subword->words, words[0], sizes[0]);
        ids[1] = words_find(&subword->words, words[1], sizes[1]);
        size_t rest = sizes[1] - subword->prefix_size;
        memcpy(joined, words[0], sizes[0]);
        memcpy(joined + sizes[0], words[1] + subword->prefix_size, rest);
        result = words_find(&subword->words, joined, sizes[0] + rest);
    }
    if (ids[0] == WORDS_NONE || ids[1] == WORDS_NONE || result == WORDS_NONE) {
        return err_set(model->err, ERR_INVALID,
                       "%s: model.merges[%zu]: not two words of the vocabulary that make one",
                       model->file, index);
    }
    return bpe_add_merge(subword, ids[0], ids[1], result, model->err);
}

static enum err_code read_merges(const struct members *model, struct subword *subword)
{
    const struct jval *merges = NULL;
    enum err_code code = members_array(model, "merges", true, &merges);
    size_t n = jval_array_size(merges);
    if (code == ERR_OK && n > WORDS_MAX) {
        return err_set(model->err, ERR_LIMIT, "%s: model.merges: %zu, at most %d", model->file, n,
                       WORDS_MAX);
    }
    char *joined = malloc(2 * RULES_WORD_MAX);
    if (!joined) {
        return err_nomem(model->err, 2 * RULES_WORD_MAX);
    }
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        const struct jval *merge = jval_at(merges, i);
        const char *text;
        size_t size;
        bool header = jval_string(merge, &text, &size) && strncmp(text, "#version", 8) == 0;
        code = header ? ERR_OK : read_merge(model, merge, i, joined, subword);
    }
    free(joined);
    return code;
}

/* True where every byte has its character in the vocabulary, so that nothing is unknown. */
static bool knows_all_bytes(const struct words *words)
{
    for (unsigned byte = 0; byte < SUBWORD_BYTES; byte++) {
        char character[4];
        size_t size = utf8_put(byte_level_scalar((unsigned char)byte), character);
        if (words_find(words, character, size) == WORDS_NONE) {
            return false;
        }
    }
    return true;
}

static enum err_code read_bpe(const struct members *model, struct subword *subword)
{
    static const char *const known[] = {
        "type",     "dropout",       "unk_token",     "continuing_subword_prefix", "vocab",
        "fuse_unk", "byte_fallback", "ignore_merges", "end_of_word_suffix",        "merges",
        NULL};
    double dropout;
    members_known(model, known);
    if (!members_absent(model, "dropout") &&
        !(jval_double(jval_get(model->object, "dropout"), &dropout) && dropout == 0)) {
        return members_wrong(model, "dropout", ERR_UNSUPPORTED, "null");
    }
    enum err_code code = read_words(model, &subword->words);
    code = code == ERR_OK ? read_unk(model, false, subword) : code;
    if (code == ERR_OK && !members_absent(model, "unk_token") && subword->unk == WORDS_NONE &&
        !knows_all_bytes(&subword->words)) {
        code = members_wrong(model, "unk_token", ERR_INVALID, "a word of the vocabulary");
    }
    code = code == ERR_OK ? read_affix(model, "continuing_subword_prefix", false, subword->prefix,
                                       &subword->prefix_size)
                          : code;
    code = code == ERR_OK ? read_affix(model, "end_of_word_suffix", false, subword->suffix,
                                       &subword->suffix_size)
                          : code;
    code = code == ERR_OK ? members_bool(model, "fuse_unk", false, &subword->fuse_unk) : code;
    code = code == ERR_OK ? members_bool(model, "byte_fallback", false, &subword->byte_fallback)
                          : code;
    code = code == ERR_OK ? members_bool(model, "ignore_merges", false, &subword->ignore_merges)
                          : code;
    return code == ERR_OK ? read_merges(model, subword) : code;
}

enum err_code rules_read_model(const struct members *file, struct subword *subword)
{
    struct members model;
    enum err_code code = members_enter(file, "model", &model);
    code = code == ERR_OK ? read_kind(&model, &subword->kind) : code;
    if (code != ERR_OK) {
        return code;
    }
    switch (subword->kind) {
    case SUBWORD_WORDPIECE:
        return read_wordpiece(&model, subword);
    case SUBWORD_UNIGRAM:
        return read_unigram(&model, subword);
    case SUBWORD_BPE:
        break;
    }
    return read_bpe(&model, subword);
}
