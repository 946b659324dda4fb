/* int8 in 256-bit vectors, written once over DPBUSD256(sum, a, b): each of eight 32-bit lanes of
 * sum plus the four products of a's unsigned bytes with b's signed ones, and DPWSSD256(sum, a, b):
 * plus the two products of their int16_t. The file that includes this says by which instructions:
 * kernel_avxvnni.c, kernel_avx2_int8.c, and tests. */
#ifndef ORTHRUS_MODEL_KERNELS_AVX2_INT8_H
#define ORTHRUS_MODEL_KERNELS_AVX2_INT8_H

#include <math.h>

#include "model/encoder/kernels/int8_grid.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx2.h"

/* 3 rows × 16 columns: the integer sums of a group and the fp32 sums of all groups take 12 of the
 * 16 registers. */
enum { ROWS = 3 };

#define WORD_VECTOR       __m256i
#define LOAD_WORDS(p)     _mm256_load_si256((const __m256i *)(p))
#define SET1_WORD(word)   _mm256_set1_epi32((int)(word))
#define DPBUSD(sum, a, b) DPBUSD256(sum, a, b)
#define DPWSSD(sum, a, b) DPWSSD256(sum, a, b)
#include "model/encoder/kernels/int8_columns.h"
#include "model/encoder/kernels/int8_tile.h"

/* Of the inputs k … k+7 those that are there and not wide. */
INLINE __m256i kept(const struct pack_args *args, size_t k)
{
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i bits = _mm256_set1_epi32(args->keep[k / KEPT_BITS] >> k % KEPT_BITS);
    return _mm256_cmpeq_epi32(_mm256_and_si256(bits, lane), lane);
}

/* The grid of a row's group at x. */
INLINE struct int8_grid group_grid(const struct pack_args *args, const float *x, size_t k)
{
    vf minus_low = vf_set1(0.0f);
    vf high = vf_set1(0.0f);
    vf nan = vf_set1(0.0f);
    for (size_t i = 0; i < args->group && k + i < args->in; i += LANES) {
        vf v = _mm256_maskload_ps(x + i, kept(args, k + i)); /* 0 in the others */
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        minus_low = vf_max(vf_sub(vf_set1(0.0f), v), minus_low);
        high = vf_max(v, high);
    }
    if (_mm256_movemask_ps(nan)) {
        return int8_grid_of(NAN, NAN);
    }
    return int8_grid_of(-vf_largest(minus_low), vf_largest(high));
}

/* round(x·inverse) + zero of the eight columns from k on; 0 in those that are wide or not there. */
INLINE __m256i quantize(const struct pack_args *args, const float *x, size_t k, vf inverse, vf zero)
{
    if (k >= args->in) {
        return _mm256_setzero_si256();
    }
    __m256i mask = kept(args, k);
    vf v = _mm256_maskload_ps(x, mask);
    return _mm256_and_si256(_mm256_cvtps_epi32(vf_fma(v, inverse, zero)), mask);
}

/* 32 columns from k on → 8 words of four unsigned bytes. */
INLINE __m256i quantize_32(const struct pack_args *args, const float *x, size_t k, vf inverse,
                           vf zero)
{
    __m256i front = _mm256_packus_epi32(quantize(args, x, k, inverse, zero),
                                        quantize(args, x + 8, k + 8, inverse, zero));
    __m256i back = _mm256_packus_epi32(quantize(args, x + 16, k + 16, inverse, zero),
                                       quantize(args, x + 24, k + 24, inverse, zero));
    /* Packing goes by halves of the register: words 0 2 4 6 1 3 5 7. */
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* The sum of 32 bytes. */
INLINE int add_bytes(__m256i bytes)
{
    __m256i fours = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    return _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 2);
}

static void pack_group(const struct pack_args *args, size_t row, size_t k)
{
    const float *x = args->x + row * args->ld + k;
    size_t n = args->in - k < args->group ? args->in - k : args->group;
    struct int8_grid grid = group_grid(args, x, k);
    const vf inverse = vf_set1(grid.inverse);
    const vf zero = vf_set1(grid.zero);
    int sum = 0;
    for (size_t i = 0; i < n; i += 32) {
        uint32_t words[8];
        __m256i bytes = quantize_32(args, x + i, k + i, inverse, zero);
        sum += add_bytes(bytes);
        _mm256_storeu_si256((__m256i *)words, bytes);
        for (size_t w = 0; w < 8 && i + 4 * w < n; w++) {
            args->words[((k + i) / 4 + w) * args->stride + row] = words[w];
        }
    }
    int8_note_group(args, k / args->group * args->rows + row, grid, sum,
                    int8_count_kept(args, k, n), 0);
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

#define AVX2_INT8_KERNEL(label)                                                           \
    {                                                                                     \
        .name = (label), .precision = PRECISION_INT8, .word_inputs = 4, .rows_max = ROWS, \
        .row_unit = 1, .word_unit = 1, .columns = INT8_COLUMNS, .panels = INT8_PANELS,    \
        .pack_max = INT8_COLUMNS, .pack_rows = pack_rows, .pack_columns = pack_columns,   \
        .multiply = multiply,                                                             \
    }

#endif
