/* What the AVX-512 tiles of every precision share: 14 rows × 32 columns, two vectors of sums a
 * row (28 of the 32 registers), and the interleaving of 16 rows of words. */
#ifndef ORTHRUS_MODEL_KERNELS_AVX512_TILE_H
#define ORTHRUS_MODEL_KERNELS_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "model/encoder/kernels/unroll.h"

enum { TILE_ROWS = 14, TILE_COLUMNS = 32, TILE_PACK = 16, TILE_LANES = 16 };

/* rows[r] holds words k … k+15 of row r; afterwards rows[i] holds word k+i of rows 0 … 15. */
INLINE void transpose_16x16(__m512i rows[16])
{
    __m512i a[16];
    __m512i b[16];
    UNROLL
    for (int i = 0; i < 8; i++) {
        a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    /* b[4q + j], lane block l: word 4l + j of rows 4q … 4q+3. */
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i even01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88);
        __m512i even23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
        __m512i odd01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
        __m512i odd23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
        rows[j] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        rows[8 + j] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        rows[4 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        rows[12 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
}

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
