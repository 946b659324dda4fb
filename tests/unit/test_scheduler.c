/* The scheduler, driven by threads that only pretend to compute. */
#include "server/queue/scheduler.h"

#include <pthread.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "tests/support/testing.h"

enum { HIDDEN = 2, TEXT_TOKENS = 128, BUDGET = 256, TEXTS = 256 };

/* A job and what became of it. */
struct client {
    struct job *job;
    atomic_uint ended;
    atomic_uint finished;
};

static void on_done(struct job *job)
{
    struct client *client = job->context;
    (void)atomic_fetch_add(&client->ended, 1);
}

/* Every text's embedding is its index + 1: nothing may be missing when a job finishes. */
static void on_finish(struct job *job, void *context)
{
    (void)context;
    struct client *client = job->context;
    for (size_t i = 0; i < job->request.n; i++) {
        for (size_t h = 0; h < HIDDEN; h++) {
            CHECK(job->embeddings[i * HIDDEN + h] == (float)(i + 1));
        }
    }
    (void)atomic_fetch_add(&client->finished, 1);
}

static void client_init(struct client *client, size_t texts, size_t text_tokens,
                        uint64_t timeout_ms)
{
    *client = (struct client){.job = job_create()};
    struct job *job = client->job;
    assert_non_null(job);
    job->request.n = texts;
    job->texts = texts;
    job->total_tokens = texts * text_tokens;
    job->ids = calloc(job->total_tokens, sizeof *job->ids);
    job->starts = calloc(texts + 1, sizeof *job->starts);
    assert_true(job->ids && job->starts);
    for (size_t i = 0; i <= texts; i++) {
        job->starts[i] = i * text_tokens;
    }
    job->done = on_done;
    job->context = client;
    job->deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
}

static void client_done(struct client *client)
{
    job_destroy(client->job);
}

static struct scheduler *make(unsigned workers, size_t queue_tokens)
{
    const struct scheduler_options options = {
        .policy =
            {
                .workers = workers,
                .batch_tokens = BUDGET,
                .batch_texts = TEXTS,
                .member_tokens = 4,
                .queue_tokens = queue_tokens,
                .queue_requests = 512,
                .tokens_per_s = 1e6,
            },
        .row_floats = HIDDEN,
        .finish = on_finish,
    };
    struct scheduler *scheduler;
    assert_int_equal(scheduler_create(&options, &scheduler, NULL), ERR_OK);
    return scheduler;
}

static void submit(struct scheduler *scheduler, struct client *client)
{
    assert_true(scheduler_admit(scheduler, client->job));
    scheduler_enqueue(scheduler, client->job);
}

/* Takes a batch on this thread, which stands for a worker. */
static void take(struct scheduler *scheduler, const struct policy_batch **work)
{
    struct crew *crew;
    unsigned member;
    assert_int_equal(scheduler_take(scheduler, 0, work, &crew, &member), TAKE_BATCH);
    assert_true((*work)->n > 0 && (*work)->n <= TEXTS && (*work)->tokens <= BUDGET);
}

static void compute(const struct policy_batch *work)
{
    for (size_t i = 0; i < work->n; i++) {
        for (size_t h = 0; h < HIDDEN; h++) {
            size_t index = work->texts[i].index;
            job_of(work->texts[i].entry)->embeddings[index * HIDDEN + h] = (float)(index + 1);
        }
    }
}

static void compute_and_complete(struct scheduler *scheduler, const struct policy_batch *work)
{
    compute(work);
    scheduler_complete(scheduler, 0);
}

static size_t tokens_of(const struct policy_batch *work, const struct client *client)
{
    size_t tokens = 0;
    for (size_t i = 0; i < work->n; i++) {
        const struct job *job = job_of(work->texts[i].entry);
        size_t index = work->texts[i].index;
        tokens += job == client->job ? job->starts[index + 1] - job->starts[index] : 0;
    }
    return tokens;
}

