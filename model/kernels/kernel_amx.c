#if defined(__x86_64__)
#include <stdbool.h>

#include "model/kernels/amx_tile_ops.h"

#include "model/kernels/amx_bf16.h"

const struct tile_kernel tile_amx_bf16 = AMX_BF16_KERNEL;
#endif
