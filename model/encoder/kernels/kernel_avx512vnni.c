/* int8 on AVX512-VNNI. */
#if defined(__x86_64__)
#include <math.h>
#include <stdbool.h>

#include "model/encoder/kernels/avx512_tile.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx512.h"

enum { BYTES = 64 }; /* of a register */

/* Lanes of 16 columns that are there and not wide. */
INLINE __mmask16 kept(const struct pack_args *args, size_t k)
{
    return (__mmask16)args->keep[k / 16];
}

/* 16 columns as bytes: round((x − low)·inverse), 0 in those that are wide or not there. */
INLINE __m128i quantize(const float *x, __mmask16 mask, vf low, vf inverse)
{
    vf v = vf_mul(vf_sub(_mm512_maskz_loadu_ps(mask, x), low), inverse);
    return _mm512_cvtusepi32_epi8(_mm512_maskz_cvtps_epi32(mask, v));
}

/* 64 columns of which n are there. */
INLINE __m512i quantize_64(const struct pack_args *args, const float *x, size_t k, size_t n, vf low,
                           vf inverse)
{
    __m128i parts[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        bool some = n > 16 * i;
        parts[i] = quantize(some ? x + 16 * i : x, some ? kept(args, k + 16 * i) : 0, low, inverse);
    }
    __m512i words = _mm512_castsi128_si512(parts[0]);
    words = _mm512_inserti32x4(words, parts[1], 1);
    words = _mm512_inserti32x4(words, parts[2], 2);
    return _mm512_inserti32x4(words, parts[3], 3);
}

/* The range of a row's group, NaN where one of its inputs is NaN (which minimum and maximum would
 * drop); 0 … 0 where every column is wide. */
INLINE void group_range(const struct pack_args *args, const float *x, size_t k, float *ret_low,
                        float *ret_high)
{
    vf low = vf_set1(INFINITY);
    vf high = vf_set1(-INFINITY);
    __mmask16 nan = 0;
    for (size_t i = 0; i < args->group && k + i < args->in; i += 16) {
        __mmask16 mask = kept(args, k + i);
        vf v = _mm512_maskz_loadu_ps(mask, x + i);
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        low = _mm512_mask_min_ps(low, mask, low, v);
        high = _mm512_mask_max_ps(high, mask, high, v);
    }
    *ret_low = _mm512_reduce_min_ps(low);
    *ret_high = _mm512_reduce_max_ps(high);
    if (nan) {
        *ret_low = NAN;
        *ret_high = NAN;
    } else if (!(*ret_low <= *ret_high)) {
        *ret_low = 0.0f;
        *ret_high = 0.0f;
    }
}

/* How many columns of the group at k are there and not wide. */
INLINE float group_count(const struct pack_args *args, size_t k)
{
    int count = 0;
    for (size_t i = k; i < k + args->group && i < args->in; i += 16) {
        count += __builtin_popcount(args->keep[i / 16]);
    }
    return (float)count;
}

/* Words of four unsigned bytes; each group of a row by its own range. */
static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k += args->group) {
        size_t first = k / args->group * args->rows;
        vf inverses[TILE_PACK];
        vf lows[TILE_PACK];
        long long steps[TILE_PACK] = {0}; /* the sums of the bytes */
        for (size_t r = 0; r < args->rows; r++) {
            float low;
            float high;
            group_range(args, args->x + r * args->ld + k, k, &low, &high);
            args->scales[first + r] = (high - low) / 255.0f;
            args->lows[first + r] = low;
            inverses[r] = vf_set1(high > low ? 255.0f / (high - low) : 0.0f);
            lows[r] = vf_set1(low);
        }
        size_t end = args->in - k < args->group ? args->in : k + args->group;
        for (size_t at = k; at < end; at += BYTES) {
            size_t n = end - at < BYTES ? end - at : BYTES;
            __m512i rows[16];
            UNROLL
            for (size_t r = 0; r < 16; r++) {
                rows[r] = _mm512_setzero_si512();
                if (r < args->rows) {
                    rows[r] = quantize_64(args, args->x + r * args->ld + at, at, n, lows[r],
                                          inverses[r]);
                    steps[r] += _mm512_reduce_add_epi64(
                        _mm512_sad_epu8(rows[r], _mm512_setzero_si512()));
                }
            }
            store_interleaved(rows, (n + 3) / 4, args->words + at / 4 * args->stride, args->stride);
        }
        float count = group_count(args, k);
        for (size_t r = 0; r < args->rows; r++) {
            args->sums[first + r] = args->lows[first + r] * count +
                                    args->scales[first + r] * (float)steps[r];
        }
    }
}

/* Half as many rows as the other precisions: the integer sums of a group and the fp32 sums of all
 * groups are in registers together. */
enum { ROWS = 7 };

#define WORD_VECTOR        __m512i
#define LOAD_WORDS(p)      _mm512_load_si512(p)
#define SET1_WORD(word)    _mm512_set1_epi32((int)(word))
#define WORDS_TO_VF(words) _mm512_cvtepi32_ps(words)
#define DPBUSD(sum, a, b)  _mm512_dpbusd_epi32(sum, a, b)
#include "model/encoder/kernels/int8_columns.h"
#include "model/encoder/kernels/int8_tile.h"

static void multiply(const struct multiply_args *args)
{
    ROWS_DISPATCH(ROWS, multiply_rows, args)
}

const struct tile_kernel tile_avx512_int8 = {
    .name = "avx512 int8",
    .precision = PRECISION_INT8,
    .word_inputs = 4,
    .rows_max = ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = INT8_COLUMNS,
    .pack_max = INT8_COLUMNS,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .multiply = multiply,
};
#endif
