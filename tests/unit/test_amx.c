/* The AMX kernel's logic on a software model of the tiles: packing, slices, odd row tiles, rows and
 * inputs filled up with zeros. It packs with AVX512-BF16, so it needs a machine that has that; what
 * the real instructions give is test_linear's matter, on machines that have them. */
#include "tests/support/linear_testing.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(                                                     \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#endif

#include "tests/support/amx_emulated.h"

#include "model/kernels/amx_bf16.h"

static const struct tile_kernel emulated = AMX_BF16_KERNEL;

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static bool has_bf16(void)
{
    if (!cpu_has(ISA_AVX512BF16)) {
        print_message("skipped: this machine has no avx512bf16\n");
        return false;
    }
    return true;
}

static void test_shapes(void **state)
{
    (void)state;
    if (has_bf16()) {
        try_shapes(dispatch_kernels(ISA_AVX512BF16), &emulated);
        assert_false(amx.configured);
    }
}

/* All row tiles of a call, more than one slice of inputs, more than one call; a row alone has the
 * same bits. */
static void test_many_rows_and_slices(void **state)
{
    (void)state;
    enum { IN = 700, OUT = 70, ROWS = 300, PROBE = 277 };
    if (!has_bf16()) {
        return;
    }
    uint32_t seed = 12;
    struct fixture fixture;
    make(&fixture, dispatch_kernels(ISA_AVX512BF16), &emulated, IN, OUT, 0, 1, &seed);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_many_rows_and_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 0;
}
#endif
