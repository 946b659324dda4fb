/* Nothing computed twice: who leads, who follows, and what becomes of followers whose leader is
 * lost. Workers only pretend to compute. */
#include "server/queue/flights.h"

#include <pthread.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "tests/support/testing.h"

enum { WIDTH = 3, TEXT_TOKENS = 4, BUDGET = 64, TEXTS_MAX = 64, MIB = 1024 * 1024 };

/* A job and what became of it. */
struct client {
    struct job *job;
    atomic_uint ended;
    atomic_uint finished;
};

static struct metrics *metrics;
static struct scheduler *scheduler;
static struct flights *flights;

static void on_done(struct job *job)
{
    struct client *client = job->context;
    (void)atomic_fetch_add(&client->ended, 1);
}

/* The vector of a text is told by its first id alone. */
static float value_of(int32_t id, size_t k)
{
    return (float)id + 0.25f * (float)k;
}

static void on_computed(struct job *job, size_t text, const struct computed_text *vectors,
                        void *context)
{
    (void)context;
    float *row = job->embeddings + text * WIDTH;
    if (row != vectors->pooled) {
        memcpy(row, vectors->pooled, WIDTH * sizeof *row);
    }
    if (job->reads == JOB_READS_FIRST) {
        CHECK(vectors->hidden[0] == -row[0]);
    }
}

/* Nothing may be missing when a job finishes. */
static void on_finish(struct job *job, void *context)
{
    (void)context;
    struct client *client = job->context;
    for (size_t text = 0; text < job->texts; text++) {
        for (size_t k = 0; k < WIDTH; k++) {
            CHECK(job->embeddings[text * WIDTH + k] == value_of(job->ids[job->starts[text]], k));
        }
    }
    (void)atomic_fetch_add(&client->finished, 1);
}

static void on_ended(struct job *job, void *context)
{
    (void)context;
    flights_entry_ended(flights, job);
}

static void on_tick(void *context)
{
    (void)context;
    flights_tick(flights);
}

static void begin(size_t queue_requests)
{
    metrics = metrics_create("test", NULL);
    assert_non_null(metrics);
    const struct scheduler_options scheduling = {
        .policy =
            {
                .workers = 1,
                .batch_tokens = BUDGET,
                .batch_texts = BUDGET,
                .member_tokens = 4,
                .queue_tokens = 1 << 20,
                .queue_requests = queue_requests,
                .tokens_per_s = 1e6,
            },
        .row_floats = WIDTH,
        .finish = on_finish,
        .ended = on_ended,
        .tick = on_tick,
    };
    assert_int_equal(scheduler_create(&scheduling, &scheduler, NULL), ERR_OK);
    const struct flights_options options = {
        .cache_bytes = MIB,
        .pooled = WIDTH,
        .first = WIDTH,
        .row_floats = WIDTH,
        .scheduler = scheduler,
        .metrics = metrics,
        .computed = on_computed,
        .finish = on_finish,
    };
    assert_int_equal(flights_create(&options, &flights, NULL), ERR_OK);
}

static void finish(void)
{
    scheduler_stop(scheduler);
    const struct policy_batch *batch;
    struct crew *crew;
    unsigned member;
    assert_int_equal(scheduler_take(scheduler, 0, &batch, &crew, &member), TAKE_STOP);
    scheduler_destroy(scheduler);
    flights_destroy(flights);
    metrics_destroy(metrics);
}

/* ids: each text's first; the others follow from it. */
static void client_init(struct client *client, const int32_t *ids, size_t texts,
                        uint64_t timeout_ms)
{
    *client = (struct client){.job = job_create()};
    struct job *job = client->job;
    assert_non_null(job);
    job->request.n = texts;
    job->texts = texts;
    job->total_tokens = texts * TEXT_TOKENS;
    job->ids = calloc(job->total_tokens, sizeof *job->ids);
    job->types = calloc(job->total_tokens, sizeof *job->types);
    job->starts = calloc(texts + 1, sizeof *job->starts);
    assert_true(job->ids && job->types && job->starts);
    for (size_t i = 0; i < job->total_tokens; i++) {
        job->ids[i] = ids[i / TEXT_TOKENS] + (int32_t)(i % TEXT_TOKENS);
        job->starts[i / TEXT_TOKENS + 1] = (i / TEXT_TOKENS + 1) * TEXT_TOKENS;
    }
    job->done = on_done;
    job->context = client;
    job->deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
}

