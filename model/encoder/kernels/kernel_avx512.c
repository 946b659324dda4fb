/* fp32 in 512-bit vectors. */
#if defined(__x86_64__)
#include "model/encoder/kernels/avx512_tile.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx512.h"
#include "model/encoder/kernels/vector_ops.h"

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += 16) {
        size_t n = args->in - k < 16 ? args->in - k : 16;
        __m512i rows[16];
        UNROLL
        for (size_t r = 0; r < 16; r++) {
            rows[r] = r < args->rows ? _mm512_castps_si512(vf_load_n(args->x + r * args->ld + k, n))
                                     : _mm512_setzero_si512();
        }
        store_interleaved(rows, n, args->words + k * args->stride, args->stride);
    }
}

INLINE void multiply_rows(const size_t rows, const size_t panels, const struct multiply_args *args)
{
    const float *a = args->a;
    const char *b = args->b;
    const char *next = args->next;
    vf sums[TILE_ROWS][TILE_PANELS];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            sums[r][p] = _mm512_setzero_ps();
        }
    }
    for (size_t k = 0; k < args->words; k++) {
        vf words[TILE_PANELS];
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            words[p] = _mm512_load_ps(b + p * args->panel_bytes);
            _mm_prefetch(next + p * TILE_LINE, _MM_HINT_T1);
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = _mm512_set1_ps(a[r]);
            UNROLL
            for (size_t p = 0; p < panels; p++) {
                sums[r][p] = _mm512_fmadd_ps(x, words[p], sums[r][p]);
            }
        }
        a += rows;
        b += TILE_LINE;
        next += args->next_step;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            _mm512_storeu_ps(args->tile + r * args->ld + p * TILE_LANES, sums[r][p]);
        }
    }
}

static void multiply(const struct multiply_args *args)
{
    TILE_DISPATCH(TILE_ROWS, multiply_rows, args)
}

const struct tile_kernel tile_avx512_f32 = {
    .name = "avx512 fp32",
    .precision = PRECISION_FP32,
    .word_inputs = 1,
    .rows_max = TILE_ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = TILE_LANES,
    .panels = TILE_PANELS,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .pack_columns = pack_rows,
    .multiply = multiply,
};

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .f32 = &tile_avx512_f32,
    .finish = finish,
    .gelu = gelu,
    .softmax = softmax,
    .layernorm = layernorm,
};
#endif
