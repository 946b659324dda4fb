#include "tests/support/kernels_testing.h"

static const size_t widths[] = {1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 100, 384, 768};

static void check_row(const float *x, const float *gamma, const float *beta, size_t width,
                      const float *y)
{
    double mean = 0.0;
    double variance = 0.0;
    for (size_t i = 0; i < width; i++) {
        mean += (double)x[i] / (double)width;
    }
    for (size_t i = 0; i < width; i++) {
        variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)width;
    }
    for (size_t i = 0; i < width; i++) {
        double z = ((double)x[i] - mean) / sqrt(variance + 1e-5);
        double expected = z * (double)gamma[i] + (double)beta[i];
        assert_true(fabs((double)y[i] - expected) <= 3e-6 * (1.0 + fabs(z)));
    }
}

static void against_double(enum isa isa)
{
    enum { ROWS = 5 };
    const struct kernels *ops = dispatch_kernels(isa);
    uint32_t seed = 11;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        size_t width = widths[w];
        float *x = test_floats(ROWS * width, &seed);
        float *gamma = test_floats(width, &seed);
        float *beta = test_floats(width, &seed);
        float *y = malloc(ROWS * width * sizeof *y);
        assert_non_null(y);
        struct layernorm_args args = {.x = x,
                                      .rows = ROWS,
                                      .width = width,
                                      .to = width,
                                      .gamma = gamma,
                                      .beta = beta,
                                      .eps = 1e-5f,
                                      .out = y};
        ops->layernorm(&args);
        for (size_t r = 0; r < ROWS; r++) {
            check_row(x + r * width, gamma, beta, width, y + r * width);
        }
        /* A row alone and in place: the same bits. */
        float *alone = malloc(width * sizeof *alone);
        assert_non_null(alone);
        memcpy(alone, x + 3 * width, width * sizeof *alone);
        args.x = alone;
        args.rows = 1;
        args.out = alone;
        ops->layernorm(&args);
        assert_true(same_bits(alone, y + 3 * width, width));
        /* Some columns by themselves: the same bits, and no others written. */
        memcpy(alone, y + 2 * width, width * sizeof *alone);
        args.x = x + 2 * width;
        args.from = width / 3;
        args.to = width - width / 4;
        memset(alone + args.from, 0, (args.to - args.from) * sizeof *alone);
        ops->layernorm(&args);
        assert_true(same_bits(alone, y + 2 * width, width));
        free(alone);
        free(y);
        free(beta);
        free(gamma);
        free(x);
    }
}

static void test_against_double_precision(void **state)
{
    (void)state;
    for_each_isa(against_double);
}

static void constant_row(enum isa isa)
{
    float x[40];
    float gamma[40];
    float beta[40];
    for (size_t i = 0; i < 40; i++) {
        x[i] = 3.0f;
        gamma[i] = 2.0f;
        beta[i] = (float)i;
    }
    const struct layernorm_args args = {.x = x,
                                        .rows = 1,
                                        .width = 40,
                                        .to = 40,
                                        .gamma = gamma,
                                        .beta = beta,
                                        .eps = 1e-12f,
                                        .out = x};
    dispatch_kernels(isa)->layernorm(&args);
    for (size_t i = 0; i < 40; i++) {
        assert_true(x[i] == (float)i);
    }
}

static void test_constant_row_gives_beta(void **state)
{
    (void)state;
    for_each_isa(constant_row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double_precision),
        cmocka_unit_test(test_constant_row_gives_beta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