/* One text. */
static void one_init(struct client *client, int32_t id)
{
    client_init(client, &id, 1, 60000);
}

static void submit(struct client *client)
{
    assert_true(flights_admit(flights, client->job));
    flights_enqueue(flights, client->job);
}

static void tell(struct client *client, enum policy_client what)
{
    atomic_store(&client->job->client, (int)what);
    flights_client(flights, client->job, what);
}

/* Takes a batch on this thread, which stands for a worker; NULL: the server stops. */
static const struct policy_batch *take(void)
{
    const struct policy_batch *batch = NULL;
    struct crew *crew;
    unsigned member;
    enum take took = scheduler_take(scheduler, 0, &batch, &crew, &member);
    assert_true(took != TAKE_MEMBER);
    if (took == TAKE_BATCH) {
        flights_cut(flights, batch);
    }
    return took == TAKE_BATCH ? batch : NULL;
}

static void compute(const struct policy_batch *batch)
{
    static float rows[BUDGET][WIDTH];
    static float firsts[BUDGET][WIDTH];
    struct follow *follows = NULL;
    for (size_t i = 0; i < batch->n; i++) {
        struct job *job = job_of(batch->texts[i].entry);
        size_t text = job_text(job, batch->texts[i].index);
        for (size_t k = 0; k < WIDTH; k++) {
            rows[i][k] = value_of(job->ids[job->starts[text]], k);
            firsts[i][k] = -rows[i][k];
        }
        const struct computed_text vectors = {
            .pooled = rows[i], .hidden = firsts[i], .n = TEXT_TOKENS};
        flights_computed(flights, job, batch->texts[i].index, &vectors, &follows);
    }
    scheduler_complete(scheduler, 0);
    flights_deliver(flights, follows);
}

/* Takes and computes one batch of that many texts. */
static void compute_next(size_t texts)
{
    const struct policy_batch *batch = take();
    assert_non_null(batch);
    assert_int_equal(batch->n, texts);
    compute(batch);
}

static void wait_ended(struct client *client)
{
    for (int i = 0; i < 20000 && !atomic_load(&client->ended); i++) {
        (void)usleep(500);
    }
    assert_int_equal(atomic_load(&client->ended), 1);
}

/* It ended once, with its answer or that problem. */
static void expect(struct client *client, enum problem_kind kind)
{
    assert_int_equal(atomic_load(&client->ended), 1);
    assert_int_equal(atomic_load(&client->finished), kind == PROBLEM_NONE);
    assert_int_equal(client->job->problem.kind, kind);
    job_destroy(client->job);
}

/* Nothing of it waits. */
static void expect_idle(void)
{
    size_t tokens;
    size_t requests;
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(requests, 0);
}

static void test_a_thousand_at_once(void **state)
{
    (void)state;
    enum { N = 1000 };
    static struct client clients[N];
    begin(2);
    for (size_t i = 0; i < N; i++) {
        one_init(&clients[i], 5);
        submit(&clients[i]);
    }
    compute_next(1);
    for (size_t i = 0; i < N; i++) {
        expect(&clients[i], PROBLEM_NONE);
    }
    expect_idle();
    finish();
}

