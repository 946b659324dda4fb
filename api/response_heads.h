/* What heads, rankers and single tokens answer: verdicts, spans, explanations, ranks → JSON
 * appended to a buf. Numbers and ceilings as in api/response.h. Any thread. */
#ifndef ORTHRUS_API_RESPONSE_HEADS_H
#define ORTHRUS_API_RESPONSE_HEADS_H

#include "api/response.h"

/* What a label's score is made of, token by token. */
struct response_explanation {
    const char *label;
    float bias;
    bool exact;                          /* else by gradient */
    const struct response_token *tokens; /* [n] word: of specials; start, stop of the others */
    const float *shares;                 /* [n] */
    size_t n;
    const char *text; /* the input, UTF-8 */
    size_t size;
};

/* One text's answer as an object: {"label","score","scores":[{"label","score"},…]} and what was
 * asked for beside it. */
struct response_verdict {
    struct response_head head; /* scores: this text's row [K] */
    size_t top_k;              /* of the scores; 0: all */
    const bool *left_out;      /* [K] labels that scores does without; NULL: none */
    bool no_label, no_score;   /* null */
    const bool *abstained;     /* NULL: not asked */
    const size_t *windows;     /* NULL: not asked */
    const struct response_explanation *explanation; /* NULL: not asked */
};
void response_verdict(const struct response_verdict *verdict, struct buf *out);

/* One span of a token head: {"entity_group","score","word","start","end"}, or by itself
 * {"entity","score","index","word","start","end"}. */
struct response_span {
    const char *label;
    bool alone;   /* "entity" and its index */
    size_t index; /* of the token, from 0 */
    float score;
    const char *word; /* UTF-8 */
    size_t word_size;
    uint32_t start, end; /* code points */
};
/* first: no comma before it. */
void response_span(const struct response_span *span, bool first, struct buf *out);

/* TEI's ranks: [{"index","text"?,"score"},…] best first; of equal ones the later one first. texts
 * [n] may be NULL; order [n] is scratch. */
struct response_text {
    const char *text;
    size_t size;
};
void response_ranks(const float *scores, const struct response_text *texts, size_t n, size_t *order,
                    struct buf *out);

/* [f32,…] */
void response_floats(const float *values, size_t n, struct buf *out);
/* One text's token vectors [n,width]: [[f32,…],…]; first: no comma before it. */
void response_token_vectors(const float *values, size_t n, size_t width, bool first,
                            struct buf *out);
/* A JSON string; first: no comma before it. */
void response_text(const char *text, size_t size, bool first, struct buf *out);

#endif
