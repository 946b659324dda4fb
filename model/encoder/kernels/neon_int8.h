/* int8 on arm64, written once over DOT(sum, a, b): each of four 32-bit lanes of sum plus the four
 * products of a's bytes with b's signed ones. The file that includes this says by which instruction
 * (kernel_neondot.c, kernel_neonbf16_int8.c) and how the bytes of the rows are stored: ROW_BIAS is
 * what is taken off them, 0 for unsigned bytes, 128 for signed ones. */
#ifndef ORTHRUS_MODEL_KERNELS_NEON_INT8_H
#define ORTHRUS_MODEL_KERNELS_NEON_INT8_H

#include <math.h>

#include "model/encoder/kernels/int8_grid.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_neon.h"

/* 6 rows × 8 columns: the integer sums of a group and the fp32 sums of all groups take 24 of the 32
 * registers. */
enum { ROWS = 6 };

/* Each lane of sum plus the two products of a's and b's int16_t. */
static inline int32x4_t add_pairs(int32x4_t sum, int32x4_t a, int32x4_t b)
{
    int16x8_t x = vreinterpretq_s16_s32(a);
    int16x8_t y = vreinterpretq_s16_s32(b);
    int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
}

#define WORD_VECTOR       int32x4_t
#define LOAD_WORDS(p)     vreinterpretq_s32_u32(vld1q_u32((const uint32_t *)(p)))
#define SET1_WORD(word)   vreinterpretq_s32_u32(vdupq_n_u32(word))
#define DPBUSD(sum, a, b) DOT(sum, a, b)
#define DPWSSD(sum, a, b) add_pairs(sum, a, b)
#include "model/encoder/kernels/int8_columns.h"
#include "model/encoder/kernels/int8_tile.h"

/* The grid of a row's group at x. */
INLINE struct int8_grid group_grid(const struct pack_args *args, const float *x, size_t k)
{
    float low = 0.0f;
    float high = 0.0f;
    float nan = 0.0f;
    for (size_t i = 0; i < args->group && k + i < args->in; i++) {
        if (args->keep[(k + i) / KEPT_BITS] >> (k + i) % KEPT_BITS & 1) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
            nan = x[i] == x[i] ? nan : x[i];
        }
    }
    return int8_grid_of(low + nan, high + nan);
}

/* round(x·inverse) + zero of 16 columns from k on; 0 in those that are wide or not there. */
INLINE uint8x16_t quantize_16(const struct pack_args *args, const float *x, size_t k, size_t n,
                              vf inverse, vf zero)
{
    static const uint8_t lanes[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint16x4_t parts[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        size_t some = n > i * LANES ? n - i * LANES : 0;
        vf v = vf_load_n(some > 0 ? x + i * LANES : x, some);
        parts[i] = vqmovun_s32(vcvtnq_s32_f32(vf_fma(v, inverse, zero)));
    }
    uint8x16_t bytes = vcombine_u8(vqmovn_u16(vcombine_u16(parts[0], parts[1])),
                                   vqmovn_u16(vcombine_u16(parts[2], parts[3])));
    uint16_t keep = args->keep[k / KEPT_BITS];
    uint8x16_t bits = vcombine_u8(vdup_n_u8((uint8_t)keep), vdup_n_u8((uint8_t)(keep >> 8)));
    return vandq_u8(bytes, vtstq_u8(bits, vld1q_u8(lanes)));
}

static void pack_group(const struct pack_args *args, size_t row, size_t k)
{
    const float *x = args->x + row * args->ld + k;
    size_t n = args->in - k < args->group ? args->in - k : args->group;
    struct int8_grid grid = group_grid(args, x, k);
    const vf inverse = vf_set1(grid.inverse);
    const vf zero = vf_set1(grid.zero);
    int sum = 0;
    for (size_t i = 0; i < n; i += KEPT_BITS) {
        uint32_t words[4];
        uint8x16_t bytes = quantize_16(args, x + i, k + i, n - i, inverse, zero);
        sum += vaddlvq_u8(bytes);
        vst1q_u32(words, vreinterpretq_u32_u8(veorq_u8(bytes, vdupq_n_u8(ROW_BIAS))));
        for (size_t w = 0; w < 4 && i + 4 * w < n; w++) {
            args->words[((k + i) / 4 + w) * args->stride + row] = words[w];
        }
    }
    int8_note_group(args, k / args->group * args->rows + row, grid, sum,
                    int8_count_kept(args, k, n), ROW_BIAS);
}

static void pack_rows(const struct pack_args *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        for (size_t k = 0; k < args->in; k += args->group) {
            pack_group(args, row, k);
        }
    }
}

static void multiply(const struct multiply_args *args)
{
    TILE_DISPATCH(ROWS, multiply_rows, args)
}

#define NEON_INT8_KERNEL(label)                                                           \
    {                                                                                     \
        .name = (label), .precision = PRECISION_INT8, .word_inputs = 4, .rows_max = ROWS, \
        .row_unit = 1, .word_unit = 1, .columns = INT8_COLUMNS, .panels = INT8_PANELS,    \
        .pack_max = INT8_COLUMNS, .pack_rows = pack_rows, .pack_columns = pack_columns,   \
        .multiply = multiply,                                                             \
    }

#endif
