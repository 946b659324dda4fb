/* fp32 on arm64: FMLA in 128-bit vectors. */
#if defined(__aarch64__)
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/neon_tile.h"
#include "model/encoder/kernels/simd_neon.h"
#include "model/encoder/kernels/vector_ops.h"

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += LANES) {
        size_t n = args->in - k < LANES ? args->in - k : LANES;
        uint32x4_t rows[TILE_PACK];
        UNROLL
        for (size_t r = 0; r < TILE_PACK; r++) {
            rows[r] = r < args->rows
                          ? vreinterpretq_u32_f32(vf_load_n(args->x + r * args->ld + k, n))
                          : vdupq_n_u32(0);
        }
        store_interleaved(rows, n, args->words + k * args->stride, args->stride,
                          (args->in - k) * args->stride);
    }
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const float *a = args->a;
    const float *b = args->b;
    const char *next = args->next;
    vf sums[TILE_ROWS][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = vf_set1(0.0f);
        sums[r][1] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < args->words; k++) {
        vf b0 = vf_load(b);
        vf b1 = vf_load(b + LANES);
        __builtin_prefetch(next, 0, 2);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            sums[r][0] = vfmaq_n_f32(sums[r][0], b0, a[r]);
            sums[r][1] = vfmaq_n_f32(sums[r][1], b1, a[r]);
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

const struct tile_kernel tile_neon_f32 = {
    .name = "neon fp32",
    .precision = PRECISION_FP32,
    .word_inputs = 1,
    .rows_max = TILE_ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = TILE_COLUMNS,
    .panels = 1,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .pack_columns = pack_rows,
    .multiply = multiply,
};

const struct kernels kernels_neon = {
    .name = "neon",
    .f32 = &tile_neon_f32,
    .finish = finish,
    .gelu = gelu,
    .softmax = softmax,
    .layernorm = layernorm,
};
#endif
