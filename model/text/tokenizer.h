/* Text → token ids, the same as Hugging Face's fast BertTokenizer for every valid UTF-8 string:
 * special strings split off first, clean, CJK spaced, NFD and Mn dropped, lower-cased, split on
 * punctuation, WordPiece.
 * Source: Devlin et al. 2018 (BERT); reference: huggingface/tokenizers, BertNormalizer,
 * BertPreTokenizer, WordPiece. */
#ifndef ORTHRUS_MODEL_TOKENIZER_H
#define ORTHRUS_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What tokenizer_config.json may say; tokenizer_options_default() is bert-base-uncased's. */
struct tokenizer_options {
    bool lower_case;    /* do_lower_case */
    bool strip_accents; /* strip_accents; where the file has null: as lower_case */
    bool tokenize_chinese_chars;
};

/* Process lifetime, immutable: any number of threads may encode with one. */
struct tokenizer;

struct tokenizer_options tokenizer_options_default(void);

/* Reads vocab.txt (one word a line, id = line number from 0). The words [CLS], [SEP], [PAD],
 * [UNK], [MASK] must be there. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID, ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code tokenizer_create(const char *vocab_path,
                                            const struct tokenizer_options *options,
                                            struct tokenizer **ret_tokenizer, struct err *err);
/* NULL is fine. */
void tokenizer_destroy(struct tokenizer *tokenizer);

enum truncate_side { TRUNCATE_RIGHT, TRUNCATE_LEFT };

struct encode_options {
    size_t max_length; /* tokens in the result, [CLS] and [SEP] included, ≥ 2 when they are added;
                          SIZE_MAX for no limit */
    enum truncate_side side;
    bool add_special_tokens; /* [CLS] … [SEP] */
    bool offsets;            /* fill starts and stops */
};

/* The result of one encode, reusable from text to text: arrays grow and are kept. Owned by one
 * thread. Zero-initialize; tokens_done frees. */
struct tokens {
    size_t n;
    int32_t *ids;     /* [n] */
    uint32_t *starts; /* [n] where asked for: offsets in code points of the original text; 0,0 for
                         added specials */
    uint32_t *stops;  /* [n] likewise */
    bool truncated;   /* tokens were cut off */
    size_t room;
};

void tokens_done(struct tokens *tokens);

/* Encodes size bytes of valid UTF-8 (the caller has checked). With TRUNCATE_RIGHT the work stops at
 * max_length. Time is linear in size for any text, memory in the tokens that stay. Errors:
 * ERR_NOMEM, ERR_LIMIT (4 GiB or more). */
CHECK_RESULT enum err_code tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                            size_t size, const struct encode_options *options,
                                            struct tokens *tokens, struct err *err);

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
/* The word of an id, NUL-terminated, borrowed; NULL for an id outside the vocabulary. */
const char *tokenizer_word(const struct tokenizer *tokenizer, int32_t id);
/* True for [CLS], [SEP], [PAD], [UNK], [MASK]. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);
int32_t tokenizer_cls_id(const struct tokenizer *tokenizer);
int32_t tokenizer_sep_id(const struct tokenizer *tokenizer);

#endif
