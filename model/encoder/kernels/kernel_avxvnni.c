/* int8 on AVX-VNNI, 256 bits wide. */
#if defined(__x86_64__)
#include <immintrin.h>

#define DPBUSD256(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#define DPWSSD256(sum, a, b) _mm256_dpwssd_avx_epi32(sum, a, b)

#include "model/encoder/kernels/avx2_int8.h"

const struct tile_kernel tile_avxvnni_int8 = AVX2_INT8_KERNEL("avxvnni int8");
#endif
