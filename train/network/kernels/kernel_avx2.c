/* The pieces of body.h in 256-bit vectors. */
#if defined(__x86_64__)

#include <string.h>

#define TABLE train_kernels_avx2
#define WIDTH 8
#include "train/network/kernels/body.h"

#else

/* Another architecture: kernel_generic.c is the table. */
typedef int kernel_avx2_is_empty;

#endif
