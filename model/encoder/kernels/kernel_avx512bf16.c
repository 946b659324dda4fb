/* bf16 on AVX512-BF16. */
#if defined(__x86_64__)
#include "model/encoder/kernels/bf16_pack.h"

/* Two products and their sum a step, bf16 × bf16 → fp32. */
INLINE void multiply_rows(const size_t rows, const size_t panels, const struct multiply_args *args)
{
    const uint32_t *a = args->a;
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
        __m512bh words[TILE_PANELS];
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            words[p] = (__m512bh)_mm512_load_si512(b + p * args->panel_bytes);
            _mm_prefetch(next + p * TILE_LINE, _MM_HINT_T1);
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r]);
            UNROLL
            for (size_t p = 0; p < panels; p++) {
                sums[r][p] = _mm512_dpbf16_ps(sums[r][p], x, words[p]);
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

static void pack_pairs(const float *x, size_t ld, size_t in, size_t n, uint32_t *words)
{
    const __m512i pairs = _mm512_setr_epi32(
        16 << 16 | 0, 17 << 16 | 1, 18 << 16 | 2, 19 << 16 | 3, 20 << 16 | 4, 21 << 16 | 5,
        22 << 16 | 6, 23 << 16 | 7, 24 << 16 | 8, 25 << 16 | 9, 26 << 16 | 10, 27 << 16 | 11,
        28 << 16 | 12, 29 << 16 | 13, 30 << 16 | 14, 31 << 16 | 15);
    for (size_t k = 0; k < in; k += 2, words += TILE_LANES) {
        vf first = vf_load_n(x + k * ld, n);
        vf second = k + 1 < in ? vf_load_n(x + (k + 1) * ld, n) : _mm512_setzero_ps();
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
        _mm512_store_si512(words, _mm512_permutexvar_epi16(pairs, both));
    }
}

static void multiply(const struct multiply_args *args)
{
    TILE_DISPATCH(TILE_ROWS, multiply_rows, args)
}

const struct tile_kernel tile_avx512_bf16 = {
    .name = "avx512 bf16",
    .precision = PRECISION_BF16,
    .word_inputs = 2,
    .rows_max = TILE_ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = TILE_LANES,
    .panels = TILE_PANELS,
    .pack_max = TILE_PACK,
    .pack_rows = bf16_interleave,
    .pack_columns = bf16_interleave,
    .pack_pairs = pack_pairs,
    .multiply = multiply,
};
#endif
