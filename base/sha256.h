/* SHA-256 (FIPS 180-4), by libcrypto. */
#ifndef ORTHRUS_BASE_SHA256_H
#define ORTHRUS_BASE_SHA256_H

#include <stddef.h>

enum { SHA256_SIZE = 32, SHA256_HEX_SIZE = 64 };

struct sha256; /* one running digest; one thread at a time */

/* NULL when memory is out. */
struct sha256 *sha256_create(void);
void sha256_update(struct sha256 *sha, const void *data, size_t size);
/* Writes the digest and frees sha. */
void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE]);
/* Frees sha without a digest; NULL is fine. */
void sha256_destroy(struct sha256 *sha);

/* Lower-case hexadecimal with a NUL. */
void sha256_hex(const unsigned char digest[SHA256_SIZE], char out[SHA256_HEX_SIZE + 1]);
/* Digest of one piece of memory, as hexadecimal. Never fails. */
void sha256_of(const void *data, size_t size, char out[SHA256_HEX_SIZE + 1]);

#endif
