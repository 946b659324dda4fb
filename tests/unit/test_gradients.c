/* Every operator's way back against finite differences, taken in double precision of a plain
 * double reference (tests/support/reference.h): so the differences are exact to about 1e-9 and what
 * is measured is the trainer's own rounding. */
#include "tests/support/reference.h"
#include "train/network/dropout.h"
#include "train/network/kernels/kernels.h"

enum { LEVELS = 3 };

static const size_t lengths[] = {1, 2, 3, 7, 16, 31, 32, 64, 77, 768};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths, LONGEST = 768 };

/* Uniform in [-scale, scale]. */
static float noise(uint64_t *state, double scale)
{
    double unit = (double)random_u32(7, 1, (*state)++) / 4294967295.0;
    return (float)((2 * unit - 1) * scale);
}

static void fill(uint64_t *state, float *x, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = noise(state, scale);
    }
}

/* Runs one check for every table this machine can run. */
static void each_level(void (*check)(const struct train_kernels *kernels, size_t n))
{
    for (unsigned level = 0; level < LEVELS; level++) {
        const struct train_kernels *kernels = train_kernels_level(level);
        for (size_t i = 0; kernels && i < N_LENGTHS; i++) {
            check(kernels, lengths[i]);
        }
    }
}

static void check_gelu(const struct train_kernels *kernels, size_t n)
{
    float x[LONGEST] = {0}, y[LONGEST], d[LONGEST];
    for (size_t i = 0; i < n; i++) {
        x[i] = n == 1 ? 0.0f : (float)(-9.0 + 18.0 * (double)i / (double)(n - 1));
        d[i] = 0.75f;
    }
    kernels->gelu(x, n, y);
    kernels->gelu_backward(x, n, d);
    for (size_t i = 0; i < n; i++) {
        double at = (double)x[i];
        double h = 1e-5;
        double slope = (gelu_reference(at + h) - gelu_reference(at - h)) / (2 * h);
        near((double)y[i], gelu_reference(at), 5e-7 * fmax(1, fabs(at)), "gelu", i);
        near((double)d[i], 0.75 * slope, 5e-7, "gelu gradient", i);
    }
}

static void test_gelu(void **state)
{
    (void)state;
    each_level(check_gelu);
}

static void check_norm(const struct train_kernels *kernels, size_t n)
{
    /* A row of one or two has no variance to speak of: its gradient is rounding alone. */
    if (n < 3) {
        return;
    }
    uint64_t random = n;
    const double eps = 1e-3;
    const double h = 1e-6;
    float x[LONGEST] = {0}, w[LONGEST] = {0}, b[LONGEST] = {0}, r[LONGEST] = {0};
    float y[LONGEST];
    float dx[LONGEST], dw[LONGEST] = {0}, db[LONGEST] = {0};
    double xd[LONGEST] = {0}, wd[LONGEST] = {0}, bd[LONGEST] = {0}, out[LONGEST];
    float mean, rstd;
    fill(&random, x, n, 2);
    fill(&random, w, n, 1);
    fill(&random, b, n, 1);
    fill(&random, r, n, 1);
    kernels->norm(x, n, (float)eps, w, b, y, &mean, &rstd);
    kernels->norm_backward(r, x, mean, rstd, w, n, dx);
    kernels->norm_backward_weights(r, x, mean, rstd, n, dw, db);
    for (size_t i = 0; i < n; i++) {
        xd[i] = (double)x[i];
        wd[i] = (double)w[i];
        bd[i] = (double)b[i];
    }
    norm_reference(xd, wd, bd, r, n, eps, out);
    for (size_t i = 0; i < n; i++) {
        near((double)y[i], out[i], 2e-6, "norm", i);
        double *at[] = {&xd[i], &wd[i], &bd[i]};
        const float *found[] = {&dx[i], &dw[i], &db[i]};
        for (size_t k = 0; k < 3; k++) {
            double kept = *at[k];
            *at[k] = kept + h;
            double up = norm_reference(xd, wd, bd, r, n, eps, NULL);
            *at[k] = kept - h;
            double down = norm_reference(xd, wd, bd, r, n, eps, NULL);
            *at[k] = kept;
            near((double)*found[k], (up - down) / (2 * h), 4e-6, "norm gradient", i);
        }
    }
}

static void test_norm(void **state)
{
    (void)state;
    each_level(check_norm);
}