static void end(struct scheduler *scheduler)
{
    const struct policy_batch *work;
    struct crew *crew;
    unsigned member;
    scheduler_stop(scheduler);
    assert_int_equal(scheduler_take(scheduler, 0, &work, &crew, &member), TAKE_STOP);
    scheduler_destroy(scheduler);
}

static bool wait_ended(struct client *client, unsigned ms)
{
    for (unsigned i = 0; i < ms && atomic_load(&client->ended) == 0; i++) {
        (void)usleep(1000);
    }
    return atomic_load(&client->ended) == 1;
}

static void test_small_jobs_share_a_batch(void **state)
{
    (void)state;
    enum { N = 12 };
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client clients[N];
    for (int i = 0; i < N; i++) {
        client_init(&clients[i], 1, 20, 10000);
        submit(scheduler, &clients[i]);
    }
    size_t tokens;
    size_t requests;
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(tokens, N * 20);
    assert_int_equal(requests, N);
    take(scheduler, &work);
    assert_int_equal(work->n, N);
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(tokens, 0);
    assert_int_equal(requests, 0);
    compute_and_complete(scheduler, work);
    end(scheduler);
    for (int i = 0; i < N; i++) {
        assert_int_equal(atomic_load(&clients[i].finished), 1);
        assert_int_equal(atomic_load(&clients[i].ended), 1);
        assert_int_equal(clients[i].job->problem.kind, PROBLEM_NONE);
        client_done(&clients[i]);
    }
}

static void test_a_sentence_waits_at_most_two_batches(void **state)
{
    (void)state;
    enum { BIG = 8 };
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client big[BIG];
    for (int i = 0; i < BIG; i++) {
        client_init(&big[i], 2048, 20, 60000);
        submit(scheduler, &big[i]);
    }
    take(scheduler, &work);
    compute_and_complete(scheduler, work);
    take(scheduler, &work); /* is being computed when the sentence comes */
    struct client sentence;
    client_init(&sentence, 1, 20, 60000);
    submit(scheduler, &sentence);
    compute_and_complete(scheduler, work);
    take(scheduler, &work);
    assert_int_equal(tokens_of(work, &sentence), 20);
    compute_and_complete(scheduler, work);
    assert_int_equal(atomic_load(&sentence.finished), 1);
    end(scheduler);
    for (int i = 0; i < BIG; i++) {
        assert_int_equal(atomic_load(&big[i].ended), 1);
        assert_int_equal(big[i].job->problem.kind, PROBLEM_DRAINING);
        client_done(&big[i]);
    }
    client_done(&sentence);
}

static void test_an_old_job_gets_half_a_batch_each_other_time(void **state)
{
    (void)state;
    enum { N = 100 };
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client big;
    client_init(&big, 200, 16, 60000);
    submit(scheduler, &big);
    (void)usleep(1050 * 1000);
    struct client clients[N];
    for (int i = 0; i < N; i++) {
        client_init(&clients[i], 1, 16, 60000);
        submit(scheduler, &clients[i]);
    }
    for (int i = 0; i < 6; i++) { /* single texts come: small batches, and then it makes way */
        take(scheduler, &work);
        assert_in_range(tokens_of(work, &big), i % 2 ? 0 : BUDGET / 2, i % 2 ? 16 : BUDGET / 2);
        assert_int_equal(work->tokens, i > 1 && i % 2 ? BUDGET : BUDGET / 2);
        compute_and_complete(scheduler, work);
    }
    end(scheduler);
    client_done(&big);
    for (int i = 0; i < N; i++) {
        client_done(&clients[i]);
    }
}

