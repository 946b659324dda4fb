/* Embeddings of whole data files on disk, so that a second trial costs the heads alone. A file is
 * named by what its numbers depend on: the encoder, pooling, instruction set and every token. */
#ifndef ORTHRUS_TRAIN_EMBEDDING_CACHE_H
#define ORTHRUS_TRAIN_EMBEDDING_CACHE_H

#include "base/err.h"
#include "train/data/dataset.h"

/* All files together; the ones not used for the longest go first. */
#define CACHE_BYTES_MAX ((uint64_t)4 << 30)

/* Lifetime of a run. */
struct embedding_cache {
    const char *dir; /* NULL: off; borrowed */
    const char *encoder_sha256;
    const char *pooling, *isa;
    size_t hidden;
};

/* True if out [n,H] was filled from the cache. What is damaged or of another shape is passed over.
 */
bool embedding_cache_get(const struct embedding_cache *cache, const struct dataset *dataset,
                         float *out);
/* Keeps rows [n,H]; the folder is made where missing. Errors are the caller's to tell, not to end
 * with: ERR_IO, ERR_NOMEM. */
CHECK_RESULT enum err_code embedding_cache_put(const struct embedding_cache *cache,
                                               const struct dataset *dataset, const float *rows,
                                               struct err *err);

#endif
