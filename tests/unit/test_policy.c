/* The queue's rule, step by step: no threads, and time as the test says. */
#include "server/queue/policy.h"

#include "base/clock.h"
#include "base/size.h"
#include "tests/support/testing.h"

enum {
    WORKERS_MAX = 4,
    BUDGET = 256,
    BATCH_TEXTS = 64,
    TEXTS_MAX = 4096,
    SIZES_MAX = 16,
    LATER_S = 1000
};
/* The automatic bound of one worker at 4000 tokens a second. */
enum { SPEED = 4000, BOUND = 15000 - BUDGET };

/* A policy with the memory it is given, and the time. */
struct world {
    struct policy policy;
    struct policy_batch batches[WORKERS_MAX];
    struct policy_text texts[WORKERS_MAX][BATCH_TEXTS];
    unsigned idle[WORKERS_MAX];
    uint64_t now_ns;
    struct policy_actions actions; /* of the last step */
};

static struct policy_options options_of(unsigned workers)
{
    return (struct policy_options){
        .workers = workers,
        .batch_tokens = BUDGET,
        .batch_texts = BATCH_TEXTS,
        .member_tokens = 4,
        .queue_requests = 512,
        .tokens_per_s = SPEED,
    };
}

static void begin(struct world *world, const struct policy_options *options)
{
    *world = (struct world){.now_ns = NS_PER_S};
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        world->batches[i].texts = world->texts[i];
    }
    policy_init(&world->policy, options, world->batches, world->idle);
}

static const struct policy_actions *step(struct world *world, enum policy_kind kind,
                                         struct queue_entry *entry, unsigned worker)
{
    const struct policy_event event = {.kind = kind, .entry = entry, .worker = worker};
    policy_step(&world->policy, &event, world->now_ns, &world->actions);
    return &world->actions;
}

/* starts[] of texts of equal size. */
static struct queue_entry entry_of(const struct world *world, size_t n, size_t size)
{
    static size_t starts[SIZES_MAX][TEXTS_MAX + 1];
    static size_t sizes[SIZES_MAX];
    size_t slot = 0;
    while (sizes[slot] != size && sizes[slot] != 0) {
        slot++;
        assert_true(slot < SIZES_MAX);
    }
    sizes[slot] = size;
    for (size_t i = 0; i <= n; i++) {
        starts[slot][i] = i * size;
    }
    return (struct queue_entry){
        .starts = starts[slot], .n = n, .deadline_ns = world->now_ns + LATER_S * NS_PER_S};
}

/* Asks for room and gives it back by never entering: only the answer matters. */
static enum policy_why asked(const struct world *world, size_t n, size_t size, uint64_t timeout_ns)
{
    struct world copy = *world; /* the lists' entries are not touched by an arrival */
    struct queue_entry entry = entry_of(world, n, size);
    struct queue_entry *last = copy.policy.entries.ages.last;
    entry.deadline_ns = copy.now_ns + timeout_ns;
    const struct policy_actions *actions = step(&copy, POLICY_ARRIVE, &entry, 0);
    if (actions->admitted && last) {
        last->link[BY_AGE].next = NULL;
    }
    return actions->admitted ? POLICY_COMPUTED : actions->why;
}

static enum policy_why ask(const struct world *world, size_t n, size_t size)
{
    return asked(world, n, size, LATER_S * NS_PER_S);
}

static void submit(struct world *world, struct queue_entry *entry)
{
    assert_true(step(world, POLICY_ARRIVE, entry, 0)->admitted);
    (void)step(world, POLICY_ENTER, entry, 0);
}

static void submit_many(struct world *world, struct queue_entry *entries, size_t count, size_t n,
                        size_t size)
{
    for (size_t i = 0; i < count; i++) {
        entries[i] = entry_of(world, n, size);
        submit(world, &entries[i]);
    }
}

static const struct policy_batch *cut(struct world *world, unsigned worker)
{
    const struct policy_batch *batch = step(world, POLICY_IDLE, NULL, worker)->cut;
    assert_non_null(batch);
    return batch;
}

