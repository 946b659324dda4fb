/* int8 in 256-bit vectors, written once over DPBUSD256(sum, a, b): each of eight 32-bit lanes of
 * sum plus the four products of a's unsigned bytes with b's signed ones. The file that includes
 * this says by which instructions: kernel_avxvnni.c, kernel_avx2_int8.c, and tests. */
#ifndef ORTHRUS_MODEL_KERNELS_AVX2_INT8_H
#define ORTHRUS_MODEL_KERNELS_AVX2_INT8_H

#include <math.h>

#include "model/kernels/kernels.h"
#include "model/kernels/simd_avx2.h"
#include "model/kernels/unroll.h"

/* 3 rows × 16 columns: the integer sums of a group and the fp32 sums of all groups take 12 of the
 * 16 registers. */
enum { ROWS = 3, COLUMNS = 16, PACK = 8 };

/* Not __m256i: where one array is used as two types, gcc 12 keeps a copy of it on the stack. */
typedef int ints __attribute__((vector_size(32)));

/* Of the inputs k … k+7 those that are there and not wide. */
INLINE __m256i kept(const struct pack_args *args, size_t k)
{
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i bits = _mm256_set1_epi32(args->keep[k / 16] >> k % 16);
    return _mm256_cmpeq_epi32(_mm256_and_si256(bits, lane), lane);
}

/* The range of a row's group at x; 0 … 0 where every column is wide. */
INLINE void group_range(const struct pack_args *args, const float *x, size_t k, float *ret_low,
                        float *ret_high)
{
    const vf most = vf_set1(INFINITY);
    const vf least = vf_set1(-INFINITY);
    vf minus_low = least;
    vf high = least;
    for (size_t i = 0; i < args->group && k + i < args->in; i += LANES) {
        __m256i mask = kept(args, k + i);
        vf v = _mm256_maskload_ps(x + i, mask);
        vf low = _mm256_blendv_ps(most, v, _mm256_castsi256_ps(mask));
        minus_low = vf_max(minus_low, vf_sub(vf_set1(0.0f), low));
        high = vf_max(high, _mm256_blendv_ps(least, v, _mm256_castsi256_ps(mask)));
    }
    *ret_low = -vf_largest(minus_low);
    *ret_high = vf_largest(high);
    if (!(*ret_low <= *ret_high)) {
        *ret_low = 0.0f;
        *ret_high = 0.0f;
    }
}

/* round((x − low)·inverse) of the eight columns from `at` on; what stands in wide columns and
 * behind n meets zeros. */
INLINE __m256i quantize(const float *x, size_t at, size_t n, vf low, vf inverse)
{
    size_t some = n > at ? n - at : 0;
    vf v = vf_load_n(some > 0 ? x + at : x, some);
    return _mm256_cvtps_epi32(vf_mul(vf_sub(v, low), inverse));
}

/* Up to 32 columns → 8 words of four unsigned bytes. */
INLINE __m256i quantize_32(const float *x, size_t n, vf low, vf inverse)
{
    __m256i front = _mm256_packus_epi32(quantize(x, 0, n, low, inverse),
                                        quantize(x, 8, n, low, inverse));
    __m256i back = _mm256_packus_epi32(quantize(x, 16, n, low, inverse),
                                       quantize(x, 24, n, low, inverse));
    /* Packing goes by halves of the register: words 0 2 4 6 1 3 5 7. */
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static void pack_group(const struct pack_args *args, size_t row, size_t k)
{
    const float *x = args->x + row * args->ld + k;
    size_t n = args->in - k < args->group ? args->in - k : args->group;
    size_t at = k / args->group * args->rows + row;
    float low;
    float high;
    group_range(args, x, k, &low, &high);
    args->scales[at] = (high - low) / 255.0f;
    args->lows[at] = low;
    const vf lows = vf_set1(low);
    const vf inverse = vf_set1(high > low ? 255.0f / (high - low) : 0.0f);
    for (size_t i = 0; i < n; i += 32) {
        uint32_t words[8];
        _mm256_storeu_si256((__m256i *)words, quantize_32(x + i, n - i, lows, inverse));
        for (size_t w = 0; w < 8 && i + 4 * w < n; w++) {
            args->words[((k + i) / 4 + w) * args->stride + row] = words[w];
        }
    }
}

static void pack_rows(const struct pack_args *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        for (size_t k = 0; k < args->in; k += args->group) {
            pack_group(args, row, k);
        }
    }
}

