/* What the AVX-512 tiles of every precision share: 14 rows × two panels of 16 columns, two vectors
 * of sums a row (28 of the 32 registers), or one panel, and the interleaving of 16 rows of words.
 */
#ifndef ORTHRUS_MODEL_KERNELS_AVX512_TILE_H
#define ORTHRUS_MODEL_KERNELS_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "base/kernels/avx512_transpose.h"
#include "model/encoder/kernels/unroll.h"

enum { TILE_ROWS = 14, TILE_LANES = 16, TILE_PANELS = 2, TILE_PACK = 16, TILE_LINE = 64 };

/* Writes words k … k+n-1 of 16 rows, or of the first `stride`. */
INLINE void store_interleaved(__m512i rows[16], size_t n, uint32_t *words, size_t stride)
{
    __mmask16 there = (__mmask16)(stride < 16 ? (1u << stride) - 1 : 0xffff);
    transpose_16x16(rows);
    if (n >= 16) {
        UNROLL
        for (size_t i = 0; i < 16; i++) {
            _mm512_mask_storeu_epi32(words + i * stride, there, rows[i]);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        _mm512_mask_storeu_epi32(words + i * stride, there, rows[i]);
    }
}

#endif
