/* Where the tokens of a text go, cut at a limit while they come.
 *
 * A text's own tokens stand behind those that the template puts first. With TRUNCATE_RIGHT the sink
 * is full at its limit and the work can stop; with TRUNCATE_LEFT the left end is dropped now and
 * then, so that memory is bounded by what stays. */
#ifndef ORTHRUS_MODEL_TOKEN_SINK_H
#define ORTHRUS_MODEL_TOKEN_SINK_H

#include "model/text/tokenizer.h"

/* Lifetime: the call. */
struct token_sink {
    struct tokens *tokens;
    size_t first; /* tokens before the text's own */
    size_t keep;  /* at most so many of the text's own stay */
    size_t total; /* how many of them there were, so far */
    enum truncate_side side;
    bool offsets;
    bool count_all; /* go on counting when full */
    uint8_t type;
    uint8_t part; /* enum token_part */
};

struct token {
    int32_t id;
    uint32_t start, stop;
};

/* Room for n more tokens in all arrays. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code token_sink_reserve(const struct token_sink *sink, size_t n,
                                              struct err *err);
/* Puts a token that is no part of a text: there must be room. */
void token_sink_frame(const struct token_sink *sink, int32_t id, uint8_t type);
/* Takes n tokens of a text. *ret_full becomes true when no further ones can matter. Errors:
 * ERR_NOMEM. */
CHECK_RESULT enum err_code token_sink_add(struct token_sink *sink, const struct token *tokens,
                                          size_t n, bool *ret_full, struct err *err);
/* Behind a text's last token: drops what is too much on the left. */
void token_sink_end(struct token_sink *sink);
/* Leaves only `keep` of the text's own tokens, those that the side keeps. The text ends the
 * arrays. */
void token_sink_cut(struct token_sink *sink, size_t keep);

#endif
