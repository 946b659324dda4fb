/* Inside the answers: one job's asked heads and what they said, made by ask.c, filled text by text
 * by compute.c, joined and written by the others. */
#ifndef ORTHRUS_SERVER_ANSWER_PRIVATE_H
#define ORTHRUS_SERVER_ANSWER_PRIVATE_H

#include <stdatomic.h>

#include "model/heads/spans.h"
#include "server/answer/answer.h"
#include "server/heads/shadow.h"

/* Where /analyze puts what a head says. */
enum place_of { PLACE_ALONE, PLACE_CLASSIFY, PLACE_SENTIMENT, PLACE_NAMED };

/* One asked head. N: inputs; P: pieces, what is computed of them (a window each, or the whole). */
struct asked {
    const struct head *head; /* of answer->version */
    enum place_of place;
    float *logits;             /* [P,K]; for a token head NULL */
    float *joined;             /* [N,K] logits of inputs; logits itself without windows */
    float *scores;             /* [N,K] */
    const struct head *staged; /* the shadow's of that name, or NULL */
    float *staged_logits;      /* [P,K of staged] */
    struct span_item *items;   /* a token head's: [T], a piece's from its first token on */
    size_t *n_items;           /* [P] */
};

/* Request lifetime; job->answer. */
struct answer {
    struct heads_version version; /* one for the whole job */
    struct shadow *shadow;        /* staged beside that version, or NULL */
    struct asked *asked;          /* [n_asked] */
    size_t n_asked;
    size_t *first; /* [N+1] pieces of input i: first[i] … first[i+1]-1; NULL: one each */
    bool offsets;  /* the next three are wanted */
    uint32_t *starts, *stops; /* [T] code points of the input */
    uint8_t *parts;           /* [T] enum token_part */
    float *hidden;            /* /embed_all: [T,H] */
    float *shares;            /* explain: [T] */
    float *biases;            /* explain: [N] */
    enum spans_strategy strategy;
    atomic_bool broken; /* a number was not finite */
};

static inline size_t answer_first(const struct answer *answer, size_t input)
{
    return answer->first ? answer->first[input] : input;
}

/* problem_set for the job; false. */
bool answer_no_memory(struct job *job);
/* "inputs[3]", or the field alone where it is one text. */
void answer_param(const struct job *job, size_t input, char *out, size_t size);

/* asked.c: job->answer with the heads asked, taken in one version; room for what they will say once
 * the pieces are known. */
CHECK_RESULT bool asked_take(struct job *job, const struct engine *engine);
CHECK_RESULT bool asked_room(struct job *job, const struct engine *engine);

/* room.c: what vectors, heads and the answer will take, closely enough to be counted before they
 * are made. Once the pieces are known. */
size_t answer_bytes(const struct job *job, const struct engine *engine);

/* pieces.c: inputs → ids, starts and what else the answer needs of the tokens. */
CHECK_RESULT bool pieces_make(struct job *job, const struct engine *engine);

/* decode.c: the whole answer of /decode. */
CHECK_RESULT bool decode_answer(struct job *job, const struct engine *engine);

/* compute.c: one piece is computed. Any worker, several of one job at a time. */
void answer_computed(struct job *job, size_t piece, const struct computed_text *text,
                     const struct engine *engine);

/* join.c: pieces → inputs: windows joined, scores made, predictions counted. */
CHECK_RESULT bool join_pieces(struct job *job, const struct engine *engine);

/* One span that an input's windows found. */
struct found_span {
    struct span span;  /* of found.items */
    const char *label; /* borrowed from the head */
    size_t piece;      /* the window that found it */
    size_t base;       /* of that window among the tokens of all of them */
    size_t offset;     /* of that window in the text, in tokens */
};
/* All that input `input` has, to be freed with found_done; the words go to the writer one by one.
 */
struct found {
    struct found_span *spans; /* [n] in the order of the text */
    size_t n;
    struct span_item *items; /* [n_items], tokens counted as input_text has them */
    size_t n_items;
};
CHECK_RESULT bool found_spans(const struct job *job, const struct engine *engine,
                              const struct asked *asked, size_t input, struct found *ret_found);
void found_done(struct found *found);
/* The tokens of a piece, as spans.h takes them; and those of all an input's pieces, one behind the
 * other. */
struct spans_text piece_text(const struct job *job, const struct engine *engine, size_t piece,
                             size_t input);
struct spans_text input_text(const struct job *job, const struct engine *engine, size_t input);

/* write.c: the bodies of routes that ask heads. */
CHECK_RESULT bool write_labels(struct job *job, const struct engine *engine);
CHECK_RESULT bool write_analyze(struct job *job, const struct engine *engine);

#endif
