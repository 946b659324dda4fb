/* In which order large bodies get their thread. */
#include "server/queue/prepare.h"

#include <pthread.h>

#include "tests/support/testing.h"

enum { KIB = 1024, MIB = 1024 * 1024, JOBS_MAX = 16 };

struct record {
    pthread_mutex_t lock;
    bool held;             /* jobs larger than PREPARE_SMALL_MAX wait here */
    size_t size[JOBS_MAX]; /* in the order in which they were prepared */
    enum problem_kind refused[JOBS_MAX];
    size_t begun, n, n_refused;
};
static struct record record;

static bool release(bool now)
{
    (void)pthread_mutex_lock(&record.lock);
    record.held = record.held && !now;
    bool held = record.held;
    (void)pthread_mutex_unlock(&record.lock);
    return !held;
}

static void on_prepare(struct job *job, void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&record.lock);
    record.begun++;
    (void)pthread_mutex_unlock(&record.lock);
    while (job->body_size > PREPARE_SMALL_MAX && !release(false)) {
        (void)usleep(1000);
    }
    (void)pthread_mutex_lock(&record.lock);
    record.size[record.n++] = job->body_size;
    (void)pthread_mutex_unlock(&record.lock);
}

static void on_done(struct job *job)
{
    (void)pthread_mutex_lock(&record.lock);
    record.refused[record.n_refused++] = job->problem.kind;
    (void)pthread_mutex_unlock(&record.lock);
}

static size_t prepared(void)
{
    (void)pthread_mutex_lock(&record.lock);
    size_t n = record.n;
    (void)pthread_mutex_unlock(&record.lock);
    return n;
}

static void wait_prepared(size_t n)
{
    for (int i = 0; i < 5000 && prepared() < n; i++) {
        (void)usleep(1000);
    }
    assert_int_equal(prepared(), n);
}

/* Until the first of a test is under way: one thread is taken by it. */
static void wait_begun(void)
{
    size_t begun = 0;
    for (int i = 0; i < 5000 && begun == 0; i++) {
        (void)usleep(1000);
        (void)pthread_mutex_lock(&record.lock);
        begun = record.begun;
        (void)pthread_mutex_unlock(&record.lock);
    }
    assert_int_equal(begun, 1);
}

static struct job *submit(struct prepare_pool *pool, size_t body_size)
{
    struct job *job = job_create();
    assert_non_null(job);
    job->body_size = body_size;
    job->deadline_ns = UINT64_MAX;
    job->done = on_done;
    prepare_submit(pool, job);
    return job;
}

static int setup(void **state)
{
    (void)state;
    record = (struct record){.held = true};
    return pthread_mutex_init(&record.lock, NULL);
}

/* Two threads: one of them leaves the large ones alone. */
static void test_small_ones_pass(void **state)
{
    (void)state;
    struct prepare_pool *pool;
    struct err err = ERR_INIT;
    assert_int_equal(prepare_create(2, JOBS_MAX, on_prepare, NULL, &pool, &err), ERR_OK);
    struct job *jobs[JOBS_MAX];
    size_t n = 0;
    jobs[n++] = submit(pool, 8 * MIB);
    wait_begun();
    for (int i = 0; i < 3; i++) {
        jobs[n++] = submit(pool, 8 * MIB);
    }
    /* A large one is under way, three wait: small ones go through meanwhile. */
    for (int i = 0; i < 3; i++) {
        jobs[n++] = submit(pool, 20 * KIB);
    }
    wait_prepared(3);
    /* A middling one comes last, and is served before the large ones that wait. */
    jobs[n++] = submit(pool, MIB);
    (void)release(true);
    wait_prepared(n);
    assert_int_equal(record.size[3], 8 * MIB);
    assert_int_equal(record.size[4], MIB);
    prepare_destroy(pool);
    assert_int_equal(record.n_refused, 0);
    for (size_t i = 0; i < n; i++) {
        job_destroy(jobs[i]);
    }
}

/* A large one is not passed by more bytes than its own, for ever. */
static void test_large_ones_are_not_starved(void **state)
{
    (void)state;
    struct prepare_pool *pool;
    struct err err = ERR_INIT;
    assert_int_equal(prepare_create(2, JOBS_MAX, on_prepare, NULL, &pool, &err), ERR_OK);
    struct job *jobs[JOBS_MAX];
    size_t n = 0;
    jobs[n++] = submit(pool, MIB); /* under way */
    jobs[n++] = submit(pool, 2 * MIB);
    for (int i = 0; i < 6; i++) {
        jobs[n++] = submit(pool, 900 * KIB + (size_t)i);
    }
    (void)release(true);
    wait_prepared(n);
    prepare_destroy(pool);
    size_t place = 0;
    while (record.size[place] != 2 * MIB) {
        place++;
    }
    /* All came at once, so by size it is the last; newcomers would have been behind it. */
    assert_int_equal(place, n - 1);
    for (size_t i = 0; i < n; i++) {
        job_destroy(jobs[i]);
    }
}

static void test_gone_expired_and_refused(void **state)
{
    (void)state;
    struct prepare_pool *pool;
    struct err err = ERR_INIT;
    assert_int_equal(prepare_create(2, 2, on_prepare, NULL, &pool, &err), ERR_OK);
    struct job *jobs[4];
    jobs[0] = submit(pool, MIB);
    wait_begun();
    jobs[1] = submit(pool, MIB);
    jobs[2] = submit(pool, MIB);
    jobs[3] = submit(pool, MIB); /* one too many */
    assert_int_equal(record.n_refused, 1);
    assert_int_equal(record.refused[0], PROBLEM_OVERLOADED);
    atomic_store(&jobs[1]->client, CLIENT_GONE);
    (void)release(true);
    wait_prepared(2);
    prepare_destroy(pool);
    assert_int_equal(record.n_refused, 2);
    assert_int_equal(record.refused[1], PROBLEM_DEADLINE);
    for (size_t i = 0; i < 4; i++) {
        job_destroy(jobs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_small_ones_pass, setup),
        cmocka_unit_test_setup(test_large_ones_are_not_starved, setup),
        cmocka_unit_test_setup(test_gone_expired_and_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