static void test_equal_requests_fill_the_bound(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry entries[25];
    options.queue_tokens = 500;
    begin(&world, &options);
    submit_many(&world, entries, 24, 1, 20);
    assert_int_equal(ask(&world, 1, 20), POLICY_COMPUTED);
    assert_int_equal(ask(&world, 1, 21), POLICY_FULL);
    begin(&world, &options);
    submit_many(&world, entries, 1, 10, 20);
    assert_int_equal(ask(&world, 10, 20), POLICY_COMPUTED);
    submit_many(&world, entries + 1, 1, 10, 20);
    assert_int_equal(ask(&world, 10, 20), POLICY_FULL);
}

static void test_too_big_for_the_bound_finds_an_empty_queue(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry one;
    options.queue_tokens = 500;
    begin(&world, &options);
    assert_int_equal(ask(&world, 2000, 50), POLICY_COMPUTED);
    submit_many(&world, &one, 1, 1, 2);
    assert_int_equal(ask(&world, 2000, 50), POLICY_FULL);
}

static void test_a_big_request_does_not_shut_out_a_sentence(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry big;
    options.queue_tokens = 20000;
    begin(&world, &options);
    submit_many(&world, &big, 1, 2048, 20);
    assert_int_equal(ask(&world, 1, 20), POLICY_COMPUTED);
    assert_int_equal(ask(&world, 2048, 20), POLICY_FULL);
}

static void test_requests_are_bounded_too(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    static struct queue_entry entries[512];
    options.queue_tokens = 20000;
    begin(&world, &options);
    submit_many(&world, entries, 511, 1, 2);
    assert_int_equal(ask(&world, 1, 2), POLICY_COMPUTED);
    assert_false(policy_full(&world.policy));
    submit_many(&world, entries + 511, 1, 1, 2);
    assert_int_equal(ask(&world, 1, 2), POLICY_FULL);
    assert_true(policy_full(&world.policy));
}

/* Room for a token, but for no text like those that wait: who does not wait is refused unread. */
static void test_crowded_is_before_full(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    static struct queue_entry entries[11];
    options.queue_tokens = 210;
    begin(&world, &options);
    assert_false(policy_crowded(&world.policy));
    submit_many(&world, entries, 9, 1, 20);
    assert_false(policy_crowded(&world.policy)); /* 180 and 20 more */
    submit_many(&world, entries + 9, 1, 1, 20);
    assert_true(policy_crowded(&world.policy));
    assert_false(policy_full(&world.policy));
    /* Giants are as long as their next text. */
    begin(&world, &options);
    static struct queue_entry giant;
    submit_many(&world, &giant, 1, 2048, 20);
    assert_false(policy_crowded(&world.policy));
}

/* What is answered without a worker counts while it is worked on, and no longer. */
static void test_what_is_answered_elsewhere_takes_room(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    options.queue_requests = 1;
    options.queue_tokens = 1000;
    begin(&world, &options);
    struct queue_entry elsewhere = entry_of(&world, 1, 700);
    assert_true(step(&world, POLICY_ARRIVE, &elsewhere, 0)->admitted);
    assert_int_equal(ask(&world, 1, 2), POLICY_FULL);
    assert_null(step(&world, POLICY_IDLE, NULL, 0)->cut);
    world.policy.options.queue_requests = 2;
    assert_int_equal(ask(&world, 1, 300), POLICY_COMPUTED);
    assert_int_equal(ask(&world, 1, 600), POLICY_FULL);
    assert_null(step(&world, POLICY_RELEASE, &elsewhere, 0)->ended);
    assert_int_equal(ask(&world, 1, 600), POLICY_COMPUTED);
    assert_int_equal(world.policy.entries.all.requests, 0);
    assert_int_equal(world.policy.entries.all.tokens, 0);
    /* Whoever leaves meanwhile frees it no sooner and no later. */
    struct queue_entry left = entry_of(&world, 1, 700);
    assert_true(step(&world, POLICY_ARRIVE, &left, 0)->admitted);
    const struct policy_event gone = {.kind = POLICY_CLIENT, .entry = &left, .client = CLIENT_GONE};
    policy_step(&world.policy, &gone, world.now_ns, &world.actions);
    assert_int_equal(world.policy.entries.all.tokens, 700);
    assert_null(step(&world, POLICY_RELEASE, &left, 0)->ended);
    assert_int_equal(world.policy.entries.all.tokens, 0);
}

