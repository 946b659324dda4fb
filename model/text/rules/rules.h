/* What a tokenizer does, as data: read from tokenizer.json, or made of a vocab.txt. */
#ifndef ORTHRUS_MODEL_RULES_H
#define ORTHRUS_MODEL_RULES_H

#include "base/sha256.h"
#include "model/text/decoder.h"
#include "model/text/pipeline.h"
#include "model/text/rules/members.h"
#include "model/text/template.h"

enum {
    RULES_FILE_MAX = 128 << 20,
    RULES_WORD_MAX = 1 << 16,   /* bytes of a word */
    RULES_CHARS_MAX = 1 << 20,  /* max_input_chars_per_word */
    RULES_DEPTH_MAX = 8,        /* Sequences in Sequences */
    RULES_TYPE_MAX = UINT8_MAX, /* token types */
};

/* Process lifetime. Zero-initialize. */
struct rules {
    struct pipeline pipeline;
    struct template template;
    struct decoder decoder;
};

/* Zeroed structs are fine. */
void rules_done(struct rules *rules);

/* Reads a tokenizer.json; its tables are not built yet. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID,
 * ERR_LIMIT, ERR_UNSUPPORTED, ERR_NOMEM; the text names file and field. */
CHECK_RESULT enum err_code rules_read(const char *path, struct rules *rules,
                                      struct warnings *warnings, struct err *err);

/* The parts of it, each from one member of the file; null and absent are no steps. */
CHECK_RESULT enum err_code rules_read_model(const struct members *file, struct subword *subword);
CHECK_RESULT enum err_code rules_read_added(const struct members *file, struct pipeline *pipeline);
CHECK_RESULT enum err_code rules_read_normalizer(const struct members *file,
                                                 struct normalizer *normalizer);
CHECK_RESULT enum err_code rules_read_pretokenizer(const struct members *file,
                                                   struct pretokenizer *pretokenizer);
CHECK_RESULT enum err_code rules_read_template(const struct members *file, struct rules *rules);
/* A decoder that is not known is a warning. */
CHECK_RESULT enum err_code rules_read_decoder(const struct members *file, struct decoder *decoder);

/* The rules of a BERT vocabulary file, but for its words. */
CHECK_RESULT enum err_code rules_of_bert(const struct tokenizer_options *options,
                                         struct rules *rules, struct err *err);
/* Adds the tokens that files beside a vocab.txt name. Errors: those of rules_read; ERR_CONFLICT
 * (ids that the vocabulary gives otherwise). */
CHECK_RESULT enum err_code rules_read_extras(const char *dir, struct pipeline *pipeline,
                                             struct warnings *warnings, struct err *err);
/* Warns where a tokenizer_config.json beside a tokenizer.json says something else. Errors:
 * ERR_NOMEM. */
CHECK_RESULT enum err_code rules_compare_config(const char *dir, const char *tokenizer_path,
                                                const struct pipeline *pipeline,
                                                struct warnings *warnings, struct err *err);
/* True where the short way (model/text/bert/bert.h) gives the same; *ret_options is what it needs.
 */
bool rules_are_bert(const struct rules *rules, struct tokenizer_options *ret_options);

/* SHA-256 over everything that can change an id or a type, lower-case hexadecimal. Errors:
 * ERR_NOMEM. */
CHECK_RESULT enum err_code rules_digest(const struct rules *rules, char out[SHA256_HEX_SIZE + 1],
                                        struct err *err);

#endif
