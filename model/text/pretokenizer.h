/* The steps that split a normalized text into pieces, each of which becomes ids on its own.
 *
 * A piece goes through all steps before the next one is looked at, so that work can stop at a
 * limit and no list of pieces is kept.
 * Reference: huggingface/tokenizers, pre_tokenizers. */
#ifndef ORTHRUS_MODEL_PRETOKENIZER_H
#define ORTHRUS_MODEL_PRETOKENIZER_H

#include "base/err.h"
#include "model/text/aligned.h"
#include "model/text/unicode/scalars.h"

enum pretokenizer_kind {
    PRETOKENIZER_BERT,
    PRETOKENIZER_WHITESPACE,
    PRETOKENIZER_WHITESPACE_SPLIT,
    PRETOKENIZER_METASPACE,
    PRETOKENIZER_BYTE_LEVEL,
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

enum { PRETOKENIZER_STEPS_MAX = 16 };

struct pretokenizer_step {
    enum pretokenizer_kind kind;
    /* METASPACE's */
    char replacement[4];
    size_t replacement_size;
    enum prepend_scheme prepend;
    bool split;
    /* BYTE_LEVEL's */
    bool add_prefix_space, use_regex;
};

/* Process lifetime, immutable. */
struct pretokenizer {
    struct pretokenizer_step steps[PRETOKENIZER_STEPS_MAX];
    size_t n;
};

/* Scratch of one thread; zero-initialize. Each step rewrites into a text of its own. */
struct pretokenizer_scratch {
    struct aligned texts[2 * PRETOKENIZER_STEPS_MAX];
};

void pretokenizer_scratch_done(struct pretokenizer_scratch *scratch);

/* Where the pieces go. Lifetime: the call. */
struct pretokenizer_output {
    /* Takes a piece that is not empty. *ret_full: no further ones are wanted. */
    enum err_code (*take)(void *context, const struct aligned_view *piece, bool *ret_full,
                          struct err *err);
    void *context;
};

/* True where a step looks at where a piece came from, so that texts must not be bare. */
bool pretokenizer_needs_places(const struct pretokenizer *pretokenizer);
/* True where a letter and the space behind it are always of two pieces. */
bool pretokenizer_splits_words(const struct pretokenizer *pretokenizer);

/* Splits a text. Time is linear in its size, but for what take does. Errors: take's; ERR_NOMEM. */
CHECK_RESULT enum err_code pretokenizer_apply(const struct pretokenizer *pretokenizer,
                                              const struct scalar_pages *properties,
                                              const struct aligned_view *text,
                                              struct pretokenizer_scratch *scratch,
                                              const struct pretokenizer_output *output,
                                              bool *ret_full, struct err *err);

#endif
