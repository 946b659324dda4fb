#include "train/network/dense.h"

#include <string.h>

#include "model/encoder/blas.h"
#include "train/network/kernels/kernels.h"

/* Columns are shared out in whole cache lines. */
enum { GRAIN = 16 };

void dense_forward(struct part part, const float *x, const float *w, const float *b, size_t rows,
                   size_t in, size_t out, float *y, size_t *ret_from, size_t *ret_to)
{
    size_t from, to;
    part_share(part, out, GRAIN, &from, &to);
    *ret_from = from;
    *ret_to = to;
    if (from == to) {
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        memcpy(y + r * out + from, b + from, (to - from) * sizeof *y);
    }
    const struct blas_call product = {
        .transpose_b = true,
        .m = rows,
        .n = to - from,
        .k = in,
        .a = x,
        .a_ld = in,
        .b = w + from * in,
        .b_ld = in,
        .beta = 1.0f,
        .c = y + from,
        .c_ld = out,
    };
    blas_multiply(&product);
}

void dense_backward_input(struct part part, const float *dy, const float *w, size_t rows, size_t in,
                          size_t out, int accumulate, float *dx, size_t *ret_from, size_t *ret_to)
{
    size_t from, to;
    part_share(part, in, GRAIN, &from, &to);
    *ret_from = from;
    *ret_to = to;
    if (from == to) {
        return;
    }
    const struct blas_call product = {
        .m = rows,
        .n = to - from,
        .k = out,
        .a = dy,
        .a_ld = out,
        .b = w + from,
        .b_ld = in,
        .beta = accumulate ? 1.0f : 0.0f,
        .c = dx + from,
        .c_ld = in,
    };
    blas_multiply(&product);
}

void dense_backward_weights(struct part part, const float *dy, const float *x, size_t rows,
                            size_t in, size_t out, float *dw, float *db)
{
    size_t from, to;
    part_share(part, out, GRAIN, &from, &to);
    if (from == to) {
        return;
    }
    const struct blas_call product = {
        .transpose_a = true,
        .m = to - from,
        .n = in,
        .k = rows,
        .a = dy + from,
        .a_ld = out,
        .b = x,
        .b_ld = in,
        .c = dw + from * in,
        .c_ld = in,
    };
    blas_multiply(&product);
    const struct train_kernels *kernels = train_kernels_get();
    memset(db + from, 0, (to - from) * sizeof *db);
    for (size_t r = 0; r < rows; r++) {
        kernels->add(dy + r * out + from, to - from, db + from);
    }
}
