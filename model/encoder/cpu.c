#include "model/encoder/cpu.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What CPUID says and XCR0 lets us use. Bit numbers: Intel SDM volume 2, CPUID. */
struct features {
    bool avx2;
    bool avx_vnni;
    bool avx512;
    bool avx512_vnni;
    bool avx512_bf16;
    bool amx;
};

enum {
    XCR0_YMM = 0x6,  /* SSE and AVX state */
    XCR0_ZMM = 0xe6, /* and opmask, upper halves, upper registers */
    XCR0_TILES = 0x60000,
};

/* Linux keeps tile state off until a process asks for it (Documentation/arch/x86/xstate.rst).
 * Asking again does no harm, and the answer is the process's: threads of before and after have it.
 * Refused (then there is no AMX) where a thread's alternate signal stack is too small for the
 * larger frames. */
static bool tiles_permitted(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

/* The tiles that the kernels configure: palette 1 with 8 tiles of 16 rows × 64 bytes, and a unit
 * that multiplies them whole. Leaves 0x1d and 0x1e; anything else is a CPU yet to come. */
static bool tiles_fit(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid_count(0x1d, 0, &a, &b, &c, &d) || a < 1 ||
        !__get_cpuid_count(0x1d, 1, &a, &b, &c, &d)) {
        return false;
    }
    bool palette = a >> 16 == 1024 && (b & 0xffff) == 64 && b >> 16 == 8 && (c & 0xffff) == 16;
    return palette && __get_cpuid_count(0x1e, 0, &a, &b, &c, &d) && (b & 0xff) >= 16 &&
           (b >> 8 & 0xffff) >= 64;
}

static bool bit(uint32_t word, unsigned index)
{
    return (word >> index) & 1;
}

static uint32_t read_xcr0(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static struct features read_features(void)
{
    struct features features = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) {
        return features; /* no OSXSAVE: XCR0 can't be read */
    }
    bool fma = bit(c, 12);
    bool f16c = bit(c, 29);
    uint32_t xcr0 = read_xcr0();
    bool ymm = (xcr0 & XCR0_YMM) == XCR0_YMM;
    bool zmm = (xcr0 & XCR0_ZMM) == XCR0_ZMM;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return features;
    }
    uint32_t subleaf_max = a;
    bool amx = bit(d, 22) && bit(d, 24) && bit(d, 25) && (xcr0 & XCR0_TILES) == XCR0_TILES;
    features.avx2 = ymm && fma && f16c && bit(b, 5);
    features.avx512 = features.avx2 && zmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
    features.avx512_vnni = features.avx512 && bit(c, 11);
    if (subleaf_max >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        features.avx_vnni = features.avx2 && bit(a, 4);
        features.avx512_bf16 = features.avx512_vnni && bit(a, 5);
        features.amx = features.avx512_bf16 && amx && tiles_fit() && tiles_permitted();
    }
    return features;
}

bool cpu_has(enum isa isa)
{
    struct features features = read_features();
    switch (isa) {
    case ISA_GENERIC:
        return true;
    case ISA_AVX2:
        return features.avx2;
    case ISA_AVXVNNI:
        return features.avx_vnni;
    case ISA_AVX512:
        return features.avx512;
    case ISA_AVX512VNNI:
        return features.avx512_vnni;
    case ISA_AVX512BF16:
        return features.avx512_bf16;
    case ISA_AMX:
        return features.amx;
    case ISA_COUNT:
        return false;
    }
    return false;
}

#else

bool cpu_has(enum isa isa)
{
    return isa == ISA_GENERIC;
}

#endif

enum isa cpu_detect(void)
{
    enum isa best = ISA_GENERIC;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (cpu_has(isa)) {
            best = isa;
        }
    }
    return best;
}

const char *isa_name(enum isa isa)
{
    static const char *const names[ISA_COUNT] = {
        [ISA_GENERIC] = "generic",
        [ISA_AVX2] = "avx2",
        [ISA_AVXVNNI] = "avxvnni",
        [ISA_AVX512] = "avx512",
        [ISA_AVX512VNNI] = "avx512vnni",
        [ISA_AVX512BF16] = "avx512bf16",
        [ISA_AMX] = "amx",
    };
    return names[isa];
}

enum err_code isa_parse(const char *word, enum isa *ret_isa, struct err *err)
{
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (strcmp(word, isa_name(isa)) == 0) {
            *ret_isa = isa;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_USAGE,
                   "instruction set: expected generic, avx2, avxvnni, avx512, avx512vnni, "
                   "avx512bf16 or amx");
}

const char *precision_name(enum precision precision)
{
    static const char *const names[] = {
        [PRECISION_FP32] = "fp32", [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8"};
    return names[precision];
}

static bool multiplies(enum isa isa, enum precision precision)
{
    switch (precision) {
    case PRECISION_FP32:
        return true;
    case PRECISION_BF16:
        return isa >= ISA_AVX512BF16;
    case PRECISION_INT8:
        return isa >= ISA_AVX2;
    }
    return false;
}

enum err_code precision_parse(const char *word, enum isa isa, enum precision *ret_precision,
                              struct err *err)
{
    if (strcmp(word, "auto") == 0) {
        *ret_precision = multiplies(isa, PRECISION_BF16) ? PRECISION_BF16 : PRECISION_FP32;
        return ERR_OK;
    }
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (strcmp(word, precision_name(precision)) != 0) {
            continue;
        }
        if (!multiplies(isa, precision)) {
            return err_set(err, ERR_UNSUPPORTED,
                           "precision %s: the instruction set %s can't multiply it; use fp32", word,
                           isa_name(isa));
        }
        *ret_precision = precision;
        return ERR_OK;
    }
    return err_set(err, ERR_USAGE, "precision: expected auto, fp32, bf16 or int8");
}
