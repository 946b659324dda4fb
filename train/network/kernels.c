/* Which element-wise kernels this machine runs. */
#include <stdatomic.h>

#include "model/encoder/cpu.h"
#include "train/network/kernels/kernels.h"

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

static const struct train_kernels *choose(void)
{
    for (unsigned level = 2; level > 0; level--) {
        const struct train_kernels *table = train_kernels_level(level);
        if (table) {
            return table;
        }
    }
    return &train_kernels_generic;
}

const struct train_kernels *train_kernels_get(void)
{
    /* CPUID is slow, and a trap on a virtual machine: ask once. The answer never changes, so it
     * does no harm when two threads ask at the same time. */
    static const struct train_kernels *_Atomic chosen;
    const struct train_kernels *table = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!table) {
        table = choose();
        atomic_store_explicit(&chosen, table, memory_order_relaxed);
    }
    return table;
}
