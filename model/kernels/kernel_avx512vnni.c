#if defined(__x86_64__)
#include "model/kernels/avx512_tile.h"
#include "model/kernels/kernels.h"
#include "model/kernels/simd_avx512.h"

/* The largest magnitude among a row's columns that are quantized. */
static float row_largest(const float *x, const float *keep, size_t n)
{
    vf largest = vf_set1(0.0f);
    for (size_t k = 0; k < n; k += LANES) {
        size_t some = n - k < LANES ? n - k : LANES;
        vf v = vf_mul(vf_load_n(x + k, some), vf_load_n(keep + k, some));
        largest = vf_max(largest, _mm512_abs_ps(v));
    }
    return vf_largest(largest);
}

/* 16 columns as bytes: round(x·inverse) + 128, wide columns 128. */
INLINE __m128i quantize(const float *x, const float *keep, size_t n, vf inverse)
{
    vf v = vf_mul(vf_load_n(x, n), vf_mul(vf_load_n(keep, n), inverse));
    __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v));
    return _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80));
}

/* Up to 64 columns of a row. */
INLINE __m512i quantize_row(const float *x, const float *keep, size_t n, vf inverse)
{
    __m128i parts[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        size_t some = n > 16 * i ? n - 16 * i : 0;
        size_t at = some > 0 ? 16 * i : 0;
        parts[i] = quantize(x + at, keep + at, some, inverse);
    }
    __m512i words = _mm512_castsi128_si512(parts[0]);
    words = _mm512_inserti32x4(words, parts[1], 1);
    words = _mm512_inserti32x4(words, parts[2], 2);
    return _mm512_inserti32x4(words, parts[3], 3);
}

/* Words of four bytes, each row by its own scale: largest magnitude ↔ 127. */
static void pack_rows(const struct pack_args *args)
{
    float inverse[TILE_PACK];
    for (size_t r = 0; r < args->rows; r++) {
        float largest = row_largest(args->x + r * args->ld, args->keep, args->in);
        args->scales[r] = largest / 127.0f;
        inverse[r] = largest > 0.0f ? 127.0f / largest : 0.0f;
    }
    for (size_t k = 0; k < args->in; k += 64) {
        size_t n = args->in - k < 64 ? args->in - k : 64;
        __m512i rows[16];
        UNROLL
        for (size_t r = 0; r < 16; r++) {
            rows[r] = r < args->rows ? quantize_row(args->x + r * args->ld + k, args->keep + k, n,
                                                    vf_set1(inverse[r]))
                                     : _mm512_setzero_si512();
        }
        store_interleaved(rows, (n + 3) / 4, args->words + k / 4 * args->stride, args->stride);
    }
}

/* The integer sums, left in the tile as they are. */
INLINE void multiply_words(const size_t rows, const struct multiply_args *args)
{
    const uint32_t *a = args->a;
    const uint32_t *b = args->b;
    const char *next = args->next;
    __m512i sums[TILE_ROWS][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = _mm512_setzero_si512();
        sums[r][1] = _mm512_setzero_si512();
    }
    for (size_t k = 0; k < args->words; k++) {
        __m512i b0 = _mm512_load_si512(b);
        __m512i b1 = _mm512_load_si512(b + TILE_LANES);
        _mm_prefetch(next, _MM_HINT_T1);
        _mm_prefetch(next + 64, _MM_HINT_T1);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i x = _mm512_set1_epi32((int)a[r]);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], x, b0);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], x, b1);
        }
        a += rows;
        b += TILE_COLUMNS;
        next += TILE_COLUMNS * sizeof *b;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm512_storeu_si512(args->tile + r * args->ld, sums[r][0]);
        _mm512_storeu_si512(args->tile + r * args->ld + TILE_LANES, sums[r][1]);
    }
}

/* Integer sums of 16 columns → fp32. */
INLINE vf dequantize(const float *tile, const int32_t *offsets, const float *scales, vf row_scale)
{
    __m512i whole = _mm512_add_epi32(_mm512_loadu_si512(tile), _mm512_load_si512(offsets));
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_load_ps(scales)),
                         row_scale);
}

/* Scales, then the wide columns in fp32 on top of the same sums. */
INLINE void multiply_wide(const size_t rows, const struct multiply_args *args)
{
    const float *a = (const float *)args->a + args->words * rows;
    const float *b = (const float *)args->b + args->words * TILE_COLUMNS;
    const float *row_scales = a + args->wide * rows;
    const float *scales = b + args->wide * TILE_COLUMNS;
    const int32_t *offsets = (const int32_t *)(scales + TILE_COLUMNS);
    vf sums[TILE_ROWS][2];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const float *tile = args->tile + r * args->ld;
        vf scale = _mm512_set1_ps(row_scales[r]);
        sums[r][0] = dequantize(tile, offsets, scales, scale);
        sums[r][1] = dequantize(tile + TILE_LANES, offsets + TILE_LANES, scales + TILE_LANES,
                                scale);
    }
    for (size_t k = 0; k < args->wide; k++) {
        vf b0 = _mm512_load_ps(b);
        vf b1 = _mm512_load_ps(b + TILE_LANES);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = _mm512_set1_ps(a[r]);
            sums[r][0] = _mm512_fmadd_ps(x, b0, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(x, b1, sums[r][1]);
        }
        a += rows;
        b += TILE_COLUMNS;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm512_storeu_ps(args->tile + r * args->ld, sums[r][0]);
        _mm512_storeu_ps(args->tile + r * args->ld + TILE_LANES, sums[r][1]);
    }
}

/* Two steps over the tile's memory: with one array of sums for both, the compiler keeps a copy of
 * it on the stack, which halves the speed. */
INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    multiply_words(rows, args);
    multiply_wide(rows, args);
}

static void multiply(const struct multiply_args *args)
{
    TILE_DISPATCH(multiply_rows, args)
}

const struct tile_kernel tile_avx512_int8 = {
    .name = "avx512 int8",
    .precision = PRECISION_INT8,
    .group = 4,
    .rows_max = TILE_ROWS,
    .columns = TILE_COLUMNS,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .multiply = multiply,
};
#endif
