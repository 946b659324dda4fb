/* 16 × 16 words turned, in 512-bit vectors. */
#ifndef ORTHRUS_BASE_KERNELS_AVX512_TRANSPOSE_H
#define ORTHRUS_BASE_KERNELS_AVX512_TRANSPOSE_H

#include <immintrin.h>

#include "base/unroll.h"

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

#endif