/* What stands before the words, in fp32: sums = Σ low·(its weight) + Σ wide·(its weight). */
INLINE void multiply_floats(const size_t rows, size_t n, const float *a, const float *b,
                            vf sums[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = _mm256_setzero_ps();
        sums[r][1] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < n; k++) {
        vf b0 = _mm256_load_ps(b);
        vf b1 = _mm256_load_ps(b + LANES);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = _mm256_broadcast_ss(a + r);
            sums[r][0] = _mm256_fmadd_ps(x, b0, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(x, b1, sums[r][1]);
        }
        a += rows;
        b += COLUMNS;
    }
}

/* dots = the integer sums of one group. */
INLINE void multiply_words(const size_t rows, size_t n, const uint32_t *a, const uint32_t *b,
                           const char *next, size_t next_step, ints dots[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][0] = (ints)_mm256_setzero_si256();
        dots[r][1] = (ints)_mm256_setzero_si256();
    }
    for (size_t k = 0; k < n; k++) {
        __m256i b0 = _mm256_load_si256((const __m256i *)b);
        __m256i b1 = _mm256_load_si256((const __m256i *)(b + LANES));
        _mm_prefetch(next, _MM_HINT_T1);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i x = _mm256_set1_epi32((int)a[r]);
            dots[r][0] = (ints)DPBUSD256((__m256i)dots[r][0], x, b0);
            dots[r][1] = (ints)DPBUSD256((__m256i)dots[r][1], x, b1);
        }
        a += rows;
        b += COLUMNS;
        next += next_step;
    }
}

/* sums + dots·row·columns */
INLINE vf add_scaled(vf sums, ints dots, vf row, vf columns)
{
    return vf_fma(vf_mul(_mm256_cvtepi32_ps((__m256i)dots), row), columns, sums);
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const float *row_scales = args->a;
    const float *column_scales = args->b;
    const float *floats_a = row_scales + args->groups * rows;
    const float *floats_b = column_scales + args->groups * COLUMNS;
    size_t floats = args->groups + args->wide;
    const uint32_t *a = (const uint32_t *)(floats_a + floats * rows);
    const uint32_t *b = (const uint32_t *)(floats_b + floats * COLUMNS);
    const char *next = args->next;
    vf sums[ROWS][2];
    multiply_floats(rows, floats, floats_a, floats_b, sums);
    for (size_t k = 0; k < args->words; k += args->group_words) {
        size_t n = args->words - k < args->group_words ? args->words - k : args->group_words;
        ints dots[ROWS][2];
        multiply_words(rows, n, a, b, next, args->next_step, dots);
        vf columns[2] = {_mm256_load_ps(column_scales), _mm256_load_ps(column_scales + LANES)};
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf row = _mm256_broadcast_ss(row_scales + r);
            sums[r][0] = add_scaled(sums[r][0], dots[r][0], row, columns[0]);
            sums[r][1] = add_scaled(sums[r][1], dots[r][1], row, columns[1]);
        }
        a += n * rows;
        b += n * COLUMNS;
        next += n * args->next_step;
        row_scales += rows;
        column_scales += COLUMNS;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(args->tile + r * args->ld, sums[r][0]);
        _mm256_storeu_ps(args->tile + r * args->ld + LANES, sums[r][1]);
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
    default:
        multiply_rows(3, args);
        break;
    }
}

#define AVX2_INT8_KERNEL(label)                                                                    \
    {                                                                                              \
        .name = (label), .precision = PRECISION_INT8, .group = 4, .rows_max = ROWS, .row_unit = 1, \
        .word_unit = 1, .columns = COLUMNS, .pack_max = PACK, .pack_rows = pack_rows,              \
        .multiply = multiply,                                                                      \
    }

#endif
