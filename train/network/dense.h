/* y = x·Wᵀ + b and its way back, on OpenBLAS: nn.Linear with W [out,in]. Every member of a team
 * calls each function and computes its own columns or rows of the result with single-threaded
 * products, so that sums have a fixed order. No barrier inside. After blas_open.
 *
 * ld is the distance of rows of x or y; weights and their gradients are dense. */
#ifndef ORTHRUS_TRAIN_DENSE_H
#define ORTHRUS_TRAIN_DENSE_H

#include <stddef.h>

#include "train/network/crew.h"

/* y [rows,out] = x [rows,in] · wᵀ + b, this member's columns [*ret_from, *ret_to) of y. */
void dense_forward(struct part part, const float *x, const float *w, const float *b, size_t rows,
                   size_t in, size_t out, float *y, size_t *ret_from, size_t *ret_to);

/* dx [rows,in] = dy [rows,out] · w, added to dx where accumulate is 1, this member's columns. */
void dense_backward_input(struct part part, const float *dy, const float *w, size_t rows, size_t in,
                          size_t out, int accumulate, float *dx, size_t *ret_from, size_t *ret_to);

/* dw [out,in] = dyᵀ · x, db [out] = the sum of dy's rows, this member's rows of dw. */
void dense_backward_weights(struct part part, const float *dy, const float *x, size_t rows,
                            size_t in, size_t out, float *dw, float *db);

#endif