static void test_long_texts_take_their_turn(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client longs;
    struct client shorts;
    client_init(&longs, 10, TEXT_TOKENS, 60000);
    client_init(&shorts, 400, 8, 60000);
    submit(scheduler, &longs);
    submit(scheduler, &shorts);
    size_t taken[2] = {0};
    for (int i = 0; i < 8; i++) {
        take(scheduler, &work);
        taken[0] += tokens_of(work, &longs);
        taken[1] += tokens_of(work, &shorts);
        compute_and_complete(scheduler, work);
    }
    /* The same tokens for both, to a text and a credit. */
    assert_in_range(taken[0], taken[1] - 160, taken[1] + 160);
    end(scheduler);
    client_done(&longs);
    client_done(&shorts);
}

/* Nobody who comes later is served before a request of one text, however long that is. */
static void test_single_texts_are_served_as_they_came(void **state)
{
    (void)state;
    enum { N = 60 };
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client clients[N];
    size_t served = 0;
    for (size_t i = 0; i < N; i++) {
        client_init(&clients[i], 1, i % 4 == 0 ? TEXT_TOKENS : 20, 60000);
    }
    for (size_t i = 0; i < N / 2; i++) {
        submit(scheduler, &clients[i]);
    }
    for (size_t submitted = N / 2; served < N;) {
        take(scheduler, &work);
        for (size_t i = 0; i < work->n; i++) {
            assert_ptr_equal(job_of(work->texts[i].entry), clients[served++].job);
        }
        compute_and_complete(scheduler, work);
        for (size_t i = 0; i < 5 && submitted < N; i++) {
            submit(scheduler, &clients[submitted++]);
        }
    }
    end(scheduler);
    for (int i = 0; i < N; i++) {
        client_done(&clients[i]);
    }
}

static void test_expired_jobs_end_without_a_worker(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    struct client client;
    client_init(&client, 3, 20, 60);
    uint64_t deadline_ns = client.job->deadline_ns;
    submit(scheduler, &client);
    assert_true(wait_ended(&client, 30 * 1000));
    assert_true(clock_now_ns() >= deadline_ns);
    assert_int_equal(client.job->problem.kind, PROBLEM_DEADLINE);
    assert_int_equal(atomic_load(&client.finished), 0);
    size_t tokens;
    size_t requests;
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(tokens + requests, 0);
    end(scheduler);
    client_done(&client);
}

static void test_expired_while_computed_ends_with_its_batch(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client client;
    client_init(&client, 100, 20, 500);
    submit(scheduler, &client);
    take(scheduler, &work);
    (void)usleep(600 * 1000);
    assert_int_equal(atomic_load(&client.ended), 0); /* its texts are in use */
    compute_and_complete(scheduler, work);
    assert_int_equal(atomic_load(&client.ended), 1);
    assert_int_equal(client.job->problem.kind, PROBLEM_DEADLINE);
    end(scheduler);
    client_done(&client);
}

static void test_clients_that_went_are_not_computed(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client gone;
    struct client cancelled;
    struct client stays;
    client_init(&gone, 10, 20, 60000);
    client_init(&cancelled, 2, 10, 60000);
    client_init(&stays, 20, 20, 60000);
    submit(scheduler, &gone);
    submit(scheduler, &cancelled);
    submit(scheduler, &stays);
    scheduler_client(scheduler, gone.job, CLIENT_GONE);
    scheduler_client(scheduler, cancelled.job, CLIENT_GONE);
    take(scheduler, &work);
    assert_int_equal(tokens_of(work, &gone), 0);
    assert_int_equal(tokens_of(work, &cancelled), 0);
    assert_int_equal(tokens_of(work, &stays), 240); /* and the room went to the other */
    assert_int_equal(atomic_load(&gone.ended), 1);
    assert_int_equal(atomic_load(&cancelled.ended), 1);
    assert_int_equal(gone.job->problem.kind, PROBLEM_DEADLINE);
    compute_and_complete(scheduler, work);
    end(scheduler);
    client_done(&gone);
    client_done(&cancelled);
    client_done(&stays);
}

