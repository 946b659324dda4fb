/* How much may wait, by the arithmetic alone. */
#include "server/queue/admission.h"

#include "base/clock.h"
#include "base/size.h"
#include "tests/support/testing.h"

enum { LATER_S = 1000 };
/* The automatic bound at 4000 tokens a second. */
enum { BOUND = 14500 };

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
    assert_int_equal(admission_bound(&admission), BOUND);
    for (int i = 0; i < 500; i++) { /* one of two workers: 256 tokens in 64 ms */
        admission_learn(&admission, 256, 64 * NS_PER_MS, 0.5);
    }
    assert_in_range(admission_bound(&admission), 29400, 29500);
    for (int i = 0; i < 10; i++) { /* a slower machine is believed sooner */
        admission_learn(&admission, 256, 128 * NS_PER_MS, 0.5);
    }
    assert_in_range(admission_bound(&admission), BOUND, BOUND + 2000);
    admission.tokens_per_s = 10;
    assert_int_equal(admission_bound(&admission), 1000); /* what keeps the workers busy */
}

static void test_standing_queue_shrinks_the_bound(void **state)
{
    (void)state;
    struct admission admission = start(0);
    /* Callers who wait for their answers: a queue that stands below the bound is let be. */
    admission_seen(&admission, 10000, NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 100 * NS_PER_S), BOUND);
    admission_seen(&admission, BOUND - 20, NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, NS_PER_S), BOUND);
    /* A burst that only drains, 4000 tokens a second, stays within the bound all the time. */
    for (uint64_t s = 0; s <= 3; s++) {
        assert_true(admission_bound_now(&admission, (1 + s) * NS_PER_S) >= BOUND - 4000 * s);
    }
    admission_seen(&admission, 14000, 4 * NS_PER_S);
    admission_seen(&admission, 1400, 7 * NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 7 * NS_PER_S), 1450);
    assert_int_equal(ask(&admission, 20, 1440, 1440, 72, 7 * NS_PER_S), ADMISSION_FULL);
    assert_int_equal(ask(&admission, 20, 1200, 1200, 60, 7 * NS_PER_S), ADMISSION_YES);
    /* Once it has been short, a burst may fill it again. */
    admission_seen(&admission, 700, 8 * NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 8 * NS_PER_S), 1450);
    admission_seen(&admission, 300, 8 * NS_PER_S);
    assert_int_equal(admission_bound_now(&admission, 8 * NS_PER_S), BOUND);
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

/* Workers that do rate tokens a second each, under ten times as many requests of 20 tokens, served
 * in the order in which they came. */
enum { REQUEST_TOKENS = 20, BATCH_REQUESTS = 12, RING = 4096, WORKERS_MAX = 2 };

struct overload {
    struct admission admission;
    size_t workers;
    double rate;
    uint64_t came_ns[RING]; /* [head … tail) of what waits, a ring */
    size_t head, tail;
    uint64_t cut_ns[WORKERS_MAX], done_ns[WORKERS_MAX]; /* of the batch in work */
    size_t in_work[WORKERS_MAX];                        /* requests */
    uint64_t slowest_ns;                                /* from admission to answer */
    size_t not_full;                                    /* batches */
};

static void arrive(struct overload *overload, uint64_t now_ns)
{
    size_t requests = overload->tail - overload->head;
    size_t backlog = requests * REQUEST_TOKENS;
    if (ask(&overload->admission, REQUEST_TOKENS, backlog, backlog, requests, now_ns) ==
        ADMISSION_YES) {
        overload->came_ns[overload->tail++ % RING] = now_ns;
        admission_seen(&overload->admission, backlog + REQUEST_TOKENS, now_ns);
    }
}

/* Ends the worker's batch where it is time, and cuts the next. */
static void serve(struct overload *overload, size_t worker, uint64_t now_ns)
{
    uint64_t *cut_ns = &overload->cut_ns[worker];
    uint64_t *done_ns = &overload->done_ns[worker];
    if (now_ns < *done_ns) {
        return;
    }
    if (overload->in_work[worker] == BATCH_REQUESTS) { /* as the scheduler: small ones say little */
        admission_learn(&overload->admission, (size_t)REQUEST_TOKENS * BATCH_REQUESTS,
                        *done_ns - *cut_ns, 1.0 / (double)overload->workers);
    }
    size_t n = size_min(overload->tail - overload->head, BATCH_REQUESTS);
    overload->in_work[worker] = n;
    *cut_ns = now_ns;
    *done_ns = now_ns + (uint64_t)((double)(n * REQUEST_TOKENS) / overload->rate * 1e9);
    overload->not_full += n < BATCH_REQUESTS;
    for (size_t i = 0; i < n; i++) {
        uint64_t waited_ns = *done_ns - overload->came_ns[overload->head++ % RING];
        overload->slowest_ns = size_max(overload->slowest_ns, waited_ns);
    }
    admission_seen(&overload->admission, (overload->tail - overload->head) * REQUEST_TOKENS,
                   now_ns);
}

static void run_overload(struct overload *overload, uint64_t begin_s, uint64_t end_s)
{
    uint64_t step_ns = (uint64_t)(REQUEST_TOKENS * 1e9 /
                                  (10 * overload->rate * (double)overload->workers));
    overload->slowest_ns = 0;
    for (uint64_t now_ns = begin_s * NS_PER_S; now_ns < end_s * NS_PER_S; now_ns += step_ns) {
        arrive(overload, now_ns);
        for (size_t worker = 0; worker < overload->workers; worker++) {
            serve(overload, worker, now_ns);
        }
    }
}

static void test_overload_answers_within_the_bound(void **state)
{
    (void)state;
    for (size_t workers = 1; workers <= WORKERS_MAX; workers++) {
        for (uint64_t apart_ms = 0; apart_ms <= 60; apart_ms += 60) {
            /* What fills the queue takes a fifth of what the workers did before. */
            struct overload overload = {.admission = start(0), .workers = workers, .rate = 1600};
            overload.admission.bound_requests = RING;
            overload.admission.tokens_per_s = 2000 * (double)workers;
            overload.admission.busy_tokens = 2 * workers * REQUEST_TOKENS * BATCH_REQUESTS;
            overload.done_ns[1] = NS_PER_S + apart_ms * NS_PER_MS;
            run_overload(&overload, 1, 11);
            assert_in_range(overload.slowest_ns, 3 * NS_PER_S, 5 * NS_PER_S);
            /* Once it stands, little waits, and no worker ever lacks a batch. */
            overload.not_full = 0;
            run_overload(&overload, 11, 31);
            assert_in_range(overload.slowest_ns, NS_PER_S / 10, NS_PER_S);
            assert_int_equal(overload.not_full, 0);
        }
    }
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
        cmocka_unit_test(test_overload_answers_within_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
