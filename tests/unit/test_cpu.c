#include "model/encoder/cpu.h"
#include "model/encoder/dispatch.h"
#include "tests/support/testing.h"

static void test_names_parse_back(void **state)
{
    (void)state;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        enum isa parsed = ISA_COUNT;
        struct err err = ERR_INIT;
        assert_int_equal(isa_parse(isa_name(isa), &parsed, &err), ERR_OK);
        assert_int_equal(parsed, isa);
    }
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        enum precision parsed = PRECISION_FP32;
        struct err err = ERR_INIT;
        assert_int_equal(precision_parse(precision_name(precision), ISA_AVX512BF16, &parsed, &err),
                         ERR_OK);
        assert_int_equal(parsed, precision);
    }
}

static void test_other_words_are_usage_errors(void **state)
{
    (void)state;
    enum isa isa = ISA_AVX2;
    enum precision precision = PRECISION_BF16;
    struct err err = ERR_INIT;
    expect_error(&err, isa_parse("sse9", &isa, &err), ERR_USAGE, WORDS("avx512bf16"));
    assert_int_equal(isa, ISA_AVX2);
    err = ERR_INIT;
    expect_error(&err, precision_parse("fp64", ISA_GENERIC, &precision, &err), ERR_USAGE,
                 WORDS("auto", "fp32", "bf16", "int8"));
    assert_int_equal(precision, PRECISION_BF16);
}

static void test_auto_is_fixed_for_each_set(void **state)
{
    (void)state;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        enum precision precision = PRECISION_INT8;
        struct err err = ERR_INIT;
        assert_int_equal(precision_parse("auto", isa, &precision, &err), ERR_OK);
        bool rounds = isa == ISA_AVX512BF16 || isa == ISA_AMX || isa == ISA_NEONBF16;
        assert_int_equal(precision, rounds ? PRECISION_BF16 : PRECISION_FP32);
    }
}

static void test_precision_needs_its_instructions(void **state)
{
    (void)state;
    enum precision precision = PRECISION_FP32;
    struct err err = ERR_INIT;
    expect_error(&err, precision_parse("bf16", ISA_AVX512VNNI, &precision, &err), ERR_UNSUPPORTED,
                 WORDS("bf16", "avx512vnni"));
    err = ERR_INIT;
    expect_error(&err, precision_parse("int8", ISA_GENERIC, &precision, &err), ERR_UNSUPPORTED,
                 WORDS("int8", "generic"));
    assert_int_equal(precision, PRECISION_FP32);
}

static void test_detected_set_runs_here(void **state)
{
    (void)state;
    enum isa best = cpu_detect();
    print_message("this machine: %s\n", isa_name(best));
    assert_true(cpu_has(ISA_GENERIC));
    assert_true(cpu_has(best));
    assert_true(!cpu_has(ISA_AVX512) || cpu_has(ISA_AVX2));
    assert_true(!cpu_has(ISA_NEONBF16) || cpu_has(ISA_NEON));
    assert_false(cpu_has(ISA_AVX2) && cpu_has(ISA_NEON));
}

/* What --precision promises of a set that runs here is what its kernels do. */
static void test_kernels_are_there(void **state)
{
    (void)state;
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (!cpu_has(isa)) {
            continue;
        }
        for (enum precision p = PRECISION_FP32; p <= PRECISION_INT8; p++) {
            const struct tile_kernel *tile = dispatch_tile(isa, p);
            bool blas = isa == ISA_GENERIC && p == PRECISION_FP32;
            assert_int_equal(tile || blas, isa_multiplies(isa, p));
            assert_true(!tile || tile->precision == p);
        }
    }
}

#define HASWELL .ecx1 = 1U << 12 | 1U << 27 | 1U << 29
#define AVX512  1U << 5 | 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31
#define TILED   1U << 22 | 1U << 24 | 1U << 25

static const struct machine {
    enum isa best;
    struct cpu_words words;
} machines[] = {
    {ISA_GENERIC, {.ecx1 = 0}},
    {ISA_GENERIC, {HASWELL, .ebx7 = 1U << 5, .xcr0 = 0x3}}, /* no AVX state is saved */
    {ISA_AVX2, {HASWELL, .ebx7 = 1U << 5, .xcr0 = 0x7}},
    {ISA_AVXVNNI, {HASWELL, .ebx7 = 1U << 5, .eax71 = 1U << 4, .xcr0 = 0x7}}, /* Alder Lake */
    {ISA_AVX512, {HASWELL, .ebx7 = AVX512, .xcr0 = 0xe7}},                    /* Skylake-X */
    {ISA_AVX2, {HASWELL, .ebx7 = AVX512, .xcr0 = 0x7}}, /* no upper halves are saved */
    {ISA_AVX512VNNI, {HASWELL, .ebx7 = AVX512, .ecx7 = 1U << 11, .xcr0 = 0xe7}},
    {ISA_AVX512BF16, /* Zen 4 */
     {HASWELL, .ebx7 = AVX512, .ecx7 = 1U << 11, .eax71 = 1U << 5, .xcr0 = 0xe7}},
    {ISA_AVX512, /* BF16 is of use beside VNNI alone */
     {HASWELL, .ebx7 = AVX512, .eax71 = 1U << 5, .xcr0 = 0xe7}},
    {ISA_AMX, /* Sapphire Rapids, and where something of it is not to be had */
     {HASWELL, AVX512, 1U << 11, TILED, 1U << 4 | 1U << 5, 0x600e7, true}},
    {ISA_AVX512BF16, {HASWELL, AVX512, 1U << 11, TILED, 1U << 4 | 1U << 5, 0x600e7, false}},
    {ISA_AVX512BF16, {HASWELL, AVX512, 1U << 11, TILED, 1U << 4 | 1U << 5, 0xe7, true}},
    {ISA_AVX512BF16, {HASWELL, AVX512, 1U << 11, 1U << 24, 1U << 4 | 1U << 5, 0x600e7, true}},
    {ISA_AVX512VNNI, {HASWELL, AVX512, 1U << 11, TILED, 1U << 4, 0x600e7, true}},
};

/* Each machine gets its set, and a lower one where any bit that it needs is missing. */
static void test_machines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        const struct machine *machine = &machines[i];
        assert_int_equal(cpu_best(&machine->words), machine->best);
        uint32_t *words[6];
        struct cpu_words less = machine->words;
        words[0] = &less.ecx1;
        words[1] = &less.ebx7;
        words[2] = &less.ecx7;
        words[3] = &less.edx7;
        words[4] = &less.eax71;
        words[5] = &less.xcr0;
        for (size_t bit = 0; bit < 6 * 32; bit++) {
            less = machine->words;
            *words[bit / 32] &= ~(1U << bit % 32);
            assert_true(cpu_best(&less) <= machine->best);
        }
        less = machine->words;
        less.ecx1 &= ~(1U << 12);
        assert_int_equal(cpu_best(&less), ISA_GENERIC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_parse_back),
        cmocka_unit_test(test_other_words_are_usage_errors),
        cmocka_unit_test(test_auto_is_fixed_for_each_set),
        cmocka_unit_test(test_precision_needs_its_instructions),
        cmocka_unit_test(test_machines),
        cmocka_unit_test(test_detected_set_runs_here),
        cmocka_unit_test(test_kernels_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