/* One worker computes batches of the whole budget, each in that time. */
static void compute(struct world *world, unsigned worker, int batches, uint64_t each_ms)
{
    for (int i = 0; i < batches; i++) {
        struct queue_entry entry = entry_of(world, BUDGET / 16, 16);
        submit(world, &entry);
        (void)cut(world, worker);
        world->now_ns += each_ms * NS_PER_MS;
        assert_ptr_equal(step(world, POLICY_COMPLETE, NULL, worker)->ended, &entry);
    }
}

static void test_bound_follows_the_throughput(void **state)
{
    (void)state;
    struct policy_options options = options_of(2);
    struct world world;
    begin(&world, &options);
    assert_int_equal(policy_bound(&world.policy), BOUND - BUDGET);
    compute(&world, 0, 500, 64); /* one of two workers: 256 tokens in 64 ms are 8000 a second */
    assert_in_range(policy_bound(&world.policy), 29400, 29500);
    compute(&world, 0, 10, 128); /* a slower machine is believed sooner */
    assert_in_range(policy_bound(&world.policy), BOUND - BUDGET, BOUND + 2000);
    compute(&world, 0, 100, 60000);
    assert_int_equal(policy_bound(&world.policy), 4 * BUDGET); /* what keeps the workers busy */
}

static void test_what_fits_is_taken_however_long_the_queue_stands(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    static struct queue_entry entries[800];
    options.queue_requests = 10000;
    begin(&world, &options);
    submit_many(&world, entries, BOUND / 20, 1, 20);
    assert_int_equal(ask(&world, 1, 20), POLICY_FULL);
    for (int i = 0; i < 100; i++) {
        world.now_ns += NS_PER_S;
        (void)step(&world, POLICY_TICK, NULL, 0);
        assert_int_equal(policy_bound(&world.policy), BOUND);
    }
    (void)cut(&world, 0);
    assert_int_equal(ask(&world, 1, 20), POLICY_COMPUTED);
}

static void test_hopeless_deadlines_are_refused_at_once(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    static struct queue_entry entries[600];
    options.queue_requests = 10000;
    begin(&world, &options);
    submit_many(&world, entries, 600, 1, 20); /* 3 s */
    assert_int_equal(asked(&world, 1, 20, NS_PER_S), POLICY_HOPELESS);
    assert_int_equal(asked(&world, 1, 20, 4 * NS_PER_S), POLICY_COMPUTED);
    begin(&world, &options);
    assert_int_equal(asked(&world, 1, 20, 0), POLICY_EXPIRED);
    assert_int_equal(asked(&world, 1, 20, NS_PER_S), POLICY_COMPUTED);
}

static void test_a_request_reckons_with_its_own_tokens(void **state)
{
    (void)state;
    struct policy_options options = options_of(2);
    struct world world;
    options.tokens_per_s = 581;
    begin(&world, &options);
    assert_int_equal(asked(&world, 1000, 128, 4 * NS_PER_S), POLICY_HOPELESS); /* takes 220 s */
    assert_int_equal(asked(&world, 1000, 128, 300 * NS_PER_S), POLICY_COMPUTED);
    assert_int_equal(asked(&world, 10, 128, 4 * NS_PER_S), POLICY_COMPUTED);
}

/* Computes what waits until a newcomer finds room; returns the seconds. */
static double drained_s(struct world *world, size_t n, size_t size)
{
    uint64_t begin_ns = world->now_ns;
    while (ask(world, n, size) == POLICY_FULL) {
        const struct policy_batch *batch = cut(world, 0);
        world->now_ns += batch->tokens * NS_PER_S / SPEED;
        (void)step(world, POLICY_COMPLETE, NULL, 0);
    }
    return (double)(world->now_ns - begin_ns) / (double)NS_PER_S;
}

