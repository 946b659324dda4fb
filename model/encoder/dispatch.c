#include "model/encoder/dispatch.h"

#if defined(__x86_64__)

const struct kernels *dispatch_kernels(enum isa isa)
{
    if (isa >= ISA_AVX512) {
        return &kernels_avx512;
    }
    return isa >= ISA_AVX2 ? &kernels_avx2 : &kernels_generic;
}

const struct tile_kernel *dispatch_tile(enum isa isa, enum precision precision)
{
    switch (precision) {
    case PRECISION_FP32:
        return isa >= ISA_AVX2 ? dispatch_kernels(isa)->f32 : NULL;
    case PRECISION_BF16:
        if (isa >= ISA_AMX) {
            return &tile_amx_bf16;
        }
        return isa >= ISA_AVX512BF16 ? &tile_avx512_bf16 : NULL;
    case PRECISION_INT8:
        if (isa >= ISA_AVX512VNNI) {
            return &tile_avx512_int8;
        }
        if (isa == ISA_AVXVNNI) {
            return &tile_avxvnni_int8;
        }
        return isa >= ISA_AVX2 ? &tile_avx2_int8 : NULL;
    }
    return NULL;
}

#else

const struct kernels *dispatch_kernels(enum isa isa)
{
    (void)isa;
    return &kernels_generic;
}

const struct tile_kernel *dispatch_tile(enum isa isa, enum precision precision)
{
    (void)isa;
    (void)precision;
    return NULL;
}

#endif
