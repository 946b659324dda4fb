/* A linear layer on one kernel against plain sums in double precision, on shapes that leave
 * remainders everywhere. */
#ifndef ORTHRUS_TESTS_SUPPORT_LINEAR_TESTING_H
#define ORTHRUS_TESTS_SUPPORT_LINEAR_TESTING_H

#include "base/size.h"
#include "model/encoder/linear.h"
#include "model/encoder/operand.h"
#include "tests/support/kernels_testing.h"

struct shape {
    size_t in;
    size_t out;
};

static const struct shape shapes[] = {{1, 1},    {2, 3},    {7, 33},  {13, 64},
                                      {32, 32},  {32, 96},  {65, 31}, {100, 130},
                                      {384, 65}, {257, 48}, {768, 97}};
static const size_t row_counts[] = {1, 2, 5, 6, 7, 13, 14, 15, 16, 27, 28, 29, 40};

/* A matrix with its plain numbers. */
struct fixture {
    struct linear linear;
    void *memory;
    size_t memory_bytes;
    float *weight; /* [out,in] */
    float *bias;   /* [out] */
};

/* Packs random weights whose first inputs are chosen as the wide ones. */
static inline void make(struct fixture *fixture, const struct kernels *ops,
                        const struct tile_kernel *kernel, size_t in, size_t out, size_t wide,
                        size_t n_parts, uint32_t *seed)
{
    struct region region = {.base = NULL};
    const struct linear_shape shape = {
        .in = in, .out = out, .wide = wide, .group = (1 + out % 2) * INT8_UNIT};
    linear_layout(&fixture->linear, ops, kernel, &shape, &region);
    fixture->memory_bytes = region.used;
    fixture->memory = pages_alloc(region.used);
    assert_non_null(fixture->memory);
    region = (struct region){.base = fixture->memory};
    linear_layout(&fixture->linear, ops, kernel, &shape, &region);
    fixture->weight = test_floats(out * in, seed);
    fixture->bias = test_floats(out, seed);
    if (wide > 0) {
        float *score = test_floats(in, seed);
        linear_choose_wide(&fixture->linear, score);
        free(score);
    }
    struct tensor weights[3];
    struct tensor biases[3];
    struct linear_part parts[3];
    for (size_t p = 0; p < n_parts; p++) {
        size_t rows = out / n_parts;
        weights[p] = tensor_of_floats(fixture->weight + p * rows * in, rows, in);
        biases[p] = tensor_of_floats(fixture->bias + p * rows, 1, rows);
        parts[p] = (struct linear_part){&weights[p], &biases[p]};
    }
    size_t scratch_floats = linear_pack_floats(&fixture->linear);
    float *scratch = test_floats(scratch_floats, seed);
    for (size_t panel = 0; panel < fixture->linear.panels; panel++) {
        linear_pack(&fixture->linear, parts, n_parts, panel, scratch);
    }
    free(scratch);
}

static inline void done(struct fixture *fixture)
{
    free(fixture->bias);
    free(fixture->weight);
    pages_free(fixture->memory, fixture->memory_bytes);
}

/* next, where there is one, takes the outputs packed instead of out. */
static inline void run_to(const struct fixture *fixture, const float *x, size_t rows,
                          enum finish finish, const float *residual, unsigned width,
                          const struct operand *next, float *out)
{
    const struct linear *linear = &fixture->linear;
    size_t scratch_bytes = linear_scratch_bytes(linear, next ? next->linear : NULL);
    size_t packed_bytes = operand_bytes(linear, rows);
    void *scratch = pages_alloc(scratch_bytes);
    void *packed = pages_alloc(packed_bytes);
    assert_true(scratch && packed);
    const struct operand operand = operand_of(linear, rows, packed);
    operand_pack_all(&operand, x, linear->in);
    const struct linear_call call = {.x = &operand,
                                     .finish = finish,
                                     .residual = residual,
                                     .residual_ld = linear->out,
                                     .out = out,
                                     .out_ld = linear->out,
                                     .next = next};
    struct team team;
    team_init(&team, width);
    for (unsigned member = 0; member < width; member++) {
        linear_run(linear, &call, &team, member, scratch);
    }
    pages_free(packed, packed_bytes);
    pages_free(scratch, scratch_bytes);
}

static inline void run(const struct fixture *fixture, const float *x, size_t rows,
                       enum finish finish, const float *residual, unsigned width, float *out)
{
    run_to(fixture, x, rows, finish, residual, width, NULL, out);
}

static inline bool is_wide(const struct linear *linear, size_t k)
{
    for (size_t w = 0; w < linear->wide; w++) {
        if (linear->wide_columns[w] == k) {
            return true;
        }
    }
    return false;
}

/* Nearest bf16, ties to even. */
static inline double to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* Where the group that starts there ends; without int8 all inputs are one. */
static inline size_t group_end(const struct linear *linear, size_t first)
{
    size_t group = linear->group > 0 ? linear->group : linear->in;
    return linear->in - first < group ? linear->in : first + group;
}

/* The step of a group's int8 numbers, for a row of x or of weights: its range, made to hold 0, in
 * 254 or 253 of them; half a group's weights too many for a sum take their largest magnitude in
 * 127. */
static inline double step_of(const struct linear *linear, const float *row, size_t first,
                             bool weight)
{
    double low = 0.0;
    double high = 0.0;
    for (size_t k = first; k < group_end(linear, first); k++) {
        if (!is_wide(linear, k)) {
            low = fmin(low, (double)row[k]);
            high = fmax(high, (double)row[k]);
        }
    }
    double step = (high - low) / (weight ? 253.0 : 254.0);
    double steps = 0.0;
    for (size_t k = first; weight && step > 0.0 && k < group_end(linear, first); k++) {
        steps += is_wide(linear, k) ? 0.0 : fabs(rint((double)row[k] / step));
    }
    return 255.0 * steps < (1 << 22) - 255 ? step : fmax(high, -low) / 127.0;
}

