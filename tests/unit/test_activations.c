/* The activations of the epilogue beside erf-GELU: their errors, ends and independence of place. */
#include "tests/support/kernels_testing.h"

static double gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double relu(double x)
{
    return x > 0.0 ? x : 0.0;
}

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

static const struct {
    const char *name;
    enum finish finish;
    double (*reference)(double x);
    double error; /* absolute, as kernels.h states it */
} activations[] = {
    {"gelu_tanh", FINISH_GELU_TANH, gelu_tanh, 1.5e-6},
    {"relu", FINISH_RELU, relu, 0.0},
    {"silu", FINISH_SILU, silu, 1.5e-6},
};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

/* x in place, by an epilogue of one row without a bias. */
static void apply(const struct kernels *ops, enum finish finish, float *x, size_t n)
{
    float *bias = calloc(n, sizeof *bias);
    assert_non_null(bias);
    const struct finish_args args = {.finish = finish,
                                     .rows = 1,
                                     .columns = n,
                                     .sums = x,
                                     .sums_ld = n,
                                     .bias = bias,
                                     .out = x,
                                     .out_ld = n};
    ops->finish(&args);
    free(bias);
}

static void sweep(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    enum { CHUNK = 1000 };
    for (size_t a = 0; a < ACTIVATIONS; a++) {
        double worst = 0.0;
        for (int chunk = -200; chunk < 200; chunk++) {
            float x[CHUNK];
            float y[CHUNK];
            for (int i = 0; i < CHUNK; i++) {
                x[i] = (float)(chunk * CHUNK + i) * (12.0f / 200000.0f);
                y[i] = x[i];
            }
            apply(ops, activations[a].finish, y, CHUNK);
            for (int i = 0; i < CHUNK; i++) {
                worst = fmax(worst, fabs((double)y[i] - activations[a].reference(x[i])));
            }
        }
        print_message("%s, %s: max error %.2e\n", isa_name(isa), activations[a].name, worst);
        assert_true(worst <= activations[a].error);
    }
}

static void test_error_over_a_dense_sweep(void **state)
{
    (void)state;
    for_each_isa(sweep);
}

static void ends(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    for (size_t a = 0; a < ACTIVATIONS; a++) {
        float x[] = {0.0f,   -0.0f, INFINITY, -INFINITY, NAN,     1e30f,
                     -1e30f, 3e38f, -3e38f,   100.0f,    -100.0f, 1e-40f};
        apply(ops, activations[a].finish, x, sizeof x / sizeof *x);
        assert_true(x[0] == 0.0f && x[1] == 0.0f);
        assert_true(x[2] == INFINITY);
        assert_true(fabsf(x[3]) <= 1e-7f);
        assert_true(isnan(x[4]));
        assert_true(x[5] == 1e30f && fabsf(x[6]) <= 1e-7f);
        assert_true(x[7] == 3e38f && fabsf(x[8]) <= 1e-7f);
        assert_true(x[9] == 100.0f && fabsf(x[10]) <= 1e-30f);
        assert_true(fabsf(x[11]) <= 1e-40f);
    }
}

static void test_infinities_and_nan(void **state)
{
    (void)state;
    for_each_isa(ends);
}

static void lanes(enum isa isa)
{
    const struct kernels *ops = dispatch_kernels(isa);
    uint32_t seed = 11;
    for (size_t a = 0; a < ACTIVATIONS; a++) {
        for (size_t n = 1; n <= 40; n++) {
            float *x = test_floats(n, &seed);
            float *alone = malloc(n * sizeof *alone);
            assert_non_null(alone);
            for (size_t i = 0; i < n; i++) {
                x[i] *= 6.0f;
                alone[i] = x[i];
                apply(ops, activations[a].finish, &alone[i], 1);
            }
            apply(ops, activations[a].finish, x, n);
            assert_memory_equal(x, alone, n * sizeof *x);
            free(alone);
            free(x);
        }
    }
}

static void test_each_value_for_itself(void **state)
{
    (void)state;
    for_each_isa(lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_over_a_dense_sweep),
        cmocka_unit_test(test_infinities_and_nan),
        cmocka_unit_test(test_each_value_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
