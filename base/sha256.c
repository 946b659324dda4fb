/* The calls that keep their state where we put it: libcrypto's newer ones allocate, and end the
 * process by a NULL lock where their first call finds no memory (3.0). */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/kernels/sha256_lanes.h"

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

#if defined(__x86_64__)
size_t sha256_lanes(void)
{
    bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has ? SHA256_LANES : 1;
}

/* The whole blocks of `size` bytes; returns their bytes. Lanes that nobody asked for repeat the
 * first. */
static size_t update_lanes(struct sha256 *const *shas, const void *const *data, size_t n,
                           size_t size)
{
    uint32_t state[STATE_WORDS][SHA256_LANES];
    const unsigned char *from[SHA256_LANES];
    for (size_t lane = 0; lane < SHA256_LANES; lane++) {
        size_t i = lane < n ? lane : 0;
        from[lane] = data[i];
        for (size_t word = 0; word < STATE_WORDS; word++) {
            state[word][lane] = shas[i]->ctx.h[word];
        }
    }
    size_t blocks = size / SHA256_BLOCK;
    sha256_lanes_avx512(state, from, blocks);
    uint64_t bits = (uint64_t)blocks * SHA256_BLOCK * 8;
    for (size_t i = 0; i < n; i++) {
        SHA256_CTX *ctx = &shas[i]->ctx;
        for (size_t word = 0; word < STATE_WORDS; word++) {
            ctx->h[word] = state[word][i];
        }
        uint64_t sum = ((uint64_t)ctx->Nh << 32 | ctx->Nl) + bits;
        ctx->Nl = (SHA_LONG)sum;
        ctx->Nh = (SHA_LONG)(sum >> 32);
    }
    return blocks * SHA256_BLOCK;
}
#else
size_t sha256_lanes(void)
{
    return 1;
}

static size_t update_lanes(struct sha256 *const *shas, const void *const *data, size_t n,
                           size_t size)
{
    (void)shas, (void)data, (void)n, (void)size;
    return 0;
}
#endif

/* Digests that libcrypto makes one after the other in the time that all lanes take. */
enum { LANES_WORTH = 8 };

void sha256_update_each(struct sha256 *const *shas, const void *const *data, size_t n, size_t size)
{
    CHECK(n <= SHA256_LANES);
    bool whole = n >= LANES_WORTH && sha256_lanes() > 1;
    for (size_t i = 0; i < n; i++) {
        whole = whole && shas[i]->ctx.num == 0;
    }
    size_t done = whole ? update_lanes(shas, data, n, size) : 0;
    for (size_t i = 0; i < n; i++) {
        sha256_update(shas[i], (const unsigned char *)data[i] + done, size - done);
    }
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