static void assert_honest(struct world *world, size_t n, size_t size)
{
    struct queue_entry entry = entry_of(world, n, size);
    const struct policy_actions *actions = step(world, POLICY_ARRIVE, &entry, 0);
    assert_int_equal(actions->why, POLICY_FULL);
    double told_s = actions->retry_after_s;
    double wait_s = drained_s(world, n, size);
    assert_true(wait_s < 2 || (told_s >= wait_s / 2 && told_s <= wait_s * 2));
    assert_true(told_s >= 1 && told_s <= wait_s * 2 + 1);
}

static void test_retry_after_is_when_there_is_room(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    static struct queue_entry entries[800];
    options.queue_requests = 10000;
    begin(&world, &options);
    submit_many(&world, entries, BOUND / 20, 1, 20);
    assert_honest(&world, 1, 20);
    assert_honest(&world, 500, 20);
    begin(&world, &options);
    submit_many(&world, entries, 1, 2048, 20);
    assert_honest(&world, 2048, 20); /* larger than the bound: nothing else may wait */
    begin(&world, &options);
    submit_many(&world, entries, 1, 2048, 20);
    submit_many(&world, entries + 1, 2, 200, 20);
    assert_honest(&world, 200, 20);
    begin(&world, &options);
    world.policy.options.queue_requests = 3;
    submit_many(&world, entries, 3, 200, 20);
    assert_true(policy_full(&world.policy));
    assert_honest(&world, 1, 20);
}

/* Workers that do rate tokens a second each, under ten times as many requests of 20 tokens. */
enum { REQUEST_TOKENS = 20, PER_BATCH = 12, RING = 4096 };

static void run_overload(unsigned workers, double rate, uint64_t apart_ns)
{
    struct policy_options options = options_of(workers);
    struct world world;
    static struct queue_entry ring[RING];
    size_t next = 0;
    uint64_t done_ns[WORKERS_MAX] = {NS_PER_S, NS_PER_S + apart_ns};
    uint64_t slowest_ns = 0;
    options.batch_tokens = (size_t)REQUEST_TOKENS * PER_BATCH;
    options.queue_requests = RING / 2;
    options.tokens_per_s = 2000.0 * workers; /* what fills the queue takes a fifth of it */
    begin(&world, &options);
    uint64_t pause_ns = (uint64_t)(REQUEST_TOKENS * 1e9 / (10 * rate * workers));
    for (uint64_t end_ns = 31 * NS_PER_S; world.now_ns < end_ns; world.now_ns += pause_ns) {
        ring[next] = entry_of(&world, 1, REQUEST_TOKENS);
        if (step(&world, POLICY_ARRIVE, &ring[next], 0)->admitted) {
            (void)step(&world, POLICY_ENTER, &ring[next], 0);
            next = (next + 1) % RING;
        }
        for (unsigned i = 0; i < workers; i++) {
            if (world.now_ns < done_ns[i]) {
                continue;
            }
            if (world.batches[i].n) {
                (void)step(&world, POLICY_COMPLETE, NULL, i);
                for (struct queue_entry *entry = world.actions.ended; entry; entry = entry->next) {
                    slowest_ns = size_max(slowest_ns, entry->ended_ns - entry->entered_ns);
                }
            }
            const struct policy_batch *batch = step(&world, POLICY_IDLE, NULL, i)->cut;
            if (world.now_ns > 3 * NS_PER_S) { /* no worker ever lacks work */
                assert_true(batch && batch->n == PER_BATCH);
            }
            if (!batch) {
                continue;
            }
            done_ns[i] = world.now_ns + (uint64_t)((double)batch->tokens / rate * 1e9);
        }
    }
    assert_in_range(slowest_ns, 3 * NS_PER_S, 5 * NS_PER_S);
}

static void test_overload_answers_within_the_bound(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 2; workers++) {
        run_overload(workers, 1600, 0);
        run_overload(workers, 1600, 60 * NS_PER_MS);
    }
}

static void test_a_longer_text_than_the_budget_goes_alone(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry entries[3];
    options.batch_tokens = 64;
    begin(&world, &options);
    submit_many(&world, &entries[0], 1, 1, 20);
    submit_many(&world, &entries[1], 1, 1, 200);
    submit_many(&world, &entries[2], 1, 1, 20);
    assert_int_equal(cut(&world, 0)->tokens, 20);
    assert_int_equal(cut(&world, 0)->tokens, 200);
    assert_int_equal(cut(&world, 0)->tokens, 20);
}

