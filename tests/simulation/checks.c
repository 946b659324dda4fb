/* The invariants, reckoned from the simulation's own records of who waits with what. */
#include <math.h>

#include "tests/simulation/simulation.h"

static size_t size_of(const struct request *request, size_t index)
{
    return request->entry.starts[index + 1] - request->entry.starts[index];
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct request *first_by_age(const struct world *world)
{
    return (struct request *)(void *)world->policy.entries.ages.first;
}

static struct request *younger(const struct request *request)
{
    return (struct request *)(void *)request->entry.link[BY_AGE].next;
}

/* Admission as docs/OPERATIONS.md states it. */

static size_t bound_of(const struct world *world)
{
    const struct policy_options *options = &world->scenario->policy;
    size_t batches = options->workers * options->batch_tokens;
    size_t served = (size_t)(world->policy.tokens_per_s * 0.75 * 5);
    return options->queue_tokens ? options->queue_tokens
                                 : most(served > batches ? served - batches : 0, 2 * batches);
}

/* Whether there is room for a newcomer among the others. */
static bool room_for(const struct world *world, size_t tokens, const struct request *newcomer,
                     size_t *ret_ahead)
{
    size_t requests = 0;
    size_t ahead = 0;
    for (const struct request *one = first_by_age(world); one; one = younger(one)) {
        if (one != newcomer && !(one->half_closed && one->entered)) {
            requests++;
            ahead += least(one->waiting, most(tokens, size_of(one, one->texts_cut)));
        }
    }
    *ret_ahead = ahead;
    return requests == 0 ||
           (requests < world->scenario->policy.queue_requests && ahead + tokens <= bound_of(world));
}

/* Between what must be computed at least until there is room, and all that waits; give or take what
 * came since the last tick. */
static void check_told(struct world *world, size_t tokens, size_t ahead, unsigned told_s)
{
    double rate = world->policy.tokens_per_s;
    double bound = (double)bound_of(world);
    double before = (double)(world->policy.entries.all.tokens -
                             world->policy.entries.half_closed.tokens);
    double excess = (double)(ahead + tokens) - bound;
    excess = (double)tokens > bound ? before : excess;
    double least_s = fmin(excess / rate / 2 - 1, 3600);
    double most_s = before / rate * 2 + 3;
    if (told_s < 1 || told_s > 3600 || told_s < least_s || told_s > most_s) {
        broken(world, "Retry-After is honest", "%u s, but %.1f to %.1f", told_s, least_s, most_s);
    }
}

void check_told_anew(struct world *world)
{
    for (size_t i = 0; i < POLICY_TOLD; i++) {
        if (world->policy.told[i].tokens) {
            broken(world, "who asks behind a new one is told anew", "%zu tokens",
                   world->policy.told[i].tokens);
        }
    }
}

void check_arrival(struct world *world, const struct request *request,
                   const struct policy_actions *actions)
{
    size_t ahead;
    size_t tokens = request->tokens;
    bool room = room_for(world, tokens, request, &ahead);
    double left_s = ((double)request->entry.deadline_ns - (double)world->now_ns) / 1e9;
    double fast = world->policy.tokens_per_s * 1.33;
    enum policy_why why = POLICY_COMPUTED;
    if (world->stopped) {
        why = POLICY_STOPPED;
    } else if (left_s <= 0) {
        why = POLICY_EXPIRED;
    } else if ((double)tokens / fast > left_s) {
        why = POLICY_HOPELESS;
    } else if (!room) {
        why = POLICY_FULL;
    } else if ((double)(ahead + tokens) / fast > left_s) {
        why = POLICY_HOPELESS;
    }
    bool near = fabs((double)(ahead + tokens) / fast - left_s) < 1e-6 ||
                fabs((double)tokens / fast - left_s) < 1e-6;
    if (!near && (actions->admitted != (why == POLICY_COMPUTED) || actions->why != why)) {
        broken(world, "admission is as stated",
               "r%llu: %d, not %d; %zu tokens behind %zu, bound %zu",
               (unsigned long long)request->number, actions->admitted ? 0 : (int)actions->why,
               (int)why, tokens, ahead, bound_of(world));
    }
    if (actions->why == POLICY_FULL) {
        check_told(world, tokens, ahead, actions->retry_after_s);
    }
    if (world->scenario->kind != SCENARIO_RETRY ||
        request->client + 1 != world->scenario->n_clients) {
        return;
    }
    struct sim_client *client = &world->clients[request->client];
    if (actions->why == POLICY_FULL && client->n_told < TOLD_MAX) {
        client->told_ns[client->n_told] = world->now_ns;
        client->told_s[client->n_told++] = actions->retry_after_s;
    }
    for (size_t i = 0; actions->admitted && i < client->n_told; i++) {
        double wait_s = (double)(world->now_ns - client->told_ns[i]) / 1e9;
        double told_s = client->told_s[i];
        /* It asks again every 20 ms, its refusals come up to 250 ms late, and there is room only
         * when a batch is cut; seconds are rounded up. */
        double late_s = 0.3 + ((double)world->scenario->policy.batch_tokens +
                               world->scenario->pass_tokens) /
                                  world->scenario->speed;
        if (told_s - 1 > 2 * fmax(wait_s, 2) || (wait_s >= 2 && told_s < (wait_s - late_s) / 2)) {
            broken(world, "Retry-After is honest", "%.0f s told, %.1f s waited", told_s, wait_s);
        }
    }
    client->n_told = actions->admitted ? 0 : client->n_told;
}

void check_entered(struct world *world, struct request *request)
{
    if (request->entry.n == 1 && !request->half_closed && !world->stopped) {
        world->singles_until_ns = world->now_ns + NS_PER_S;
    }
    if (request->entry.n > 1 || request->half_closed || world->watched || world->stopped) {
        return;
    }
    world->watched = request;
    request->passed_over = 0;
    request->turns_before = 0;
    for (const struct queue_entry *one = world->policy.entries.fresh.first; one;
         one = one->link[BY_TURN].next) {
        const struct request *before = (const struct request *)(const void *)one;
        /* Only the first can be in the middle of its turn. */
        bool turn = before->texts_cut == 0 || one == world->policy.entries.fresh.first;
        request->turns_before += turn ? least(one->n, 16) : 0;
    }
}

/* Batches */

void check_before_cut(struct world *world)
{
    struct request *oldest = first_by_age(world);
    while (oldest && !oldest->entered) {
        oldest = younger(oldest);
    }
    world->oldest = oldest;
    world->oldest_waiting = oldest ? oldest->waiting : 0;
    world->oldest_aged = oldest && !oldest->half_closed && !oldest->gone &&
                         oldest->entry.deadline_ns > world->now_ns &&
                         world->now_ns - oldest->entry.entered_ns >= NS_PER_S;
}

static void check_text(struct world *world, const struct request *request)
{
    unsigned long long number = request->number;
    if (request->entry.deadline_ns <= world->now_ns) {
        broken(world, "nothing is cut after its deadline", "r%llu", number);
    }
    if (request->gone) {
        broken(world, "nothing is cut for a client that went", "r%llu", number);
    }
    if (world->stopped) {
        broken(world, "nothing is cut after the stop", "r%llu", number);
    }
    if (request->half_closed &&
        (world->policy.entries.fresh.first || world->policy.entries.turns.first)) {
        broken(world, "half-closed clients come last", "r%llu", number);
    }
    /* Two that came within the same step of their threads may change places. */
    uint64_t entered_ns = request->entry.entered_ns;
    if (request->entry.n == 1 && !request->half_closed) {
        if (entered_ns + STEP_NS_MAX < world->last_single_ns) {
            broken(world, "single texts are served as they came", "r%llu", number);
        }
        world->last_single_ns = most(entered_ns, world->last_single_ns);
    }
}

/* Texts that may only stand in a small batch together: what half-closed clients left behind, and
 * those of larger requests while such with one text come. */
static bool small_batch(const struct world *world, const struct queue_entry *first,
                        const struct queue_entry *added)
{
    const struct request *request = (const struct request *)(const void *)added;
    return (request->half_closed && request->entered) ||
           ((first->n > 1 || added->n > 1) && world->now_ns < world->singles_until_ns);
}

/* The next text in turn would have fitted. */
static void check_filled(struct world *world, const struct policy_batch *batch)
{
    const struct entries *entries = &world->policy.entries;
    const struct queue_entry *next = entries->fresh.first ? entries->fresh.first
                                                          : entries->turns.first;
    const struct policy_options *options = &world->scenario->policy;
    const struct queue_entry *first = batch->texts[0].entry;
    size_t half = options->batch_tokens / 2;
    size_t left_behind = 0;
    size_t tokens = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const struct request *request = request_of(batch->texts[i].entry);
        tokens += size_of(request, batch->texts[i].index);
        left_behind += request->half_closed;
        if (i > 0 && small_batch(world, first, batch->texts[i].entry) && tokens > half) {
            broken(world, "some batches are small", "%zu tokens with text %zu", tokens, i);
        }
    }
    if (left_behind && left_behind != batch->n) {
        broken(world, "half-closed clients have batches of their own", "%zu of %zu texts",
               left_behind, batch->n);
    }
    next = !next && left_behind ? entries->last.first : next;
    if (next && batch->n < options->batch_texts &&
        batch->tokens + entry_next_size(next) <=
            (small_batch(world, first, next) ? half : options->batch_tokens)) {
        broken(world, "batches are filled", "%zu tokens and room for %zu", batch->tokens,
               entry_next_size(next));
    }
}

