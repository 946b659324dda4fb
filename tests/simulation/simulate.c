/* The simulation's command line: many seeds, or one again, shrunk and traced. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/simulation/simulation.h"

static const char usage[] =
    "usage: simulate [--from SEED] [--seeds N] [--requests N]\n"
    "       simulate --like WORKERS PASS BUDGET TOKENS SINGLES BULKS SECONDS PASS_S…\n"
    "       simulate --seed SEED [--without HEX] [--off N] [--until-ms MS] [--trace]\n"
    "\n"
    "The first form runs N seeds, or as many as it takes to N requests; a seed that breaks an\n"
    "invariant is shrunk, printed with the command that replays it, and ends the run. The second\n"
    "form is one scenario by numbers (compare.py): PASS is what a pass costs in tokens, PASS_S "
    "what\n"
    "full batches took, ascending. The third form runs one seed. --without: bits of clients left\n"
    "out; --off: bits of 1 stalls, 2 neighbour, 4 leaving clients, 8 deadlines, 16 the wait for a\n"
    "batch to fill, 32 swaps, 64 what is released or followed.\n";

/* What is left out of a scenario. */
struct smaller {
    uint64_t without;
    unsigned off;
    uint64_t until_ns;
};

static struct world world;

static const char *run(uint64_t seed, const struct smaller *smaller, FILE *trace)
{
    struct scenario scenario = scenario_of(seed);
    scenario.off = smaller->off;
    simulate(&world, &scenario, smaller->without, smaller->until_ns, trace);
    return world.broken;
}

/* True, and kept, if the same invariant breaks with still less. */
static bool breaks(uint64_t seed, const char *name, struct smaller *smaller, struct smaller with)
{
    const char *found = run(seed, &with, NULL);
    if (!found || strcmp(found, name) != 0) {
        return false;
    }
    *smaller = with;
    return true;
}

static void shrink(uint64_t seed, const char *name, struct smaller *smaller)
{
    struct scenario scenario = scenario_of(seed);
    (void)run(seed, smaller, NULL);
    smaller->until_ns = world.at_end ? 0 : world.now_ns;
    for (unsigned bit = 1; bit < OFF_ALL; bit <<= 1) {
        struct smaller with = *smaller;
        with.off |= bit;
        (void)breaks(seed, name, smaller, with);
    }
    for (unsigned i = 0; i < scenario.n_clients && i < 64; i++) {
        struct smaller with = *smaller;
        with.without |= (uint64_t)1 << i;
        (void)breaks(seed, name, smaller, with);
    }
    (void)run(seed, smaller, NULL);
    smaller->until_ns = world.at_end ? 0 : world.now_ns;
}

static int report(uint64_t seed)
{
    struct smaller smaller = {0};
    const char *name = run(seed, &smaller, NULL);
    printf("seed %llu (%s): broken: %s: %s\n", (unsigned long long)seed,
           scenario_names[world.scenario->kind], name, world.text);
    shrink(seed, name, &smaller);
    (void)run(seed, &smaller, NULL);
    printf("replay: simulate --seed %llu --without %llx --off %u --until-ms %.6f --trace\n",
           (unsigned long long)seed, (unsigned long long)smaller.without, smaller.off,
           (double)smaller.until_ns / 1e6);
    return 1;
}

static void add(struct totals *sum, const struct totals *one)
{
    sum->requests += one->requests;
    sum->admitted += one->admitted;
    sum->computed += one->computed;
    sum->full += one->full;
    sum->hopeless += one->hopeless;
    sum->expired += one->expired;
    sum->left += one->left;
    sum->stopped += one->stopped;
    sum->released += one->released;
    sum->followed += one->followed;
    sum->anew += one->anew;
    sum->events += one->events;
    sum->batches += one->batches;
    sum->tokens += one->tokens;
    sum->virtual_ns += one->virtual_ns;
}

