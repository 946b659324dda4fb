/* Weights → int8, written once over the vector type of simd_<set>.h, which the file that includes
 * this has included. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_COLUMNS_H
#define ORTHRUS_MODEL_KERNELS_INT8_COLUMNS_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "model/encoder/kernels/int8_grid.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/unroll.h"

typedef int32_t lane_ints __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef int8_t lane_bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

/* All bits set in the lanes of inputs k … k+LANES-1 that are there and not wide. k is a multiple of
 * LANES. */
INLINE lane_ints kept_lanes(const struct pack_args *args, size_t k)
{
    static const int32_t bits[KEPT_BITS] = {1,       1 << 1,  1 << 2,  1 << 3, 1 << 4,  1 << 5,
                                            1 << 6,  1 << 7,  1 << 8,  1 << 9, 1 << 10, 1 << 11,
                                            1 << 12, 1 << 13, 1 << 14, 1 << 15};
    lane_ints lane;
    memcpy(&lane, bits, sizeof lane);
    return ((args->keep[k / KEPT_BITS] >> k % KEPT_BITS) & lane) != 0;
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

/* The least of a row's weights [from,to) that are not wide and 0, and the greatest; false where one
 * of them is not finite. */
INLINE bool weight_range(const struct pack_args *args, const float *row, size_t from, size_t to,
                         float *ret_low, float *ret_high)
{
    const vf zero = vf_set1(0.0f);
    vf minus_low = zero;
    vf high = zero;
    vf strange = zero; /* NaN once a weight is none or infinite */
    for (size_t k = from; k < to; k += LANES) {
        vf v = columns_load(args, row, k);
        __builtin_prefetch(row + args->ld + k); /* the next row, from memory */
        strange = vf_add(strange, vf_sub(v, v));
        v = lanes_or(kept_lanes(args, k), v, zero);
        minus_low = vf_max(vf_sub(zero, v), minus_low);
        high = vf_max(v, high);
    }
    if (isnan(vf_sum(strange))) {
        return false;
    }
    *ret_low = -vf_largest(minus_low);
    *ret_high = vf_largest(high);
    return true;
}

/* A row's weights [from,to) → words of four bytes, wide ones and those behind the end of the row 0.
 * Returns the bytes' sum, and the sum of |byte + centre|. */
INLINE int32_t quantize_weights(const struct pack_args *args, const float *row, size_t from,
                                size_t to, struct int8_weights grid, uint32_t *words,
                                float *ret_magnitude)
{
    const vf zero = vf_set1(0.0f);
    const vf inverse = vf_set1(grid.inverse);
    const vf centre = vf_set1(grid.centre);
    const vf most = vf_set1(INT8_MOST);
    const vf least = vf_set1(-INT8_MOST);
    vf magnitudes = zero;
    lane_ints sums = {0};
    for (size_t k = from; k < to; k += LANES) {
        lane_ints kept = kept_lanes(args, k);
        vf v = vf_sub(vf_round(vf_mul(columns_load(args, row, k), inverse)), centre);
        v = vf_max(vf_min(v, most), least);
        vf steps = lanes_or(kept, vf_add(v, centre), zero);
        magnitudes = vf_add(magnitudes, vf_max(steps, vf_sub(zero, steps)));
        lane_ints ints = __builtin_convertvector(v, lane_ints) & kept;
        *(lane_bytes *)&words[(k - from) / sizeof *words] = __builtin_convertvector(ints,
                                                                                    lane_bytes);
        sums += ints;
    }
    int32_t sum = 0;
    for (size_t i = 0; i < LANES; i++) {
        sum += sums[i];
    }
    *ret_magnitude = vf_sum(magnitudes);
    return sum;
}

/* What is not finite has no bytes: its scale is NaN, so that what they multiply does not look like
 * a number. */
static void pack_columns(const struct pack_args *args)
{
    uint32_t words[INT8_GROUP_MAX / sizeof(uint32_t)];
    for (size_t c = 0; c < args->rows; c++) {
        const float *row = args->x + c * args->ld;
        for (size_t from = 0; from < args->in; from += args->group) {
            size_t to = args->in - from < args->group ? args->in : from + args->group;
            size_t at = from / args->group * args->stride + c;
            struct int8_weights grid = {.scale = NAN};
            int32_t sum = 0;
            float low;
            float high;
            if (weight_range(args, row, from, to, &low, &high)) {
                float magnitude;
                grid = int8_weights_of(low, high, true);
                sum = quantize_weights(args, row, from, to, grid, words, &magnitude);
                if (magnitude > INT8_MAGNITUDE_MAX) {
                    grid = int8_weights_of(low, high, false); /* at most 127 each */
                    sum = quantize_weights(args, row, from, to, grid, words, &magnitude);
                }
            } else {
                memset(words, 0, sizeof words);
            }
            args->scales[at] = grid.scale;
            args->pairs[at] = int8_pair(-sum, (int32_t)grid.centre);
            uint32_t *out = args->words + from / sizeof *words * args->stride + c;
            for (size_t i = 0; i < (to - from + sizeof *words - 1) / sizeof *words; i++) {
                out[i * args->stride] = words[i];
            }
        }
    }
}

#endif
