/* The pieces of body.h in 512-bit vectors. */
#if defined(__x86_64__)

#include <string.h>

#define TABLE train_kernels_avx512
#define WIDTH 16
#include "train/network/kernels/body.h"

#else

/* Another architecture: kernel_generic.c is the table. */
typedef int kernel_avx512_is_empty;

#endif
