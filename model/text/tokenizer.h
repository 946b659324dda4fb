/* Text → token ids and back, by what a model folder says.
 *
 * tokenizer.json is the truth where a folder has one, and then ids and offsets are those of the
 * reference's Tokenizer.from_file for every valid UTF-8 string. Without it vocab.txt is a BERT
 * vocabulary, read as Hugging Face's fast BertTokenizer reads it: special strings split off first,
 * clean, CJK spaced, NFD and Mn dropped, lower-cased, split on punctuation, WordPiece.
 * Source: Devlin et al. 2018 (BERT); reference: huggingface/tokenizers. */
#ifndef ORTHRUS_MODEL_TOKENIZER_H
#define ORTHRUS_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* What tokenizer_config.json may say; tokenizer_options_default() is bert-base-uncased's. */
struct tokenizer_options {
    bool lower_case;    /* do_lower_case */
    bool strip_accents; /* strip_accents; where the file has null: as lower_case */
    bool tokenize_chinese_chars;
    bool lower_case_first; /* lower-case before all else, beside a tokenizer.json too, unless it
                              does so itself: sentence_bert_config.json's do_lower_case */
};

/* Process lifetime, immutable: any number of threads may encode with one. */
struct tokenizer;

struct tokenizer_options tokenizer_options_default(void);

/* Opens the tokenizer of a folder: tokenizer.json, else vocab.txt with options (what the folder's
 * tokenizer_config.json says; not looked at beside a tokenizer.json). Errors: ERR_NOT_FOUND
 * (neither file), ERR_IO, ERR_INVALID, ERR_LIMIT, ERR_UNSUPPORTED (a part that would change ids and
 * is not known; the text names it), ERR_NOMEM. */
CHECK_RESULT enum err_code tokenizer_open(const char *dir, const struct tokenizer_options *options,
                                          struct tokenizer **ret_tokenizer, struct err *err);
/* Reads vocab.txt (one word a line, id = line number from 0). The words [CLS], [SEP], [PAD],
 * [UNK], [MASK] must be there. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID, ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code tokenizer_create(const char *vocab_path,
                                            const struct tokenizer_options *options,
                                            struct tokenizer **ret_tokenizer, struct err *err);
/* NULL is fine. */
void tokenizer_destroy(struct tokenizer *tokenizer);

/* size bytes of valid UTF-8, borrowed. */
struct tokenizer_text {
    const char *text;
    size_t size;
};

enum truncate_side { TRUNCATE_RIGHT, TRUNCATE_LEFT };

struct encode_options {
    size_t max_length; /* tokens in the result, those of the template included, of which there must
                          be room; SIZE_MAX for no limit */
    enum truncate_side side;
    bool add_special_tokens; /* what the template adds, as BERT's [CLS] … [SEP] */
    bool offsets;            /* fill starts and stops */
};

/* Which text a token is of. */
enum token_part { TOKEN_FIRST, TOKEN_SECOND, TOKEN_ADDED /* by the template */ };

/* The result of one encode, reusable from text to text: arrays grow and are kept. Owned by one
 * thread. Zero-initialize; tokens_done frees. */
struct tokens {
    size_t n;
    int32_t *ids;     /* [n] */
    uint32_t *starts; /* [n] where asked for: offsets in code points of the original text; 0,0 for
                         added specials */
    uint32_t *stops;  /* [n] likewise */
    uint8_t *types;   /* [n] token types, as the template says */
    uint8_t *parts;   /* [n] enum token_part */
    bool truncated;   /* tokens were cut off */
    size_t room;
    struct pipeline_scratch *scratch; /* what the work needs, owned */
};

void tokens_done(struct tokens *tokens);

/* Encodes size bytes of valid UTF-8 (the caller has checked). With TRUNCATE_RIGHT the work stops at
 * max_length. Time is linear in size for any text, n log n with byte-pair encoding; memory is
 * linear in the text, with a BERT vocabulary in the tokens that stay. Errors: ERR_NOMEM, ERR_LIMIT
 * (4 GiB or more; a limit below what the template adds). */
CHECK_RESULT enum err_code tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                            size_t size, const struct encode_options *options,
                                            struct tokens *tokens, struct err *err);

/* The same for a pair of texts. Where both together are too long, the longer one is cut first
 * (longest-first: as transformers' truncation=True does), on options->side. */
CHECK_RESULT enum err_code tokenizer_encode_pair(const struct tokenizer *tokenizer,
                                                 const struct tokenizer_text texts[2],
                                                 const struct encode_options *options,
                                                 struct tokens *tokens, struct err *err);

/* How many tokens the template adds to one text, or to a pair. */
size_t tokenizer_added(const struct tokenizer *tokenizer, bool pair);

/* Puts the template around n tokens from `from` of a text encoded without it: a window. window is
 * another struct than tokens. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code tokenizer_frame(const struct tokenizer *tokenizer,
                                           const struct tokens *tokens, size_t from, size_t n,
                                           struct tokens *window, struct err *err);

/* True where tokenizer_decode works: the folder's decoder is known. */
bool tokenizer_can_decode(const struct tokenizer *tokenizer);

/* Appends the text of ids to buf, as the reference's decode: ids outside the vocabulary are passed
 * over, and special tokens where skip_special. Errors: ERR_UNSUPPORTED (see tokenizer_can_decode),
 * ERR_LIMIT (over the buffer's ceiling), ERR_NOMEM. */
CHECK_RESULT enum err_code tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids,
                                            size_t n, bool skip_special, struct buf *text,
                                            struct err *err);

/* SHA-256 of the vocabulary and of every rule that can change an id or a token type, lower-case
 * hexadecimal, borrowed. How the files are written makes no difference. */
const char *tokenizer_digest(const struct tokenizer *tokenizer);

/* What the user should know about the folder's files: one sentence each, borrowed. */
size_t tokenizer_warnings(const struct tokenizer *tokenizer);
const char *tokenizer_warning(const struct tokenizer *tokenizer, size_t index);

/* The file that the vocabulary came from, borrowed. */
const char *tokenizer_source(const struct tokenizer *tokenizer);
/* Every id is below it. */
size_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
/* How many token types the template knows for one text, or for a pair: every type is below it. */
size_t tokenizer_types(const struct tokenizer *tokenizer, bool pair);
/* The word of an id as the reference gives it (an added token that is looked for in normalized text
 * is normalized itself), NUL-terminated, borrowed; NULL where no word has the id. */
const char *tokenizer_word(const struct tokenizer *tokenizer, int32_t id);
/* True for special tokens: [CLS], [SEP], [PAD], [UNK], [MASK] of a vocab.txt. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

#endif
