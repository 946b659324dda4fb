#include "model/encoder/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a machine may have; a set needs some of them. */
enum feature {
    FEATURE_AVX2 = 1 << 0,
    FEATURE_AVX_VNNI = 1 << 1,
    FEATURE_AVX512 = 1 << 2,
    FEATURE_AVX512_VNNI = 1 << 3,
    FEATURE_AVX512_BF16 = 1 << 4,
    FEATURE_AMX = 1 << 5,
    FEATURE_NEON = 1 << 6,
    FEATURE_NEON_DOT = 1 << 7,
    FEATURE_NEON_BF16 = 1 << 8,
    FEATURE_NEON_I8MM = 1 << 9,
};

enum { L2_KIB_MAX = 1 << 20 };
enum { FP32 = 1 << PRECISION_FP32, BF16 = 1 << PRECISION_BF16, INT8 = 1 << PRECISION_INT8 };

static const struct isa_row {
    const char *name;
    unsigned needs;      /* enum feature */
    unsigned multiplies; /* 1 << enum precision */
} rows[ISA_COUNT] = {
    [ISA_GENERIC] = {"generic", 0, FP32},
    [ISA_AVX2] = {"avx2", FEATURE_AVX2, FP32 | INT8},
    [ISA_AVXVNNI] = {"avxvnni", FEATURE_AVX2 | FEATURE_AVX_VNNI, FP32 | INT8},
    [ISA_AVX512] = {"avx512", FEATURE_AVX512, FP32 | INT8},
    [ISA_AVX512VNNI] = {"avx512vnni", FEATURE_AVX512 | FEATURE_AVX512_VNNI, FP32 | INT8},
    [ISA_AVX512BF16] = {"avx512bf16", FEATURE_AVX512_VNNI | FEATURE_AVX512_BF16,
                        FP32 | BF16 | INT8},
    [ISA_AMX] = {"amx", FEATURE_AVX512_BF16 | FEATURE_AMX, FP32 | BF16 | INT8},
    [ISA_NEON] = {"neon", FEATURE_NEON, FP32},
    [ISA_NEONDOT] = {"neondot", FEATURE_NEON | FEATURE_NEON_DOT, FP32 | INT8},
    [ISA_NEONBF16] = {"neonbf16", FEATURE_NEON | FEATURE_NEON_BF16 | FEATURE_NEON_I8MM,
                      FP32 | BF16 | INT8},
};

/* Bits that a feature needs all of. */
enum { LEAF1_OSXSAVE = 1 << 27, LEAF1_FMA_F16C = 1 << 12 | 1 << 29 };
enum { XCR0_YMM = 0x6 /* SSE and AVX state */, XCR0_ZMM = 0xe6, XCR0_TILES = 0x60000 };
enum { EBX7_AVX2 = 1 << 5, ECX7_VNNI = 1 << 11, EAX71_AVX_VNNI = 1 << 4, EAX71_BF16 = 1 << 5 };
enum { EDX7_AMX = 1 << 22 | 1 << 24 | 1 << 25 };
#define EBX7_AVX512 (1U << 16 | 1U << 17 | 1U << 30 | 1U << 31) /* F, DQ, BW, VL */

