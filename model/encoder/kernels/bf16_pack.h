/* Rows of fp32 → interleaved words of two bf16, rounded to nearest even: what the tiles of
 * AVX512-BF16 read on both sides, and those of AMX on the weights' side. */
#ifndef ORTHRUS_MODEL_KERNELS_BF16_PACK_H
#define ORTHRUS_MODEL_KERNELS_BF16_PACK_H

#include "model/encoder/kernels/avx512_tile.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx512.h"

/* Up to 32 columns → 16 words; those behind n are zero. */
INLINE __m512i bf16_words(const float *x, size_t n)
{
    size_t low = n < 16 ? n : 16;
    return (__m512i)_mm512_cvtne2ps_pbh(vf_load_n(x + low, n - low), vf_load_n(x, low));
}

static void bf16_interleave(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += 32) {
        size_t n = args->in - k < 32 ? args->in - k : 32;
        __m512i rows[16];
        UNROLL
        for (size_t r = 0; r < 16; r++) {
            rows[r] = r < args->rows ? bf16_words(args->x + r * args->ld + k, n)
                                     : _mm512_setzero_si512();
        }
        store_interleaved(rows, (n + 1) / 2, args->words + k / 2 * args->stride, args->stride);
    }
}

#endif
