/* Writes a safetensors file as a stream, so that a model of half a gigabyte is never held twice.
 * The small heads file goes the same way. */
#ifndef ORTHRUS_TRAIN_TENSORFILE_H
#define ORTHRUS_TRAIN_TENSORFILE_H

#include "base/err.h"
#include "model/files/safetensors.h"

/* Replaces path durably (temporary file, fsync, rename, fsync of the folder) with a file of F32
 * tensors in the order given. Deterministic. Errors: ERR_IO, naming path; ERR_NOMEM, ERR_LIMIT. */
CHECK_RESULT enum err_code tensorfile_write(const char *path, const struct tensor_source *tensors,
                                            size_t n_tensors,
                                            const struct metadata_source *metadata,
                                            size_t n_metadata, struct err *err);

#endif