/* The oldest has half of the batch, or everything it has, or what fits, and not much more where
 * others wait; it makes way where the last batch was its own. */
static void check_oldest(struct world *world, const struct policy_batch *batch)
{
    const struct policy_options *options = &world->scenario->policy;
    const struct request *oldest = world->oldest;
    size_t got = 0;
    size_t texts = 0;
    size_t longest = 0;
    bool made_way = world->alone;
    world->alone = true;
    for (size_t i = 0; i < batch->n; i++) {
        const struct request *request = request_of(batch->texts[i].entry);
        size_t size = size_of(request, batch->texts[i].index);
        got += request == oldest ? size : 0;
        texts += request == oldest;
        longest = most(longest, size);
        world->alone = world->alone && batch->texts[i].entry == batch->texts[0].entry;
    }
    if (!world->oldest_aged) {
        return;
    }
    bool served = got && (got == world->oldest_waiting || 2 * (texts + 1) > options->batch_texts ||
                          2 * (got + size_of(oldest, oldest->texts_cut)) > options->batch_tokens);
    bool others = world->policy.entries.fresh.first && texts < batch->n;
    if ((!served && !made_way) || (others && got > options->batch_tokens / 2 + longest + 2 * 16)) {
        broken(world, "the oldest has its half", "r%llu: %zu of %zu tokens",
               (unsigned long long)oldest->number, got, world->oldest_waiting);
    }
}