/* A hit never enters the queue: a full one does not matter. */
static void test_hits_pass_a_full_queue(void **state)
{
    (void)state;
    struct client a, b, hit, other;
    begin(1);
    one_init(&a, 5);
    submit(&a);
    compute_next(1);
    expect(&a, PROBLEM_NONE);
    one_init(&b, 6);
    submit(&b);
    one_init(&other, 7);
    assert_false(flights_admit(flights, other.job));
    assert_int_equal(other.job->problem.kind, PROBLEM_OVERLOADED);
    assert_true(other.job->retry_after_s >= 1);
    job_destroy(other.job);
    one_init(&hit, 5);
    assert_false(flights_admit(flights, hit.job)); /* it is over */
    assert_int_equal(hit.job->problem.kind, PROBLEM_NONE);
    assert_int_equal(atomic_load(&hit.finished), 1);
    job_destroy(hit.job);
    compute_next(1);
    expect(&b, PROBLEM_NONE);
    finish();
}

static void test_inside_one_request(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6, 5, 7, 5, 6};
    static const int32_t others[] = {8, 7, 5, 8};
    struct client a, b;
    begin(8);
    client_init(&a, ids, 6, 60000);
    submit(&a);
    compute_next(3);
    expect(&a, PROBLEM_NONE);
    client_init(&b, others, 4, 60000);
    submit(&b);
    compute_next(1);
    expect(&b, PROBLEM_NONE);
    finish();
}

/* Heads that read the first token find it, or compute the text again. */
static void test_first_tokens(void **state)
{
    (void)state;
    struct client clients[4];
    begin(8);
    for (size_t i = 0; i < 4; i++) {
        one_init(&clients[i], 5);
        clients[i].job->reads = i == 0 ? JOB_READS_POOLED : JOB_READS_FIRST;
    }
    submit(&clients[0]);
    compute_next(1);
    submit(&clients[1]);
    submit(&clients[2]);
    compute_next(1);
    assert_false(flights_admit(flights, clients[3].job));
    for (size_t i = 0; i < 3; i++) {
        expect(&clients[i], PROBLEM_NONE);
    }
    assert_int_equal(atomic_load(&clients[3].finished), 1);
    job_destroy(clients[3].job);
    finish();
}

static void test_all_tokens_go_past(void **state)
{
    (void)state;
    struct client a, b;
    begin(8);
    one_init(&a, 5);
    submit(&a);
    compute_next(1);
    one_init(&b, 5);
    b.job->reads = JOB_READS_TOKENS;
    submit(&b);
    compute_next(1);
    expect(&a, PROBLEM_NONE);
    expect(&b, PROBLEM_NONE);
    finish();
}

static void test_the_leaders_client_goes(void **state)
{
    (void)state;
    struct client leader, a, b;
    begin(8);
    one_init(&leader, 5);
    one_init(&a, 5);
    one_init(&b, 5);
    submit(&leader);
    submit(&a);
    submit(&b);
    tell(&leader, CLIENT_GONE);
    expect(&leader, PROBLEM_DEADLINE);
    compute_next(1); /* one of the others leads */
    expect(&a, PROBLEM_NONE);
    expect(&b, PROBLEM_NONE);
    finish();
}

/* In a batch it is computed all the same. */
static void test_the_leaders_client_goes_late(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6};
    struct client leader, a;
    begin(8);
    client_init(&leader, ids, 2, 60000);
    one_init(&a, 6);
    submit(&leader);
    const struct policy_batch *batch = take();
    submit(&a);
    tell(&leader, CLIENT_GONE);
    compute(batch);
    assert_int_equal(atomic_load(&leader.ended), 1);
    expect(&a, PROBLEM_NONE);
    job_destroy(leader.job);
    expect_idle();
    finish();
}

static void test_the_leaders_deadline_passes(void **state)
{
    (void)state;
    static const int32_t id = 5;
    struct client leader, a;
    begin(8);
    client_init(&leader, &id, 1, 40);
    one_init(&a, id);
    submit(&leader);
    submit(&a);
    wait_ended(&leader);
    expect(&leader, PROBLEM_DEADLINE);
    compute_next(1);
    expect(&a, PROBLEM_NONE);
    finish();
}

