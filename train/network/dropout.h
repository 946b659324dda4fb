/* Dropout (Srivastava et al. 2014) with a counter-based generator: the mask of an element is a
 * pure function of seed, step, place, row and column, so the way back makes it again instead of
 * keeping it, and neither threads nor a resumed run change it. */
#ifndef ORTHRUS_TRAIN_DROPOUT_H
#define ORTHRUS_TRAIN_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

/* One place in one step. */
struct dropout {
    float rate; /* 0 ≤ rate < 1; 0: the functions do nothing */
    uint64_t seed;
    uint32_t step;
    uint32_t place; /* which dropout of the network; below 2^16 */
};

/* In place over one row: dropped elements 0, the others divided by 1 - rate. */
void dropout_row(const struct dropout *dropout, size_t row, float *x, size_t n);

/* A uniform 32-bit number from (seed, stream, index): for shuffling, splitting, initial heads. */
uint32_t random_u32(uint64_t seed, uint32_t stream, uint64_t index);
/* Uniform in [0, bound), bound ≥ 1, without bias that matters (64-bit multiply). */
uint64_t random_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t bound);
/* A permutation of 0 … n-1 (Fisher & Yates) into order. */
void random_order(uint64_t seed, uint32_t stream, size_t n, size_t *order);

/* The streams in use. */
enum { STREAM_HEADS = 0x10000, STREAM_SPLIT = 0x20000, STREAM_EPOCH = 0x30000 };

#endif