static void check_team(struct world *world, const struct policy_batch *batch)
{
    const struct policy_options *options = &world->scenario->policy;
    size_t idle = batch->width - 1;
    for (unsigned i = 0; i < options->workers; i++) {
        idle += world->workers[i].state == WORKER_IDLE;
    }
    size_t needed = (world->waiting_tokens + options->batch_tokens - 1) / options->batch_tokens;
    size_t spare = idle > needed ? idle - needed : 0;
    if (batch->width < 1 || batch->width > 1 + spare) {
        broken(world, "teams take only spare workers", "%u of %zu, %zu needed", batch->width, idle,
               needed);
    }
    if (batch->width > 1 && (double)batch->tokens < batch->width * options->member_tokens) {
        broken(world, "a member has enough to do", "%u for %zu tokens", batch->width,
               batch->tokens);
    }
}

/* Of a lone request's pass: is it about as fast as the best width? */
static void note_lone(struct world *world, const struct policy_batch *batch)
{
    const struct scenario *scenario = world->scenario;
    double best_s = HUGE_VAL;
    double took_s = HUGE_VAL;
    double worth = (double)batch->tokens / scenario->policy.member_tokens;
    for (unsigned width = 1; width <= scenario->policy.workers && width <= fmax(worth, 1);
         width++) {
        double s = ((double)batch->tokens + scenario->pass_tokens) / scenario->speed;
        s = s / (1 + (width - 1) * scenario->team_gain) + (width - 1) * scenario->barrier_s;
        bool beside = scenario->neighbour && !(scenario->off & OFF_NEIGHBOUR) &&
                      width == scenario->policy.workers;
        s *= beside ? scenario->neighbour_pay : 1;
        bool power = (width & (width - 1)) == 0; /* what the policy tries */
        best_s = power ? fmin(best_s, s) : best_s;
        took_s = width == batch->width ? s : took_s;
    }
    world->lone++;
    world->lone_slow += took_s > 1.3 * best_s; /* too slow */
}

