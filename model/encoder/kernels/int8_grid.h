/* How int8 rounds a group of a row's inputs: x = scale·(u − zero) with u in 0 … 255, and of a
 * column's: x = scale·(i + centre) with i in -127 … 127. The range is made to hold 0, which is
 * therefore exact, and zero is in 0 … 254, centre in -127 … 127. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_GRID_H
#define ORTHRUS_MODEL_KERNELS_INT8_GRID_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "model/encoder/kernels/kernels.h"

/* Between the least u and the greatest: one less than bytes have, as both ends and zero are rounded
 * to steps. */
#define INT8_STEPS 254.0f

/* The largest magnitude of a weight's byte; and of a group's weights in steps, so that their sum of
 * products with inputs of 255 steps stays below 2^22. */
enum { INT8_MOST = 127, INT8_MAGNITUDE_MAX = (1 << 22) / 255 - 1 };

/* The last two bits of a scale: without them three times it is exact. */
enum { INT8_SCALE_LOST = 3 };

/* Bits of a word of `keep`. */
enum { KEPT_BITS = 16 };

/* How many of n inputs from k on are there and not wide; k begins a group, n ends it. */
static inline int32_t int8_count_kept(const struct pack_args *args, size_t k, size_t n)
{
    int32_t count = 0;
    for (size_t at = k; at < k + n; at += KEPT_BITS) {
        count += __builtin_popcount(args->keep[at / KEPT_BITS]);
    }
    return count;
}

struct int8_grid {
    float scale;   /* NaN where an input is */
    float inverse; /* 1/scale; 0 where scale is 0 */
    float zero;    /* integral */
};

/* Two int16_t in a word: the second above the first. */
static inline uint32_t int8_pair(int32_t first, int32_t second)
{
    return (uint32_t)(uint16_t)first | (uint32_t)(uint16_t)second << 16;
}

/* Of inputs between low ≤ 0 and high ≥ 0; of NaN both. */
static inline struct int8_grid int8_grid_of(float low, float high)
{
    float scale = (high - low) / INT8_STEPS;
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits &= ~(uint32_t)INT8_SCALE_LOST;
    memcpy(&scale, &bits, sizeof bits);
    if (scale < FLT_MIN) {
        return (struct int8_grid){0};
    }
    float inverse = 1.0f / scale;
    return (struct int8_grid){scale, inverse, rintf(-low * inverse)};
}

/* Of weights. */
struct int8_weights {
    float scale;
    float inverse; /* 1/scale; 0 where scale is 0 */
    float centre;  /* integral */
};

/* Of weights between low ≤ 0 and high ≥ 0: bytes from the middle of the range on, or from 0 on. */
static inline struct int8_weights int8_weights_of(float low, float high, bool centred)
{
    float reach = centred ? 0.5f * high - 0.5f * low : fmaxf(high, -low);
    /* Half a step less: the middle is rounded to a step, too. */
    float scale = reach / (centred ? (float)INT8_MOST - 0.5f : (float)INT8_MOST);
    if (scale < FLT_MIN) {
        return (struct int8_weights){0};
    }
    float inverse = 1.0f / scale;
    return (struct int8_weights){scale, inverse,
                                 centred ? rintf((0.5f * high + 0.5f * low) * inverse) : 0.0f};
}

/* What stands before a row's words for the group at `at`. zero_bytes: what was taken off the bytes
 * before they were stored; sum: Σu; count: of inputs that are there and not wide. */
static inline void int8_note_group(const struct pack_args *args, size_t at, struct int8_grid grid,
                                   int32_t sum, int32_t count, int32_t zero_bytes)
{
    int32_t zero = isnan(grid.zero) ? 0 : (int32_t)grid.zero;
    args->scales[at] = grid.scale;
    args->offsets[at] = -INT8_ZERO * grid.scale;
    args->pairs[at] = int8_pair(zero - zero_bytes, sum - zero * count);
}

#endif
