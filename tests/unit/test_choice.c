/* What "auto" takes, and that a kernel which computes wrongly is never taken. */
#include "model/encoder/blas.h"
#include "model/encoder/choice.h"

#include "model/encoder/selfcheck.h"
#include "tests/support/kernels_testing.h"

static void check_tiles(enum isa isa)
{
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        const struct tile_kernel *tile = dispatch_tile(isa, precision);
        struct err err = ERR_INIT;
        if (tile) {
            assert_int_equal(selfcheck_tile(dispatch_kernels(isa), tile, &err), ERR_OK);
        }
    }
}

static void test_every_kernel_passes_its_check(void **state)
{
    (void)state;
    for_each_isa(check_tiles);
}

static void test_this_machine_needs_no_warning(void **state)
{
    (void)state;
    const struct machine machine = machine_here(NULL);
    struct choice choice;
    struct err err = ERR_INIT;
    assert_int_equal(choice_make(&machine, "auto", "auto", &choice, &err), ERR_OK);
    assert_int_equal(choice.isa, cpu_detect());
    assert_int_equal(choice.warning.code, ERR_OK);
}

/* The best set's kernel for a precision, with one fault. */
static struct {
    enum isa isa; /* this set and those above it have the broken kernel */
    enum precision precision;
    const struct tile_kernel *real;
    struct tile_kernel broken;
} fault;

/* One number of the tile's last row is off by its last bit. */
static void multiply_off_by_a_bit(const struct multiply_args *args)
{
    fault.real->multiply(args);
    float *last = args->tile + (args->rows - 1) * args->ld + 4;
    *last = nextafterf(*last, INFINITY);
}

/* The first two rows change places. */
static void pack_swapped(const struct pack_args *args)
{
    struct pack_args swapped = *args;
    float *x = malloc(args->rows * args->in * sizeof *x);
    assert_non_null(x);
    for (size_t r = 0; r < args->rows; r++) {
        memcpy(x + r * args->in, args->x + (r < 2 && args->rows > 1 ? 1 - r : r) * args->ld,
               args->in * sizeof *x);
    }
    swapped.x = x;
    swapped.ld = args->in;
    fault.real->pack_rows(&swapped);
    free(x);
}

/* The last inputs are forgotten. */
static void multiply_less(const struct multiply_args *args)
{
    struct multiply_args less = *args;
    less.words -= fault.real->word_unit;
    fault.real->multiply(&less);
}

static const struct tile_kernel *tile_with_fault(enum isa isa, enum precision precision)
{
    bool broken = precision == fault.precision && isa >= fault.isa;
    return broken ? &fault.broken : dispatch_tile(isa, precision);
}

static const struct machine faulty = {.has = cpu_has, .tile = tile_with_fault};

/* Breaks the kernel of the sets from `isa` on; false where it has none. */
static bool break_kernel(enum isa isa, enum precision precision)
{
    fault.isa = isa;
    fault.precision = precision;
    fault.real = dispatch_tile(isa, precision);
    if (fault.real) {
        fault.broken = *fault.real;
    }
    return fault.real != NULL;
}

static void expect_caught(void)
{
    struct err err = ERR_INIT;
    expect_error(&err, selfcheck_tile(dispatch_kernels(fault.isa), &fault.broken, &err),
                 ERR_MISMATCH, WORDS(fault.real->name, "row", "column"));
}

static void faults_of(enum isa isa)
{
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (!break_kernel(isa, precision)) {
            continue;
        }
        fault.broken.multiply = multiply_off_by_a_bit;
        expect_caught();
        fault.broken.multiply = multiply_less;
        expect_caught();
        fault.broken.multiply = fault.real->multiply;
        fault.broken.pack_rows = pack_swapped;
        expect_caught();
    }
}

static void test_faults_are_caught(void **state)
{
    (void)state;
    for_each_isa(faults_of);
}

/* The wrong kernel's set is passed over, with the reason kept. */
static void test_a_wrong_kernel_is_passed_over(void **state)
{
    (void)state;
    struct choice choice;
    struct err err = ERR_INIT;
    enum isa best = cpu_detect();
    enum precision precision;
    assert_int_equal(precision_parse("auto", best, &precision, &err), ERR_OK);
    if (!break_kernel(best, precision)) {
        print_message("skipped: %s has no kernels of its own\n", isa_name(best));
        return;
    }
    fault.broken.multiply = multiply_off_by_a_bit;
    assert_int_equal(choice_make(&faulty, "auto", "auto", &choice, &err), ERR_OK);
    assert_true(choice.isa < best);
    assert_int_equal(choice.warning.code, ERR_MISMATCH);
    assert_non_null(strstr(choice.warning.text, fault.real->name));
    assert_non_null(strstr(choice.warning.text, isa_name(choice.isa)));
}

static void test_a_wrong_kernel_asked_for_by_name_is_an_error(void **state)
{
    (void)state;
    struct choice choice = {.isa = ISA_COUNT};
    struct err err = ERR_INIT;
    enum isa best = cpu_detect();
    if (!break_kernel(best, PRECISION_FP32)) {
        print_message("skipped: %s has no kernels of its own\n", isa_name(best));
        return;
    }
    fault.broken.multiply = multiply_off_by_a_bit;
    expect_error(&err, choice_make(&faulty, isa_name(best), "fp32", &choice, &err), ERR_MISMATCH,
                 WORDS("--isa", fault.real->name));
    assert_int_equal(choice.isa, ISA_COUNT);
}

