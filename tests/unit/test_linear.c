/* Every multiply kernel of this machine; tests/unit/test_amx.c has AMX's on any machine. */
#include "model/encoder/blas.h"
#include "tests/support/linear_testing.h"

static void try_precision(enum isa isa, enum precision precision)
{
    if (precision != PRECISION_FP32 && !dispatch_tile(isa, precision)) {
        return;
    }
    print_message("%s, %s\n", isa_name(isa), precision_name(precision));
    try_shapes(dispatch_kernels(isa), dispatch_tile(isa, precision));
}

static void try_fp32(enum isa isa)
{
    try_precision(isa, PRECISION_FP32);
}

static void try_bf16(enum isa isa)
{
    try_precision(isa, PRECISION_BF16);
}

static void try_int8(enum isa isa)
{
    try_precision(isa, PRECISION_INT8);
}

static void test_fp32(void **state)
{
    (void)state;
    for_each_isa(try_fp32);
}

static void test_bf16(void **state)
{
    (void)state;
    for_each_isa(try_bf16);
}

static void test_int8(void **state)
{
    (void)state;
    for_each_isa(try_int8);
}

/* More rows than a chunk of packed rows holds. */
static void many_rows(enum isa isa)
{
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (!dispatch_tile(isa, precision)) {
            continue;
        }
        enum { IN = 768, OUT = 40, ROWS = 1500, PROBE = 1437 };
        uint32_t seed = 5;
        struct fixture fixture;
        make(&fixture, dispatch_kernels(isa), dispatch_tile(isa, precision), IN, OUT,
             precision == PRECISION_INT8 ? 8 : 0, 1, &seed);
        float *x = test_floats((size_t)ROWS * IN, &seed);
        float *all = test_floats((size_t)ROWS * OUT, &seed);
        float one[OUT];
        run(&fixture, x, ROWS, FINISH_BIAS, NULL, 2, all);
        run(&fixture, x + (size_t)PROBE * IN, 1, FINISH_BIAS, NULL, 1, one);
        assert_true(same_bits(one, all + (size_t)PROBE * OUT, OUT));
        check(&fixture, precision, x + (size_t)PROBE * IN, 1, FINISH_BIAS, NULL, one);
        free(all);
        free(x);
        done(&fixture);
    }
}

static void test_more_rows_than_a_chunk(void **state)
{
    (void)state;
    for_each_isa(many_rows);
}

/* Inputs a thousand times the others' size, but wide: the others keep their fine steps. */
static void outliers(enum isa isa)
{
    const struct tile_kernel *kernel = dispatch_tile(isa, PRECISION_INT8);
    if (!kernel) {
        return;
    }
    enum { IN = 200, OUT = 40, ROWS = 9, WIDE = 5 };
    uint32_t seed = 31;
    struct fixture fixture;
    make(&fixture, dispatch_kernels(isa), kernel, IN, OUT, WIDE, 1, &seed);
    float *x = test_floats((size_t)ROWS * IN, &seed);
    float *out = test_floats((size_t)ROWS * OUT, &seed);
    for (size_t i = 0; i < (size_t)ROWS * IN; i++) {
        x[i] = is_wide(&fixture.linear, i % IN) ? 1000.0f * x[i] : 2.0f + x[i];
    }
    run(&fixture, x, ROWS, FINISH_BIAS, NULL, 1, out);
    check(&fixture, PRECISION_INT8, x, ROWS, FINISH_BIAS, NULL, out);
    free(out);
    free(x);
    done(&fixture);
}

static void test_wide_inputs_do_not_coarsen_the_others(void **state)
{
    (void)state;
    for_each_isa(outliers);
}

/* Rows of zeros quantize to zeros, whatever their scale would be. */
static void zero_rows(enum isa isa)
{
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (precision != PRECISION_FP32 && !dispatch_tile(isa, precision)) {
            continue;
        }
        uint32_t seed = 9;
        struct fixture fixture;
        make(&fixture, dispatch_kernels(isa), dispatch_tile(isa, precision), 70, 35,
             precision == PRECISION_INT8 ? 4 : 0, 1, &seed);
        float x[3 * 70] = {0};
        float out[3 * 35];
        run(&fixture, x, 3, FINISH_BIAS, NULL, 1, out);
        for (size_t i = 0; i < 3 * 35; i++) {
            assert_true(out[i] == fixture.bias[i % 35]);
        }
        done(&fixture);
    }
}

static void test_zero_rows_give_the_bias(void **state)
{
    (void)state;
    for_each_isa(zero_rows);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (blas_open(&err) != ERR_OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_int8),
        cmocka_unit_test(test_more_rows_than_a_chunk),
        cmocka_unit_test(test_wide_inputs_do_not_coarsen_the_others),
        cmocka_unit_test(test_zero_rows_give_the_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
