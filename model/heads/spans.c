#include "model/heads/spans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/text/join.h"

/* Code points of a string. */
static size_t count_scalars(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

/* The bytes of code points [start,stop) of a text, walking on from *at, *scalar. */
struct place {
    size_t byte;
    size_t scalar;
};

static void walk(const struct spans_text *text, struct place *place, size_t scalar)
{
    if (scalar < place->scalar) {
        *place = (struct place){0};
    }
    while (place->scalar < scalar && place->byte < text->size) {
        (void)utf8_next(text->text, text->size, &place->byte);
        place->scalar++;
    }
}

/* True where a token goes on with the word before it. A vocabulary that marks such tokens tells by
 * the length of what it covers; else two tokens without a space between them are one word. */
static bool is_subword(const struct spans_text *text, size_t token, struct place *place)
{
    size_t start = text->starts[token];
    const char *word = tokenizer_word(text->tokenizer, text->ids[token]);
    if (text->ids[token] == tokenizer_unknown_id(text->tokenizer)) {
        return false;
    }
    if (tokenizer_marks_subwords(text->tokenizer)) {
        return word && count_scalars(word) != text->stops[token] - start;
    }
    if (start == 0) {
        return false;
    }
    walk(text, place, start - 1);
    bool before = place->byte < text->size && text->text[place->byte] == ' ';
    walk(text, place, start);
    bool at = place->byte < text->size && text->text[place->byte] == ' ';
    return !before && !at;
}

/* A word while its tokens come in. */
struct word {
    float sum[HEADS_CLASSES_MAX];  /* of the scores, for the average */
    float best[HEADS_CLASSES_MAX]; /* of the token that decides */
    float highest;                 /* of best */
    uint32_t first;
    uint32_t tokens;
};

static float highest_of(const float *scores, size_t classes)
{
    return scores[head_best(scores, classes)];
}

static void word_start(struct word *word, const float *scores, size_t classes, size_t token)
{
    memcpy(word->sum, scores, classes * sizeof *scores);
    memcpy(word->best, scores, classes * sizeof *scores);
    word->highest = highest_of(scores, classes);
    word->first = (uint32_t)token;
    word->tokens = 1;
}

static void word_add(struct word *word, const float *scores, size_t classes,
                     enum spans_strategy strategy)
{
    float highest = highest_of(scores, classes);
    for (size_t k = 0; k < classes; k++) {
        word->sum[k] += scores[k];
    }
    if (strategy == SPANS_MAX && highest > word->highest) {
        memcpy(word->best, scores, classes * sizeof *scores);
        word->highest = highest;
    }
    word->tokens++;
}

static struct span_item word_end(struct word *word, size_t classes, enum spans_strategy strategy)
{
    float *scores = word->best;
    if (strategy == SPANS_AVERAGE) {
        scores = word->sum;
        for (size_t k = 0; k < classes; k++) {
            scores[k] /= (float)word->tokens;
        }
    }
    size_t label = head_best(scores, classes);
    return (struct span_item){.label = (uint32_t)label,
                              .score = scores[label],
                              .first = word->first,
                              .tokens = word->tokens};
}

/* One token's scores; false where they are not finite. */
static bool score_token(const struct head *head, const float *row, bool raw, float *scores)
{
    head_logits(head, row, 1, scores);
    for (size_t k = 0; k < head->classes; k++) {
        if (!isfinite(scores[k])) {
            return false;
        }
    }
    if (!raw) {
        head_scores(head, scores, scores);
    }
    return true;
}

size_t spans_items(const struct head *head, const struct spans_text *text, const float *hidden,
                   enum spans_strategy strategy, bool raw, struct span_item *items)
{
    bool words = strategy != SPANS_NONE && strategy != SPANS_SIMPLE;
    float scores[HEADS_CLASSES_MAX];
    struct word word = {.tokens = 0};
    struct place place = {0};
    size_t n = 0;
    for (size_t t = 0; t < text->n; t++) {
        if (text->parts[t] == TOKEN_ADDED) {
            continue;
        }
        if (!score_token(head, hidden + t * head->width, raw, scores)) {
            return SIZE_MAX;
        }
        if (words && word.tokens && is_subword(text, t, &place)) {
            word_add(&word, scores, head->classes, strategy);
            continue;
        }
        if (word.tokens) {
            items[n++] = word_end(&word, head->classes, strategy);
        }
        word_start(&word, scores, head->classes, t);
    }
    if (word.tokens) {
        items[n++] = word_end(&word, head->classes, strategy);
    }
    return n;
}

/* "B-PER" begins a group, "I-PER" and "PER" go on with one. */
static const char *tag_of(const char *label, bool *ret_begins)
{
    *ret_begins = strncmp(label, "B-", 2) == 0;
    return *ret_begins || strncmp(label, "I-", 2) == 0 ? label + 2 : label;
}

static bool joins(const struct head *head, const struct span_item *before,
                  const struct span_item *item)
{
    bool begins;
    bool ignored;
    const char *last = tag_of(head->labels[before->label], &ignored);
    const char *tag = tag_of(head->labels[item->label], &begins);
    return !begins && strcmp(last, tag) == 0;
}

size_t spans_group(const struct head *head, const struct spans_text *text,
                   const struct span_item *items, size_t n, enum spans_strategy strategy,
                   struct span *spans)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t last = items[i].first + items[i].tokens - 1;
        if (count && strategy != SPANS_NONE && joins(head, &items[i - 1], &items[i])) {
            spans[count - 1].items++;
            spans[count - 1].score += items[i].score;
        } else {
            spans[count++] = (struct span){.first = i,
                                           .items = 1,
                                           .score = items[i].score,
                                           .start = text->starts[items[i].first]};
        }
        spans[count - 1].end = text->stops[last];
    }
    for (size_t i = 0; i < count; i++) {
        spans[i].score /= (float)spans[i].items;
    }
    return count;
}