/* Whatever stage a job is at when its client goes, it ends once and is not computed any more. */
static void test_a_client_goes_at_any_stage(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client early;
    struct client admitted;
    struct client in_work;
    client_init(&early, 1, 20, 60000);
    client_init(&admitted, 1, 20, 60000);
    client_init(&in_work, 30, 20, 60000);
    scheduler_client(scheduler, early.job, CLIENT_GONE);
    assert_false(scheduler_admit(scheduler, early.job));
    assert_true(scheduler_admit(scheduler, admitted.job));
    scheduler_client(scheduler, admitted.job, CLIENT_GONE);
    assert_int_equal(atomic_load(&admitted.ended), 0); /* it is not handed over yet */
    scheduler_enqueue(scheduler, admitted.job);
    assert_int_equal(atomic_load(&admitted.ended), 1);
    submit(scheduler, &in_work);
    take(scheduler, &work); /* 12 of 30 texts */
    scheduler_client(scheduler, in_work.job, CLIENT_GONE);
    assert_int_equal(atomic_load(&in_work.ended), 0);
    size_t tokens;
    size_t requests;
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(tokens + requests, 0);
    compute_and_complete(scheduler, work);
    assert_int_equal(atomic_load(&in_work.ended), 1);
    scheduler_client(scheduler, in_work.job, CLIENT_GONE); /* late news change nothing */
    assert_int_equal(atomic_load(&in_work.ended), 1);
    assert_int_equal(atomic_load(&in_work.finished), 0);
    end(scheduler);
    client_done(&early);
    client_done(&admitted);
    client_done(&in_work);
}

static void test_half_closed_clients_come_last_but_come(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client half;
    struct client stays;
    client_init(&half, 10, 20, 60000);
    client_init(&stays, 20, 20, 60000);
    submit(scheduler, &half);
    submit(scheduler, &stays);
    scheduler_client(scheduler, half.job, CLIENT_HALF_CLOSED);
    take(scheduler, &work);
    assert_int_equal(tokens_of(work, &half), 0);
    assert_int_equal(tokens_of(work, &stays), 240);
    compute_and_complete(scheduler, work);
    take(scheduler, &work); /* the other's rest is alone */
    assert_int_equal(tokens_of(work, &stays), 160);
    assert_int_equal(tokens_of(work, &half), 0);
    compute_and_complete(scheduler, work);
    for (size_t left = 200; left > 0; left -= work->tokens) {
        take(scheduler, &work); /* nothing else waits */
        assert_int_equal(work->tokens, size_min(left, BUDGET / 2 / 20 * 20));
        compute_and_complete(scheduler, work);
    }
    assert_int_equal(atomic_load(&half.finished), 1);
    assert_int_equal(atomic_load(&half.ended), 1);
    end(scheduler);
    client_done(&half);
    client_done(&stays);
}

static void test_admission_one_rule_for_one_and_many(void **state)
{
    (void)state;
    enum { SMALL = 4 };
    struct scheduler *scheduler = make(1, 100);
    struct client first;
    struct client many;
    struct client one;
    struct client small[SMALL];
    client_init(&first, 100, 20, 60000); /* over the bound: finds the queue empty */
    client_init(&many, 100, 20, 60000);
    client_init(&one, 1, 120, 60000);
    assert_false(scheduler_full(scheduler));
    submit(scheduler, &first);
    assert_false(scheduler_admit(scheduler, many.job));
    assert_int_equal(many.job->problem.kind, PROBLEM_OVERLOADED);
    assert_in_range(many.job->retry_after_s, 1, 60);
    assert_false(scheduler_admit(scheduler, one.job));
    assert_int_equal(one.job->problem.kind, PROBLEM_OVERLOADED);
    assert_string_equal(one.job->problem.text, many.job->problem.text);
    assert_false(scheduler_full(scheduler)); /* a sentence waits for one text of the first alone */
    for (int i = 0; i < SMALL; i++) {
        client_init(&small[i], 1, 20, 60000);
        submit(scheduler, &small[i]);
    }
    assert_true(scheduler_full(scheduler));
    assert_in_range(scheduler_retry_after_s(scheduler), 1, 60);
    end(scheduler);
    client_done(&first);
    client_done(&many);
    client_done(&one);
    for (int i = 0; i < SMALL; i++) {
        client_done(&small[i]);
    }
}

