/* OpenBLAS, loaded only where something multiplies with it: as it is loaded it starts a thread for
 * every CPU but one, which a process on our own kernels never uses. */
#ifndef ORTHRUS_MODEL_BLAS_H
#define ORTHRUS_MODEL_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Tells the library that will be loaded to start no threads. Call once, in main, before threads
 * start: it changes the environment. */
void blas_setup(void);

/* Loads the library for this process; does nothing where it is loaded. Thread-safe. Errors:
 * ERR_UNSUPPORTED where it can't be loaded. */
CHECK_RESULT enum err_code blas_open(struct err *err);

/* One product of row-major matrices in fp32, as BLAS' sgemm with alpha 1, on the calling thread:
 * c [m,n] = op(a) [m,k] · op(b) [k,n] + beta·c, where op transposes if told so; `ld` is the
 * distance of two rows as they are stored. */
struct blas_call {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    const float *a;
    size_t a_ld;
    const float *b;
    size_t b_ld;
    float beta;
    float *c;
    size_t c_ld;
};
/* Thread-safe, after blas_open has succeeded once (CHECKed). */
void blas_multiply(const struct blas_call *call);

#endif
