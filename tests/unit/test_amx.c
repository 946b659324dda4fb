/* The AMX kernels: on machines that have the instructions with these, elsewhere with the software
 * of tests/support/amx_trapped.h under the same compiled code. They pack with AVX512-BF16, so a
 * machine without that is left out. */
#include "tests/support/linear_testing.h"

#if defined(__x86_64__)
#include "model/encoder/choice.h"
#include "model/encoder/selfcheck.h"
#include "tests/support/amx_trapped.h"

/* In each test, as cmocka catches SIGILL itself around it. */
static void begin(void)
{
    if (!cpu_has(ISA_AMX)) {
        trap_install();
    }
}

static void test_shapes(void **state)
{
    (void)state;
    begin();
    try_shapes(dispatch_kernels(ISA_AMX), dispatch_tile(ISA_AMX, PRECISION_BF16));
    assert_true(cpu_has(ISA_AMX) || trap.instructions > 0);
    assert_false(trap.configured); /* left as it was found */
}

/* All row tiles of a call, more than one slice of inputs, more than one call; a row alone has the
 * same bits. */
static void test_many_rows_and_slices(void **state)
{
    (void)state;
    enum { IN = 700, OUT = 70, ROWS = 300, PROBE = 277 };
    uint32_t seed = 12;
    begin();
    struct fixture fixture;
    make(&fixture, dispatch_kernels(ISA_AMX), dispatch_tile(ISA_AMX, PRECISION_BF16), IN, OUT, 0, 1,
         &seed);
    float *x = test_floats((size_t)ROWS * IN, &seed);
    float *all = test_floats((size_t)ROWS * OUT, &seed);
    float one[OUT];
    run(&fixture, x, ROWS, FINISH_BIAS, NULL, 3, all);
    check(&fixture, PRECISION_BF16, x, ROWS, FINISH_BIAS, NULL, all);
    run(&fixture, x + (size_t)PROBE * IN, 1, FINISH_BIAS, NULL, 1, one);
    assert_true(same_bits(one, all + (size_t)PROBE * OUT, OUT));
    free(all);
    free(x);
    done(&fixture);
}

static bool has_all(enum isa isa)
{
    return isa == ISA_AMX || cpu_has(isa);
}

/* What a machine with AMX does at its start. */
static void test_chosen_where_it_multiplies_correctly(void **state)
{
    (void)state;
    begin();
    const struct machine machine = {.has = has_all, .tile = dispatch_tile};
    struct choice choice;
    struct err err = ERR_INIT;
    assert_int_equal(choice_make(&machine, "auto", "auto", &choice, &err), ERR_OK);
    assert_int_equal(choice.isa, ISA_AMX);
    assert_int_equal(choice.precision, PRECISION_BF16);
    assert_int_equal(choice.warning.code, ERR_OK);
    assert_int_equal(choice_make(&machine, "auto", "int8", &choice, &err), ERR_OK);
    assert_int_equal(choice.isa, ISA_AMX);
    assert_int_equal(choice.warning.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(choice.warning.text, "--precision bf16 is faster"));
}

int main(void)
{
    if (!cpu_has(ISA_AVX512BF16)) {
        print_message("skipped: this machine has no avx512bf16\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_many_rows_and_slices),
        cmocka_unit_test(test_chosen_where_it_multiplies_correctly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 0;
}
#endif