void check_cut(struct world *world, unsigned worker, const struct policy_actions *actions)
{
    const struct policy_options *options = &world->scenario->policy;
    const struct policy_batch *batch = actions->cut;
    size_t tokens = 0;
    bool watched = false;
    if (batch != &world->batches[worker] || batch->n == 0) {
        broken(world, "a batch is the asking worker's", "w%u", worker);
        return;
    }
    for (size_t i = 0; i < batch->n && !world->broken; i++) {
        struct request *request = request_of(batch->texts[i].entry);
        tokens += size_of(request, batch->texts[i].index);
        watched = watched || request == world->watched;
        check_text(world, request);
    }
    if (tokens != batch->tokens ||
        (batch->n > 1 && (tokens > options->batch_tokens || batch->n > options->batch_texts))) {
        broken(world, "a batch keeps its budget", "%zu texts, %zu tokens", batch->n, tokens);
    }
    check_filled(world, batch);
    check_oldest(world, batch);
    check_team(world, batch);
    if (world->scenario->kind == SCENARIO_TEAMS && world->totals.batches >= 64) {
        note_lone(world, batch);
    }
    struct request *waits = world->watched;
    if (watched || (waits && waits->half_closed)) {
        world->watched = NULL;
    } else if (waits && ++waits->passed_over > 1 + 2 * waits->turns_before) {
        broken(world, "one text waits at most two batches",
               "r%llu: %u batches, %zu turns before it", (unsigned long long)waits->number,
               waits->passed_over, waits->turns_before);
    }
}

void check_ended(struct world *world, const struct request *request)
{
    unsigned long long number = request->number;
    enum policy_why why = request->entry.why;
    if (!request->live || !request->entered || request->entry.in_work) {
        broken(world, "every request ends exactly once", "r%llu", number);
    }
    bool right = (why == POLICY_COMPUTED && request->texts_done == request->entry.n) ||
                 (why == POLICY_EXPIRED && world->now_ns >= request->entry.deadline_ns) ||
                 (why == POLICY_LEFT && request->gone) || (why == POLICY_STOPPED && world->stopped);
    if (!right || request->texts_done != request->texts_cut) {
        broken(world, "a request ends for its reason", "r%llu: %d with %zu of %zu texts", number,
               (int)why, request->texts_done, request->entry.n);
    }
    uint64_t waited_ns = request->entry.ended_ns - request->entry.entered_ns;
    if (world->scenario->kind == SCENARIO_STORM && waited_ns > 5 * NS_PER_S) {
        broken(world, "what is taken is answered in 5 s", "r%llu: %.2f s", number,
               (double)waited_ns / 1e9);
    }
}

