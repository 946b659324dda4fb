/* From a seed to a scenario: what kind of machine, which clients, for how long. */
#include <math.h>

#include "tests/simulation/simulation.h"

const char *const scenario_names[SCENARIO_KINDS] = {"mixed",  "fair",  "storm",
                                                    "giants", "retry", "teams"};

static const uint64_t never_ns = 60 * NS_PER_S;

/* The machine and its settings. */
static void make_machine(struct scenario *scenario, struct dice *dice)
{
    static const size_t budgets[] = {32, 64, 64, 128, 256, 512};
    struct policy_options *policy = &scenario->policy;
    scenario->speed = 100 * (1 + 99 * dice_unit(dice) * dice_unit(dice));
    scenario->pass_tokens = 20 * dice_unit(dice);
    scenario->team_gain = 0.5 + 0.5 * dice_unit(dice);
    scenario->barrier_s = 0.2 / scenario->speed;
    policy->workers = (unsigned)(dice_chance(dice, 0.7) ? dice_range(dice, 1, 3)
                                                        : dice_range(dice, 4, WORKERS_MAX));
    policy->batch_tokens = budgets[dice_range(dice, 0, sizeof budgets / sizeof *budgets - 1)];
    policy->batch_texts = dice_chance(dice, 0.8) ? policy->batch_tokens : dice_range(dice, 2, 16);
    policy->max_wait_ns = dice_chance(dice, 0.8) ? 0 : dice_range(dice, 1, 20) * NS_PER_MS;
    policy->member_tokens = 2 + 8 * dice_unit(dice);
    policy->queue_tokens = dice_chance(dice, 0.7) ? 0 : dice_range(dice, 50, 5000);
    policy->queue_requests = dice_chance(dice, 0.7) ? 512 : dice_range(dice, 1, 64);
    /* As fast as measured at the start, in full batches, give or take. */
    double full = scenario->speed * (double)policy->batch_tokens /
                  ((double)policy->batch_tokens + scenario->pass_tokens);
    policy->tokens_per_s = full * policy->workers * (0.85 + 0.3 * dice_unit(dice));
    policy->pass_tokens = scenario->pass_tokens;
    scenario->stall_share = dice_chance(dice, 0.3) ? 0.02 : 0;
    scenario->stall_ns = 500 * NS_PER_MS;
    scenario->neighbour = dice_chance(dice, 0.3);
    scenario->neighbour_pay = 2 + 2 * dice_unit(dice);
    scenario->neighbour_from_ns = dice_range(dice, 0, NS_PER_S);
    scenario->neighbour_to_ns = scenario->neighbour_from_ns + dice_range(dice, 0, 2 * NS_PER_S);
}

static void steady(struct scenario *scenario)
{
    scenario->stall_share = 0;
    scenario->neighbour = false;
    scenario->policy.max_wait_ns = 0;
    scenario->policy.queue_tokens = 0;
    scenario->policy.queue_requests = 512;
    scenario->policy.batch_texts = scenario->policy.batch_tokens;
}

static struct client_plan any_client(const struct scenario *scenario, struct dice *dice)
{
    struct client_plan plan = {
        .kind = (enum client_kind)dice_range(dice, CLIENT_POISSON, CLIENT_CLOSED),
        .begin_ns = dice_range(dice, 0, NS_PER_S / 2),
        .end_ns = UINT64_MAX,
        .pause_ns = dice_range(dice, 1, 100) * NS_PER_MS,
        .burst = (unsigned)dice_range(dice, 2, 40),
        .texts_min = 1,
        .texts_max = 1,
        .size_min = dice_range(dice, 1, 10),
        .timeout_ns = never_ns,
        .obeys = dice_chance(dice, 0.5),
    };
    plan.size_max = plan.size_min + dice_range(dice, 0, dice_chance(dice, 0.2) ? 500 : 50);
    if (dice_chance(dice, 0.4)) {
        plan.texts_max = dice_chance(dice, 0.3) ? GIANT_TEXTS : dice_range(dice, 2, 100);
        plan.texts_min = dice_chance(dice, 0.5) ? plan.texts_max : 1;
    }
    if (dice_chance(dice, 0.3)) {
        plan.timeout_ns = dice_range(dice, 1, 8000) * NS_PER_MS;
    }
    plan.leaves = dice_chance(dice, 0.3) ? 0.3 : 0;
    plan.half_closes = dice_chance(dice, 0.3) ? 0.3 : 0;
    if (plan.kind == CLIENT_BURSTS) {
        plan.pause_ns *= 10;
        plan.burst = plan.texts_max > 100 ? 2 : plan.burst;
    }
    if (plan.kind == CLIENT_POISSON) { /* up to four times what the machine does, all together */
        double tokens = (double)(plan.texts_max * (plan.size_min + plan.size_max) / 2);
        double rate = scenario->policy.tokens_per_s / tokens * dice_unit(dice);
        plan.pause_ns = (uint64_t)(1e9 / fmin(fmax(rate, 0.1), 1000));
    }
    return plan;
}

