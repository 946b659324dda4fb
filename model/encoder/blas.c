#include "model/encoder/blas.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"

/* By the library's ABI name; the plain one is there where its development files are. */
static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static __typeof__(&cblas_sgemm) sgemm; /* constant after `once` */

void blas_setup(void)
{
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1);
}

/* The library stays: its threads' handlers may not be unmapped. */
static void load(void)
{
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof *names; i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (!library) {
        return;
    }
    __typeof__(&openblas_set_num_threads) set_threads = NULL;
    /* POSIX has the object pointer of dlsym hold a function's address. */
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (set_threads) {
        set_threads(1);
        *(void **)&sgemm = dlsym(library, "cblas_sgemm");
    }
}

enum err_code blas_open(struct err *err)
{
    (void)pthread_once(&once, load);
    if (!sgemm) {
        return err_set(err, ERR_UNSUPPORTED,
                       "libopenblas.so.0 can't be loaded, and this needs it: install OpenBLAS "
                       "(Debian: libopenblas0)");
    }
    return ERR_OK;
}

void blas_multiply(const struct blas_call *call)
{
    CHECK(sgemm);
    sgemm(CblasRowMajor, call->transpose_a ? CblasTrans : CblasNoTrans,
          call->transpose_b ? CblasTrans : CblasNoTrans, (blasint)call->m, (blasint)call->n,
          (blasint)call->k, 1.0f, call->a, (blasint)call->a_ld, call->b, (blasint)call->b_ld,
          call->beta, call->c, (blasint)call->c_ld);
}