void check_follower(struct world *world, const struct request *request, enum policy_why why)
{
    const struct request *leader = request->leader;
    bool right = (why == POLICY_COMPUTED && leader && leader->entry.why == POLICY_COMPUTED &&
                  leader->texts_done == leader->entry.n) ||
                 (why == POLICY_EXPIRED && world->now_ns >= request->entry.deadline_ns) ||
                 (why == POLICY_LEFT && request->gone);
    if (!right || !request->live || request->entered || request->entry.stage != ENTRY_NEW) {
        broken(world, "every follower ends exactly once", "r%llu: %d",
               (unsigned long long)request->number, (int)why);
    }
}

/* Nobody follows who has ended, and nobody is kept after his deadline. */
static void check_followers(struct world *world)
{
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        const struct request *request = &world->requests[i];
        if (!request->live || !request->follows) {
            continue;
        }
        const struct request *leader = request->leader;
        bool put_off = leader && leader->half_closed && leader->entry.stage != ENTRY_CUT;
        bool lost = put_off || (leader && (!leader->live || leader->follows ||
                                           leader->version != request->version));
        if (lost || request->gone ||
            (request->leader && request->entry.deadline_ns <= world->now_ns)) {
            broken(world, "every follower ends exactly once", "r%llu is kept",
                   (unsigned long long)request->number);
        }
    }
}

/* Always */

/* Everything that waits, counted anew. */
static void audit(struct world *world)
{
    const struct entries *entries = &world->policy.entries;
    size_t requests = 0, tokens = 0, half = 0, half_tokens = 0, next_texts = 0, lists = 0,
           ready = 0;
    uint64_t last = 0;
    for (const struct request *one = first_by_age(world); one; one = younger(one)) {
        bool last_class = one->half_closed && one->entered;
        requests++;
        tokens += one->waiting;
        half += last_class;
        half_tokens += last_class ? one->waiting : 0;
        next_texts += last_class ? 0 : size_of(one, one->texts_cut);
        ready += one->entered;
        if (one->order + 1 <= last || !one->live || one->entry.waiting != one->waiting ||
            one->waiting == 0) {
            broken(world, "tokens are conserved", "r%llu", (unsigned long long)one->number);
        }
        last = one->order + 1;
    }
    const struct queue_list *by_turn[] = {&entries->fresh, &entries->turns, &entries->last};
    for (size_t i = 0; i < 3; i++) {
        for (const struct queue_entry *one = by_turn[i]->first; one;
             one = one->link[BY_TURN].next) {
            lists++;
        }
    }
    if (requests != entries->all.requests || tokens != entries->all.tokens || lists != ready ||
        half != entries->half_closed.requests || half_tokens != entries->half_closed.tokens ||
        next_texts != entries->next_texts) {
        broken(world, "tokens are conserved", "sums: %zu requests of %zu, %zu tokens of %zu",
               entries->all.requests, requests, entries->all.tokens, tokens);
    }
    size_t ahead;
    if (policy_full(&world->policy) == room_for(world, 1, NULL, &ahead)) {
        broken(world, "full means full", "%zu tokens before", ahead);
    }
}

/* Where work waits, no worker idles, but to let a batch fill. */
static void check_idle(struct world *world)
{
    const struct policy *policy = &world->policy;
    const struct request *oldest = first_by_age(world);
    bool idle = false;
    bool comes = false;
    while (oldest && !oldest->entered) {
        oldest = younger(oldest);
    }
    if (!oldest) {
        return;
    }
    uint64_t until_ns = oldest->entry.entered_ns + policy->options.max_wait_ns;
    for (unsigned i = 0; i < policy->options.workers; i++) {
        const struct sim_worker *worker = &world->workers[i];
        if (worker->state == WORKER_IDLE) {
            idle = true;
            comes = comes || worker->wakes ||
                    (worker->ask_ns && worker->ask_ns <= until_ns + STEP_NS_MAX);
        }
    }
    if (idle && !comes) {
        broken(world, "no worker idles while work waits", "r%llu waits",
               (unsigned long long)oldest->number);
    }
}

