/* The long way from a text to ids, for any tokenizer.json: added tokens, normalizer, pre-tokenizer,
 * subwords, offsets.
 * Reference: huggingface/tokenizers, TokenizerImpl::encode. */
#ifndef ORTHRUS_MODEL_PIPELINE_H
#define ORTHRUS_MODEL_PIPELINE_H

#include "model/text/added.h"
#include "model/text/normalizer.h"
#include "model/text/pretokenizer.h"
#include "model/text/subword/subword.h"
#include "model/text/token_sink.h"

enum { PIPELINE_TRIMS_MAX = 4 };

/* Process lifetime, immutable once pipeline_ready was called. Zero-initialize. */
struct pipeline {
    struct scalar_pages properties;
    struct added added;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct subword subword;
    /* Offsets leave out white space at a token's ends, once for each; true: but for one space at
     * the text's begin, which was added there. */
    bool trims[PIPELINE_TRIMS_MAX];
    size_t n_trims;
    bool cuts; /* a text may be cut between two words, see pipeline_encode */
};

/* Builds all tables once the parts are set. Errors: those of the parts. */
CHECK_RESULT enum err_code pipeline_ready(struct pipeline *pipeline, struct err *err);
/* Zeroed structs are fine. */
void pipeline_done(struct pipeline *pipeline);

/* Puts the text's tokens into the sink; sink->tokens keeps the scratch. Where the sink takes only
 * the first tokens of a long text, only the beginning of it is looked at, if the rules allow to
 * tell a place where that makes no difference. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code pipeline_encode(const struct pipeline *pipeline, const char *text,
                                           size_t size, struct token_sink *sink, struct err *err);

/* Frees what a struct tokens keeps; NULL is fine. */
struct pipeline_scratch;
void pipeline_scratch_destroy(struct pipeline_scratch *scratch);

#endif
