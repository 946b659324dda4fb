#include "tests/support/kernels_testing.h"

static void against_double(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    uint32_t seed = 3;
    for (size_t n = 1; n <= 530; n += n < 70 ? 1 : 23) {
        float *x = test_floats(n, &seed);
        float *y = malloc(n * sizeof *y);
        assert_non_null(y);
        double largest = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            x[i] *= 60.0f;
            y[i] = x[i];
            largest = fmax(largest, 0.125 * (double)x[i]);
        }
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            sum += exp(0.125 * (double)x[i] - largest);
        }
        ops->softmax(y, n, 0.125f);
        double total = 0.0;
        for (size_t i = 0; i < n; i++) {
            double expected = exp(0.125 * (double)x[i] - largest) / sum;
            assert_true(fabs((double)y[i] - expected) <= 3e-6 * expected + 1e-12);
            total += (double)y[i];
        }
        assert_true(fabs(total - 1.0) <= 1e-5);
        free(y);
        free(x);
    }
}

static void test_against_double_precision(void **state)
{
    (void)state;
    for_each_isa(against_double);
}

/* softmax(0, x) is e^x/(1 + e^x): the quotient of the two shows the exponential itself. */
static void exponential(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    double worst = 0.0;
    for (int i = 0; i <= 100000; i++) {
        float x = -86.0f * (float)i / 100000.0f;
        float pair[2] = {0.0f, x};
        ops->softmax(pair, 2, 1.0f);
        double quotient = (double)pair[1] / (double)pair[0];
        /* Two roundings of the division by the sum come on top. */
        worst = fmax(worst, fabs(quotient / exp((double)x) - 1.0));
    }
    print_message("%s: e^x to a relative error of %.2e\n", isa_name(isa), worst);
    assert_true(worst <= 4e-7);
}

static void test_exponential_over_a_dense_sweep(void **state)
{
    (void)state;
    for_each_isa(exponential);
}

static void extremes(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    float far[20] = {0};
    far[3] = -1e30f;
    far[17] = 3e4f;
    ops->softmax(far, 20, 1.0f);
    assert_true(fabsf(far[17] - 1.0f) < 1e-6f && far[3] >= 0.0f && far[3] < 1e-30f);
    for (size_t bad = 0; bad < 20; bad++) {
        float row[20] = {0};
        row[bad] = NAN;
        ops->softmax(row, 20, 1.0f);
        assert_true(isnan(row[bad]) && isnan(row[19 - bad]));
    }
}

static void test_far_values_and_nan(void **state)
{
    (void)state;
    for_each_isa(extremes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double_precision),
        cmocka_unit_test(test_exponential_over_a_dense_sweep),
        cmocka_unit_test(test_far_values_and_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
