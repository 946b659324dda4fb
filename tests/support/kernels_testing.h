/* What the tests of kernels share: the instruction sets to try, reproducible numbers, guarded
 * arrays. */
#ifndef ORTHRUS_TESTS_SUPPORT_KERNELS_TESTING_H
#define ORTHRUS_TESTS_SUPPORT_KERNELS_TESTING_H

#include <math.h>

#include "model/encoder/dispatch.h"
#include "tests/support/testing.h"

/* Calls f for every instruction set of this machine; the others are named and skipped. */
static inline void for_each_isa(void (*f)(enum isa isa))
{
    for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (cpu_has(isa)) {
            f(isa);
        } else {
            print_message("skipped: this machine has no %s\n", isa_name(isa));
        }
    }
}

/* Uniform in (-1, 1), the same on every machine. */
static inline float test_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

/* n floats from malloc, so that AddressSanitizer sees a step beside them. */
static inline float *test_floats(size_t n, uint32_t *state)
{
    float *values = malloc((n ? n : 1) * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        values[i] = test_random(state);
    }
    return values;
}

static inline bool same_bits(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

#endif