/* A refused job leads nothing, so nobody can follow it. */
static void test_a_refused_leader(void **state)
{
    (void)state;
    struct client busy, refused;
    begin(1);
    one_init(&busy, 6);
    submit(&busy);
    for (int i = 0; i < 3; i++) {
        one_init(&refused, 7);
        assert_false(flights_admit(flights, refused.job));
        assert_int_equal(refused.job->problem.kind, PROBLEM_OVERLOADED);
        job_destroy(refused.job);
    }
    compute_next(1);
    expect(&busy, PROBLEM_NONE);
    expect_idle();
    finish();
}

/* A follower that asks anew where there is no room is told so, and so is the next one. */
static void test_a_refused_follower(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6};
    struct client leader, a, b, busy;
    begin(2);
    client_init(&leader, ids, 2, 60000);
    one_init(&busy, 7);
    client_init(&a, ids, 2, 60000);
    client_init(&b, ids, 2, 60000);
    submit(&leader);
    submit(&a);
    submit(&b);
    submit(&busy);
    tell(&busy, CLIENT_HALF_CLOSED); /* lets newcomers pass: there is room for one more */
    struct client more;
    one_init(&more, 8);
    submit(&more);
    tell(&leader, CLIENT_HALF_CLOSED);
    /* The leader keeps its place behind all; one of the two finds room, or both are told. */
    compute(take());
    while (!atomic_load(&leader.ended) || !atomic_load(&busy.ended)) {
        compute(take());
    }
    assert_int_equal(atomic_load(&a.ended), 1);
    assert_int_equal(atomic_load(&b.ended), 1);
    expect(&leader, PROBLEM_NONE);
    expect(&busy, PROBLEM_NONE);
    expect(&more, PROBLEM_NONE);
    expect(&a, a.job->problem.kind);
    expect(&b, b.job->problem.kind);
    expect_idle();
    finish();
}

static void test_the_server_stops(void **state)
{
    (void)state;
    struct client leader, a, b, c;
    begin(8);
    one_init(&leader, 5);
    one_init(&a, 5);
    one_init(&b, 6);
    one_init(&c, 6);
    submit(&leader);
    submit(&a);
    const struct policy_batch *batch = take();
    submit(&b);
    submit(&c);
    scheduler_stop(scheduler);
    expect(&b, PROBLEM_DRAINING);
    expect(&c, PROBLEM_DRAINING);
    compute(batch); /* what is in a batch is still answered, to all */
    expect(&leader, PROBLEM_NONE);
    expect(&a, PROBLEM_NONE);
    finish();
}

static void test_a_followers_own_end(void **state)
{
    (void)state;
    static const int32_t id = 5;
    static const int32_t two[] = {5, 6};
    struct client leader, late, gone, both;
    begin(8);
    one_init(&leader, id);
    client_init(&late, &id, 1, 40);
    one_init(&gone, id);
    client_init(&both, two, 2, 60000); /* leads one, follows one */
    submit(&leader);
    submit(&late);
    submit(&gone);
    submit(&both);
    tell(&gone, CLIENT_GONE);
    expect(&gone, PROBLEM_DEADLINE);
    tell(&both, CLIENT_GONE);
    expect(&both, PROBLEM_DEADLINE);
    wait_ended(&late);
    expect(&late, PROBLEM_DEADLINE);
    compute_next(1);
    expect(&leader, PROBLEM_NONE);
    finish();
}

/* A leader that is put off: who waits is not put off with it. */
static void test_a_half_closed_leader(void **state)
{
    (void)state;
    struct client leader, a, b;
    begin(8);
    one_init(&leader, 5);
    one_init(&a, 5);
    one_init(&b, 5);
    submit(&leader);
    submit(&a);
    tell(&leader, CLIENT_HALF_CLOSED);
    submit(&b);
    compute_next(1);
    expect(&a, PROBLEM_NONE);
    expect(&b, PROBLEM_NONE);
    compute_next(1);
    expect(&leader, PROBLEM_NONE);
    finish();
}

/* Who asks for less is computed sooner, and so leads; the larger request's followers are given what
 * comes first. */
