#include "train/kernels/kernels.h"
#include "model/cpu.h"

const struct train_kernels *train_kernels_level(unsigned level)
{
    switch (level) {
    case 0:
        return &train_kernels_generic;
#if defined(__x86_64__)
    case 1:
        return cpu_has(ISA_AVX2) ? &train_kernels_avx2 : NULL;
    case 2:
        return cpu_has(ISA_AVX512) ? &train_kernels_avx512 : NULL;
#endif
    default:
        return NULL;
    }
}

const struct train_kernels *train_kernels_get(void)
{
    for (unsigned level = 2; level > 0; level--) {
        const struct train_kernels *table = train_kernels_level(level);
        if (table) {
            return table;
        }
    }
    return &train_kernels_generic;
}