static void test_stop_ends_what_waits_and_what_comes(void **state)
{
    (void)state;
    struct scheduler *scheduler = make(1, 0);
    const struct policy_batch *work;
    struct client waits;
    struct client admitted;
    struct client late;
    client_init(&waits, 30, 20, 60000);
    client_init(&admitted, 1, 20, 60000);
    client_init(&late, 1, 20, 60000);
    submit(scheduler, &waits);
    take(scheduler, &work); /* 12 of 30 texts */
    assert_true(scheduler_admit(scheduler, admitted.job));
    scheduler_stop(scheduler);
    assert_int_equal(atomic_load(&waits.ended), 0);
    compute_and_complete(scheduler, work);
    assert_int_equal(atomic_load(&waits.ended), 1);
    assert_int_equal(waits.job->problem.kind, PROBLEM_DRAINING);
    scheduler_enqueue(scheduler, admitted.job);
    assert_int_equal(atomic_load(&admitted.ended), 1);
    assert_int_equal(admitted.job->problem.kind, PROBLEM_DRAINING);
    assert_false(scheduler_admit(scheduler, late.job));
    assert_int_equal(late.job->problem.kind, PROBLEM_DRAINING);
    assert_int_equal(late.job->retry_after_s, 1);
    end(scheduler);
    client_done(&waits);
    client_done(&admitted);
    client_done(&late);
}

/* A worker thread: leads and joins teams as worker.c does. */
struct pretender {
    struct scheduler *scheduler;
    unsigned index;
    struct crew crew;
    const struct policy_batch *work;
    atomic_uint *widest;
    pthread_t thread;
};

static void *pretend(void *argument)
{
    struct pretender *me = argument;
    for (;;) {
        struct crew *crew = NULL;
        unsigned member = 0;
        enum take got = scheduler_take(me->scheduler, me->index, &me->work, &crew, &member);
        if (got == TAKE_STOP) {
            return NULL;
        }
        if (got == TAKE_MEMBER) {
            const struct policy_batch *work = crew->task;
            team_barrier(&crew->team);
            CHECK(work->n > 0 && member < crew->team.width);
            team_barrier(&crew->team);
            crew_leave(crew);
            continue;
        }
        scheduler_muster(me->scheduler, me->index, &me->crew, (void *)(uintptr_t)me->work);
        unsigned width = me->crew.team.width;
        unsigned widest = atomic_load(me->widest);
        while (width > widest && !atomic_compare_exchange_weak(me->widest, &widest, width)) {
        }
        team_barrier(&me->crew.team);
        compute(me->work);
        team_barrier(&me->crew.team);
        scheduler_complete(me->scheduler, me->index);
        crew_wait(&me->crew);
    }
}

static void start_pretenders(struct scheduler *scheduler, struct pretender *pretenders, unsigned n,
                             atomic_uint *widest)
{
    for (unsigned i = 0; i < n; i++) {
        pretenders[i] = (struct pretender){.scheduler = scheduler, .index = i, .widest = widest};
        assert_int_equal(pthread_create(&pretenders[i].thread, NULL, pretend, &pretenders[i]), 0);
    }
}

static void stop_pretenders(struct scheduler *scheduler, struct pretender *pretenders, unsigned n)
{
    scheduler_stop(scheduler);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(pthread_join(pretenders[i].thread, NULL), 0);
    }
    scheduler_destroy(scheduler);
}

