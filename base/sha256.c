/* The calls that keep their state where we put it: libcrypto's newer ones allocate, and end the
 * process by a NULL lock where their first call finds no memory (3.0). */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/sha.h>
#include <stdlib.h>

#include "base/check.h"

struct sha256 {
    SHA256_CTX ctx;
};

struct sha256 *sha256_create(void)
{
    struct sha256 *sha = calloc(1, sizeof *sha);
    if (sha) {
        CHECK(SHA256_Init(&sha->ctx) == 1);
    }
    return sha;
}

void sha256_update(struct sha256 *sha, const void *data, size_t size)
{
    CHECK(SHA256_Update(&sha->ctx, data, size) == 1);
}

void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE])
{
    CHECK(SHA256_Final(out, &sha->ctx) == 1);
    sha256_destroy(sha);
}

void sha256_destroy(struct sha256 *sha)
{
    free(sha);
}

void sha256_hex(const unsigned char digest[SHA256_SIZE], char out[SHA256_HEX_SIZE + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[SHA256_HEX_SIZE] = '\0';
}

void sha256_of(const void *data, size_t size, char out[SHA256_HEX_SIZE + 1])
{
    unsigned char digest[SHA256_SIZE];
    SHA256_CTX ctx;
    CHECK(SHA256_Init(&ctx) == 1 && SHA256_Update(&ctx, data, size) == 1 &&
          SHA256_Final(digest, &ctx) == 1);
    sha256_hex(digest, out);
}
