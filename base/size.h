/* Sizes that can't wrap: checked multiply and add on size_t. Every size that depends on input goes
 * through these. */
#ifndef ORTHRUS_BASE_SIZE_H
#define ORTHRUS_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>

/* Each returns false on overflow and then leaves *ret untouched. */
static inline bool size_mul(size_t a, size_t b, size_t *ret)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *ret = product;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *ret)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *ret = sum;
    return true;
}

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ceil(a / b), b > 0. */
static inline size_t size_div_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* a rounded up to a multiple of b, b > 0. The caller knows that it can't overflow. */
static inline size_t size_round_up(size_t a, size_t b)
{
    return size_div_up(a, b) * b;
}

#endif
