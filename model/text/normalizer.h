/* The steps that rewrite a text before it is split, in the order that a tokenizer.json gives.
 * Reference: huggingface/tokenizers, normalizers. */
#ifndef ORTHRUS_MODEL_NORMALIZER_H
#define ORTHRUS_MODEL_NORMALIZER_H

#include "base/err.h"
#include "model/text/aligned.h"
#include "model/text/charsmap.h"
#include "model/text/unicode/compose.h"
#include "model/text/unicode/scalars.h"

enum normalizer_kind {
    NORMALIZER_BERT,
    NORMALIZER_NFC,
    NORMALIZER_NFD,
    NORMALIZER_NFKC,
    NORMALIZER_NFKD,
    NORMALIZER_LOWERCASE,
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_STRIP,
    NORMALIZER_PREPEND,
    NORMALIZER_PRECOMPILED,
    NORMALIZER_REPLACE,
    NORMALIZER_REPLACE_SPACES, /* the regular expression " {2,}" */
};

enum { NORMALIZER_STEPS_MAX = 32, NORMALIZER_TEXT_MAX = 256 };

struct normalizer_step {
    enum normalizer_kind kind;
    /* BERT's */
    bool clean, chinese, strip_accents, lowercase;
    /* STRIP's */
    bool left, right;
    /* PREPEND's and REPLACE's */
    char pattern[NORMALIZER_TEXT_MAX];
    size_t pattern_size;
    char content[NORMALIZER_TEXT_MAX];
    size_t content_size;
    struct charsmap charsmap;
};

/* Process lifetime, immutable once normalizer_ready was called. Zero-initialize. */
struct normalizer {
    struct normalizer_step steps[NORMALIZER_STEPS_MAX];
    size_t n;
    struct scalar_map lower, canonical, compatible; /* what the steps need of them */
};

/* Builds the tables that the steps need. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code normalizer_ready(struct normalizer *normalizer, struct err *err);
/* Zeroed structs are fine. */
void normalizer_done(struct normalizer *normalizer);

/* True where the characters before and behind a single space between ASCII letters become what they
 * become without the others, and the space stays one. */
bool normalizer_keeps_words_apart(const struct normalizer *normalizer);

/* Scratch of one thread; zero-initialize. */
struct normalizer_scratch {
    struct aligned texts[2];
    struct compose_scratch compose;
};

void normalizer_scratch_done(struct normalizer_scratch *scratch);

/* Normalizes size bytes that begin at byte `shift` of the original text; bare: without where they
 * came from. *ret is borrowed from
 * scratch until its next use. Time is linear in size. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code normalizer_apply(const struct normalizer *normalizer,
                                            const struct scalar_pages *properties, const char *text,
                                            size_t size, uint32_t shift, bool bare,
                                            struct normalizer_scratch *scratch,
                                            struct aligned_view *ret, struct err *err);

#endif
