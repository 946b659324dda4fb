/* int8 in 256-bit vectors, written once over DPBUSD256(sum, a, b): each of eight 32-bit lanes of
 * sum plus the four products of a's unsigned bytes with b's signed ones. The file that includes
 * this says by which instructions: kernel_avxvnni.c, kernel_avx2_int8.c, and tests. */
#ifndef ORTHRUS_MODEL_KERNELS_AVX2_INT8_H
#define ORTHRUS_MODEL_KERNELS_AVX2_INT8_H

#include <math.h>

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx2.h"

/* 3 rows × 16 columns: the integer sums of a group and the fp32 sums of all groups take 12 of the
 * 16 registers. */
enum { ROWS = 3, KEPT_BITS = 16 };

#define WORD_VECTOR        __m256i
#define LOAD_WORDS(p)      _mm256_load_si256((const __m256i *)(p))
#define SET1_WORD(word)    _mm256_set1_epi32((int)(word))
#define WORDS_TO_VF(words) _mm256_cvtepi32_ps(words)
#define DPBUSD(sum, a, b)  DPBUSD256(sum, a, b)
#include "model/encoder/kernels/int8_columns.h"
#include "model/encoder/kernels/int8_tile.h"

/* Of the inputs k … k+7 those that are there and not wide. */
INLINE __m256i kept(const struct pack_args *args, size_t k)
{
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i bits = _mm256_set1_epi32(args->keep[k / KEPT_BITS] >> k % KEPT_BITS);
    return _mm256_cmpeq_epi32(_mm256_and_si256(bits, lane), lane);
}

/* The range of a row's group at x, NaN where one of its inputs is NaN (which minimum and maximum
 * would drop); 0 … 0 where every column is wide. */
INLINE void group_range(const struct pack_args *args, const float *x, size_t k, float *ret_low,
                        float *ret_high)
{
    const vf most = vf_set1(INFINITY);
    const vf least = vf_set1(-INFINITY);
    vf minus_low = least;
    vf high = least;
    vf nan = vf_set1(0.0f);
    for (size_t i = 0; i < args->group && k + i < args->in; i += LANES) {
        __m256i mask = kept(args, k + i);
        vf v = _mm256_maskload_ps(x + i, mask);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        vf low = _mm256_blendv_ps(most, v, _mm256_castsi256_ps(mask));
        minus_low = vf_max(minus_low, vf_sub(vf_set1(0.0f), low));
        high = vf_max(high, _mm256_blendv_ps(least, v, _mm256_castsi256_ps(mask)));
    }
    *ret_low = -vf_largest(minus_low);
    *ret_high = vf_largest(high);
    if (_mm256_movemask_ps(nan)) {
        *ret_low = NAN;
        *ret_high = NAN;
    } else if (!(*ret_low <= *ret_high)) {
        *ret_low = 0.0f;
        *ret_high = 0.0f;
    }
}

/* round((x − low)·inverse) of the eight columns from k on; 0 in those that are wide or not there.
 */
INLINE __m256i quantize(const struct pack_args *args, const float *x, size_t k, vf low, vf inverse)
{
    if (k >= args->in) {
        return _mm256_setzero_si256();
    }
    __m256i mask = kept(args, k);
    vf v = _mm256_maskload_ps(x, mask);
    return _mm256_and_si256(_mm256_cvtps_epi32(vf_mul(vf_sub(v, low), inverse)), mask);
}

/* 32 columns from k on → 8 words of four unsigned bytes. */
INLINE __m256i quantize_32(const struct pack_args *args, const float *x, size_t k, vf low,
                           vf inverse)
{
    __m256i front = _mm256_packus_epi32(quantize(args, x, k, low, inverse),
                                        quantize(args, x + 8, k + 8, low, inverse));
    __m256i back = _mm256_packus_epi32(quantize(args, x + 16, k + 16, low, inverse),
                                       quantize(args, x + 24, k + 24, low, inverse));
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

/* How many of the columns from k to end are there and not wide. */
INLINE float count_kept(const struct pack_args *args, size_t k, size_t end)
{
    int count = 0;
    for (; k < end; k += KEPT_BITS) {
        count += __builtin_popcount(args->keep[k / KEPT_BITS]);
    }
    return (float)count;
}

static void pack_group(const struct pack_args *args, size_t row, size_t k)
{
    const float *x = args->x + row * args->ld + k;
    size_t n = args->in - k < args->group ? args->in - k : args->group;
    size_t at = k / args->group * args->rows + row;
    float low;
    float high;
    group_range(args, x, k, &low, &high);
    float scale = (high - low) / 255.0f;
    const vf lows = vf_set1(low);
    const vf inverse = vf_set1(high > low ? 255.0f / (high - low) : 0.0f);
    int steps = 0;
    for (size_t i = 0; i < n; i += 32) {
        uint32_t words[8];
        __m256i bytes = quantize_32(args, x + i, k + i, lows, inverse);
        steps += add_bytes(bytes);
        _mm256_storeu_si256((__m256i *)words, bytes);
        for (size_t w = 0; w < 8 && i + 4 * w < n; w++) {
            args->words[((k + i) / 4 + w) * args->stride + row] = words[w];
        }
    }
    args->scales[at] = scale;
    args->lows[at] = low;
    args->sums[at] = low * count_kept(args, k, k + n) + scale * (float)steps;
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
    ROWS_DISPATCH(ROWS, multiply_rows, args)
}

#define AVX2_INT8_KERNEL(label)                                                           \
    {                                                                                     \
        .name = (label), .precision = PRECISION_INT8, .word_inputs = 4, .rows_max = ROWS, \
        .row_unit = 1, .word_unit = 1, .columns = INT8_COLUMNS, .pack_max = INT8_COLUMNS, \
        .pack_rows = pack_rows, .pack_columns = pack_columns, .multiply = multiply,       \
    }

#endif