static int run_many(uint64_t from, uint64_t seeds, uint64_t requests)
{
    struct totals sum = {0};
    struct smaller whole = {0};
    clock_t begin = clock();
    uint64_t seed = from;
    while (requests ? sum.requests < requests : seed - from < seeds) {
        if (run(seed, &whole, NULL)) {
            return report(seed);
        }
        add(&sum, &world.totals);
        seed++;
    }
    double cpu_s = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("{\"from\": %llu, \"seeds\": %llu, \"requests\": %llu, \"computed\": %llu, "
           "\"full\": %llu, \"hopeless\": %llu, \"expired\": %llu, \"left\": %llu, "
           "\"stopped\": %llu, \"released\": %llu, \"followed\": %llu, \"anew\": %llu, "
           "\"batches\": %llu, \"events\": %llu, \"virtual_s\": %.0f, "
           "\"cpu_s\": %.1f}\n",
           (unsigned long long)from, (unsigned long long)(seed - from),
           (unsigned long long)sum.requests, (unsigned long long)sum.computed,
           (unsigned long long)sum.full, (unsigned long long)sum.hopeless,
           (unsigned long long)sum.expired, (unsigned long long)sum.left,
           (unsigned long long)sum.stopped, (unsigned long long)sum.released,
           (unsigned long long)sum.followed, (unsigned long long)sum.anew,
           (unsigned long long)sum.batches, (unsigned long long)sum.events,
           (double)sum.virtual_ns / 1e9, cpu_s);
    return 0;
}

static int run_one(uint64_t seed, const struct smaller *smaller, bool trace)
{
    const char *name = run(seed, smaller, trace ? stdout : NULL);
    if (name) {
        printf("seed %llu (%s): broken: %s: %s\n", (unsigned long long)seed,
               scenario_names[world.scenario->kind], name, world.text);
    } else {
        printf("seed %llu: every invariant held\n", (unsigned long long)seed);
    }
    return name != NULL;
}

static int run_like(char **values, int n)
{
    struct like like = {
        .workers = (unsigned)strtoul(values[0], NULL, 10),
        .pass_tokens = strtod(values[1], NULL),
        .budget = strtoul(values[2], NULL, 10),
        .tokens = strtoul(values[3], NULL, 10),
        .singles = (unsigned)strtoul(values[4], NULL, 10),
        .bulks = (unsigned)strtoul(values[5], NULL, 10),
        .seconds = strtod(values[6], NULL),
    };
    for (int i = 7; i < n && like.n_pass_s < JITTER_MAX; i++) {
        like.pass_s[like.n_pass_s++] = strtod(values[i], NULL);
    }
    return like_run(&world, &like);
}

int main(int argc, char **argv)
{
    if (argc >= 10 && strcmp(argv[1], "--like") == 0) {
        return run_like(argv + 2, argc - 2);
    }
    uint64_t from = 1;
    uint64_t seeds = 1000;
    uint64_t requests = 0;
    uint64_t seed = 0;
    bool one = false;
    bool trace = false;
    struct smaller smaller = {0};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--trace") == 0) {
            trace = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : "";
        char *end;
        uint64_t number = strtoull(value, &end, strcmp(name, "--without") == 0 ? 16 : 10);
        if (strcmp(name, "--from") == 0) {
            from = number;
        } else if (strcmp(name, "--seeds") == 0) {
            seeds = number;
        } else if (strcmp(name, "--requests") == 0) {
            requests = number;
        } else if (strcmp(name, "--seed") == 0) {
            seed = number;
            one = true;
        } else if (strcmp(name, "--without") == 0) {
            smaller.without = number;
        } else if (strcmp(name, "--off") == 0) {
            smaller.off = (unsigned)number;
        } else if (strcmp(name, "--until-ms") == 0) {
            smaller.until_ns = (uint64_t)(strtod(value, &end) * 1e6);
        } else {
            end = argv[i];
        }
        if (!*value || *end) {
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    return one ? run_one(seed, &smaller, trace) : run_many(from, seeds, requests);
}
