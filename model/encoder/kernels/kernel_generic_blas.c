/* Matrix products by OpenBLAS, for every architecture. */
#include <cblas.h>

#include "model/encoder/kernels/kernels.h"

void blas_multiply(const float *x, size_t x_ld, size_t rows, size_t in, const float *weight,
                   size_t columns, float *out, size_t out_ld)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)rows, (blasint)columns,
                (blasint)in, 1.0f, x, (blasint)x_ld, weight, (blasint)in, 0.0f, out,
                (blasint)out_ld);
}

void blas_single_thread(void)
{
    openblas_set_num_threads(1);
}
