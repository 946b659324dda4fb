/* int8 on arm64 with DotProd: SDOT, both sides signed. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define ROW_BIAS       128
#define DOT(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#include "model/encoder/kernels/neon_int8.h"

const struct tile_kernel tile_neondot_int8 = NEON_INT8_KERNEL("neon dot int8");
#endif
