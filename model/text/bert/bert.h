/* The short way of a BERT vocabulary, text to WordPiece ids in one pass without copies.
 * What it gives is what the long way (model/text/pipeline.h) gives with BertNormalizer,
 * BertPreTokenizer and WordPiece; most folders are such, and it is several times as fast.
 * Source: Devlin et al. 2018 (BERT); reference: huggingface/tokenizers. */
#ifndef ORTHRUS_MODEL_BERT_H
#define ORTHRUS_MODEL_BERT_H

#include "model/text/bert/text.h"
#include "model/text/bert/vocab.h"
#include "model/text/token_sink.h"

/* Process lifetime, immutable. */
struct bert {
    struct unicode unicode;
    struct vocab *vocab; /* owned */
    int32_t specials[TEXT_SPECIALS];
};

/* Takes vocab, on failure too. label stands for the file in errors. Errors: ERR_INVALID (a special
 * word is missing), ERR_NOMEM. */
CHECK_RESULT enum err_code bert_init(struct bert *bert, struct vocab *vocab, const char *label,
                                     const struct tokenizer_options *options, struct err *err);
/* Zeroed structs are fine. */
void bert_done(struct bert *bert);

/* Puts the text's tokens into the sink. Time is linear in size for any text. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code bert_encode(const struct bert *bert, const char *text, size_t size,
                                       struct token_sink *sink, struct err *err);

#endif
