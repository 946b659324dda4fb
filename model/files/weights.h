/* The weights of a folder: model.safetensors, or the shards that model.safetensors.index.json
 * lists, as one set of named tensors. */
#ifndef ORTHRUS_MODEL_WEIGHTS_H
#define ORTHRUS_MODEL_WEIGHTS_H

#include <stddef.h>

#include "base/err.h"
#include "model/files/safetensors.h"

#define WEIGHTS_FILE  "model.safetensors"
#define WEIGHTS_INDEX "model.safetensors.index.json"

enum { WEIGHTS_SHARDS_MAX = 1024 };

struct weights; /* immutable once made; any number of threads may read it */

/* Maps and validates the file, or the index and every shard: each tensor of the index is in the
 * shard it names, no shard holds another one, no name is twice, and shards are plain files of the
 * folder. Errors: those of safetensors_open; ERR_NOT_FOUND where there is neither, naming
 * tools/convert-checkpoint where there is a pytorch_model.bin; ERR_INVALID, ERR_LIMIT. */
CHECK_RESULT enum err_code weights_open(const char *dir, struct weights **ret_weights,
                                        struct err *err);
/* ERR_IO where a file was written to since it was opened. */
CHECK_RESULT enum err_code weights_unchanged(const struct weights *weights, struct err *err);
/* NULL is fine. */
void weights_close(struct weights *weights);

/* The path for errors: the file's, or the index's. */
const char *weights_label(const struct weights *weights);
size_t weights_files(const struct weights *weights);
const struct safetensors *weights_file(const struct weights *weights, size_t i);
/* NULL when absent. */
const struct tensor *weights_find(const struct weights *weights, const char *name);

#endif
