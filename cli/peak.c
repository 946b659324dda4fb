#include "cli/peak.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/clock.h"

/* One sample is so many rounds of a loop, some milliseconds at most; a thread's best sample counts,
 * the others were disturbed. On virtual machines a disturbance may last for some ten of them. */
enum { ROUNDS = 1 << 18, MEASURE_MS = 150 };

struct loop {
    void (*run)(size_t rounds);
    double operations; /* of one round; 0: not known here */
};

#if defined(__x86_64__)
#include <immintrin.h>

#include "model/encoder/kernels/unroll.h"

/* Sums that do not wait for each other: enough to hide an instruction's latency, few enough for
 * the registers of every level. */
enum { SUMS = 12 };

/* The compiler takes x for needed and changed: it can neither fold nor drop what makes it. */
#define OPAQUE(x) __asm__ volatile("" : "+v"(x))

/* name(rounds): a loop of SUMS independent sums = step(sums, a, b). */
#define DEFINE_LOOP(name, set, vector, one, step)                \
    __attribute__((target(set))) static void name(size_t rounds) \
    {                                                            \
        vector a = one;                                          \
        vector b = one;                                          \
        vector sums[SUMS];                                       \
        OPAQUE(a);                                               \
        OPAQUE(b);                                               \
        UNROLL                                                   \
        for (size_t i = 0; i < SUMS; i++) {                      \
            sums[i] = one;                                       \
        }                                                        \
        for (size_t round = 0; round < rounds; round++) {        \
            UNROLL                                               \
            for (size_t i = 0; i < SUMS; i++) {                  \
                sums[i] = step;                                  \
                OPAQUE(sums[i]);                                 \
            }                                                    \
        }                                                        \
    }

DEFINE_LOOP(fp32_avx2, "avx2,fma", __m256, _mm256_set1_ps(1.0f), _mm256_fmadd_ps(a, b, sums[i]))
DEFINE_LOOP(int8_avxvnni, "avx2,avxvnni", __m256i, _mm256_set1_epi8(1),
            _mm256_dpbusd_avx_epi32(sums[i], a, b))
DEFINE_LOOP(fp32_avx512, "avx512f", __m512, _mm512_set1_ps(1.0f), _mm512_fmadd_ps(a, b, sums[i]))
DEFINE_LOOP(int8_avx512, "avx512f,avx512bw,avx512vnni", __m512i, _mm512_set1_epi8(1),
            _mm512_dpbusd_epi32(sums[i], a, b))
DEFINE_LOOP(bf16_avx512, "avx512f,avx512bf16", __m512, _mm512_set1_ps(1.0f),
            _mm512_dpbf16_ps(sums[i], (__m512bh)a, (__m512bh)b))

/* Eight tiles of 16 rows × 64 bytes: four of sums, two of rows, two of columns, as the kernels
 * have them. Source: Intel SDM volume 2, LDTILECFG. */
enum { TILES = 8, TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_SUMS = 4 };

__attribute__((target("amx-tile"))) static void enter_tiles(void)
{
    uint8_t config[64] __attribute__((aligned(64))) = {1};
    for (size_t tile = 0; tile < TILES; tile++) {
        config[16 + 2 * tile] = TILE_ROW_BYTES;
        config[48 + tile] = TILE_ROWS;
    }
    _tile_loadconfig(config);
}

#define DEFINE_TILE_LOOP(name, set, dot)                                     \
    __attribute__((target("amx-tile," set))) static void name(size_t rounds) \
    {                                                                        \
        enter_tiles();                                                       \
        for (size_t round = 0; round < rounds; round++) {                    \
            dot(0, 4, 6);                                                    \
            dot(1, 4, 7);                                                    \
            dot(2, 5, 6);                                                    \
            dot(3, 5, 7);                                                    \
        }                                                                    \
        _tile_release();                                                     \
    }