/* The half of the oldest must not keep a text away for ever that does not fit into the rest. */
static void test_the_oldest_makes_way_for_a_long_text(void **state)
{
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry big;
    struct queue_entry longs[3];
    options.batch_tokens = 64;
    begin(&world, &options);
    submit_many(&world, &big, 1, 1000, 8);
    world.now_ns += 2 * NS_PER_S;
    submit_many(&world, longs, 3, 1, 100);
    size_t of_big = 0;
    for (int i = 0; i < 8; i++) {
        const struct policy_batch *batch = cut(&world, 0);
        for (size_t j = 0; j < batch->n; j++) {
            of_big += batch->texts[j].entry == &big ? 8 : 0;
        }
        (void)step(&world, POLICY_COMPLETE, NULL, 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(longs[i].stage, ENTRY_CUT);
    }
    assert_true(of_big >= 3 * 32);
}

/* One batch of 64 tokens on an idle machine; it takes pace of what one worker would need. Returns
 * the width of its team. */
static unsigned lone_pass(struct world *world, double pace_one, double pace_team)
{
    struct queue_entry entry = entry_of(world, 1, 64);
    submit(world, &entry);
    unsigned width = cut(world, 0)->width;
    unsigned members[WORKERS_MAX];
    for (unsigned i = 1; i < width; i++) {
        members[i] = world->actions.members[i - 1];
    }
    double solo_ns = 64.0 * world->policy.options.workers * 1e9 / SPEED;
    world->now_ns += (uint64_t)(solo_ns * (width == 1 ? pace_one : pace_team));
    (void)step(world, POLICY_COMPLETE, NULL, 0);
    for (unsigned i = 1; i < width; i++) {
        (void)step(world, POLICY_IDLE, NULL, members[i]);
    }
    return width;
}

static unsigned wide_ones(struct world *world, int passes, double pace_one, double pace_team)
{
    unsigned wide = 0;
    for (int i = 0; i < passes; i++) {
        wide += lone_pass(world, pace_one, pace_team) > 1;
    }
    return wide;
}

/* What clients may have left behind: a newcomer waits for one small batch of it, and shares none.
 */
static void test_half_closed_clients_have_small_batches_of_their_own(void **state)
{
    enum { LEFT = 16, SIZE = 20 };
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    struct queue_entry left[LEFT];
    begin(&world, &options);
    submit_many(&world, left, LEFT, 1, SIZE);
    for (size_t i = 0; i < LEFT; i++) {
        const struct policy_event event = {
            .kind = POLICY_CLIENT, .entry = &left[i], .client = CLIENT_HALF_CLOSED};
        policy_step(&world.policy, &event, world.now_ns, &world.actions);
    }
    assert_int_equal(cut(&world, 0)->n, BUDGET / 2 / SIZE);
    struct queue_entry newcomer = entry_of(&world, 1, SIZE);
    submit(&world, &newcomer);
    (void)step(&world, POLICY_COMPLETE, NULL, 0);
    const struct policy_batch *batch = cut(&world, 0);
    assert_int_equal(batch->n, 1);
    assert_ptr_equal(batch->texts[0].entry, &newcomer);
    (void)step(&world, POLICY_COMPLETE, NULL, 0);
    assert_int_equal(cut(&world, 0)->n, BUDGET / 2 / SIZE);
}

/* While requests of one text come, the batches that they may have to wait for are small. */
static void test_batches_are_small_while_single_texts_come(void **state)
{
    enum { TEXTS = 100, SIZE = 20 };
    (void)state;
    struct policy_options options = options_of(1);
    struct world world;
    begin(&world, &options);
    struct queue_entry large = entry_of(&world, TEXTS, SIZE);
    struct queue_entry single = entry_of(&world, 1, SIZE);
    submit(&world, &large);
    assert_int_equal(cut(&world, 0)->n, BUDGET / SIZE);
    submit(&world, &single);
    (void)step(&world, POLICY_COMPLETE, NULL, 0);
    const struct policy_batch *batch = cut(&world, 0);
    assert_int_equal(batch->n, BUDGET / 2 / SIZE);
    assert_ptr_equal(batch->texts[0].entry, &single);
    (void)step(&world, POLICY_COMPLETE, NULL, 0);
    assert_int_equal(cut(&world, 0)->n, BUDGET / 2 / SIZE);
    world.now_ns += 2 * NS_PER_S;
    (void)step(&world, POLICY_COMPLETE, NULL, 0);
    assert_int_equal(cut(&world, 0)->n, BUDGET / SIZE);
}

static void test_a_team_is_as_wide_as_it_is_fast(void **state)
{
    (void)state;
    struct policy_options options = options_of(4);
    struct world world;
    begin(&world, &options);
    for (unsigned i = 0; i < 4; i++) {
        assert_null(step(&world, POLICY_IDLE, NULL, i)->cut);
    }
    assert_int_equal(lone_pass(&world, 1, 0.4), 4);
    assert_in_range(wide_ones(&world, 64, 1, 0.4), 56, 64);
    /* A neighbour: teams take three times as long as one worker. */
    (void)wide_ones(&world, 32, 1, 3);
    assert_in_range(wide_ones(&world, 64, 1, 3), 1, 8); /* now and then it is tried again */
    /* It has gone. */
    (void)wide_ones(&world, 96, 1, 0.4);
    assert_in_range(wide_ones(&world, 64, 1, 0.4), 56, 64);
}

static void test_impatient_connections_are_answered_late(void **state)
{
    (void)state;
    struct policy_patience patience = {0};
    uint64_t now_ns = NS_PER_S;
    for (int i = 0; i < 8; i++) {
        assert_false(policy_impatient(&patience, now_ns));
        assert_int_equal(policy_refused(&patience, 1, now_ns++), 0);
    }
    assert_true(policy_impatient(&patience, now_ns));
    assert_false(policy_impatient(&patience, now_ns + 2 * NS_PER_S));
    uint64_t last_ns = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t next_ns = policy_lateness_ns(&patience);
        uint64_t delay_ns = policy_refused(&patience, 1, now_ns++);
        assert_int_equal(delay_ns, next_ns);
        assert_true(delay_ns > last_ns || delay_ns == 250 * NS_PER_MS);
        last_ns = delay_ns;
    }
    assert_int_equal(last_ns, 250 * NS_PER_MS);
    now_ns += 2 * NS_PER_S; /* it waited as it was told */
    assert_int_equal(policy_refused(&patience, 1, now_ns), 0);
    for (int i = 0; i < 20; i++) {
        (void)policy_refused(&patience, 1, now_ns);
    }
    policy_answered(&patience);
    assert_int_equal(policy_refused(&patience, 1, now_ns), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_requests_fill_the_bound),
        cmocka_unit_test(test_too_big_for_the_bound_finds_an_empty_queue),
        cmocka_unit_test(test_a_big_request_does_not_shut_out_a_sentence),
        cmocka_unit_test(test_requests_are_bounded_too),
        cmocka_unit_test(test_crowded_is_before_full),
        cmocka_unit_test(test_what_is_answered_elsewhere_takes_room),
        cmocka_unit_test(test_bound_follows_the_throughput),
        cmocka_unit_test(test_what_fits_is_taken_however_long_the_queue_stands),
        cmocka_unit_test(test_hopeless_deadlines_are_refused_at_once),
        cmocka_unit_test(test_a_request_reckons_with_its_own_tokens),
        cmocka_unit_test(test_retry_after_is_when_there_is_room),
        cmocka_unit_test(test_overload_answers_within_the_bound),
        cmocka_unit_test(test_a_longer_text_than_the_budget_goes_alone),
        cmocka_unit_test(test_the_oldest_makes_way_for_a_long_text),
        cmocka_unit_test(test_half_closed_clients_have_small_batches_of_their_own),
        cmocka_unit_test(test_batches_are_small_while_single_texts_come),
        cmocka_unit_test(test_a_team_is_as_wide_as_it_is_fast),
        cmocka_unit_test(test_impatient_connections_are_answered_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