static void test_idle_workers_join_a_lone_batch(void **state)
{
    (void)state;
    enum { WORKERS = 3 };
    struct scheduler *scheduler = make(WORKERS, 0);
    struct pretender pretenders[WORKERS];
    atomic_uint widest = 0;
    start_pretenders(scheduler, pretenders, WORKERS, &widest);
    (void)usleep(50 * 1000);
    for (int i = 0; i < 20; i++) {
        struct client client;
        client_init(&client, 1, 40, 60000);
        submit(scheduler, &client);
        assert_true(wait_ended(&client, 5000));
        assert_int_equal(atomic_load(&client.finished), 1);
        client_done(&client);
        (void)usleep(2000);
    }
    assert_int_equal(atomic_load(&widest), WORKERS);
    stop_pretenders(scheduler, pretenders, WORKERS);
}

struct submitter {
    struct scheduler *scheduler;
    unsigned seed;
    pthread_t thread;
    size_t computed, refused, ended_otherwise;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void *submit_many(void *argument)
{
    struct submitter *me = argument;
    for (int i = 0; i < 300; i++) {
        struct client client;
        unsigned kind = next_random(&me->seed) % 10;
        size_t texts = kind == 0 ? 60 : 1 + next_random(&me->seed) % 3;
        uint64_t timeout_ms = kind == 1 ? 1 : 60000;
        client_init(&client, texts, 1 + next_random(&me->seed) % TEXT_TOKENS, timeout_ms);
        if (!scheduler_admit(me->scheduler, client.job)) {
            me->refused++;
            client_done(&client);
            continue;
        }
        struct job *job = client.job;
        scheduler_enqueue(me->scheduler, job);
        if (kind == 2 || kind == 3) {
            scheduler_client(me->scheduler, job, kind == 2 ? CLIENT_HALF_CLOSED : CLIENT_GONE);
        }
        while (atomic_load(&client.ended) == 0) {
            (void)usleep(100);
        }
        CHECK(atomic_load(&client.ended) == 1);
        bool computed = job->problem.kind == PROBLEM_NONE;
        CHECK(atomic_load(&client.finished) == computed);
        me->computed += computed;
        me->ended_otherwise += !computed;
        client_done(&client);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    enum { WORKERS = 3, SUBMITTERS = 12 };
    struct scheduler *scheduler = make(WORKERS, 2000);
    struct pretender pretenders[WORKERS];
    atomic_uint widest = 0;
    start_pretenders(scheduler, pretenders, WORKERS, &widest);
    struct submitter submitters[SUBMITTERS];
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.scheduler = scheduler, .seed = i + 1};
        assert_int_equal(pthread_create(&submitters[i].thread, NULL, submit_many, &submitters[i]),
                         0);
    }
    size_t computed = 0;
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        assert_int_equal(pthread_join(submitters[i].thread, NULL), 0);
        computed += submitters[i].computed;
    }
    assert_true(computed > 0);
    size_t tokens;
    size_t requests;
    scheduler_queue(scheduler, &tokens, &requests);
    assert_int_equal(tokens + requests, 0);
    stop_pretenders(scheduler, pretenders, WORKERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_jobs_share_a_batch),
        cmocka_unit_test(test_a_sentence_waits_at_most_two_batches),
        cmocka_unit_test(test_an_old_job_gets_half_a_batch_each_other_time),
        cmocka_unit_test(test_long_texts_take_their_turn),
        cmocka_unit_test(test_single_texts_are_served_as_they_came),
        cmocka_unit_test(test_expired_jobs_end_without_a_worker),
        cmocka_unit_test(test_expired_while_computed_ends_with_its_batch),
        cmocka_unit_test(test_clients_that_went_are_not_computed),
        cmocka_unit_test(test_a_client_goes_at_any_stage),
        cmocka_unit_test(test_half_closed_clients_come_last_but_come),
        cmocka_unit_test(test_admission_one_rule_for_one_and_many),
        cmocka_unit_test(test_stop_ends_what_waits_and_what_comes),
        cmocka_unit_test(test_idle_workers_join_a_lone_batch),
        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
