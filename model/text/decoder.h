/* The steps that make a text of a row of words again.
 * Reference: huggingface/tokenizers, decoders. */
#ifndef ORTHRUS_MODEL_DECODER_H
#define ORTHRUS_MODEL_DECODER_H

#include <stdbool.h>

#include "base/buf.h"
#include "model/text/subword/words.h"

enum decoder_kind {
    DECODER_WORDPIECE,
    DECODER_BYTE_LEVEL,
    DECODER_METASPACE,
    DECODER_BPE,
    DECODER_REPLACE,
    DECODER_FUSE,
    DECODER_BYTE_FALLBACK,
    DECODER_STRIP,
    DECODER_REPLACE_SPACES, /* the regular expression " {2,}"; last: a file names it otherwise */
};

enum { DECODER_STEPS_MAX = 16, DECODER_TEXT_MAX = 256, DECODER_STRIP_MAX = 1 << 16 };

struct decoder_step {
    enum decoder_kind kind;
    /* WORDPIECE's prefix, BPE's suffix, REPLACE's pattern, METASPACE's and STRIP's character */
    char text[DECODER_TEXT_MAX];
    size_t text_size;
    char content[DECODER_TEXT_MAX]; /* REPLACE's */
    size_t content_size;
    bool cleanup;       /* WORDPIECE's */
    bool drops_first;   /* METASPACE: the first word's replacements go, else are spaces */
    size_t start, stop; /* STRIP's: at most so many characters go */
};

/* Process lifetime, immutable. */
struct decoder {
    struct decoder_step steps[DECODER_STEPS_MAX];
    size_t n;
    bool spaced;  /* no decoder: words with a space between */
    bool unknown; /* there is one that we don't know */
};

/* Appends what n words decode to. Time is linear in their bytes for each step. False when memory
 * is exhausted or, buf_full, the buffer's ceiling. */
bool decoder_apply(const struct decoder *decoder, const struct word *words, size_t n,
                   struct buf *text);

#endif
