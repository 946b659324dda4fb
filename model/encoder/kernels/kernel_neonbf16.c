/* bf16 on arm64 with BF16: BFDOT, two products and their sum a step. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/neon_tile.h"
#include "model/encoder/kernels/simd_neon.h"

/* Up to 8 columns → 4 words of two bf16, rounded to nearest even; those behind n are zero. */
INLINE uint32x4_t bf16_words(const float *x, size_t n)
{
    size_t low = n < LANES ? n : LANES;
    bfloat16x8_t front = vcvtq_low_bf16_f32(vf_load_n(x, low));
    return vreinterpretq_u32_bf16(vcvtq_high_bf16_f32(front, vf_load_n(x + low, n - low)));
}

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += 8) {
        size_t n = args->in - k < 8 ? args->in - k : 8;
        uint32x4_t rows[TILE_PACK];
        UNROLL
        for (size_t r = 0; r < TILE_PACK; r++) {
            rows[r] = r < args->rows ? bf16_words(args->x + r * args->ld + k, n) : vdupq_n_u32(0);
        }
        store_interleaved(rows, (n + 1) / 2, args->words + k / 2 * args->stride, args->stride,
                          (args->in - k + 1) / 2 * args->stride);
    }
}

/* bf16 of four columns, of n there are. */
INLINE uint16x4_t bf16_four(const float *x, size_t n)
{
    return vreinterpret_u16_bf16(vcvt_bf16_f32(vf_load_n(x, n < LANES ? n : LANES)));
}

static void pack_pairs(const float *x, size_t ld, size_t in, size_t n, uint32_t *words)
{
    for (size_t k = 0; k < in; k += 2, words += TILE_COLUMNS) {
        UNROLL
        for (size_t c = 0; c < TILE_COLUMNS; c += LANES) {
            size_t there = n > c ? n - c : 0;
            const float *first = there ? x + k * ld + c : x;
            uint16x4_t one = bf16_four(first, there);
            uint16x4_t two = bf16_four(k + 1 < in ? first + ld : x, k + 1 < in ? there : 0);
            uint16x4x2_t pairs = vzip_u16(one, two);
            vst1q_u16((uint16_t *)(words + c), vcombine_u16(pairs.val[0], pairs.val[1]));
        }
    }
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const uint32_t *a = args->a;
    const uint32_t *b = args->b;
    const char *next = args->next;
    vf sums[TILE_ROWS][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = vf_set1(0.0f);
        sums[r][1] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < args->words; k++) {
        bfloat16x8_t b0 = vreinterpretq_bf16_u32(vld1q_u32(b));
        bfloat16x8_t b1 = vreinterpretq_bf16_u32(vld1q_u32(b + LANES));
        __builtin_prefetch(next, 0, 2);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            bfloat16x8_t x = vreinterpretq_bf16_u32(vdupq_n_u32(a[r]));
            sums[r][0] = vbfdotq_f32(sums[r][0], b0, x);
            sums[r][1] = vbfdotq_f32(sums[r][1], b1, x);
        }
        a += rows;
        b += TILE_COLUMNS;
        next += args->next_step;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        vf_store(args->tile + r * args->ld, sums[r][0]);
        vf_store(args->tile + r * args->ld + LANES, sums[r][1]);
    }
}

static void multiply(const struct multiply_args *args)
{
    ROWS_DISPATCH(TILE_ROWS, multiply_rows, args)
}

const struct tile_kernel tile_neonbf16_bf16 = {
    .name = "neon bf16",
    .precision = PRECISION_BF16,
    .word_inputs = 2,
    .rows_max = TILE_ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = TILE_COLUMNS,
    .panels = 1,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .pack_columns = pack_rows,
    .pack_pairs = pack_pairs,
    .multiply = multiply,
};
#endif
