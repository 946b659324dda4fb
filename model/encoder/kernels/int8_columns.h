/* Weights → int8, written once over the vector type of simd_<set>.h, which the file that includes
 * this has included. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_COLUMNS_H
#define ORTHRUS_MODEL_KERNELS_INT8_COLUMNS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/unroll.h"

/* The largest magnitude of a weight's byte; bits of a word of `keep`. */
enum { INT8_MOST = 127, KEEP_BITS = 16 };

typedef int32_t lane_ints __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef int8_t lane_bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

/* All bits set in the lanes of inputs k … k+LANES-1 that are there and not wide. k is a multiple of
 * LANES. */
INLINE lane_ints kept_lanes(const struct pack_args *args, size_t k)
{
    static const int32_t bits[KEEP_BITS] = {1,       1 << 1,  1 << 2,  1 << 3, 1 << 4,  1 << 5,
                                            1 << 6,  1 << 7,  1 << 8,  1 << 9, 1 << 10, 1 << 11,
                                            1 << 12, 1 << 13, 1 << 14, 1 << 15};
    lane_ints lane;
    memcpy(&lane, bits, sizeof lane);
    return ((args->keep[k / KEEP_BITS] >> k % KEEP_BITS) & lane) != 0;
}

/* a in the lanes that `where` has, b in the others. */
INLINE vf lanes_or(lane_ints where, vf a, vf b)
{
    return (vf)(((lane_ints)a & where) | ((lane_ints)b & ~where));
}

INLINE vf columns_load(const struct pack_args *args, const float *row, size_t k)
{
    return args->in - k >= LANES ? vf_load(row + k) : vf_load_n(row + k, args->in - k);
}

/* The range of a row's weights [from,to) that are not wide: centre ± reach. */
struct weight_range {
    float centre;
    float reach;
};

/* False where one of the weights is not finite; 0 ± 0 where all are wide. */
INLINE bool weight_range(const struct pack_args *args, const float *row, size_t from, size_t to,
                         struct weight_range *ret)
{
    const vf most = vf_set1(INFINITY);
    const vf zero = vf_set1(0.0f);
    vf minus_low = vf_set1(-INFINITY);
    vf high = vf_set1(-INFINITY);
    vf strange = zero; /* NaN once a weight is none or infinite */
    for (size_t k = from; k < to; k += LANES) {
        lane_ints kept = kept_lanes(args, k);
        vf v = columns_load(args, row, k);
        strange = vf_add(strange, vf_sub(v, v));
        minus_low = vf_max(vf_sub(zero, lanes_or(kept, v, most)), minus_low);
        high = vf_max(lanes_or(kept, v, vf_sub(zero, most)), high);
    }
    if (isnan(vf_sum(strange))) {
        return false;
    }
    float least = -vf_largest(minus_low);
    float largest = vf_largest(high);
    *ret = least > largest ? (struct weight_range){0.0f, 0.0f}
                           : (struct weight_range){0.5f * least + 0.5f * largest,
                                                   0.5f * largest - 0.5f * least};
    return true;
}

/* A row's weights [from,to) → words of four bytes, wide ones and those behind the end of the row 0.
 * Returns the bytes' sum. */
INLINE int32_t quantize_weights(const struct pack_args *args, const float *row, size_t from,
                                size_t to, struct weight_range range, uint32_t *words)
{
    const float steps = (float)INT8_MOST / range.reach;
    const vf inverse = vf_set1(range.reach > 0.0f && steps <= FLT_MAX ? steps : 0.0f);
    const vf centre = vf_set1(range.centre);
    const vf most = vf_set1(INT8_MOST);
    const vf least = vf_set1(-INT8_MOST);
    lane_ints sums = {0};
    for (size_t k = from; k < to; k += LANES) {
        vf v = vf_mul(vf_sub(columns_load(args, row, k), centre), inverse);
        v = vf_round(vf_max(vf_min(v, most), least));
        lane_ints ints = __builtin_convertvector(v, lane_ints) & kept_lanes(args, k);
        *(lane_bytes *)&words[(k - from) / sizeof *words] = __builtin_convertvector(ints,
                                                                                    lane_bytes);
        sums += ints;
    }
    int32_t sum = 0;
    for (size_t i = 0; i < LANES; i++) {
        sum += sums[i];
    }
    return sum;
}

/* What has no range has no bytes: its scale and its centre are NaN, so that what they multiply does
 * not look like a number. */
static void pack_columns(const struct pack_args *args)
{
    uint32_t words[INT8_GROUP_MAX / sizeof(uint32_t)];
    for (size_t c = 0; c < args->rows; c++) {
        const float *row = args->x + c * args->ld;
        for (size_t from = 0; from < args->in; from += args->group) {
            size_t to = args->in - from < args->group ? args->in : from + args->group;
            size_t at = from / args->group * args->stride + c;
            struct weight_range range = {NAN, NAN};
            int32_t sum = 0;
            if (weight_range(args, row, from, to, &range)) {
                sum = quantize_weights(args, row, from, to, range, words);
            } else {
                memset(words, 0, sizeof words);
            }
            args->scales[at] = range.reach / (float)INT8_MOST;
            args->sums[at] = args->scales[at] * (float)sum;
            args->lows[at] = range.centre;
            uint32_t *out = args->words + from / sizeof *words * args->stride + c;
            for (size_t i = 0; i < (to - from + sizeof *words - 1) / sizeof *words; i++) {
                out[i * args->stride] = words[i];
            }
        }
    }
}

#endif