void check_always(struct world *world)
{
    const struct scenario *scenario = world->scenario;
    if (scenario->kind == SCENARIO_STORM &&
        world->totals.full > (uint64_t)scenario->n_clients * 60) {
        broken(world, "a storm calms down", "%llu refusals",
               (unsigned long long)world->totals.full);
    }
    const struct entries *entries = &world->policy.entries;
    if (entries->all.tokens != world->waiting_tokens ||
        entries->all.requests != world->waiting_requests) {
        broken(world, "tokens are conserved", "%zu wait, %zu should", entries->all.tokens,
               world->waiting_tokens);
    }
    check_idle(world);
    if (world->waiting_requests <= 16 || world->totals.events % 16 == 0) {
        audit(world);
    }
}

/* Who holds which heads, counted anew: a version lives exactly as long as it serves or is held, and
 * nothing but a request that has not ended holds one. */
void check_heads(struct world *world)
{
    size_t holders[SWAPS_MAX + 1] = {0};
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        const struct request *request = &world->requests[i];
        if (request->live) {
            holders[request->version]++;
        }
    }
    for (unsigned i = 0; i <= world->version; i++) {
        bool freed = i != world->version && holders[i] == 0;
        if (holders[i] != world->holders[i] || world->let_go[i] != freed) {
            broken(world, "old heads are let go", "version %u: %zu hold it, %zu by the count", i,
                   holders[i], world->holders[i]);
        }
    }
}

void check_tick(struct world *world)
{
    for (const struct request *one = first_by_age(world); one; one = younger(one)) {
        if (one->entered && one->entry.deadline_ns <= world->now_ns) {
            broken(world, "what expires ends", "r%llu", (unsigned long long)one->number);
        }
    }
    check_followers(world);
    if (world->policy.retry_after_s < 1) {
        broken(world, "Retry-After is honest", "0 s for a newcomer");
    }
}

/* Jain's index of what the clients got: 1 is equal. */
static double fairness(const struct world *world)
{
    double n = 0;
    double sum = 0;
    double squares = 0;
    for (unsigned i = 0; i < world->scenario->n_clients; i++) {
        if (i < 64 && world->without >> i & 1) {
            continue;
        }
        n++;
        double tokens = (double)world->clients[i].tokens;
        sum += tokens;
        squares += tokens * tokens;
    }
    return squares > 0 ? sum * sum / (n * squares) : 0;
}

void check_end(struct world *world)
{
    world->at_end = true;
    const struct scenario *scenario = world->scenario;
    uint64_t busy_ns = 0;
    for (unsigned i = 0; i < scenario->policy.workers; i++) {
        busy_ns += world->workers[i].busy_ns;
        if (world->workers[i].state != WORKER_LEFT) {
            broken(world, "drain ends", "w%u has not left", i);
        }
    }
    check_heads(world);
    if (world->live || world->policy.entries.all.requests) {
        broken(world, "every request ends exactly once", "%zu have not ended", world->live);
    }
    if (scenario->kind == SCENARIO_FAIR && fairness(world) < 0.95) {
        broken(world, "equal clients get equal tokens", "Jain %.3f", fairness(world));
    }
    double full = scenario->speed * scenario->policy.workers *
                  (double)scenario->policy.batch_tokens /
                  ((double)scenario->policy.batch_tokens + scenario->pass_tokens);
    double learnt = world->policy.tokens_per_s / full;
    if ((scenario->kind == SCENARIO_FAIR || scenario->kind == SCENARIO_TEAMS) &&
        (learnt < 0.75 || learnt > 1.25)) {
        broken(world, "the throughput is learnt", "%.2f of the true one", learnt);
    }
    if (scenario->kind == SCENARIO_STORM) {
        double share = (double)busy_ns / (double)scenario->stop_ns / scenario->policy.workers;
        if (share < 0.97) {
            broken(world, "a storm takes no throughput", "workers busy for %.3f", share);
        }
    }
    if (scenario->kind == SCENARIO_TEAMS && world->lone_slow * 4 > world->lone) {
        broken(world, "a team is as wide as it is fast", "%u of %u passes too slow",
               world->lone_slow, world->lone);
    }
}
