/* A token head's logits → spans of a text, as Hugging Face's token-classification pipeline makes
 * them: token by token, or joined into words and groups.
 *
 * Two steps, so that the hidden states need not be kept: spans_items reads them once, right after
 * the pass, and leaves one small record a token or word; spans_group joins those into groups.
 * Reference: transformers' TokenClassificationPipeline (gather_pre_entities, aggregate,
 * group_entities, aggregate_overlapping_entities). */
#ifndef ORTHRUS_MODEL_SPANS_H
#define ORTHRUS_MODEL_SPANS_H

#include "base/buf.h"
#include "model/heads/heads.h"
#include "model/text/tokenizer.h"

enum spans_strategy { SPANS_NONE, SPANS_SIMPLE, SPANS_FIRST, SPANS_AVERAGE, SPANS_MAX };

/* The tokens of one encoded text, borrowed; offsets in code points of text. */
struct spans_text {
    const struct tokenizer *tokenizer;
    const char *text; /* UTF-8 */
    size_t size;
    const int32_t *ids;     /* [n] */
    const uint32_t *starts; /* [n] */
    const uint32_t *stops;  /* [n] */
    const uint8_t *parts;   /* [n] enum token_part */
    size_t n;
};

/* One token, or with first, average and max one word, with its best label. */
struct span_item {
    uint32_t label;
    uint32_t first; /* its first token */
    uint32_t tokens;
    float score;
};

/* Items of consecutive places that are one span. */
struct span {
    size_t first; /* among the items */
    size_t items;
    float score;
    uint32_t start, end; /* code points */
};

/* hidden [n,H] of the text's tokens → items, at most n of them; tokens that the template added take
 * no part. Scores are probabilities, or logits where raw. Returns how many, or SIZE_MAX where a
 * logit is not finite. */
size_t spans_items(const struct head *head, const struct spans_text *text, const float *hidden,
                   enum spans_strategy strategy, bool raw, struct span_item *items);

/* Items → spans [at most n]: each by itself with SPANS_NONE, else joined. Returns how many. */
size_t spans_group(const struct head *head, const struct spans_text *text,
                   const struct span_item *items, size_t n, enum spans_strategy strategy,
                   struct span *spans);

/* What a span is called: the label, with SPANS_NONE; else without its B- or I-. Borrowed. */
const char *span_label(const struct head *head, const struct span_item *item,
                       enum spans_strategy strategy);

/* Appends a span's word: its tokens put together as the tokenizer's decoder does. False when the
 * buffer is full. */
bool span_word(const struct spans_text *text, const struct span_item *items,
               const struct span *span, enum spans_strategy strategy, struct buf *out);

#endif
