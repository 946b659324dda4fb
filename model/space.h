/* The embedding space: what made a vector, as one digest. Two vectors may be compared where it is
 * the same; whatever can change a vector in fp32 changes it. Names of tensors, sharding and
 * lossless changes of dtype do not, nor does the precision that is served. */
#ifndef ORTHRUS_MODEL_SPACE_H
#define ORTHRUS_MODEL_SPACE_H

#include "base/err.h"
#include "base/sha256.h"
#include "model/files/config.h"

struct model;

enum space_part {
    SPACE_WEIGHTS,       /* the encoder digest */
    SPACE_COMPUTATION,   /* attention heads, LayerNorm's eps, activation, position rule */
    SPACE_TOKENIZER,     /* vocabulary and rules */
    SPACE_PROMPTS,       /* names and texts, the default, whether pooling sees them */
    SPACE_POOLING,       /* the one in force */
    SPACE_MODULES,       /* Dense and Normalize in order, with the weights as numbers */
    SPACE_NORMALIZATION, /* whether the folder ends in Normalize */
    SPACE_DIMENSIONS,    /* what truncate_dim leaves */
    SPACE_MAX_LENGTH,    /* tokens a text, the limit in force */
    SPACE_PARTS,
};

/* Process lifetime. */
struct space {
    char id[SHA256_HEX_SIZE + 1];                 /* SHA-256 over "part digest\n" in this order */
    char parts[SPACE_PARTS][SHA256_HEX_SIZE + 1]; /* SHA-256 of what each part says */
};

/* "weights", "computation", … */
const char *space_part_name(enum space_part part);

/* pooling and max_length are those in force, which flags may have changed. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code space_make(const struct model *model, enum pooling pooling,
                                      size_t max_length, struct space *ret_space, struct err *err);

#endif
