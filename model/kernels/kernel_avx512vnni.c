#if defined(__x86_64__)
#include <math.h>

#include "model/kernels/avx512_tile.h"
#include "model/kernels/kernels.h"
#include "model/kernels/simd_avx512.h"

/* Lanes of 16 columns that are there and not wide. */
INLINE __mmask16 kept(const struct pack_args *args, size_t k)
{
    return (__mmask16)args->keep[k / 16];
}

/* Up to 16 columns as bytes: round((x − low)·inverse). What stands in wide columns meets zeros. */
INLINE __m128i quantize(const float *x, size_t n, vf low, vf inverse)
{
    vf v = vf_mul(vf_sub(vf_load_n(x, n), low), inverse);
    return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v));
}

INLINE __m512i quantize_64(const float *x, size_t n, vf low, vf inverse)
{
    __m128i parts[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        size_t some = n > 16 * i ? n - 16 * i : 0;
        parts[i] = quantize(some > 0 ? x + 16 * i : x, some, low, inverse);
    }
    __m512i words = _mm512_castsi128_si512(parts[0]);
    words = _mm512_inserti32x4(words, parts[1], 1);
    words = _mm512_inserti32x4(words, parts[2], 2);
    return _mm512_inserti32x4(words, parts[3], 3);
}

/* The range of a row's group; 0 … 0 where every column is wide. */
INLINE void group_range(const struct pack_args *args, const float *x, size_t k, float *ret_low,
                        float *ret_high)
{
    vf low = vf_set1(INFINITY);
    vf high = vf_set1(-INFINITY);
    for (size_t i = 0; i < args->group && k + i < args->in; i += 16) {
        __mmask16 mask = kept(args, k + i);
        vf v = _mm512_maskz_loadu_ps(mask, x + i);
        low = _mm512_mask_min_ps(low, mask, low, v);
        high = _mm512_mask_max_ps(high, mask, high, v);
    }
    *ret_low = _mm512_reduce_min_ps(low);
    *ret_high = _mm512_reduce_max_ps(high);
    if (!(*ret_low <= *ret_high)) {
        *ret_low = 0.0f;
        *ret_high = 0.0f;
    }
}

/* Words of four unsigned bytes; each group of a row by its own range. */
static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += args->group) {
        size_t group = k / args->group;
        vf inverses[TILE_PACK];
        vf lows[TILE_PACK];
        for (size_t r = 0; r < args->rows; r++) {
            float low;
            float high;
            group_range(args, args->x + r * args->ld + k, k, &low, &high);
            args->scales[group * args->rows + r] = (high - low) / 255.0f;
            args->lows[group * args->rows + r] = low;
            inverses[r] = vf_set1(high > low ? 255.0f / (high - low) : 0.0f);
            lows[r] = vf_set1(low);
        }
        for (size_t at = k; at < k + args->group && at < args->in; at += INT8_UNIT) {
            size_t n = args->in - at < INT8_UNIT ? args->in - at : INT8_UNIT;
            __m512i rows[16];
            UNROLL
            for (size_t r = 0; r < 16; r++) {
                rows[r] = r < args->rows
                              ? quantize_64(args->x + r * args->ld + at, n, lows[r], inverses[r])
                              : _mm512_setzero_si512();
            }
            store_interleaved(rows, (n + 3) / 4, args->words + at / 4 * args->stride, args->stride);
        }
    }
}

/* Not __m512i: where one array is used as two types, gcc 12 keeps a copy of it on the stack. */
typedef int ints __attribute__((vector_size(64)));

/* Half as many rows as the other precisions: the integer sums of a group and the fp32 sums of all
 * groups are in registers together. */
enum { ROWS = 7 };

/* What stands before the words, in fp32: sums = Σ low·(its weight) + Σ wide·(its weight). */
INLINE void multiply_floats(const size_t rows, size_t n, const float *a, const float *b,
                            vf sums[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = _mm512_setzero_ps();
        sums[r][1] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < n; k++) {
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
}

/* dots = the integer sums of one group. */
INLINE void multiply_words(const size_t rows, size_t n, const uint32_t *a, const uint32_t *b,
                           const char *next, size_t next_step, ints dots[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][0] = (ints)_mm512_setzero_si512();
        dots[r][1] = (ints)_mm512_setzero_si512();
    }
    for (size_t k = 0; k < n; k++) {
        __m512i b0 = _mm512_load_si512(b);
        __m512i b1 = _mm512_load_si512(b + TILE_LANES);
        _mm_prefetch(next, _MM_HINT_T1);
        _mm_prefetch(next + 64, _MM_HINT_T1);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i x = _mm512_set1_epi32((int)a[r]);
            dots[r][0] = (ints)_mm512_dpbusd_epi32((__m512i)dots[r][0], x, b0);
            dots[r][1] = (ints)_mm512_dpbusd_epi32((__m512i)dots[r][1], x, b1);
        }
        a += rows;
        b += TILE_COLUMNS;
        next += next_step;
    }
}

/* sums + dots·row·columns */
INLINE vf add_scaled(vf sums, ints dots, vf row, vf columns)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)dots), row), columns, sums);
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const float *row_scales = args->a;
    const float *column_scales = args->b;
    const float *floats_a = row_scales + args->groups * rows;
    const float *floats_b = column_scales + args->groups * TILE_COLUMNS;
    size_t floats = args->groups + args->wide;
    const uint32_t *a = (const uint32_t *)(floats_a + floats * rows);
    const uint32_t *b = (const uint32_t *)(floats_b + floats * TILE_COLUMNS);
    const char *next = args->next;
    vf sums[ROWS][2];
    multiply_floats(rows, floats, floats_a, floats_b, sums);
    for (size_t k = 0; k < args->words; k += args->group_words) {
        size_t n = args->words - k < args->group_words ? args->words - k : args->group_words;
        ints dots[ROWS][2];
        multiply_words(rows, n, a, b, next, args->next_step, dots);
        vf columns[2] = {_mm512_load_ps(column_scales), _mm512_load_ps(column_scales + TILE_LANES)};
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf row = _mm512_set1_ps(row_scales[r]);
            sums[r][0] = add_scaled(sums[r][0], dots[r][0], row, columns[0]);
            sums[r][1] = add_scaled(sums[r][1], dots[r][1], row, columns[1]);
        }
        a += n * rows;
        b += n * TILE_COLUMNS;
        next += n * args->next_step;
        row_scales += rows;
        column_scales += TILE_COLUMNS;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm512_storeu_ps(args->tile + r * args->ld, sums[r][0]);
        _mm512_storeu_ps(args->tile + r * args->ld + TILE_LANES, sums[r][1]);
    }
}

static void multiply(const struct multiply_args *args)
{
    switch (args->rows) {
    case 1:
        multiply_rows(1, args);
        break;
    case 2:
        multiply_rows(2, args);
        break;
    case 3:
        multiply_rows(3, args);
        break;
    case 4:
        multiply_rows(4, args);
        break;
    case 5:
        multiply_rows(5, args);
        break;
    case 6:
        multiply_rows(6, args);
        break;
    default:
        multiply_rows(7, args);
        break;
    }
}

const struct tile_kernel tile_avx512_int8 = {
    .name = "avx512 int8",
    .precision = PRECISION_INT8,
    .group = 4,
    .rows_max = ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = TILE_COLUMNS,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .multiply = multiply,
};
#endif
