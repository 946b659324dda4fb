/* What stands between pooling and a vector that leaves: the folder's Dense modules, a Normalize
 * before another module, truncate_dim. The folder's last Normalize is its caller's, who may cut
 * first (INTERFACE.md, dimensions).
 * Reference: sentence-transformers' Dense, Normalize and truncate_embeddings. */
#ifndef ORTHRUS_MODEL_VECTOR_H
#define ORTHRUS_MODEL_VECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/files/config.h"

/* Process lifetime, immutable; any number of threads may apply it. */
struct vector;

/* Reads the weights of the folder's Dense modules (model.safetensors: linear.weight [out,in],
 * linear.bias [out]). Errors: those of weights_open; ERR_NOT_FOUND, ERR_MISMATCH, ERR_UNSUPPORTED,
 * ERR_INVALID naming file and tensor. */
CHECK_RESULT enum err_code vector_open(const char *dir, const struct config *config,
                                       struct vector **ret_vector, struct err *err);
/* NULL is fine. */
void vector_destroy(struct vector *vector);

/* Widths of what comes and of what leaves. */
size_t vector_in(const struct vector *vector);
size_t vector_out(const struct vector *vector);
/* True if a vector leaves as it comes. */
bool vector_is_plain(const struct vector *vector);

/* rows [n,in] → [n,out] in place: row i of the result begins at rows + i·out, so rows has room for
 * n times the wider of the two (vector_room). False when memory is out. */
bool vector_apply(const struct vector *vector, float *rows, size_t n);
size_t vector_room(const struct vector *vector);

/* Appends one line a module, with the digest of its weights as numbers: for the embedding space. */
void vector_describe(const struct vector *vector, struct buf *out);

#endif