static inline double on_grid(float x, double step)
{
    return step > 0.0 ? rint((double)x / step) * step : 0.0;
}

/* One group of one element in double, its factors rounded as the precision says, and how far the
 * kernel may be off: rounding in fp32; for int8 also steps where a factor is half-way. */
static inline double expect_group(const struct linear *linear, enum precision precision,
                                  const float *x, const float *w, size_t first, double *magnitude,
                                  double *steps)
{
    double x_step = step_of(linear, x, first, false);
    double w_step = step_of(linear, w, first, true);
    double sum = 0.0;
    for (size_t k = first; k < group_end(linear, first); k++) {
        double a = (double)x[k];
        double b = (double)w[k];
        if (precision == PRECISION_BF16) {
            a = to_bf16(x[k]);
            b = to_bf16(w[k]);
        } else if (precision == PRECISION_INT8 && !is_wide(linear, k)) {
            a = on_grid(x[k], x_step);
            b = on_grid(w[k], w_step);
        }
        sum += a * b;
        *magnitude += fabs(a * b);
    }
    *steps = fmax(*steps, x_step + w_step);
    return sum;
}

static inline double expect_sum(const struct fixture *fixture, enum precision precision,
                                const float *x, const float *w, double *ret_tolerance)
{
    const struct linear *linear = &fixture->linear;
    double sum = 0.0;
    double magnitude = 0.0;
    double steps = 0.0;
    for (size_t first = 0; first < linear->in; first = group_end(linear, first)) {
        sum += expect_group(linear, precision, x, w, first, &magnitude, &steps);
    }
    *ret_tolerance = 4e-7 * (magnitude + 1.0) * sqrt((double)linear->in);
    if (precision == PRECISION_INT8) {
        *ret_tolerance += 2.0 * steps;
    }
    return sum;
}

static inline double gelu(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2.0));
}

static inline double gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static inline void check(const struct fixture *fixture, enum precision precision, const float *x,
                         size_t rows, enum finish finish, const float *residual, const float *out)
{
    const struct linear *linear = &fixture->linear;
    for (size_t r = 0; r < rows; r++) {
        for (size_t n = 0; n < linear->out; n++) {
            double tolerance;
            double sum = expect_sum(fixture, precision, x + r * linear->in,
                                    fixture->weight + n * linear->in, &tolerance);
            double expected = sum + (double)fixture->bias[n];
            if (finish == FINISH_GELU) {
                expected = gelu(expected);
            } else if (finish == FINISH_GELU_TANH) {
                expected = gelu_tanh(expected);
            } else if (finish == FINISH_RELU) {
                expected = fmax(expected, 0.0);
            } else if (finish == FINISH_SILU) {
                expected = expected / (1.0 + exp(-expected));
            } else if (finish == FINISH_ADD) {
                expected += (double)residual[r * linear->out + n];
            }
            double error = fabs((double)out[r * linear->out + n] - expected);
            if (!(error <= 1.2 * tolerance + 2e-6)) {
                fail_msg("K %zu N %zu rows %zu: [%zu,%zu] off by %.3e, allowed %.3e", linear->in,
                         linear->out, rows, r, n, error, tolerance);
            }
        }
    }
}

/* Rows counts, epilogues and team widths of one shape; and a row's bits may depend on none of
 * them, except on OpenBLAS. */
static inline void try_shape(const struct kernels *ops, const struct tile_kernel *kernel,
                             struct shape shape)
{
    enum precision precision = kernel ? kernel->precision : PRECISION_FP32;
    uint32_t seed = (uint32_t)(shape.in * 1000 + shape.out);
    struct fixture fixture;
    size_t wide = precision == PRECISION_INT8 ? size_min(shape.in / 4, 9) : 0;
    size_t n_parts = shape.out % 3 == 0 ? 3 : 1;
    make(&fixture, ops, kernel, shape.in, shape.out, wide, n_parts, &seed);
    enum { ROWS_MAX = 40 };
    float *x = test_floats(ROWS_MAX * shape.in, &seed);
    float *residual = test_floats(ROWS_MAX * shape.out, &seed);
    float *all = test_floats(ROWS_MAX * shape.out, &seed);
    for (enum finish finish = FINISH_BIAS; finish <= FINISH_ADD; finish++) {
        run(&fixture, x, ROWS_MAX, finish, residual, 1, all);
        check(&fixture, precision, x, ROWS_MAX, finish, residual, all);
        for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
            size_t rows = row_counts[i];
            size_t from = ROWS_MAX - rows;
            float *some = test_floats(rows * shape.out, &seed);
            run(&fixture, x + from * shape.in, rows, finish, residual + from * shape.out,
                1 + (unsigned)(i * 5 % 13), some);
            if (fixture.linear.kernel) {
                assert_true(same_bits(some, all + from * shape.out, rows * shape.out));
            } else {
                check(&fixture, precision, x + from * shape.in, rows, finish,
                      residual + from * shape.out, some);
            }
            free(some);
        }
    }
    free(all);
    free(residual);
    free(x);
    done(&fixture);
}

/* Every shape. kernel NULL is OpenBLAS. */
static inline void try_shapes(const struct kernels *ops, const struct tile_kernel *kernel)
{
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        try_shape(ops, kernel, shapes[s]);
    }
}

#endif
