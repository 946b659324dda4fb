#include "tests/support/kernels_testing.h"

static double reference(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2.0));
}

static void sweep(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    enum { CHUNK = 1000 };
    double worst = 0.0;
    double worst_relative = 0.0;
    for (int chunk = -200; chunk < 200; chunk++) {
        float x[CHUNK];
        float y[CHUNK];
        for (int i = 0; i < CHUNK; i++) {
            x[i] = (float)(chunk * CHUNK + i) * (12.0f / 200000.0f);
            y[i] = x[i];
        }
        ops->gelu(y, CHUNK);
        for (int i = 0; i < CHUNK; i++) {
            double error = fabs((double)y[i] - reference(x[i]));
            worst = fmax(worst, error);
            if (x[i] > 0.0f) {
                worst_relative = fmax(worst_relative, error / reference(x[i]));
            }
        }
    }
    print_message("%s: max error %.2e absolute, %.2e relative for x > 0\n", isa_name(isa), worst,
                  worst_relative);
    assert_true(worst <= 1.5e-6);
    assert_true(worst_relative <= 4e-7);
}

static void test_error_over_a_dense_sweep(void **state)
{
    (void)state;
    for_each_isa(sweep);
}

static void ends(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    float x[] = {0.0f,  -0.0f,  INFINITY, -INFINITY, NAN,    1e30f, -1e30f,
                 3e38f, -3e38f, 100.0f,   -100.0f,   1e-40f, 6.0f,  -6.0f};
    ops->gelu(x, sizeof x / sizeof *x);
    assert_true(x[0] == 0.0f && x[1] == 0.0f);
    assert_true(x[2] == INFINITY);
    assert_true(x[3] == 0.0f);
    assert_true(isnan(x[4]));
    assert_true(x[5] == 1e30f && x[6] == 0.0f);
    assert_true(x[7] == 3e38f && x[8] == 0.0f);
    assert_true(x[9] == 100.0f && x[10] == 0.0f);
    assert_true(fabsf(x[11]) <= 1e-40f);
    assert_true(x[12] == 6.0f && fabsf(x[13]) <= 1e-7f);
}

static void test_infinities_and_nan(void **state)
{
    (void)state;
    for_each_isa(ends);
}

/* The value may not depend on where in the array it stands. */
static void lanes(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    uint32_t seed = 7;
    for (size_t n = 1; n <= 40; n++) {
        float *x = test_floats(n, &seed);
        for (size_t i = 0; i < n; i++) {
            x[i] *= 6.0f;
        }
        float *alone = malloc(n * sizeof *alone);
        assert_non_null(alone);
        for (size_t i = 0; i < n; i++) {
            alone[i] = x[i];
            ops->gelu(&alone[i], 1);
        }
        ops->gelu(x, n);
        assert_true(same_bits(x, alone, n));
        free(alone);
        free(x);
    }
}

static void test_same_bits_in_every_lane(void **state)
{
    (void)state;
    for_each_isa(lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_over_a_dense_sweep),
        cmocka_unit_test(test_infinities_and_nan),
        cmocka_unit_test(test_same_bits_in_every_lane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