/* A precision that no set multiplies correctly is refused: another would not be what was asked. */
static void test_a_precision_without_a_right_kernel_is_an_error(void **state)
{
    (void)state;
    struct choice choice;
    struct err err = ERR_INIT;
    if (!break_kernel(cpu_detect(), PRECISION_BF16)) {
        print_message("skipped: this machine does not multiply bf16\n");
        return;
    }
    fault.isa = ISA_AVX512BF16;
    fault.broken.multiply = multiply_off_by_a_bit;
    expect_error(&err, choice_make(&faulty, "auto", "bf16", &choice, &err), ERR_MISMATCH,
                 WORDS("--precision", fault.real->name));
}

static bool has_generic(enum isa isa)
{
    return isa == ISA_GENERIC;
}

static void test_what_can_not_be_is_an_error(void **state)
{
    (void)state;
    const struct machine plain = {.has = has_generic, .tile = dispatch_tile};
    struct choice choice;
    struct err err = ERR_INIT;
    assert_int_equal(choice_make(&plain, "auto", "auto", &choice, &err), ERR_OK);
    assert_int_equal(choice.isa, ISA_GENERIC);
    assert_int_equal(choice.precision, PRECISION_FP32);
    expect_error(&err, choice_make(&plain, "auto", "int8", &choice, &err), ERR_UNSUPPORTED,
                 WORDS("--precision", "int8", "generic"));
    err = ERR_INIT;
    expect_error(&err, choice_make(&plain, "avx2", "auto", &choice, &err), ERR_UNSUPPORTED,
                 WORDS("--isa", "avx2"));
    err = ERR_INIT;
    expect_error(&err, choice_make(&plain, "mmx", "auto", &choice, &err), ERR_USAGE,
                 WORDS("--isa", "avx512vnni"));
    err = ERR_INIT;
    expect_error(&err, choice_make(&plain, "auto", "fp64", &choice, &err), ERR_USAGE,
                 WORDS("--precision", "bf16"));
}

/* A clock that only the kernels move: a call of each takes so long. */
static struct {
    uint64_t now_ns;
    uint64_t bf16_ns;
    enum isa isa; /* whose kernels they are */
    struct tile_kernel f32;
    struct tile_kernel bf16;
} timed;

static uint64_t timed_now_ns(void)
{
    return timed.now_ns;
}

static void multiply_f32_timed(const struct multiply_args *args)
{
    timed.now_ns += 1000;
    dispatch_tile(timed.isa, PRECISION_FP32)->multiply(args);
}

static void multiply_bf16_timed(const struct multiply_args *args)
{
    timed.now_ns += timed.bf16_ns;
    dispatch_tile(timed.isa, PRECISION_BF16)->multiply(args);
}

static const struct tile_kernel *timed_tile(enum isa isa, enum precision precision)
{
    if (isa != timed.isa || precision == PRECISION_INT8) {
        return dispatch_tile(isa, precision);
    }
    return precision == PRECISION_FP32 ? &timed.f32 : &timed.bf16;
}

static enum precision attention_of(const struct machine *machine, const char *precision)
{
    struct choice choice;
    struct err err = ERR_INIT;
    assert_int_equal(choice_make(machine, isa_name(timed.isa), precision, &choice, &err), ERR_OK);
    return choice.attention;
}

static void attention_by_time(enum isa isa)
{
    const struct tile_kernel *bf16 = dispatch_tile(isa, PRECISION_BF16);
    if (!bf16 || !bf16->pack_pairs) {
        return;
    }
    timed.isa = isa;
    timed.f32 = *dispatch_tile(isa, PRECISION_FP32);
    timed.f32.multiply = multiply_f32_timed;
    timed.bf16 = *bf16;
    timed.bf16.multiply = multiply_bf16_timed;
    struct machine machine = {.has = cpu_has, .tile = timed_tile, .now_ns = timed_now_ns};
    timed.bf16_ns = 500; /* as on Zen 4 */
    assert_int_equal(attention_of(&machine, "int8"), PRECISION_BF16);
    assert_int_equal(attention_of(&machine, "bf16"), PRECISION_FP32);
    assert_int_equal(attention_of(&machine, "fp32"), PRECISION_FP32);
    timed.bf16_ns = 1000;
    assert_int_equal(attention_of(&machine, "int8"), PRECISION_FP32);
    timed.bf16_ns = 2000; /* as on Sapphire Rapids */
    assert_int_equal(attention_of(&machine, "int8"), PRECISION_FP32);
    timed.bf16_ns = 500;
    machine.now_ns = NULL;
    assert_int_equal(attention_of(&machine, "int8"), PRECISION_FP32);
}

static void test_attention_is_rounded_where_that_is_faster(void **state)
{
    (void)state;
    for_each_isa(attention_by_time);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (blas_open(&err) != ERR_OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kernel_passes_its_check),
        cmocka_unit_test(test_this_machine_needs_no_warning),
        cmocka_unit_test(test_attention_is_rounded_where_that_is_faster),
        cmocka_unit_test(test_faults_are_caught),
        cmocka_unit_test(test_a_wrong_kernel_is_passed_over),
        cmocka_unit_test(test_a_wrong_kernel_asked_for_by_name_is_an_error),
        cmocka_unit_test(test_a_precision_without_a_right_kernel_is_an_error),
        cmocka_unit_test(test_what_can_not_be_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
