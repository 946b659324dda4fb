/* int8 on arm64 with I8MM: USDOT, unsigned rows by signed weights. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define ROW_BIAS       0
#define DOT(sum, a, b) vusdotq_s32(sum, vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(b))
#include "model/encoder/kernels/neon_int8.h"

const struct tile_kernel tile_neonbf16_int8 = NEON_INT8_KERNEL("neon usdot int8");
#endif
