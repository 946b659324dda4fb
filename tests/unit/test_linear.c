/* Every multiply kernel of this machine; tests/unit/test_amx.c has AMX's on any machine. */
#include <math.h>

#include "model/encoder/blas.h"
#include "model/encoder/kernels/int8_grid.h"
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

/* Weights far from zero are rounded in their own range, as inputs are: the bounds that check has
 * for it are finer than steps from zero on would be. */
static void shifted_weights(enum isa isa)
{
    const struct tile_kernel *kernel = dispatch_tile(isa, PRECISION_INT8);
    if (!kernel) {
        return;
    }
    enum { IN = 200, OUT = 41, ROWS = 9, WIDE = 5 };
    uint32_t seed = 33;
    struct fixture fixture;
    make(&fixture, dispatch_kernels(isa), kernel, IN, OUT, WIDE, 1, &seed);
    for (size_t i = 0; i < (size_t)OUT * IN; i++) {
        fixture.weight[i] = 20.0f + fixture.weight[i];
    }
    const struct tensor weight = tensor_of_floats(fixture.weight, OUT, IN);
    const struct tensor bias = tensor_of_floats(fixture.bias, 1, OUT);
    const struct linear_part part = {&weight, &bias};
    float *scratch = test_floats(linear_pack_floats(&fixture.linear), &seed);
    for (size_t panel = 0; panel < fixture.linear.panels; panel++) {
        linear_pack(&fixture.linear, &part, 1, panel, scratch);
    }
    float *x = test_floats((size_t)ROWS * IN, &seed);
    float *out = test_floats((size_t)ROWS * OUT, &seed);
    run(&fixture, x, ROWS, FINISH_BIAS, NULL, 1, out);
    check(&fixture, PRECISION_INT8, x, ROWS, FINISH_BIAS, NULL, out);
    free(out);
    free(x);
    free(scratch);
    done(&fixture);
}

static void test_weights_are_rounded_in_their_own_range(void **state)
{
    (void)state;
    for_each_isa(shifted_weights);
}

/* A weight in steps, which lie in centre ± 127. */
static float plain_steps(float w, struct int8_weights grid)
{
    return fminf(fmaxf(rintf(w * grid.inverse), grid.centre - 127.0f), grid.centre + 127.0f);
}

/* One weight's group as the header of the kernels says, in plain C. */
static void plain_group(const struct linear *linear, const float *row, size_t c, size_t g,
                        float *panel)
{
    size_t columns = linear->kernel->columns;
    uint32_t *pairs = (uint32_t *)(panel + linear->groups * columns);
    float *words = panel + (2 * linear->groups + linear->wide) * columns;
    size_t from = g * linear->group;
    size_t to = size_min(from + linear->group, linear->in);
    float low = 0.0f;
    float high = 0.0f;
    for (size_t k = from; k < to; k++) {
        low = is_wide(linear, k) ? low : fminf(low, row[k]);
        high = is_wide(linear, k) ? high : fmaxf(high, row[k]);
    }
    struct int8_weights grid = int8_weights_of(low, high, true);
    float magnitude = 0.0f;
    for (size_t k = from; k < to; k++) {
        magnitude += is_wide(linear, k) ? 0.0f : fabsf(plain_steps(row[k], grid));
    }
    if (255.0f * (magnitude + 1.0f) > (float)(1 << 22)) {
        grid = int8_weights_of(low, high, false);
    }
    int sum = 0;
    for (size_t k = from; k < to; k++) {
        float value = is_wide(linear, k) ? 0.0f : plain_steps(row[k], grid) - grid.centre;
        ((int8_t *)(words + k / 4 * columns + c))[k % 4] = (int8_t)value;
        sum += (int)value;
    }
    panel[g * columns + c] = grid.scale;
    pairs[g * columns + c] = int8_pair(-sum, (int)grid.centre);
}

/* Every panel of int8 is what plain C makes of the weights, to the last bit, and the same where
 * they do not stand aligned in their file. */
