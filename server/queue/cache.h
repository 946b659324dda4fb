/* Vectors of texts that were computed (--cache-mib), by all that a pass reads of a text: ids, token
 * types, and how many first tokens pooling leaves out. The whole key is compared, never a hash
 * alone. Labels are not kept: any head may be asked of a vector that is found, so a swap of heads
 * changes nothing here.
 *
 * One block of memory, made once, is all that it ever takes. Vectors stand in it one behind the
 * other, keys included, in the order in which they came; where there is no room the oldest goes, or
 * moves to the end where it was found since it last did (CLOCK: Corbató 1968). So nothing is
 * scattered, and the ceiling holds to the byte. Pure data without a lock: callers serialize the
 * calls. Process lifetime. */
#ifndef ORTHRUS_SERVER_CACHE_H
#define ORTHRUS_SERVER_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct cache;

/* One text; borrowed. */
struct cache_key {
    const int32_t *ids;   /* [n] */
    const uint8_t *types; /* [n]; NULL: all 0 */
    size_t n;
    size_t skip;   /* first tokens that pooling leaves out */
    uint64_t hash; /* cache_hash of the rest */
};

/* With a seed that clients don't know, they can't make texts of one hash. */
uint64_t cache_hash(const struct cache_key *key, uint64_t seed);
bool cache_same(const struct cache_key *a, const struct cache_key *b);

/* bytes: the ceiling of everything, a MiB at least. pooled, first: floats of a pooled vector and of
 * a first token's. */
CHECK_RESULT enum err_code cache_create(size_t bytes, size_t pooled, size_t first,
                                        struct cache **ret_cache, struct err *err);
/* NULL is fine. */
void cache_destroy(struct cache *cache);

/* True with the vectors copied. ret_first NULL: not wanted; a text that is held without it counts
 * as not held. */
bool cache_get(struct cache *cache, const struct cache_key *key, float *ret_pooled,
               float *ret_first);
/* Holds copies. first may be NULL. What is too large for the whole cache is left out. */
void cache_put(struct cache *cache, const struct cache_key *key, const float *pooled,
               const float *first);

struct cache_state {
    size_t bytes; /* taken now: tables, keys, vectors; never above the ceiling */
    size_t texts;
    uint64_t evictions;
};
struct cache_state cache_state(const struct cache *cache);

#endif
