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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_parse_back),
        cmocka_unit_test(test_other_words_are_usage_errors),
        cmocka_unit_test(test_auto_is_fixed_for_each_set),
        cmocka_unit_test(test_precision_needs_its_instructions),
        cmocka_unit_test(test_detected_set_runs_here),
        cmocka_unit_test(test_kernels_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
