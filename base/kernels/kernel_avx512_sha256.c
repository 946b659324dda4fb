/* SHA-256 of 16 digests at once in 512-bit vectors. */
#if defined(__x86_64__)
#include "base/kernels/avx512_transpose.h"
#include "base/kernels/sha256_lanes.h"

enum { ROUNDS = 64, WORDS = 16 /* of a block */ };
enum { AHEAD = 1024 }; /* bytes, fetched while memory is idle: past the end they do no harm */
enum { XOR = 0x96, CHOOSE = 0xca, MAJORITY = 0xe8 }; /* truth tables of three bits */

static const uint32_t constants[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, XOR)
#define ROTATED(x, a, b, c) \
    XOR3(_mm512_ror_epi32(x, a), _mm512_ror_epi32(x, b), _mm512_ror_epi32(x, c))
#define SHIFTED(x, a, b, c) \
    XOR3(_mm512_ror_epi32(x, a), _mm512_ror_epi32(x, b), _mm512_srli_epi32(x, c))

INLINE __m512i add(__m512i x, __m512i y)
{
    return _mm512_add_epi32(x, y);
}

/* The message's word `at` + 16 in the place of word `at`. */
INLINE void schedule(__m512i words[WORDS], int at)
{
    __m512i near = words[(at + 1) % WORDS];
    __m512i far = words[(at + 14) % WORDS];
    words[at] = add(add(words[at], words[(at + 9) % WORDS]),
                    add(SHIFTED(near, 7, 18, 3), SHIFTED(far, 17, 19, 10)));
}

/* s: a … h of the standard. */
INLINE void rounds(__m512i s[STATE_WORDS], __m512i words[WORDS])
{
    for (int first = 0; first < ROUNDS; first += WORDS) {
        UNROLL
        for (int i = 0; i < WORDS; i++) {
            __m512i key = _mm512_set1_epi32((int)constants[first + i]);
            __m512i t1 = add(
                add(s[7], add(words[i], key)),
                add(ROTATED(s[4], 6, 11, 25), _mm512_ternarylogic_epi32(s[4], s[5], s[6], CHOOSE)));
            __m512i t2 = add(ROTATED(s[0], 2, 13, 22),
                             _mm512_ternarylogic_epi32(s[0], s[1], s[2], MAJORITY));
            s[7] = s[6];
            s[6] = s[5];
            s[5] = s[4];
            s[4] = add(s[3], t1);
            s[3] = s[2];
            s[2] = s[1];
            s[1] = s[0];
            s[0] = add(t1, t2);
            if (first + WORDS < ROUNDS) {
                schedule(words, i);
            }
        }
    }
}

void sha256_lanes_avx512(uint32_t state[STATE_WORDS][SHA256_LANES],
                         const unsigned char *const data[SHA256_LANES], size_t n)
{
    /* The standard's words are big-endian. */
    const __m512i swap = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    __m512i sums[STATE_WORDS];
    UNROLL
    for (int i = 0; i < STATE_WORDS; i++) {
        sums[i] = _mm512_loadu_si512(state[i]);
    }
    for (size_t block = 0; block < n; block++) {
        __m512i words[WORDS];
        __m512i s[STATE_WORDS];
        UNROLL
        for (int i = 0; i < SHA256_LANES; i++) {
            _mm_prefetch((const char *)data[i] + block * SHA256_BLOCK + AHEAD, _MM_HINT_T0);
            words[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(data[i] + block * SHA256_BLOCK),
                                           swap);
        }
        transpose_16x16(words);
        UNROLL
        for (int i = 0; i < STATE_WORDS; i++) {
            s[i] = sums[i];
        }
        rounds(s, words);
        UNROLL
        for (int i = 0; i < STATE_WORDS; i++) {
            sums[i] = add(sums[i], s[i]);
        }
    }
    UNROLL
    for (int i = 0; i < STATE_WORDS; i++) {
        _mm512_storeu_si512(state[i], sums[i]);
    }
}
#endif