static void make_mixed(struct scenario *scenario, struct dice *dice)
{
    scenario->stop_ns = dice_range(dice, 200, 1600) * NS_PER_MS;
    scenario->n_clients = (unsigned)dice_range(dice, 1, 12);
    for (unsigned i = 0; i < scenario->n_clients; i++) {
        scenario->clients[i] = any_client(scenario, dice);
    }
}

/* Clients that all do the same, without a pause. */
static void make_equal(struct scenario *scenario, unsigned n, size_t texts, size_t size)
{
    scenario->n_clients = n;
    for (unsigned i = 0; i < n; i++) {
        scenario->clients[i] = (struct client_plan){
            .kind = CLIENT_CLOSED,
            .end_ns = UINT64_MAX,
            .pause_ns = 50 * NS_PER_US,
            .texts_min = texts,
            .texts_max = texts,
            .size_min = size,
            .size_max = size,
            .timeout_ns = never_ns,
        };
    }
}

/* Seconds in which the machine computes that many tokens. */
static uint64_t time_for(const struct scenario *scenario, double tokens)
{
    return (uint64_t)(tokens / (scenario->speed * scenario->policy.workers) * 1e9);
}

/* Three times as many as have a text in work at once, and all of them find room. Fewer can all be
 * in one batch, and whoever is not has the next one for himself. */
static void make_fair(struct scenario *scenario, struct dice *dice)
{
    struct policy_options *policy = &scenario->policy;
    steady(scenario);
    policy->workers = (unsigned)dice_range(dice, 1, 3);
    policy->batch_tokens = dice_range(dice, 32, 128);
    policy->batch_texts = policy->batch_tokens;
    scenario->speed = 4000 + 8000 * dice_unit(dice);
    /* Believed to be half as fast, or half as fast again: it learns. */
    policy->tokens_per_s = scenario->speed * policy->workers * (0.5 + dice_unit(dice));
    size_t size = dice_range(dice, 4, 40);
    size_t texts = dice_chance(dice, 0.5) ? 1 : dice_range(dice, 2, 12);
    size_t at_once = policy->workers * policy->batch_tokens;
    unsigned n = (unsigned)(3 * at_once / size + 2);
    n = n < CLIENTS_MAX ? n : CLIENTS_MAX;
    make_equal(scenario, n, texts, size);
    scenario->stop_ns = time_for(scenario, 15 * (double)(n * texts * size));
}

static void make_storm(struct scenario *scenario, struct dice *dice)
{
    steady(scenario);
    make_equal(scenario, CLIENTS_MAX, 1, dice_range(dice, 20, 60));
    scenario->speed = 500 + 1000 * dice_unit(dice); /* so slow that most of them are too many */
    scenario->policy.workers = 1 + (unsigned)dice_range(dice, 0, 1);
    scenario->policy.tokens_per_s = scenario->speed * scenario->policy.workers *
                                    (double)scenario->policy.batch_tokens /
                                    ((double)scenario->policy.batch_tokens + scenario->pass_tokens);
    scenario->stop_ns = 6 * NS_PER_S;
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        scenario->clients[i].begin_ns = dice_range(dice, 0, 100 * NS_PER_MS);
    }
}

static void make_giants(struct scenario *scenario, struct dice *dice)
{
    steady(scenario);
    scenario->stop_ns = dice_range(dice, 2000, 5000) * NS_PER_MS;
    scenario->n_clients = (unsigned)dice_range(dice, 2, 8);
    for (unsigned i = 0; i < scenario->n_clients; i++) {
        scenario->clients[i] = any_client(scenario, dice);
        struct client_plan *plan = &scenario->clients[i];
        bool giant = i + 1 < scenario->n_clients;
        plan->kind = giant ? CLIENT_CLOSED : CLIENT_POISSON;
        plan->texts_min = giant ? dice_range(dice, 100, GIANT_TEXTS) : 1;
        plan->texts_max = plan->texts_min;
        plan->size_max = plan->size_min + dice_range(dice, 0, 100);
        plan->timeout_ns = never_ns;
        plan->pause_ns = 30 * NS_PER_MS;
    }
}

