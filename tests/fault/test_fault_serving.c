/* Serving and swapping with every allocation failing in turn: a request ends with an answer or with
 * `internal`, a swap with success or without a change, and nothing leaks. */
#include "base/clock.h"
#include "base/jval.h"
#include "base/log.h"
#include "server/answer/answer.h"
#include "server/queue/engine.h"
#include "server/queue/job.h"
#include "tests/fault/chaos.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { ATTEMPTS_MAX = 10000 };

static struct settings settings = {
    .model_dir = TINY,
    .precision = "fp32",
    .threads = 1,
    .max_queue_requests = 512,
    .max_client_batch = 64,
    .version = "test",
};
static struct metrics *metrics;
static struct engine *engine;
static struct scratch scratch;

static int setup(void **state)
{
    (void)state;
    jval_global_init();
    log_setup(LOG_ERROR, LOG_TEXT);
    scratch_make(&scratch);
    settings.state_dir = scratch.dir;
    metrics = metrics_create("test", NULL);
    struct err err = ERR_INIT;
    if (engine_create(&settings, &answers, metrics, &engine, &err) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_destroy(engine);
    metrics_destroy(metrics);
    scratch_remove(&scratch);
    return 0;
}

static void on_done(struct job *job)
{
    atomic_store((atomic_bool *)job->context, true);
}

/* The request from body to answer; on the worker too an allocation may be the one. */
static enum problem_kind serve(enum api_kind kind, const char *body)
{
    struct job *job = job_create();
    if (!job) {
        return PROBLEM_INTERNAL;
    }
    atomic_bool ended = false;
    job->kind = kind;
    (void)snprintf(job->head, sizeof job->head, "classifier");
    job->body = body;
    job->body_size = strlen(body);
    job->deadline_ns = clock_now_ns() + 60 * NS_PER_S;
    job->done = on_done;
    job->context = &ended;
    if (answer_prepare(job, engine) && kind != API_TOKENIZE && engine_admit(engine, job)) {
        engine_enqueue(engine, job);
        while (!atomic_load(&ended)) {
            (void)usleep(200);
        }
    }
    enum problem_kind problem = job->problem.kind;
    assert_true(problem != PROBLEM_NONE || job->response.size > 0);
    job_destroy(job);
    return problem;
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *body;
    } requests[] = {
        {API_EMBED, "{\"inputs\":[\"hello world\",\"caf\\u00e9\"],\"dimensions\":4}"},
        {API_CLASSIFY, "{\"inputs\":[\"hello\",\"world\",\"hello\"],\"top_k\":2}"},
        {API_ANALYZE, "{\"inputs\":\"hello\"}"},
        {API_OPENAI, "{\"input\":[[2,5,3]],\"model\":\"x\",\"encoding_format\":\"base64\"}"},
        {API_TOKENIZE, "{\"inputs\":[\"hello\",\"world\"]}"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        for (size_t n = 1; n < ATTEMPTS_MAX; n++) {
            chaos_fail_at(n);
            enum problem_kind problem = serve(requests[i].kind, requests[i].body);
            bool failed = chaos_failed();
            chaos_fail_at(0);
            if (problem != PROBLEM_NONE && !(failed && problem == PROBLEM_INTERNAL)) {
                fail_msg("request %zu, allocation %zu: problem %d", i, n, (int)problem);
            }
            if (!failed) {
                print_message("request %zu: %zu allocations\n", i, n - 1);
                break;
            }
        }
    }
}

static uint64_t active_version(void)
{
    struct heads_version version;
    headstore_acquire(engine->headstore, &version);
    heads_version_release(&version);
    return version.version;
}

static void test_swaps(void **state)
{
    (void)state;
    size_t hidden = engine->model->config.hidden;
    for (size_t n = 1; n < ATTEMPTS_MAX; n++) {
        struct buf file = heads_file_make(hidden, n % 2 ? 6 : 0, 3, (float)n, NULL);
        uint64_t before = active_version();
        struct heads_version now = {0};
        struct heads_version previous = {0};
        struct err err = ERR_INIT;
        chaos_fail_at(n);
        enum swap_result result = headstore_put(engine->headstore, file.data, file.size, NULL,
                                                false, "ops", &now, &previous, &err);
        bool failed = chaos_failed();
        chaos_fail_at(0);
        heads_version_release(&now);
        heads_version_release(&previous);
        buf_done(&file);
        if (result == SWAP_OK ? active_version() != before + 1
                              : !failed || result != SWAP_FAILED || active_version() != before) {
            fail_msg("allocation %zu: result %d: %s", n, (int)result, err.text);
        }
        if (!failed) {
            print_message("put: %zu allocations\n", n - 1);
            return;
        }
    }
    fail_msg("no end after %d allocations", ATTEMPTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_swaps),
    };
    /* With a cache again: its entries, its followers, and what is shared of a request. */
    const struct CMUnitTest cached[] = {cmocka_unit_test(test_requests)};
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    settings.cache_mib = 1;
    return failed + cmocka_run_group_tests(cached, setup, teardown);
}