const char *span_label(const struct head *head, const struct span_item *item,
                       enum spans_strategy strategy)
{
    const char *label = head->labels[item->label];
    const char *dash = strategy == SPANS_NONE ? NULL : strchr(label, '-');
    return dash ? dash + 1 : label;
}

/* A token's own text: the vocabulary's, or what an unknown one covers. */
static struct tokenizer_text token_text(const struct spans_text *text, size_t token,
                                        struct place *place)
{
    const char *word = tokenizer_word(text->tokenizer, text->ids[token]);
    if (word && text->ids[token] != tokenizer_unknown_id(text->tokenizer)) {
        return (struct tokenizer_text){word, strlen(word)};
    }
    walk(text, place, text->starts[token]);
    size_t from = place->byte;
    walk(text, place, text->stops[token]);
    return (struct tokenizer_text){text->text + from, place->byte - from};
}

/* Room for the tokens of all of a span's items, or for the items: never for nothing. */
static size_t span_room(const struct span_item *items, const struct span *span)
{
    size_t n = 1;
    for (size_t i = 0; i < span->items; i++) {
        n += items[span->first + i].tokens;
    }
    return n;
}

/* The strings of the tokens from `first` on, n of them. */
static void token_texts(const struct spans_text *text, size_t first, size_t n, struct place *place,
                        struct tokenizer_text *ret)
{
    for (size_t t = 0; t < n; t++) {
        ret[t] = token_text(text, first + t, place);
    }
}

/* Each item's tokens make a word of their own, and these are joined: lengths [items] are the words'
 * bytes in `words`. */
static bool join_words(const struct spans_text *text, const struct span_item *items,
                       const struct span *span, struct tokenizer_text *tokens, struct buf *words,
                       struct buf *out)
{
    struct place place = {0};
    size_t *ends = calloc(span->items, sizeof *ends);
    bool whole = ends != NULL;
    for (size_t i = 0; whole && i < span->items; i++) {
        const struct span_item *item = &items[span->first + i];
        token_texts(text, item->first, item->tokens, &place, tokens);
        whole = tokenizer_join(text->tokenizer, tokens, item->tokens, words);
        ends[i] = words->size;
    }
    for (size_t i = 0; whole && i < span->items; i++) {
        size_t from = i ? ends[i - 1] : 0;
        tokens[i] = (struct tokenizer_text){words->data ? words->data + from : "", ends[i] - from};
    }
    free(ends);
    return whole && tokenizer_join(text->tokenizer, tokens, span->items, out);
}

bool span_word(const struct spans_text *text, const struct span_item *items,
               const struct span *span, enum spans_strategy strategy, struct buf *out)
{
    const struct span_item *first = &items[span->first];
    struct place place = {0};
    if (strategy == SPANS_NONE) {
        struct tokenizer_text token = token_text(text, first->first, &place);
        return buf_append(out, token.text, token.size);
    }
    struct tokenizer_text *tokens = calloc(span_room(items, span), sizeof *tokens);
    struct buf words;
    buf_init(&words, out->ceiling);
    bool whole = tokens != NULL;
    if (whole && strategy == SPANS_SIMPLE) {
        for (size_t i = 0; i < span->items; i++) {
            tokens[i] = token_text(text, items[span->first + i].first, &place);
        }
        whole = tokenizer_join(text->tokenizer, tokens, span->items, out);
    } else if (whole) {
        whole = join_words(text, items, span, tokens, &words, out);
    }
    buf_done(&words);
    free(tokens);
    return whole;
}
