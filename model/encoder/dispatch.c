#include "model/encoder/dispatch.h"

/* A row without ops is another architecture's. */
static const struct dispatch_row {
    const struct kernels *ops;
    const struct tile_kernel *tiles[PRECISION_INT8 + 1];
} rows[ISA_COUNT] = {
    [ISA_GENERIC] = {&kernels_generic, {NULL}},
#if defined(__x86_64__)
    [ISA_AVX2] = {&kernels_avx2, {&tile_avx2_f32, NULL, &tile_avx2_int8}},
    [ISA_AVXVNNI] = {&kernels_avx2, {&tile_avx2_f32, NULL, &tile_avxvnni_int8}},
    [ISA_AVX512] = {&kernels_avx512, {&tile_avx512_f32, NULL, &tile_avx2_int8}},
    [ISA_AVX512VNNI] = {&kernels_avx512, {&tile_avx512_f32, NULL, &tile_avx512_int8}},
    [ISA_AVX512BF16] = {&kernels_avx512, {&tile_avx512_f32, &tile_avx512_bf16, &tile_avx512_int8}},
    [ISA_AMX] = {&kernels_avx512, {&tile_avx512_f32, &tile_amx_bf16, &tile_avx512_int8}},
#elif defined(__aarch64__)
    [ISA_NEON] = {&kernels_neon, {&tile_neon_f32, NULL, NULL}},
    [ISA_NEONDOT] = {&kernels_neon, {&tile_neon_f32, NULL, &tile_neondot_int8}},
    [ISA_NEONBF16] = {&kernels_neon, {&tile_neon_f32, &tile_neonbf16_bf16, &tile_neonbf16_int8}},
#endif
};

const struct kernels *dispatch_kernels(enum isa isa)
{
    return rows[isa].ops ? rows[isa].ops : &kernels_generic;
}

const struct tile_kernel *dispatch_tile(enum isa isa, enum precision precision)
{
    return rows[isa].tiles[precision];
}
