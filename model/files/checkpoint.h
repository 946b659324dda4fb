/* A model folder becomes bound, shape-checked weight views: every tensor of the encoder by its
 * architecture's row, the folder's own head, and nothing that no row explains. Tensor names with or
 * without a prefix; LayerNorm as weight/bias or gamma/beta.
 *
 * Encoder digest: SHA-256 of one line per encoder tensor, "NAME SHAPE HEX\n", sorted by the bytes
 * of NAME. NAME is the unprefixed modern one ("encoder.layer.0.output.LayerNorm.weight"), SHAPE
 * "768x3072" or "768", HEX the lower-case SHA-256 of the values as little-endian fp32, row-major.
 * So it depends on the values alone, not on prefix, naming, order or metadata of the file. */
#ifndef ORTHRUS_MODEL_CHECKPOINT_H
#define ORTHRUS_MODEL_CHECKPOINT_H

#include <stddef.h>

#include "base/err.h"
#include "base/sha256.h"
#include "model/files/config.h"
#include "model/files/weights.h"

enum { CHECKPOINT_NAME_SIZE = 96, CHECKPOINT_PREFIX_SIZE = 64 };

/* Views borrowed from the mapped file. PyTorch's nn.Linear layout: weight [out, in]. */
struct layer_tensors {
    const struct tensor *query_w, *query_b;                 /* [H,H] [H] */
    const struct tensor *key_w, *key_b;                     /* [H,H] [H] */
    const struct tensor *value_w, *value_b;                 /* [H,H] [H] */
    const struct tensor *attention_out_w, *attention_out_b; /* [H,H] [H] */
    const struct tensor *attention_ln_w, *attention_ln_b;   /* [H] [H] */
    const struct tensor *ffn_in_w, *ffn_in_b;               /* [I,H] [I] */
    const struct tensor *ffn_out_w, *ffn_out_b;             /* [H,I] [H] */
    const struct tensor *ffn_ln_w, *ffn_ln_b;               /* [H] [H] */
};

/* The folder's own head, by the architecture's recipe: FOLDER_SEQUENCE and FOLDER_TOKENS alone,
 * else all NULL. sequence: last(between(dense(first token))); tokens: last(each token). */
struct head_tensors {
    const struct tensor *dense_w, *dense_b; /* [H,H] [H]; NULL for tokens */
    enum activation between;                /* behind dense */
    const struct tensor *last_w, *last_b;   /* [K,H] [K], K = config.n_labels */
};

/* Process lifetime, immutable. */
struct checkpoint {
    struct config config;                 /* folder and max_length settled; owned */
    struct weights *weights;              /* owned */
    const struct tensor *word;            /* [V,H] */
    const struct tensor *position;        /* [position_rows,H] */
    const struct tensor *type;            /* [types,H]; NULL for an architecture without */
    const struct tensor *embeddings_ln_w; /* [H] */
    const struct tensor *embeddings_ln_b; /* [H] */
    struct layer_tensors *layers;         /* [L], owned */
    struct head_tensors head;
    char prefix[CHECKPOINT_PREFIX_SIZE];      /* of the encoder's tensors in the file */
    char encoder_sha256[SHA256_HEX_SIZE + 1]; /* see INTERFACE.md, Encoder digest */
};

/* Opens the JSON files and the weights and binds every tensor; their values are not looked at yet
 * (checkpoint_verify), and encoder_sha256 is empty. config.folder and max_length are settled here:
 * a folder whose named head's tensors are absent is bare. A tensor among the encoder's that no row
 * explains ends it; one outside is a warning of the config. Errors name the file, the tensor, the
 * expected and the found shape: those of config_load and weights_open; ERR_NOT_FOUND (tensor),
 * ERR_MISMATCH (shape, more layers or labels than config.json says), ERR_UNSUPPORTED (dtype, a
 * tensor that no row explains). */
CHECK_RESULT enum err_code checkpoint_bind(const char *dir, struct checkpoint **ret_checkpoint,
                                           struct err *err);
/* Reads every encoder tensor: refuses infinities and NaNs (ERR_INVALID, naming tensor and index)
 * and fills encoder_sha256, on `threads` threads (0 counts as 1). Another thread may read the
 * tensors meanwhile. */
CHECK_RESULT enum err_code checkpoint_verify(struct checkpoint *checkpoint, unsigned threads,
                                             struct err *err);
/* Both. */
CHECK_RESULT enum err_code checkpoint_open(const char *dir, unsigned threads,
                                           struct checkpoint **ret_checkpoint, struct err *err);
/* NULL is fine. */
void checkpoint_close(struct checkpoint *checkpoint);

/* Every encoder tensor in PyTorch's own order under its unprefixed modern name (BERT: 5 + 16·L of
 * them): for the digest, the trainer and the writer of a whole model. */
size_t checkpoint_param_count(const struct config *config);
struct checkpoint_param {
    char name[CHECKPOINT_NAME_SIZE];
    unsigned rank;
    size_t shape[2];
    const struct tensor *tensor; /* NULL when asked without a checkpoint */
};
/* checkpoint may be NULL: then names and shapes alone, from config. */
void checkpoint_param(const struct config *config, const struct checkpoint *checkpoint,
                      size_t index, struct checkpoint_param *ret_param);

#endif
