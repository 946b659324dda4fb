/* SHA-256 (FIPS 180-4), by libcrypto; many digests at once by vectors of our own. */
#ifndef ORTHRUS_BASE_SHA256_H
#define ORTHRUS_BASE_SHA256_H

#include <stddef.h>

enum { SHA256_SIZE = 32, SHA256_HEX_SIZE = 64, SHA256_BLOCK = 64, SHA256_LANES = 16 };

struct sha256; /* one running digest; one thread at a time */

/* NULL when memory is out. */
struct sha256 *sha256_create(void);
void sha256_update(struct sha256 *sha, const void *data, size_t size);
/* sha256_update of `size` bytes of data[i] on each of n ≤ SHA256_LANES digests. Where there is
 * AVX-512 they go side by side, twice as fast as the CPU's SHA instructions one after the other, as
 * long as every digest stands at a multiple of SHA256_BLOCK. */
void sha256_update_each(struct sha256 *const *shas, const void *const *data, size_t n, size_t size);
/* How many digests at once are worthwhile on this machine: SHA256_LANES or 1. */
size_t sha256_lanes(void);
/* Writes the digest and frees sha. */
void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE]);
/* Frees sha without a digest; NULL is fine. */
void sha256_destroy(struct sha256 *sha);

/* Lower-case hexadecimal with a NUL. */
void sha256_hex(const unsigned char digest[SHA256_SIZE], char out[SHA256_HEX_SIZE + 1]);
/* Digest of one piece of memory, as hexadecimal. Never fails. */
void sha256_of(const void *data, size_t size, char out[SHA256_HEX_SIZE + 1]);

#endif
