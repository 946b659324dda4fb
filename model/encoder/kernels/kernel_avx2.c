/* fp32 in 256-bit vectors. */
#if defined(__x86_64__)
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx2.h"
#include "model/encoder/kernels/unroll.h"
#include "model/encoder/kernels/vector_ops.h"

/* 6 rows × 16 columns: 12 of the 16 registers hold sums. */
enum { TILE_ROWS = 6, TILE_COLUMNS = 16, TILE_PACK = 8 };

/* rows[r] holds words k … k+7 of row r; afterwards rows[i] holds word k+i of rows 0 … 7. */
INLINE void transpose_8x8(__m256 rows[8])
{
    __m256 a[8];
    __m256 b[8];
    UNROLL
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        rows[4 + j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
}

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += 8) {
        size_t n = args->in - k < 8 ? args->in - k : 8;
        __m256 rows[8];
        UNROLL
        for (size_t r = 0; r < 8; r++) {
            rows[r] = r < args->rows ? vf_load_n(args->x + r * args->ld + k, n)
                                     : _mm256_setzero_ps();
        }
        transpose_8x8(rows);
        for (size_t i = 0; i < n; i++) {
            /* What is too much is overwritten by the next stride; masked stores are slow on some.
             */
            size_t room = (args->in - k - i) * args->stride;
            vf_store_n((float *)args->words + (k + i) * args->stride, room, rows[i]);
        }
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
        sums[r][0] = _mm256_setzero_ps();
        sums[r][1] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < args->words; k++) {
        vf b0 = _mm256_load_ps(b);
        vf b1 = _mm256_load_ps(b + LANES);
        _mm_prefetch(next, _MM_HINT_T1);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = _mm256_broadcast_ss(a + r);
            sums[r][0] = _mm256_fmadd_ps(x, b0, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(x, b1, sums[r][1]);
        }
        a += rows;
        b += TILE_COLUMNS;
        next += args->next_step;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(args->tile + r * args->ld, sums[r][0]);
        _mm256_storeu_ps(args->tile + r * args->ld + LANES, sums[r][1]);
    }
}

static void multiply(const struct multiply_args *args)
{
    ROWS_DISPATCH(TILE_ROWS, multiply_rows, args)
}

const struct tile_kernel tile_avx2_f32 = {
    .name = "avx2 fp32",
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

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .f32 = &tile_avx2_f32,
    .finish = finish,
    .gelu = gelu,
    .softmax = softmax,
    .layernorm = layernorm,
};
#endif
