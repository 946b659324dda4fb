/* A whole model as commands and server use it: folder → tokenizer + encoder + what they need to
 * know. */
#ifndef ORTHRUS_MODEL_MODEL_H
#define ORTHRUS_MODEL_MODEL_H

#include "base/err.h"
#include "model/encoder/encoder.h"
#include "model/heads/heads.h"
#include "model/heads/vector.h"
#include "model/text/tokenizer.h"

/* Process lifetime, immutable once loaded. */
struct model {
    struct config config;
    struct tokenizer *tokenizer; /* owned */
    struct encoder *encoder;     /* owned */
    struct vector *vector;       /* what /embed does behind pooling, owned */
    char *name;                  /* the folder's last component, owned */
    char *dir;                   /* owned */
    char encoder_sha256[SHA256_HEX_SIZE + 1];
    /* Heads found inside a multi-task checkpoint (transformer.* beside classifier.*), one
     * reference owned, whatever pooling they name; NULL without. */
    struct heads *own_heads;
    struct err own_heads_error; /* why the heads inside could not be used; ERR_OK otherwise */
};

/* Loads config.json, vocab.txt and model.safetensors of a folder. Errors: those of config_load,
 * tokenizer_create, checkpoint_open and encoder_create; ERR_MISMATCH when vocab.txt has more words
 * than config.json says. Heads inside that don't fit are no error. */
CHECK_RESULT enum err_code model_load(const char *dir, const struct encoder_options *options,
                                      struct model **ret_model, struct err *err);
/* NULL is fine. */
void model_destroy(struct model *model);

/* Opens the tokenizer of a folder whose configuration was loaded; what it warns of becomes warnings
 * of config. Errors: those of tokenizer_open; ERR_MISMATCH where it has ids or token types that the
 * encoder has no rows for. */
CHECK_RESULT enum err_code model_open_tokenizer(const char *dir, struct config *config,
                                                struct tokenizer **ret_tokenizer, struct err *err);

/* What a heads file must fit to serve with this model under that pooling. */
struct heads_fit model_heads_fit(const struct model *model, enum pooling pooling);

/* How many tokens of a text that begins with the prompt pooling leaves out: 0 where the folder
 * includes prompts or prompt is NULL or ""; else what the prompt alone encodes to, but for a
 * special token at its end (sentence-transformers' rule). Errors: ERR_NOMEM, ERR_LIMIT. */
CHECK_RESULT enum err_code model_prompt_skip(const struct model *model, const char *prompt,
                                             size_t max_length, size_t *ret_skip, struct err *err);

/* Finds the default heads as INTERFACE.md orders them: DIR/heads.safetensors, heads inside the
 * checkpoint, then the heads that ship with the project (shipped_path, may be NULL). A candidate
 * that does not fit is skipped, the first one's reason left in *ret_warning (empty when none).
 * *ret_heads is one reference, or NULL where nothing fits; *ret_source (malloc'ed, NULL with
 * *ret_heads) names the file. Errors: ERR_NOMEM; ERR_IO where one that is there cannot be read. */
CHECK_RESULT enum err_code model_default_heads(const struct model *model, enum pooling pooling,
                                               const char *shipped_path, struct heads **ret_heads,
                                               char **ret_source, struct err *ret_warning,
                                               struct err *err);

#endif