static void plain_panels(enum isa isa)
{
    const struct tile_kernel *kernel = dispatch_tile(isa, PRECISION_INT8);
    static const struct shape odd[] = {{31, 3}, {64, 16}, {77, 50}, {300, 41}};
    for (size_t i = 0; kernel && i < sizeof odd / sizeof *odd; i++) {
        size_t in = odd[i].in;
        size_t out = odd[i].out;
        uint32_t seed = 41;
        struct fixture fixture;
        make(&fixture, dispatch_kernels(isa), kernel, in, out, i * 3, 1, &seed);
        const struct linear *linear = &fixture.linear;
        for (size_t k = 0; k < in; k++) {
            fixture.weight[k] = 0.0f;                            /* a row without a range, */
            fixture.weight[in + k] = nextafterf(3.0f, k % 3);    /* one of two neighbours, */
            fixture.weight[2 * in + k] *= k % 5 ? 1e-38f : 0.0f; /* and a tiny one */
        }
        unsigned char *file = calloc(1, out * in * sizeof(float) + 1);
        float *panel = pages_alloc(linear->panel_bytes);
        assert_true(file && panel);
        memcpy(file + 1, fixture.weight, out * in * sizeof(float));
        struct tensor weight = tensor_of_floats(fixture.weight, out, in);
        const struct tensor bias = tensor_of_floats(fixture.bias, 1, out);
        const struct linear_part part = {&weight, &bias};
        float *scratch = test_floats(linear_pack_floats(linear), &seed);
        for (size_t p = 0; p < 2 * linear->panels; p++) {
            size_t first = p / 2 * kernel->columns;
            weight.data = p % 2 ? file + 1 : (const unsigned char *)fixture.weight;
            linear_pack(&fixture.linear, &part, 1, p / 2, scratch);
            memset(panel, 0, linear->panel_bytes);
            for (size_t c = 0; c < kernel->columns && first + c < out; c++) {
                const float *row = fixture.weight + (first + c) * in;
                for (size_t g = 0; g < linear->groups; g++) {
                    plain_group(linear, row, c, g, panel);
                }
                for (size_t w = 0; w < linear->wide; w++) {
                    panel[(2 * linear->groups + w) * kernel->columns + c] =
                        row[linear->wide_columns[w]];
                }
            }
            assert_memory_equal(linear->weight + p / 2 * linear->panel_bytes, panel,
                                linear->panel_bytes);
        }
        pages_free(panel, linear->panel_bytes);
        free(scratch);
        free(file);
        done(&fixture);
    }
}

static void test_panels_are_what_plain_c_makes(void **state)
{
    (void)state;
    for_each_isa(plain_panels);
}

/* A NaN among a row's inputs makes every output of that row NaN, and no other row's; one among a
 * weight's, every output of that weight. */
static void nans(enum isa isa)
{
    enum { IN = 200, OUT = 35, ROWS = 9, BAD_ROW = 4 };
    static const size_t places[] = {0, 5, 31, 64, 127, 130, 199};
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (precision != PRECISION_FP32 && !dispatch_tile(isa, precision)) {
            continue;
        }
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            uint32_t seed = 17;
            struct fixture fixture;
            make(&fixture, dispatch_kernels(isa), dispatch_tile(isa, precision), IN, OUT,
                 precision == PRECISION_INT8 ? 5 : 0, 1, &seed);
            float *x = test_floats((size_t)ROWS * IN, &seed);
            float *clean = test_floats((size_t)ROWS * OUT, &seed);
            float *out = test_floats((size_t)ROWS * OUT, &seed);
            run(&fixture, x, ROWS, FINISH_GELU, NULL, 1, clean);
            x[BAD_ROW * IN + places[i]] = NAN;
            run(&fixture, x, ROWS, FINISH_GELU, NULL, 1, out);
            for (size_t at = 0; at < (size_t)ROWS * OUT; at++) {
                if (at / OUT == BAD_ROW ? !isnan(out[at]) : out[at] != clean[at]) {
                    fail_msg("%s, %s: NaN at input %zu: output %zu of row %zu is %g", isa_name(isa),
                             precision_name(precision), places[i], at % OUT, at / OUT,
                             (double)out[at]);
                }
            }
            free(out);
            free(clean);
            free(x);
            done(&fixture);
        }
    }
}

static void test_nan_in_nan_out(void **state)
{
    (void)state;
    for_each_isa(nans);
}