DEFINE_TILE_LOOP(bf16_amx, "amx-bf16", _tile_dpbf16ps)
DEFINE_TILE_LOOP(int8_amx, "amx-int8", _tile_dpbusd)

/* Multiply-adds of one instruction, two operations each: 32-bit lanes × values a lane, or rows ×
 * lanes × values a row. */
enum {
    FP32 = 1,
    BF16 = 2,
    INT8 = 4,
    LANES_AVX2 = 8,
    LANES_AVX512 = 16,
    LANES_AMX = TILE_ROWS * TILE_ROW_BYTES / 4 * TILE_ROW_BYTES / 4,
};
#define VECTOR_LOOP(name, lanes, values)     \
    {                                        \
        name, 2.0 * SUMS *(lanes) * (values) \
    }
#define TILE_LOOP(name, values)                    \
    {                                              \
        name, 2.0 * TILE_SUMS *LANES_AMX *(values) \
    }
#define FP32_AVX2   VECTOR_LOOP(fp32_avx2, LANES_AVX2, FP32)
#define FP32_AVX512 VECTOR_LOOP(fp32_avx512, LANES_AVX512, FP32)
#define BF16_AVX512 VECTOR_LOOP(bf16_avx512, LANES_AVX512, BF16)
#define INT8_AVX512 VECTOR_LOOP(int8_avx512, LANES_AVX512, INT8)
#define NOT_KNOWN \
    {             \
        NULL, 0.0 \
    }

/* By enum precision. */
static const struct loop loops[ISA_COUNT][PRECISION_INT8 + 1] = {
    [ISA_AVX2] = {FP32_AVX2, NOT_KNOWN, NOT_KNOWN},
    [ISA_AVXVNNI] = {FP32_AVX2, NOT_KNOWN, VECTOR_LOOP(int8_avxvnni, LANES_AVX2, INT8)},
    [ISA_AVX512] = {FP32_AVX512, NOT_KNOWN, NOT_KNOWN},
    [ISA_AVX512VNNI] = {FP32_AVX512, NOT_KNOWN, INT8_AVX512},
    [ISA_AVX512BF16] = {FP32_AVX512, BF16_AVX512, INT8_AVX512},
    [ISA_AMX] = {FP32_AVX512, TILE_LOOP(bf16_amx, BF16), TILE_LOOP(int8_amx, INT8)},
};

static struct loop choose(enum isa isa, enum precision precision)
{
    return loops[isa == ISA_GENERIC ? cpu_detect() : isa][precision];
}

#else

static struct loop choose(enum isa isa, enum precision precision)
{
    (void)isa;
    (void)precision;
    return (struct loop){0};
}

#endif

struct sampler {
    struct loop loop;
    pthread_t thread;
    double gflops; /* result */
};

static void *sample(void *argument)
{
    struct sampler *sampler = argument;
    uint64_t begin = clock_now_ns();
    uint64_t start = begin;
    while (start - begin < MEASURE_MS * NS_PER_MS) {
        sampler->loop.run(ROUNDS);
        uint64_t now = clock_now_ns();
        double gflops = sampler->loop.operations * ROUNDS / (double)(now - start);
        sampler->gflops = gflops > sampler->gflops ? gflops : sampler->gflops;
        start = now;
    }
    return NULL;
}

double peak_gflops(enum isa isa, enum precision precision, unsigned threads)
{
    struct loop loop = choose(isa, precision);
    struct sampler *samplers = loop.run ? calloc(threads, sizeof *samplers) : NULL;
    if (!samplers) {
        return 0;
    }
    unsigned started = 0;
    for (; started < threads; started++) {
        samplers[started].loop = loop;
        if (pthread_create(&samplers[started].thread, NULL, sample, &samplers[started]) != 0) {
            break;
        }
    }
    double sum = 0;
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(samplers[i].thread, NULL);
        sum += samplers[i].gflops;
    }
    free(samplers);
    return started == threads ? sum : 0;
}
