#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/check.h"

/* struct sha256 is libcrypto's EVP_MD_CTX under our name. */
static EVP_MD_CTX *context(struct sha256 *sha)
{
    return (EVP_MD_CTX *)sha;
}

struct sha256 *sha256_create(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }
    return (struct sha256 *)ctx;
}

void sha256_update(struct sha256 *sha, const void *data, size_t size)
{
    CHECK(EVP_DigestUpdate(context(sha), data, size) == 1);
}

void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE])
{
    CHECK(EVP_DigestFinal_ex(context(sha), out, NULL) == 1);
    sha256_destroy(sha);
}

void sha256_destroy(struct sha256 *sha)
{
    EVP_MD_CTX_free(context(sha));
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
    CHECK(EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1);
    sha256_hex(digest, out);
}
