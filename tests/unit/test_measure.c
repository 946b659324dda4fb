/* From the times of a few passes to the batch's budget, by the arithmetic alone. */
#include "server/queue/measure.h"

#include "tests/support/testing.h"

/* Passes of a machine that does a token in a millisecond, plus `fixed` of them for each pass. */
static struct measured measured_with(double fixed, size_t sizes)
{
    double pass_s[MEASURE_SIZES] = {0};
    for (size_t i = 0; i < sizes; i++) {
        pass_s[i] = ((double)measure_sizes[i] + fixed) / 1000;
    }
    return measure_result(pass_s, 4);
}

static void test_the_smallest_batch_that_is_about_as_fast(void **state)
{
    (void)state;
    assert_int_equal(measured_with(0, MEASURE_SIZES).batch_tokens, 64);
    assert_int_equal(measured_with(3, MEASURE_SIZES).batch_tokens, 64);
    assert_int_equal(measured_with(20, MEASURE_SIZES).batch_tokens, 512);
    assert_int_equal(measured_with(200, MEASURE_SIZES).batch_tokens, 1024);
}

static void test_a_slow_machine_has_the_smallest(void **state)
{
    (void)state;
    assert_int_equal(measured_with(20, 2).batch_tokens, 64); /* longer ones were not tried */
}

static void test_speed_is_that_of_the_chosen_batch(void **state)
{
    (void)state;
    struct measured measured = measured_with(0, MEASURE_SIZES);
    assert_true(measured.tokens_per_s > 3999 && measured.tokens_per_s < 4001);
    measured = measured_with(20, MEASURE_SIZES);
    assert_true(measured.tokens_per_s > 4000 * 512.0 / 533 && measured.tokens_per_s < 4000);
}

static void test_the_fixed_cost_of_a_pass(void **state)
{
    (void)state;
    for (double fixed = 0; fixed < 60; fixed += 7) {
        double found = measured_with(fixed, MEASURE_SIZES).pass_tokens;
        assert_true(found > fixed - 0.1 && found < fixed + 0.1);
    }
    const double noise[MEASURE_SIZES] = {0.07, 0.06}; /* the small one was slower */
    double found = measure_result(noise, 1).pass_tokens;
    assert_true(found >= 0 && found <= 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_smallest_batch_that_is_about_as_fast),
        cmocka_unit_test(test_a_slow_machine_has_the_smallest),
        cmocka_unit_test(test_speed_is_that_of_the_chosen_batch),
        cmocka_unit_test(test_the_fixed_cost_of_a_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
