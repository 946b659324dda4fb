/* What the NEON tiles of every precision share: their shape, and the interleaving of four rows of
 * words. */
#ifndef ORTHRUS_MODEL_KERNELS_NEON_TILE_H
#define ORTHRUS_MODEL_KERNELS_NEON_TILE_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/encoder/kernels/unroll.h"

/* 8 rows × 8 columns: 16 of the 32 registers hold sums, enough to hide the latency of two
 * pipelines. */
enum { TILE_ROWS = 8, TILE_COLUMNS = 8, TILE_PACK = 8 };

/* rows[r] holds words k … k+3 of row r; afterwards rows[i] holds word k+i of rows 0 … 3. */
INLINE void transpose_4x4(uint32x4_t rows[4])
{
    uint32x4x2_t even = vtrnq_u32(rows[0], rows[1]);
    uint32x4x2_t odd = vtrnq_u32(rows[2], rows[3]);
    rows[0] = vcombine_u32(vget_low_u32(even.val[0]), vget_low_u32(odd.val[0]));
    rows[1] = vcombine_u32(vget_low_u32(even.val[1]), vget_low_u32(odd.val[1]));
    rows[2] = vcombine_u32(vget_high_u32(even.val[0]), vget_high_u32(odd.val[0]));
    rows[3] = vcombine_u32(vget_high_u32(even.val[1]), vget_high_u32(odd.val[1]));
}

/* Writes words k … k+n-1, n ≤ 4, of TILE_PACK rows. What is too much is overwritten by the next
 * stride; `room` is how many words there are from words[0] on. */
INLINE void store_interleaved(uint32x4_t rows[TILE_PACK], size_t n, uint32_t *words, size_t stride,
                              size_t room)
{
    transpose_4x4(rows);
    transpose_4x4(rows + 4);
    for (size_t i = 0; i < n; i++) {
        uint32_t lanes[TILE_PACK];
        size_t left = room - i * stride;
        uint32_t *to = left < TILE_PACK ? lanes : words + i * stride;
        vst1q_u32(to, rows[i]);
        vst1q_u32(to + 4, rows[4 + i]);
        if (left < TILE_PACK) {
            memcpy(words + i * stride, lanes, left * sizeof *lanes);
        }
    }
}

#endif
