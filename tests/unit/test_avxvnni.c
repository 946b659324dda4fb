/* int8 by AVX-VNNI on machines whose AVX-512 has the same instruction in another coding: the
 * kernel's logic, and that both codings are meant by the same macro. The compiled kernel itself is
 * test_linear's matter, on machines that have AVX-VNNI. */
#include "tests/support/linear_testing.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512vl,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512vnni")
#endif

#include <immintrin.h>

#define DPBUSD256(sum, a, b) _mm256_dpbusd_epi32(sum, a, b)
#define DPWSSD256(sum, a, b) _mm256_dpwssd_epi32(sum, a, b)

#include "model/encoder/kernels/avx2_int8.h"

static const struct tile_kernel recoded = AVX2_INT8_KERNEL("avx512vl int8");

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static void test_shapes(void **state)
{
    (void)state;
    try_shapes(dispatch_kernels(ISA_AVX2), &recoded);
}

/* The integer sums are exact and everything else is the same code: so are the bits. */
static void test_same_bits_as_avx2(void **state)
{
    (void)state;
    enum { IN = 300, OUT = 50, TOKENS = 11 };
    uint32_t seed = 3;
    uint32_t same_seed = 3;
    struct fixture with;
    struct fixture without;
    make(&with, dispatch_kernels(ISA_AVX2), &recoded, IN, OUT, 7, 1, &seed);
    make(&without, dispatch_kernels(ISA_AVX2), dispatch_tile(ISA_AVX2, PRECISION_INT8), IN, OUT, 7,
         1, &same_seed);
    float *x = test_floats((size_t)TOKENS * IN, &seed);
    float *a = test_floats((size_t)TOKENS * OUT, &seed);
    float *b = test_floats((size_t)TOKENS * OUT, &seed);
    run(&with, x, TOKENS, FINISH_BIAS, NULL, 1, a);
    run(&without, x, TOKENS, FINISH_BIAS, NULL, 1, b);
    assert_true(same_bits(a, b, (size_t)TOKENS * OUT));
    free(b);
    free(a);
    free(x);
    done(&without);
    done(&with);
}

int main(void)
{
    if (!cpu_has(ISA_AVX512VNNI)) {
        print_message("skipped: this machine has no avx512vnni\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_same_bits_as_avx2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 0;
}
#endif