static void check_softmax(const struct train_kernels *kernels, size_t n)
{
    uint64_t random = n;
    const double scale = 0.125;
    const double h = 1e-5;
    float x[LONGEST] = {0}, r[LONGEST] = {0}, dp[LONGEST];
    double xd[LONGEST] = {0}, out[LONGEST];
    fill(&random, x, n, 30);
    fill(&random, r, n, 1);
    for (size_t i = 0; i < n; i++) {
        xd[i] = (double)x[i];
        dp[i] = r[i];
    }
    kernels->softmax(x, n, (float)scale);
    kernels->softmax_backward(x, n, (float)scale, dp);
    softmax_reference(xd, r, n, scale, out);
    for (size_t i = 0; i < n; i++) {
        near((double)x[i], out[i], 3e-7, "softmax", i);
        double kept = xd[i];
        xd[i] = kept + h;
        double up = softmax_reference(xd, r, n, scale, NULL);
        xd[i] = kept - h;
        double down = softmax_reference(xd, r, n, scale, NULL);
        xd[i] = kept;
        near((double)dp[i], (up - down) / (2 * h), 2e-7, "softmax gradient", i);
    }
}

static void test_softmax(void **state)
{
    (void)state;
    each_level(check_softmax);
}

static void check_sums(const struct train_kernels *kernels, size_t n)
{
    uint64_t random = n;
    float x[LONGEST] = {0}, y[LONGEST] = {0}, was[LONGEST];
    double expected = 0;
    fill(&random, x, n, 3);
    fill(&random, y, n, 3);
    memcpy(was, y, sizeof was);
    kernels->add(x, n, y);
    for (size_t i = 0; i < n; i++) {
        expected += (double)x[i] * (double)x[i];
        assert_true(y[i] == was[i] + x[i]);
    }
    near(kernels->sum_squares(x, n), expected, 1e-6 * expected, "sum of squares", 0);
}

static void test_sums(void **state)
{
    (void)state;
    each_level(check_sums);
}

/* Five steps of one parameter against torch.optim's formulas in double. */
static void check_adam(const struct train_kernels *kernels, size_t n)
{
    uint64_t random = n;
    float p[LONGEST] = {0}, g[LONGEST] = {0}, m[LONGEST] = {0}, v[LONGEST] = {0};
    double pd[LONGEST], md[LONGEST] = {0}, vd[LONGEST] = {0};
    const double lr = 1e-2, l2 = 0.1, decay = 0.99;
    fill(&random, p, n, 1);
    for (size_t i = 0; i < n; i++) {
        pd[i] = (double)p[i];
    }
    for (int t = 1; t <= 5; t++) {
        double bias1 = 1 - pow(0.9, t);
        double bias2 = sqrt(1 - pow(0.999, t));
        struct adam_coefficients c = {0.5f,   (float)l2,           (float)decay, 0.1f, 0.999f,
                                      0.001f, (float)(lr / bias1), (float)bias2, 1e-8f};
        fill(&random, g, n, 1);
        kernels->adam(&c, g, n, p, m, v);
        for (size_t i = 0; i < n; i++) {
            pd[i] *= decay;
            double grad = 0.5 * (double)g[i] + l2 * pd[i];
            md[i] = 0.9 * md[i] + 0.1 * grad;
            vd[i] = 0.999 * vd[i] + 0.001 * grad * grad;
            pd[i] -= lr / bias1 * md[i] / (sqrt(vd[i]) / bias2 + 1e-8);
        }
    }
    for (size_t i = 0; i < n; i++) {
        near((double)p[i], pd[i], 1e-5, "adam", i);
    }
}

static void test_adam(void **state)
{
    (void)state;
    each_level(check_adam);
}

/* The same mask on every machine, at the rate asked for, and Philox's own known answers. */
static void test_dropout(void **state)
{
    (void)state;
    assert_int_equal(random_u32(0xffffffffffffffffu, 0xffffffffu, 0xffffffffffffffffu), 0x408f276d);
    struct philox_stream zero = {{0, 0}, {0, 0, 0}};
    float first[1] = {1};
    /* Word 0 of block 0 under key 0 is 0x6627e8d5. */
    train_kernels_generic.dropout(first, 1, 0x6627e8d5u, 2.0f, &zero);
    assert_true(first[0] == 2.0f);
    train_kernels_generic.dropout(first, 1, 0x6627e8d6u, 2.0f, &zero);
    assert_true(first[0] == 0.0f);

    float expected[LONGEST], found[LONGEST];
    size_t kept = 0;
    for (uint32_t row = 0; row < 100; row++) {
        struct philox_stream stream = {{1, 2}, {row, 3, 4}};
        for (unsigned level = 0; level < LEVELS; level++) {
            const struct train_kernels *kernels = train_kernels_level(level);
            if (!kernels) {
                continue;
            }
            float *out = level == 0 ? expected : found;
            for (size_t i = 0; i < LONGEST; i++) {
                out[i] = 3;
            }
            kernels->dropout(out, LONGEST - row, 429496729u, 1 / 0.9f, &stream);
            if (level > 0) {
                assert_memory_equal(found, expected, sizeof found);
            }
        }
        for (size_t i = 0; i < LONGEST - row; i++) {
            kept += expected[i] != 0;
        }
    }
    double share = (double)kept / (100.0 * LONGEST - 4950);
    near(share, 0.9, 0.005, "share kept", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gelu), cmocka_unit_test(test_norm), cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_sums), cmocka_unit_test(test_adam), cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
