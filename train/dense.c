#include "train/dense.h"

#include <cblas.h>
#include <string.h>

#include "train/kernels/kernels.h"

/* Columns are shared out in whole cache lines. */
enum { GRAIN = 16 };

void dense_setup(void)
{
    openblas_set_num_threads(1);
}

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
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)rows, (blasint)(to - from),
                (blasint)in, 1.0f, x, (blasint)in, w + from * in, (blasint)in, 1.0f, y + from,
                (blasint)out);
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
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)rows, (blasint)(to - from),
                (blasint)out, 1.0f, dy, (blasint)out, w + from, (blasint)in,
                accumulate ? 1.0f : 0.0f, dx + from, (blasint)in);
}

void dense_backward_weights(struct part part, const float *dy, const float *x, size_t rows,
                            size_t in, size_t out, float *dw, float *db)
{
    size_t from, to;
    part_share(part, out, GRAIN, &from, &to);
    if (from == to) {
        return;
    }
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)(to - from), (blasint)in,
                (blasint)rows, 1.0f, dy + from, (blasint)out, x, (blasint)in, 0.0f, dw + from * in,
                (blasint)in);
    const struct train_kernels *kernels = train_kernels_get();
    memset(db + from, 0, (to - from) * sizeof *db);
    for (size_t r = 0; r < rows; r++) {
        kernels->add(dy + r * out + from, to - from, db + from);
    }
}
