/* Inside the binding of a checkpoint: what checkpoint.c and checkpoint_rest.c share. */
#ifndef ORTHRUS_MODEL_CHECKPOINT_PRIVATE_H
#define ORTHRUS_MODEL_CHECKPOINT_PRIVATE_H

#include "model/files/checkpoint.h"

#define CHECKPOINT_OWN_PREFIX "transformer." /* of the project's own multi-task checkpoints */

enum { CHECKPOINT_FULL_NAME_SIZE = CHECKPOINT_PREFIX_SIZE + CHECKPOINT_NAME_SIZE + 32 };

/* The tensor under prefix + name, LayerNorm's gamma and beta standing for weight and bias. */
const struct tensor *checkpoint_find(const struct checkpoint *checkpoint, const char *prefix,
                                     const char *name);

/* Binds the folder's own head and settles config.folder. Errors: ERR_NOT_FOUND where only a part of
 * it is there, ERR_MISMATCH, ERR_UNSUPPORTED. */
CHECK_RESULT enum err_code checkpoint_bind_head(struct checkpoint *checkpoint, struct err *err);
/* Every tensor that nobody bound: explained, a warning, or ERR_UNSUPPORTED. */
CHECK_RESULT enum err_code checkpoint_check_rest(struct checkpoint *checkpoint, struct err *err);

#endif