static void nan_weights(enum isa isa)
{
    enum { IN = 200, OUT = 35, ROWS = 3, BAD_OUT = 33 };
    static const size_t places[] = {0, 77, 199};
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (precision != PRECISION_FP32 && !dispatch_tile(isa, precision)) {
            continue;
        }
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            uint32_t seed = 17;
            struct fixture fixture;
            make(&fixture, dispatch_kernels(isa), dispatch_tile(isa, precision), IN, OUT,
                 precision == PRECISION_INT8 ? 5 : 0, 1, &seed);
            fixture.weight[BAD_OUT * IN + places[i]] = NAN;
            const struct tensor weight = tensor_of_floats(fixture.weight, OUT, IN);
            const struct tensor bias = tensor_of_floats(fixture.bias, 1, OUT);
            const struct linear_part part = {&weight, &bias};
            float *scratch = test_floats(linear_pack_floats(&fixture.linear), &seed);
            for (size_t panel = 0; panel < fixture.linear.panels; panel++) {
                linear_pack(&fixture.linear, &part, 1, panel, scratch);
            }
            float *x = test_floats((size_t)ROWS * IN, &seed);
            float out[ROWS * OUT];
            run(&fixture, x, ROWS, FINISH_BIAS, NULL, 1, out);
            for (size_t at = 0; at < (size_t)ROWS * OUT; at++) {
                if ((isnan(out[at]) != 0) != (at % OUT == BAD_OUT)) {
                    fail_msg("%s, %s: NaN at weight %zu: output %zu is %g", isa_name(isa),
                             precision_name(precision), places[i], at % OUT, (double)out[at]);
                }
            }
            free(x);
            free(scratch);
            done(&fixture);
        }
    }
}

static void test_nan_weights(void **state)
{
    (void)state;
    for_each_isa(nan_weights);
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

/* Outputs that go to the next matrix packed are what packing them in fp32 gives, to the last bit,
 * whoever packed which columns. */
static void packed_outputs(enum isa isa)
{
    enum { IN = 100, OUT = 330, ROWS = 61, WIDE = 9 };
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        const struct tile_kernel *kernel = dispatch_tile(isa, precision);
        if (precision != PRECISION_FP32 && !kernel) {
            continue;
        }
        size_t wide = precision == PRECISION_INT8 ? WIDE : 0;
        uint32_t seed = 23;
        struct fixture first;
        struct fixture second;
        make(&first, dispatch_kernels(isa), kernel, IN, OUT, wide, 1, &seed);
        make(&second, dispatch_kernels(isa), kernel, OUT, 33, wide, 1, &seed); /* groups of 128 */
        float *x = test_floats((size_t)ROWS * IN, &seed);
        float *plain = test_floats((size_t)ROWS * OUT, &seed);
        size_t bytes = operand_bytes(&second.linear, ROWS);
        unsigned char *expected = pages_alloc(bytes);
        assert_non_null(expected);
        const struct operand after = operand_of(&second.linear, ROWS, expected);
        run(&first, x, ROWS, FINISH_GELU, NULL, 1, plain);
        operand_pack_all(&after, plain, OUT);
        for (unsigned width = 1; width <= (kernel ? 40 : 1); width += 3) {
            unsigned char *found = pages_alloc(bytes);
            assert_non_null(found);
            const struct operand next = operand_of(&second.linear, ROWS, found);
            run_to(&first, x, ROWS, FINISH_GELU, NULL, width, &next, NULL);
            assert_memory_equal(found, expected, bytes);
            pages_free(found, bytes);
        }
        pages_free(expected, bytes);
        free(plain);
        free(x);
        done(&second);
        done(&first);
    }
}

static void test_outputs_packed_for_the_next(void **state)
{
    (void)state;
    for_each_isa(packed_outputs);
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
        cmocka_unit_test(test_outputs_packed_for_the_next),
        cmocka_unit_test(test_wide_inputs_do_not_coarsen_the_others),
        cmocka_unit_test(test_weights_are_rounded_in_their_own_range),
        cmocka_unit_test(test_panels_are_what_plain_c_makes),
        cmocka_unit_test(test_zero_rows_give_the_bias),
        cmocka_unit_test(test_nan_in_nan_out),
        cmocka_unit_test(test_nan_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