static void test_a_small_request_beside_a_large_one(void **state)
{
    (void)state;
    enum { N = 40 };
    int32_t ids[N];
    struct client large, same, small;
    for (int32_t i = 0; i < N; i++) {
        ids[i] = 10 * i;
    }
    begin(8);
    client_init(&large, ids, N, 60000);
    client_init(&same, ids, N, 60000);
    one_init(&small, ids[N - 1]);
    submit(&large);
    submit(&same);
    submit(&small);
    const struct policy_batch *batch = take();
    bool there = false;
    for (size_t i = 0; i < batch->n; i++) {
        there = there || job_of(batch->texts[i].entry) == small.job;
    }
    assert_true(there);
    compute(batch);
    expect(&small, PROBLEM_NONE);
    while (!atomic_load(&large.ended)) {
        compute(take());
    }
    expect(&large, PROBLEM_NONE);
    expect(&same, PROBLEM_NONE);
    expect_idle();
    finish();
}

/* Everything at once, at random: each job ends exactly once, and right. */
static void *work(void *argument)
{
    (void)argument;
    for (const struct policy_batch *batch; (batch = take()) != NULL;) {
        compute(batch);
    }
    return NULL;
}

enum { CALLERS = 4, ROUNDS = 1500 };

static void *call_at_random(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        int32_t ids[12];
        size_t texts = 1 + (size_t)rand_r(&seed) % 12;
        for (size_t k = 0; k < texts; k++) {
            ids[k] = rand_r(&seed) % (rand_r(&seed) % 4 ? 16 : 8000);
        }
        struct client client;
        client_init(&client, ids, texts, rand_r(&seed) % 8 ? 60000 : 1);
        client.job->reads = rand_r(&seed) % 3 ? JOB_READS_POOLED : JOB_READS_FIRST;
        if (!flights_admit(flights, client.job)) {
            CHECK(client.job->problem.kind != PROBLEM_NONE || atomic_load(&client.finished) == 1);
            job_destroy(client.job);
            continue;
        }
        flights_enqueue(flights, client.job);
        unsigned what = (unsigned)rand_r(&seed) % 8;
        if (what < 3) {
            tell(&client, what == 0 ? CLIENT_HALF_CLOSED : CLIENT_GONE);
        }
        while (!atomic_load(&client.ended)) {
            (void)usleep(20);
        }
        CHECK(client.job->problem.kind == PROBLEM_NONE ? atomic_load(&client.finished) == 1
                                                       : atomic_load(&client.finished) == 0);
        (void)usleep(1); /* the last hands may still be leaving */
        CHECK(atomic_load(&client.ended) == 1);
        job_destroy(client.job);
    }
    return NULL;
}

static void test_at_random(void **state)
{
    (void)state;
    pthread_t worker;
    pthread_t callers[CALLERS];
    begin(3);
    assert_int_equal(pthread_create(&worker, NULL, work, NULL), 0);
    for (uintptr_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i], NULL, call_at_random, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i], NULL), 0);
    }
    expect_idle();
    scheduler_stop(scheduler);
    assert_int_equal(pthread_join(worker, NULL), 0);
    scheduler_destroy(scheduler);
    flights_destroy(flights);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thousand_at_once),
        cmocka_unit_test(test_hits_pass_a_full_queue),
        cmocka_unit_test(test_inside_one_request),
        cmocka_unit_test(test_first_tokens),
        cmocka_unit_test(test_all_tokens_go_past),
        cmocka_unit_test(test_the_leaders_client_goes),
        cmocka_unit_test(test_the_leaders_client_goes_late),
        cmocka_unit_test(test_the_leaders_deadline_passes),
        cmocka_unit_test(test_a_refused_leader),
        cmocka_unit_test(test_a_refused_follower),
        cmocka_unit_test(test_the_server_stops),
        cmocka_unit_test(test_a_followers_own_end),
        cmocka_unit_test(test_a_half_closed_leader),
        cmocka_unit_test(test_a_small_request_beside_a_large_one),
        cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