static bool all(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

static unsigned features_of(const struct cpu_words *words)
{
    unsigned features = 0;
    if (all(words->ecx1, LEAF1_FMA_F16C) && all(words->xcr0, XCR0_YMM) &&
        all(words->ebx7, EBX7_AVX2)) {
        features |= FEATURE_AVX2;
        features |= all(words->eax71, EAX71_AVX_VNNI) ? FEATURE_AVX_VNNI : 0;
    }
    if (features && all(words->xcr0, XCR0_ZMM) && all(words->ebx7, EBX7_AVX512)) {
        features |= FEATURE_AVX512;
    }
    if ((features & FEATURE_AVX512) && all(words->ecx7, ECX7_VNNI)) {
        features |= FEATURE_AVX512_VNNI;
        features |= all(words->eax71, EAX71_BF16) ? FEATURE_AVX512_BF16 : 0;
    }
    if ((features & FEATURE_AVX512_BF16) && all(words->edx7, EDX7_AMX) &&
        all(words->xcr0, XCR0_TILES) && words->tiles) {
        features |= FEATURE_AMX;
    }
    return features;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>

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

static uint32_t read_xcr0(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static unsigned read_features(void)
{
    struct cpu_words words = {.tiles = true};
    uint32_t a = 0;
    uint32_t other;
    (void)__get_cpuid(1, &other, &other, &words.ecx1, &other);
    words.xcr0 = all(words.ecx1, LEAF1_OSXSAVE) ? read_xcr0() : 0;
    (void)__get_cpuid_count(7, 0, &a, &words.ebx7, &words.ecx7, &words.edx7);
    if (a >= 1) {
        (void)__get_cpuid_count(7, 1, &words.eax71, &other, &other, &other);
    }
    /* Asked where all else is there. */
    unsigned features = features_of(&words);
    bool tiles = (features & FEATURE_AMX) && tiles_fit() && tiles_permitted();
    return tiles ? features : features & ~(unsigned)FEATURE_AMX;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

/* Linux Documentation/arch/arm64/elf_hwcaps.rst. */
static unsigned read_features(void)
{
    unsigned long one = getauxval(AT_HWCAP);
    unsigned long two = getauxval(AT_HWCAP2);
    return (one & HWCAP_ASIMD ? FEATURE_NEON : 0) | (one & HWCAP_ASIMDDP ? FEATURE_NEON_DOT : 0) |
           (two & HWCAP2_BF16 ? FEATURE_NEON_BF16 : 0) |
           (two & HWCAP2_I8MM ? FEATURE_NEON_I8MM : 0);
}

#else

static unsigned read_features(void)
{
    return 0;
}

#endif

bool cpu_has(enum isa isa)
{
    return isa < ISA_COUNT && all(read_features(), rows[isa].needs);
}

static enum isa best_with(unsigned features)
{
    enum isa best = ISA_GENERIC;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (all(features, rows[isa].needs)) {
            best = isa;
        }
    }
    return best;
}

enum isa cpu_detect(void)
{
    return best_with(read_features());
}

enum isa cpu_best(const struct cpu_words *words)
{
    return best_with(features_of(words));
}

const char *isa_name(enum isa isa)
{
    return rows[isa].name;
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
                   "generic, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon, neondot or "
                   "neonbf16 is allowed");
}

const char *precision_name(enum precision precision)
{
    static const char *const names[] = {
        [PRECISION_FP32] = "fp32", [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8"};
    return names[precision];
}

bool isa_multiplies(enum isa isa, enum precision precision)
{
    return rows[isa].multiplies >> precision & 1;
}

enum err_code precision_parse(const char *word, enum isa isa, enum precision *ret_precision,
                              struct err *err)
{
    if (strcmp(word, "auto") == 0) {
        *ret_precision = isa_multiplies(isa, PRECISION_BF16) ? PRECISION_BF16 : PRECISION_FP32;
        return ERR_OK;
    }
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (strcmp(word, precision_name(precision)) != 0) {
            continue;
        }
        if (!isa_multiplies(isa, precision)) {
            return err_set(err, ERR_UNSUPPORTED,
                           "precision %s: the instruction set %s can't multiply it; use fp32", word,
                           isa_name(isa));
        }
        *ret_precision = precision;
        return ERR_OK;
    }
    return err_set(err, ERR_USAGE, "auto, fp32, bf16 or int8 is allowed");
}

/* Linux's own word, where the C library has none (glibc on arm64). */
static long l2_of_sysfs(void)
{
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index2/size", "re");
    char text[32] = "";
    if (file) {
        if (!fgets(text, sizeof text, file)) {
            text[0] = 0;
        }
        (void)fclose(file);
    }
    char *end;
    long kib = strtol(text, &end, 10);
    return *end == 'K' && kib > 0 && kib <= L2_KIB_MAX ? kib * 1024 : 0;
}

size_t cpu_l2_bytes(void)
{
    long bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    if (bytes <= 0) {
        bytes = l2_of_sysfs();
    }
    return bytes > 0 ? (size_t)bytes : CPU_L2_DEFAULT;
}