static void make_retry(struct scenario *scenario, struct dice *dice)
{
    steady(scenario);
    scenario->stop_ns = never_ns;
    scenario->policy.queue_requests = dice_chance(dice, 0.5) ? 512 : dice_range(dice, 1, 8);
    scenario->policy.queue_tokens = dice_chance(dice, 0.5) ? 0 : dice_range(dice, 50, 5000);
    scenario->n_clients = (unsigned)dice_range(dice, 2, 12);
    for (unsigned i = 0; i < scenario->n_clients; i++) {
        scenario->clients[i] = any_client(scenario, dice);
        struct client_plan *plan = &scenario->clients[i];
        plan->begin_ns = dice_range(dice, 0, 200 * NS_PER_MS);
        plan->end_ns = NS_PER_S; /* then they fall silent, but for the last one */
        plan->size_max = plan->size_min + dice_range(dice, 0, 30);
        plan->timeout_ns = 10 * never_ns;
        plan->leaves = 0;
        plan->half_closes = 0;
    }
    struct client_plan *last = &scenario->clients[scenario->n_clients - 1];
    if (dice_chance(dice, 0.4)) { /* as many giants as may wait */
        scenario->n_clients = (unsigned)dice_range(dice, 3, 9);
        scenario->policy.queue_requests = scenario->n_clients - 1;
        scenario->policy.queue_tokens = GIANT_TEXTS * 10 * 10;
        size_t texts = dice_range(dice, 100, GIANT_TEXTS / 2);
        make_equal(scenario, scenario->n_clients, texts, 10);
        for (unsigned i = 0; i < scenario->n_clients; i++) {
            scenario->clients[i].end_ns = NS_PER_S / 2;
        }
        last = &scenario->clients[scenario->n_clients - 1];
        last->texts_max = 1;
    }
    last->kind = CLIENT_CLOSED;
    last->texts_min = last->texts_max;
    last->begin_ns = NS_PER_S + NS_PER_MS;
    last->end_ns = UINT64_MAX;
    last->pause_ns = 20 * NS_PER_MS;
    last->obeys = false;
}

static void make_teams(struct scenario *scenario, struct dice *dice)
{
    steady(scenario);
    scenario->policy.workers = (unsigned)dice_range(dice, 2, WORKERS_MAX);
    scenario->policy.tokens_per_s = scenario->speed * scenario->policy.workers;
    make_equal(scenario, 1, 1, dice_range(dice, 16, 32));
    scenario->clients[0].pause_ns = NS_PER_MS;
    scenario->pass_tokens = 2;
    scenario->policy.pass_tokens = 2;
    scenario->neighbour = dice_chance(dice, 0.5);
    scenario->neighbour_pay = 3 * scenario->policy.workers;
    scenario->neighbour_from_ns = 0;
    scenario->neighbour_to_ns = UINT64_MAX;
    scenario->stop_ns = (uint64_t)(400e9 * 32 / scenario->speed);
}

/* At any moment, the drain's included; by dice of their own, so that the seeds before there were
 * swaps are what they were. */
static void make_swaps(struct scenario *scenario)
{
    struct dice dice = {.state = scenario->seed ^ 0x4ead5};
    scenario->n_swaps = dice_chance(&dice, 0.5) ? (unsigned)dice_range(&dice, 1, SWAPS_MAX) : 0;
    for (unsigned i = 0; i < scenario->n_swaps; i++) {
        scenario->swap_ns[i] = 2 + dice_next(&dice) % (scenario->stop_ns + NS_PER_S / 10);
    }
    /* Where what was promised is measured the machine is to keep its speed. */
    if (scenario->kind == SCENARIO_MIXED || scenario->kind == SCENARIO_GIANTS) {
        scenario->swap_check_ns = dice_range(&dice, 0, 100) * NS_PER_MS;
    }
}

/* By dice of their own, as the swaps. Where what was promised is measured everybody waits. */
static void make_flights(struct scenario *scenario)
{
    struct dice dice = {.state = scenario->seed ^ 0xf116475};
    if (scenario->kind == SCENARIO_MIXED) {
        scenario->released = dice_chance(&dice, 0.3) ? 0.2 : 0;
        scenario->following = dice_chance(&dice, 0.3) ? dice_unit(&dice) : 0;
    }
}

struct scenario scenario_of(uint64_t seed)
{
    static void (*const make[SCENARIO_KINDS])(struct scenario * scenario, struct dice * dice) = {
        make_mixed, make_fair, make_storm, make_giants, make_retry, make_teams};
    struct dice dice = {.state = seed};
    struct scenario scenario = {.seed = seed};
    scenario.kind = dice_chance(&dice, 0.6)
                        ? SCENARIO_MIXED
                        : (enum scenario_kind)dice_range(&dice, SCENARIO_FAIR, SCENARIO_KINDS - 1);
    make_machine(&scenario, &dice);
    make[scenario.kind](&scenario, &dice);
    make_swaps(&scenario);
    make_flights(&scenario);
    return scenario;
}
