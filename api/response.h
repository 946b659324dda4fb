/* Response bodies: arrays and labels → compact JSON (or raw floats) appended to a buf. The buf's
 * ceiling is the caller's; check buf_failed at the end. Any thread.
 *
 * Numbers are float_text's: the shortest text that reads back as the same float32, always with a
 * point or an exponent, so that typed clients read a float. A value that is not finite (a broken
 * checkpoint can give one) is written as null, as serde_json and so TEI do. Embeddings are printed
 * straight into the buffer, a row at a time: the ceiling needs room for a row at
 * RESPONSE_FLOAT_ROOM bytes a number beyond what is used. */
#ifndef ORTHRUS_API_RESPONSE_H
#define ORTHRUS_API_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/float_text.h"
#include "base/buf.h"

enum { RESPONSE_FLOAT_ROOM = FLOAT_TEXT_MAX + 1 };

/* One head's answer as the writers need it. */
struct response_head {
    const char *const *labels; /* [K] */
    size_t classes;            /* K */
    const float *scores;       /* [N,K] probabilities or logits */
};

/* Embeddings [N,stride], of which the first `width` columns are written: [[f32,…],…]. */
void response_embed(const float *embeddings, size_t n, size_t width, size_t stride,
                    struct buf *out);
/* Raw little-endian float32, row-major. */
void response_embed_raw(const float *embeddings, size_t n, size_t width, size_t stride,
                        struct buf *out);

/* [{"label","score"},…] best first, top_k of them (0: all); an array of those unless single.
 * Equal scores keep the labels' order. */
void response_classify(const struct response_head *head, size_t n, size_t top_k, bool single,
                       struct buf *out);

/* Another head's part in /analyze; head.classes 0: its spans are appended by the caller. */
struct response_named {
    const char *name;
    struct response_head head;
};

/* /analyze, per text. embeddings NULL and heads with classes 0 are left out. */
struct response_analyze {
    const char *encoder; /* X-Encoder's value */
    const char *heads;   /* X-Heads' value, or NULL */
    const char *precision;
    const uint32_t *tokens;  /* [N] */
    const bool *truncated;   /* [N] */
    const float *embeddings; /* [N,H] or NULL */
    size_t hidden;
    struct response_head classify, sentiment;
    const struct response_named *named; /* [n_named] */
    size_t n_named;
    const size_t *windows; /* [N] or NULL */
    /* Appends the array of the spans that named[i], a token head, found in a text. */
    void (*append_spans)(void *context, size_t named, size_t text, struct buf *out);
    void *context;
    size_t total_tokens;
};
void response_analyze(const struct response_analyze *analyze, size_t n, struct buf *out);

/* OpenAI's list of embeddings; base64 is of little-endian float32. */
void response_openai(const float *embeddings, size_t n, size_t width, size_t stride, bool base64,
                     const char *model, size_t total_tokens, struct buf *out);

/* One token of /tokenize, as the tokenizer gives it. */
struct response_token {
    int32_t id;
    const char *word;     /* of the vocabulary, NUL-terminated */
    bool special;         /* added by the tokenizer: written with its word and null offsets */
    uint32_t start, stop; /* code points of the text */
};
/* The tokens [n] of one text, in the text's order: [{"id","text","special","start","stop"},…].
 * As TEI answers, "text" is the slice of the original text (valid UTF-8) that a token covers. The
 * caller puts the brackets and commas around several texts. */
void response_tokens(const struct response_token *tokens, size_t n, const char *text, size_t size,
                     struct buf *out);

#endif
