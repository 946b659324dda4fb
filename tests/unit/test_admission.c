/* How much may wait, by the arithmetic alone. */
#include "server/admission.h"

#include "base/clock.h"
#include "tests/support/testing.h"

enum { LATER_S = 1000 };

static struct admission start(size_t fixed_tokens)
{
    return (struct admission){
        .fixed_tokens = fixed_tokens,
        .bound_requests = 512,
        .busy_tokens = 1000,
        .text_tokens = 128,
        .tokens_per_s = 4000,
    };
}

static enum admission_verdict ask(const struct admission *admission, size_t tokens, size_t backlog,
                                  size_t ahead, size_t requests, uint64_t now_ns)
{
    const struct admission_question question = {
        .tokens = tokens,
        .backlog = backlog,
        .ahead = ahead,
        .requests = requests,
        .now_ns = now_ns,
        .deadline_ns = LATER_S * NS_PER_S,
    };
    return admission_ask(admission, &question);
}

static void test_equal_requests_fill_the_bound(void **state)
{
    (void)state;
    struct admission admission = start(500);
    assert_int_equal(ask(&admission, 20, 480, 480, 24, NS_PER_S), ADMISSION_YES);
    assert_int_equal(ask(&admission, 20, 481, 481, 25, NS_PER_S), ADMISSION_FULL);
    assert_int_equal(ask(&admission, 200, 128, 200, 1, NS_PER_S), ADMISSION_YES);
    assert_int_equal(ask(&admission, 200, 256, 400, 2, NS_PER_S), ADMISSION_FULL);
}

static void test_too_big_for_the_bound_finds_an_empty_queue(void **state)
{
    (void)state;
    struct admission admission = start(500);
    assert_int_equal(ask(&admission, 100000, 0, 0, 0, NS_PER_S), ADMISSION_YES);
    assert_int_equal(ask(&admission, 100000, 2, 2, 1, NS_PER_S), ADMISSION_FULL);
}

static void test_a_big_request_does_not_shut_out_a_sentence(void **state)
{
    (void)state;
    struct admission admission = start(20000);
    size_t big = 40960;
    size_t backlog = admission_charge(&admission, big);
    assert_int_equal(backlog, 128);
    assert_int_equal(ask(&admission, 20, backlog, backlog, 1, NS_PER_S), ADMISSION_YES);
    assert_int_equal(ask(&admission, big, backlog, big, 1, NS_PER_S), ADMISSION_FULL);
}

static void test_requests_are_bounded_too(void **state)
{
    (void)state;
    struct admission admission = start(20000);
    assert_int_equal(ask(&admission, 2, 1022, 1022, 511, NS_PER_S), ADMISSION_YES);
    assert_int_equal(ask(&admission, 2, 1024, 1024, 512, NS_PER_S), ADMISSION_FULL);
}

static void test_bound_follows_the_throughput(void **state)
{
    (void)state;
    struct admission admission = start(0);
    assert_int_equal(admission_bound(&admission), 20000);
    for (int i = 0; i < 500; i++) { /* one of two workers: 256 tokens in 64 ms */
        admission_learn(&admission, 256, 64 * NS_PER_MS, 0.5);
    }
    assert_in_range(admission_bound(&admission), 39900, 40100);
    admission.tokens_per_s = 10;
    assert_int_equal(admission_bound(&admission), 1000); /* what keeps the workers busy */
}

static void test_standing_queue_shrinks_the_bound(void **state)
{
    (void)state;
    struct admission admission = start(0);
    /* Callers who wait for their answers: a queue that stands below the bound is let be. */
    admission_seen(&admission, 15000, NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 100 * NS_PER_S), 20000);
    admission_seen(&admission, 19980, NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, NS_PER_S), 20000);
    /* A burst that only drains, 4000 tokens a second, stays within the bound all the time. */
    for (uint64_t s = 0; s <= 5; s++) {
        assert_true(admission_bound_now(&admission, (1 + s) * NS_PER_S) >= 20000 - 4000 * s);
    }
    admission_seen(&admission, 19000, 4 * NS_PER_S);
    admission_seen(&admission, 1900, 7 * NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 7 * NS_PER_S), 2000);
    assert_int_equal(ask(&admission, 20, 1990, 1990, 99, 7 * NS_PER_S), ADMISSION_FULL);
    assert_int_equal(ask(&admission, 20, 1500, 1500, 75, 7 * NS_PER_S), ADMISSION_YES);
    /* Once it has been short, a burst may fill it again. */
    admission_seen(&admission, 900, 8 * NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 8 * NS_PER_S), 20000);
}

static void test_small_fixed_bound_does_not_shrink(void **state)
{
    (void)state;
    struct admission admission = start(500);
    assert_int_equal(admission_bound_now(&admission, 100 * NS_PER_S), 500);
}

static void test_hopeless_deadlines_are_refused_at_once(void **state)
{
    (void)state;
    struct admission admission = start(0);
    struct admission_question question = {
        .tokens = 20,
        .backlog = 12000,
        .ahead = 12000,
        .requests = 100,
        .now_ns = NS_PER_S,
        .deadline_ns = 2 * NS_PER_S,
    };
    assert_int_equal(admission_ask(&admission, &question), ADMISSION_HOPELESS);
    question.deadline_ns = 5 * NS_PER_S;
    assert_int_equal(admission_ask(&admission, &question), ADMISSION_YES);
    question.requests = 0;
    question.now_ns = question.deadline_ns;
    assert_int_equal(admission_ask(&admission, &question), ADMISSION_HOPELESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_requests_fill_the_bound),
        cmocka_unit_test(test_too_big_for_the_bound_finds_an_empty_queue),
        cmocka_unit_test(test_a_big_request_does_not_shut_out_a_sentence),
        cmocka_unit_test(test_requests_are_bounded_too),
        cmocka_unit_test(test_bound_follows_the_throughput),
        cmocka_unit_test(test_standing_queue_shrinks_the_bound),
        cmocka_unit_test(test_small_fixed_bound_does_not_shrink),
        cmocka_unit_test(test_hopeless_deadlines_are_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
