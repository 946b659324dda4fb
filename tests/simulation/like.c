/* One scenario by numbers instead of a seed, to be compared with the daemon (compare.py). */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "tests/simulation/simulation.h"

/* Of one kind of clients. */
struct latencies {
    double *s;
    size_t n, room;
};

static struct latencies kinds[2]; /* of one text, of more */

void like_answered(const struct request *request, uint64_t took_ns)
{
    struct latencies *kind = &kinds[request->entry.n > 1];
    if (kind->n == kind->room) {
        kind->room = kind->room ? 2 * kind->room : 1024;
        kind->s = realloc(kind->s, kind->room * sizeof *kind->s);
        CHECK(kind->s);
    }
    kind->s[kind->n++] = (double)took_ns / 1e9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What so many clients in closed loops get done: however short the run, no request is cut in half.
 */
static double rate(const struct latencies *kind, unsigned clients)
{
    double sum_s = 0;
    for (size_t i = 0; i < kind->n; i++) {
        sum_s += kind->s[i];
    }
    return sum_s > 0 ? clients * (double)kind->n / sum_s : 0;
}

static double percentile(struct latencies *kind, double share)
{
    return kind->n ? kind->s[(size_t)((double)kind->n * share)] : 0;
}

/* Clients in closed loops that all send so many texts of so many tokens. */
static void add_clients(struct scenario *scenario, unsigned n, size_t texts, size_t tokens)
{
    for (unsigned i = 0; i < n && scenario->n_clients < CLIENTS_MAX; i++) {
        scenario->clients[scenario->n_clients++] = (struct client_plan){
            .kind = CLIENT_CLOSED,
            .end_ns = UINT64_MAX,
            .pause_ns = 200 * NS_PER_US,
            .texts_min = texts,
            .texts_max = texts,
            .size_min = tokens,
            .size_max = tokens,
            .timeout_ns = 60 * NS_PER_S,
        };
    }
}

int like_run(struct world *world, const struct like *like)
{
    double full = (double)(like->budget / like->tokens * like->tokens);
    double median_s = like->pass_s[like->n_pass_s / 2];
    double speed = (fmax(full, (double)like->tokens) + like->pass_tokens) / median_s;
    struct scenario scenario = {
        .seed = 1,
        .kind = SCENARIO_MIXED,
        .stop_ns = (uint64_t)(like->seconds * 1e9),
        .speed = speed,
        .pass_tokens = like->pass_tokens,
        .team_gain = 0.7,
        .barrier_s = 0.0002,
        .policy = {.workers = like->workers,
                   .batch_tokens = like->budget,
                   .batch_texts = like->budget,
                   .member_tokens = 4,
                   .queue_requests = 512,
                   .tokens_per_s = speed * like->workers * full / (full + like->pass_tokens),
                   .pass_tokens = like->pass_tokens},
    };
    for (unsigned i = 0; i < like->n_pass_s; i++) {
        scenario.jitter[scenario.n_jitter++] = like->pass_s[i] / median_s;
    }
    add_clients(&scenario, like->singles, 1, like->tokens);
    add_clients(&scenario, like->bulks, LIKE_BULK_TEXTS, like->tokens);
    world->like = true;
    simulate(world, &scenario, 0, 0, NULL);
    if (world->broken) {
        printf("broken: %s: %s\n", world->broken, world->text);
        return 1;
    }
    for (size_t i = 0; i < 2; i++) {
        qsort(kinds[i].s, kinds[i].n, sizeof *kinds[i].s, compare);
    }
    printf("{\"texts_per_s\": %.3f, \"single_p50_s\": %.5f, \"single_p99_s\": %.5f, "
           "\"bulk_p50_s\": %.5f}\n",
           rate(&kinds[0], like->singles) + LIKE_BULK_TEXTS * rate(&kinds[1], like->bulks),
           percentile(&kinds[0], 0.5), percentile(&kinds[0], 0.99), percentile(&kinds[1], 0.5));
    return 0;
}
