/* Tokens by their strings → the text they stand for, as transformers' convert_tokens_to_string; and
 * what one needs to know of a vocabulary to put tokens together into words. */
#ifndef ORTHRUS_MODEL_JOIN_H
#define ORTHRUS_MODEL_JOIN_H

#include "model/text/tokenizer.h"

/* Appends what the folder's decoder makes of n tokens' strings; with a space between them where it
 * names none. False when the buffer or memory is full. */
bool tokenizer_join(const struct tokenizer *tokenizer, const struct tokenizer_text *tokens,
                    size_t n, struct buf *out);

/* True where the vocabulary marks tokens that go on with a word, as WordPiece's "##". */
bool tokenizer_marks_subwords(const struct tokenizer *tokenizer);

/* The unknown token's id, -1 where there is none. */
int32_t tokenizer_unknown_id(const struct tokenizer *tokenizer);

#endif
