/* Which instruction sets this CPU and operating system let us use (CPUID and XCR0, or Linux's
 * HWCAP), and which precision they multiply. Never by CPU model. */
#ifndef ORTHRUS_MODEL_CPU_H
#define ORTHRUS_MODEL_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Sets of kernels, of each architecture the better ones behind the others. A set is a row of
 * features that a machine has all or has not: nothing may be concluded from the order. */
enum isa {
    ISA_GENERIC,    /* plain C / OpenBLAS: every architecture */
    ISA_AVX2,       /* AVX2, FMA, F16C; int8 as 16-bit products */
    ISA_AVXVNNI,    /* AVX2 with AVX-VNNI: int8 at once */
    ISA_AVX512,     /* F, BW, DQ, VL */
    ISA_AVX512VNNI, /* int8 at once */
    ISA_AVX512BF16, /* bf16; with VNNI */
    ISA_AMX,        /* AMX-TILE, AMX-BF16, AMX-INT8; with AVX512BF16 */
    ISA_NEON,       /* arm64: fp32 */
    ISA_NEONDOT,    /* with DotProd: int8 by SDOT */
    ISA_NEONBF16,   /* with BF16 and I8MM: bf16 by BFDOT, int8 by USDOT */
    ISA_COUNT,
};

enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_INT8 };

/* The best level of this machine, by what it says of itself; model/encoder/choice tries it.
 * Thread-safe. */
enum isa cpu_detect(void);
/* A core's L2 cache by what the C library or Linux says; the default where neither knows. */
enum { CPU_L2_DEFAULT = 1 << 20 };
size_t cpu_l2_bytes(void);
/* True if this machine can run code of that level; where it has AMX, asks Linux for the permission
 * to use tiles (arch_prctl). */
bool cpu_has(enum isa isa);

/* What an x86 machine says of itself. Bit numbers: Intel SDM volume 2, CPUID. */
struct cpu_words {
    uint32_t ecx1;             /* leaf 1 */
    uint32_t ebx7, ecx7, edx7; /* leaf 7 */
    uint32_t eax71;            /* leaf 7, subleaf 1 */
    uint32_t xcr0;             /* registers that the operating system saves; 0 without OSXSAVE */
    bool tiles;                /* they are of the known shape, and may be used */
};
/* The best level of such a machine: cpu_detect's rule, for any machine. Pure. */
enum isa cpu_best(const struct cpu_words *words);

const char *isa_name(enum isa isa);
CHECK_RESULT enum err_code isa_parse(const char *word, enum isa *ret_isa, struct err *err);
const char *precision_name(enum precision precision);
/* True where the set has a kernel for the precision; fp32 every one, by OpenBLAS at the least. */
bool isa_multiplies(enum isa isa, enum precision precision);
/* fp32, bf16, int8; "auto" gives the fixed choice for isa: bf16 where it multiplies that, else
 * fp32. ERR_UNSUPPORTED where isa has no kernel for the precision. */
CHECK_RESULT enum err_code precision_parse(const char *word, enum isa isa,
                                           enum precision *ret_precision, struct err *err);

#endif
