/* The world around the policy: events in order of time, workers that take their time, clients. */
#include <stdarg.h>
#include <string.h>

#include "tests/simulation/simulation.h"

static const char *const why_names[] = {"computed", "full", "hopeless",
                                        "expired",  "left", "stopped"};

void broken(struct world *world, const char *name, const char *fmt, ...)
{
    if (!world->broken) {
        va_list args;
        va_start(args, fmt);
        world->broken = name;
        (void)vsnprintf(world->text, sizeof world->text, fmt, args);
        va_end(args);
    }
}

static void trace(struct world *world, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void trace(struct world *world, const char *fmt, ...)
{
    if (world->trace) {
        va_list args;
        va_start(args, fmt);
        (void)fprintf(world->trace, "%12.3f ", (double)world->now_ns / 1e6);
        (void)vfprintf(world->trace, fmt, args);
        (void)fputc('\n', world->trace);
        va_end(args);
    }
}

/* Events */

static bool sooner(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct world *world, struct sim_event event)
{
    if (world->n_heap == HEAP_MAX) {
        broken(world, "simulation", "too many events wait");
        return;
    }
    event.order = world->made++;
    size_t at = world->n_heap++;
    while (at > 0 && sooner(&event, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = event;
}

static struct sim_event pop(struct world *world)
{
    struct sim_event first = world->heap[0];
    struct sim_event last = world->heap[--world->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->n_heap) {
            break;
        }
        if (child + 1 < world->n_heap && sooner(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (!sooner(&world->heap[child], &last)) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    return first;
}

static uint64_t soon(struct world *world)
{
    return world->now_ns + 1 + dice_next(&world->dice) % STEP_NS_MAX;
}

/* Clients */

static const struct client_plan *plan_of(const struct world *world, unsigned client)
{
    return &world->scenario->clients[client];
}

/* Twice the mean at most, so that a run does not depend on one long silence. */
static uint64_t pause_of(struct world *world, unsigned client)
{
    uint64_t mean_ns = plan_of(world, client)->pause_ns;
    return 1 + dice_next(&world->clients[client].dice) % (2 * mean_ns);
}

static void send_at(struct world *world, unsigned client, uint64_t at_ns)
{
    const struct client_plan *plan = plan_of(world, client);
    if (at_ns < plan->end_ns && at_ns < world->scenario->stop_ns + NS_PER_S / 10) {
        push(world, (struct sim_event){.at_ns = at_ns, .kind = SIM_SEND, .who = client});
    }
}

/* A closed-loop client goes on. */
static void go_on(struct world *world, unsigned client, uint64_t wait_ns)
{
    if (plan_of(world, client)->kind == CLIENT_CLOSED) {
        uint64_t sent_ns = world->now_ns + wait_ns + pause_of(world, client);
        uint64_t unread_until_ns = world->clients[client].unread_until_ns;
        send_at(world, client, sent_ns > unread_until_ns ? sent_ns : unread_until_ns);
    }
}

static void make_client(struct world *world, unsigned client)
{
    const struct client_plan *plan = plan_of(world, client);
    struct sim_client *me = &world->clients[client];
    me->dice = (struct dice){.state = world->scenario->seed * 1000003 + client};
    me->patience = (struct policy_patience){0};
    me->unread_until_ns = 0;
    me->n_sizes = plan->texts_max == 1 ? 16 : plan->texts_max;
    me->tokens = 0;
    me->answers = 0;
    me->n_told = 0;
    me->starts[0] = 0;
    for (size_t i = 0; i < me->n_sizes; i++) {
        me->starts[i + 1] = me->starts[i] + dice_range(&me->dice, plan->size_min, plan->size_max);
    }
    send_at(world, client, plan->begin_ns + dice_next(&me->dice) % NS_PER_MS);
}

static uint64_t least_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct request *make_request(struct world *world, unsigned client)
{
    const struct client_plan *plan = plan_of(world, client);
    struct sim_client *me = &world->clients[client];
    struct request *request = world->free;
    if (!request) {
        return NULL;
    }
    world->free = request->next_free;
    size_t n = dice_range(&me->dice, plan->texts_min, plan->texts_max);
    size_t from = dice_next(&me->dice) % (me->n_sizes - n + 1);
    uint64_t timeout_ns = plan->timeout_ns;
    if (world->scenario->off & OFF_DEADLINES) {
        timeout_ns = 60 * NS_PER_S;
    } else if (timeout_ns < 30 * NS_PER_S) {
        timeout_ns = dice_next(&me->dice) % (timeout_ns + 1);
        if (timeout_ns % 16 == 0) { /* over before it came */
            timeout_ns = -least_ns(world->now_ns, timeout_ns);
        }
    }
    *request = (struct request){.client = client, .number = world->totals.requests++};
    request->entry.starts = me->starts + from;
    request->entry.n = n;
    request->entry.deadline_ns = world->now_ns + timeout_ns;
    request->tokens = me->starts[from + n] - me->starts[from];
    request->waiting = request->tokens;
    return request;
}

static void give_back(struct world *world, struct request *request)
{
    request->next_free = world->free;
    world->free = request;
}

/* Heads */

/* A version that is out of service is freed by the last one that holds it. */
static void let_go(struct world *world, unsigned version)
{
    world->let_go[version] = version != world->version && world->holders[version] == 0;
}

static void take_heads(struct world *world, struct request *request)
{
    request->version = world->version;
    world->holders[request->version]++;
}

static void drop_heads(struct world *world, struct request *request)
{
    unsigned version = request->version;
    if (world->let_go[version] || world->holders[version] == 0) {
        broken(world, "a request keeps the heads it came with", "r%llu: version %u is freed",
               (unsigned long long)request->number, version);
        return;
    }
    world->holders[version]--;
    let_go(world, version);
}

static void swap(struct world *world)
{
    unsigned old = world->version++;
    trace(world, "swap     version=%u held=%zu", world->version, world->holders[old]);
    let_go(world, old);
    check_heads(world);
}

/* Steps */

static void forget_waiting(struct world *world, struct request *request)
{
    world->waiting_tokens -= request->waiting;
    world->waiting_requests--;
    request->waiting = 0;
}

/* Its client is answered, or told why not. */
static void part(struct world *world, struct request *request)
{
    drop_heads(world, request);
    request->live = false;
    world->live--;
    world->leader = world->leader == request ? NULL : world->leader;
    go_on(world, request->client, 0);
    give_back(world, request);
}

static void end_follower(struct world *world, struct request *request, enum policy_why why)
{
    trace(world, "end      r%llu %s", (unsigned long long)request->number, why_names[why]);
    check_follower(world, request, why);
    world->totals.computed += why == POLICY_COMPUTED;
    world->totals.expired += why == POLICY_EXPIRED;
    world->totals.left += why == POLICY_LEFT;
    part(world, request);
}

/* Those who followed have what they want, or ask anew. */
static void let_followers_go(struct world *world, struct request *leader, bool computed)
{
    while (leader->followers) {
        struct request *request = leader->followers;
        leader->followers = request->next_follower;
        if (computed) {
            end_follower(world, request, POLICY_COMPUTED);
            continue;
        }
        request->leader = NULL;
        push(world, (struct sim_event){.at_ns = soon(world),
                                       .kind = SIM_ANEW,
                                       .who = (unsigned)(request - world->requests),
                                       .number = request->number});
    }
}

static void end_request(struct world *world, struct request *request)
{
    struct sim_client *client = &world->clients[request->client];
    enum policy_why why = request->entry.why;
    trace(world, "end      r%llu %s", (unsigned long long)request->number, why_names[why]);
    if (request->waiting) {
        forget_waiting(world, request);
    }
    check_ended(world, request);
    world->watched = world->watched == request ? NULL : world->watched;
    world->totals.computed += why == POLICY_COMPUTED;
    world->totals.expired += why == POLICY_EXPIRED;
    world->totals.left += why == POLICY_LEFT;
    world->totals.stopped += why == POLICY_STOPPED;
    if (why == POLICY_COMPUTED) {
        client->answers++;
        if (world->like) {
            like_answered(request, request->entry.ended_ns - request->entry.entered_ns);
        }
        policy_answered(&client->patience);
    }
    let_followers_go(world, request, why == POLICY_COMPUTED);
    part(world, request);
}

/* Counts what the cut took, and what an end drops at once, in the simulation's own books. */
static void book_cut(struct world *world, const struct policy_batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct request *request = request_of(batch->texts[i].entry);
        size_t index = batch->texts[i].index;
        size_t size = request->entry.starts[index + 1] - request->entry.starts[index];
        if (index != request->texts_cut || !request->live || !request->entered) {
            broken(world, "tokens are conserved", "r%llu: text %zu cut, %zu is next",
                   (unsigned long long)request->number, index, request->texts_cut);
            return;
        }
        request->texts_cut++;
        request->waiting -= size;
        world->waiting_tokens -= size;
        world->waiting_requests -= request->waiting == 0;
        world->totals.tokens += size;
    }
}

/* Requests that ended while texts of them are computed: the rest of their texts waits no more. */
static void book_dropped(struct world *world)
{
    for (unsigned i = 0; i < world->scenario->policy.workers; i++) {
        const struct policy_batch *batch = &world->batches[i];
        for (size_t j = 0; world->workers[i].state == WORKER_LEADS && j < batch->n; j++) {
            struct request *request = request_of(batch->texts[j].entry);
            if (request->waiting &&
                (world->stopped || request->gone || request->entry.deadline_ns <= world->now_ns)) {
                if (request->entry.stage == ENTRY_CUT) {
                    forget_waiting(world, request);
                }
            }
        }
    }
}

static void step(struct world *world, struct policy_event event, struct policy_actions *actions)
{
    policy_step(&world->policy, &event, world->now_ns, actions);
    book_dropped(world);
    for (struct queue_entry *entry = actions->ended; entry && !world->broken;) {
        struct queue_entry *next = entry->next;
        end_request(world, request_of(entry));
        entry = next;
    }
    for (unsigned i = 0; i < world->scenario->policy.workers; i++) {
        if (actions->wake == WAKE_ALL || (actions->wake == WAKE_ONE && actions->who == i)) {
            world->workers[i].wakes++;
            push(world, (struct sim_event){.at_ns = soon(world), .kind = SIM_WAKE, .who = i});
        }
    }
}

/* New heads are looked at before they serve. */
static bool checks_heads(const struct scenario *scenario, uint64_t now_ns)
{
    bool checks = false;
    for (unsigned i = 0; i < scenario->n_swaps && !(scenario->off & OFF_SWAPS); i++) {
        checks = checks || (now_ns <= scenario->swap_ns[i] &&
                            now_ns + scenario->swap_check_ns > scenario->swap_ns[i]);
    }
    return checks;
}

/* How long the pass of a team takes on this machine. */
static uint64_t pass_ns(struct world *world, const struct policy_batch *batch, unsigned leader)
{
    const struct scenario *scenario = world->scenario;
    unsigned width = batch->width;
    double s = ((double)batch->tokens + scenario->pass_tokens) / scenario->speed;
    s = s / (1 + (width - 1) * scenario->team_gain) + (width - 1) * scenario->barrier_s;
    unsigned busy = 0;
    for (unsigned i = 0; i < scenario->policy.workers; i++) {
        busy += world->workers[i].state == WORKER_LEADS || world->workers[i].state == WORKER_MEMBER;
    }
    /* The neighbour's CPU is the last that the system gives away; a team waits for its slowest. */
    bool beside = scenario->neighbour && !(scenario->off & OFF_NEIGHBOUR) &&
                  world->now_ns >= scenario->neighbour_from_ns &&
                  world->now_ns < scenario->neighbour_to_ns && busy == scenario->policy.workers &&
                  (width > 1 || leader + 1 == scenario->policy.workers);
    s *= beside ? scenario->neighbour_pay : 1;
    s *= checks_heads(scenario, world->now_ns) && busy == scenario->policy.workers ? 1.5 : 1;
    if (scenario->n_jitter) {
        s *= scenario->jitter[dice_next(&world->dice) % scenario->n_jitter];
    }
    if (!(scenario->off & OFF_STALLS) && dice_chance(&world->dice, scenario->stall_share)) {
        s += dice_unit(&world->dice) * (double)scenario->stall_ns / 1e9;
    }
    return 1 + (uint64_t)(s * 1e9);
}

static void ask(struct world *world, unsigned worker)
{
    struct sim_worker *me = &world->workers[worker];
    struct policy_actions actions;
    check_before_cut(world);
    me->state = WORKER_IDLE;
    me->ask_ns = 0;
    step(world, (struct policy_event){.kind = POLICY_IDLE, .worker = worker}, &actions);
    if (actions.cut) {
        me->state = WORKER_LEADS;
        trace(world, "cut      w%u texts=%zu tokens=%zu width=%u", worker, actions.cut->n,
              actions.cut->tokens, actions.cut->width);
        for (unsigned i = 1; i < actions.cut->width && i <= WORKERS_MAX; i++) {
            struct sim_worker *member = &world->workers[actions.members[i - 1]];
            if (member->state != WORKER_IDLE) {
                broken(world, "teams are of idle workers", "w%u is not", actions.members[i - 1]);
            }
            member->state = WORKER_MEMBER;
            member->leader = worker;
        }
        book_cut(world, actions.cut);
        check_cut(world, worker, &actions);
        world->totals.batches++;
        me->end_ns = world->now_ns + pass_ns(world, actions.cut, worker);
        me->busy_ns += me->end_ns - world->now_ns;
        push(world, (struct sim_event){.at_ns = me->end_ns, .kind = SIM_PASS, .who = worker});
    } else if (actions.leave) {
        trace(world, "leave    w%u", worker);
        me->state = WORKER_LEFT;
    } else if (actions.wait_until_ns) {
        me->ask_ns = actions.wait_until_ns;
        push(world, (struct sim_event){.at_ns = me->ask_ns, .kind = SIM_ASK, .who = worker});
    }
}

/* Returns for how long a refusal is kept back. The first late one is; those that follow in the row
 * are decided late, as server/http/repeat does. */
static uint64_t refused_late(struct world *world, struct sim_client *me, unsigned retry_after_s)
{
    bool unread = world->now_ns == me->unread_until_ns;
    uint64_t asked_ns = world->now_ns - (unread ? policy_lateness_ns(&me->patience) : 0);
    uint64_t late_ns = policy_refused(&me->patience, retry_after_s, asked_ns);
    uint64_t told_ns = asked_ns + late_ns;
    me->unread_until_ns = late_ns ? told_ns + policy_lateness_ns(&me->patience) : 0;
    return told_ns - world->now_ns;
}

/* Asks the queue for room. False: it was refused and has ended. */
static bool ask_for_room(struct world *world, struct request *request)
{
    struct sim_client *me = &world->clients[request->client];
    struct policy_actions actions;
    request->order = world->asked++;
    step(world, (struct policy_event){.kind = POLICY_ARRIVE, .entry = &request->entry}, &actions);
    trace(world, "arrive   r%llu c%u texts=%zu tokens=%zu deadline=%.3f %s",
          (unsigned long long)request->number, request->client, request->entry.n, request->tokens,
          (double)request->entry.deadline_ns / 1e6,
          actions.admitted ? "admitted" : why_names[actions.why]);
    check_arrival(world, request, &actions);
    if (!actions.admitted) {
        bool obeys = plan_of(world, request->client)->obeys;
        uint64_t wait_ns = obeys ? actions.retry_after_s * NS_PER_S : 0;
        if (actions.why == POLICY_FULL) {
            wait_ns += refused_late(world, me, actions.retry_after_s);
        }
        world->totals.full += actions.why == POLICY_FULL;
        world->totals.hopeless += actions.why == POLICY_HOPELESS;
        world->totals.expired += actions.why == POLICY_EXPIRED;
        world->totals.stopped += actions.why == POLICY_STOPPED;
        drop_heads(world, request);
        give_back(world, request);
        go_on(world, request->client, world->stopped ? NS_PER_S : wait_ns);
        return false;
    }
    check_told_anew(world);
    world->totals.admitted++;
    request->live = true;
    world->live++;
    world->waiting_requests++;
    world->waiting_tokens += request->tokens;
    return true;
}

static void push_for(struct world *world, const struct request *request, enum sim_event_kind kind,
                     uint64_t at_ns)
{
    push(world, (struct sim_event){.at_ns = at_ns,
                                   .kind = kind,
                                   .who = (unsigned)(request - world->requests),
                                   .number = request->number});
}

/* It has room: it enters the queue, or is answered elsewhere. */
static void go_in(struct world *world, struct request *request)
{
    uint64_t at_ns = soon(world);
    if (dice_chance(&world->flight_dice, world->scenario->released) &&
        !(world->scenario->off & OFF_FLIGHTS)) {
        at_ns += dice_next(&world->flight_dice) % (20 * NS_PER_MS);
        push_for(world, request, SIM_RELEASE, at_ns);
        return;
    }
    world->leader = request->entry.n == 1 ? request : world->leader;
    push_for(world, request, SIM_ENTER, at_ns);
}

/* True if it waits for what another one of the same heads is waiting for. */
static bool follow(struct world *world, struct request *request)
{
    struct request *leader = world->leader;
    if (request->entry.n != 1 || !dice_chance(&world->flight_dice, world->scenario->following) ||
        world->scenario->off & OFF_FLIGHTS || !leader || leader->half_closed || leader->gone ||
        leader->version != request->version || request->entry.deadline_ns <= world->now_ns) {
        return false;
    }
    trace(world, "follow   r%llu c%u r%llu", (unsigned long long)request->number, request->client,
          (unsigned long long)leader->number);
    request->follows = true;
    request->leader = leader;
    request->next_follower = leader->followers;
    leader->followers = request;
    request->live = true;
    world->live++;
    world->totals.followed++;
    return true;
}

static void send_one(struct world *world, unsigned client)
{
    struct sim_client *me = &world->clients[client];
    const struct client_plan *plan = plan_of(world, client);
    struct request *request = make_request(world, client);
    if (!request) { /* no connection is free */
        go_on(world, client, 100 * NS_PER_MS);
        return;
    }
    take_heads(world, request);
    if (!follow(world, request)) {
        if (!ask_for_room(world, request)) {
            return;
        }
        go_in(world, request);
    }
    double fate = dice_unit(&me->dice);
    if (!(world->scenario->off & OFF_LEAVING) && fate < plan->leaves + plan->half_closes) {
        uint64_t after_ns = dice_next(&me->dice) % NS_PER_S;
        push(world, (struct sim_event){
                        .at_ns = world->now_ns + after_ns / (1 + dice_next(&me->dice) % 1000),
                        .kind = SIM_LEAVE,
                        .who = (unsigned)(request - world->requests),
                        .number = request->number,
                        .client = fate < plan->leaves ? CLIENT_GONE : CLIENT_HALF_CLOSED});
    }
}

/* Whom it followed ended without its text. */
static void ask_anew(struct world *world, struct request *request)
{
    trace(world, "anew     r%llu", (unsigned long long)request->number);
    world->totals.anew++;
    request->follows = false;
    request->live = false;
    world->live--;
    request->entry.client = request->half_closed ? CLIENT_HALF_CLOSED : CLIENT_WAITS;
    if (ask_for_room(world, request)) {
        go_in(world, request);
    }
}

static void release(struct world *world, struct request *request)
{
    struct policy_actions actions;
    trace(world, "release  r%llu", (unsigned long long)request->number);
    forget_waiting(world, request);
    step(world, (struct policy_event){.kind = POLICY_RELEASE, .entry = &request->entry}, &actions);
    if (actions.ended || request->entry.stage != ENTRY_CUT ||
        request->entry.ended_ns != world->now_ns) {
        broken(world, "what is released needs nothing", "r%llu",
               (unsigned long long)request->number);
    }
    check_told_anew(world);
    world->totals.released++;
    part(world, request);
}

static void send(struct world *world, unsigned client)
{
    const struct client_plan *plan = plan_of(world, client);
    unsigned n = plan->kind == CLIENT_BURSTS ? plan->burst : 1;
    for (unsigned i = 0; i < n && !world->broken; i++) {
        send_one(world, client);
    }
    if (plan->kind != CLIENT_CLOSED) {
        send_at(world, client, world->now_ns + pause_of(world, client));
    }
}

static void enter(struct world *world, struct request *request)
{
    struct policy_actions actions;
    trace(world, "enter    r%llu", (unsigned long long)request->number);
    request->entered = true;
    check_entered(world, request);
    step(world, (struct policy_event){.kind = POLICY_ENTER, .entry = &request->entry}, &actions);
    if (!world->ticking) {
        world->ticking = true;
        push(world, (struct sim_event){.at_ns = world->now_ns + POLICY_TICK_MS * NS_PER_MS,
                                       .kind = SIM_TICK});
    }
}

/* A follower is not in the queue: who goes, or whose deadline passes, leaves its leader. */
static void leave_leader(struct world *world, struct request *request, enum policy_why why)
{
    struct request **at = &request->leader->followers;
    while (*at != request) {
        at = &(*at)->next_follower;
    }
    *at = request->next_follower;
    end_follower(world, request, why);
}

static void leave(struct world *world, struct request *request, enum policy_client client)
{
    struct policy_actions actions;
    uint64_t number = request->number;
    /* More may be heard of a client: that it goes after all, and what is not news. */
    if (dice_chance(&world->dice, 0.5)) {
        push(world,
             (struct sim_event){.at_ns = soon(world) + dice_next(&world->dice) % 1000000,
                                .kind = SIM_LEAVE,
                                .who = (unsigned)(request - world->requests),
                                .number = number,
                                .client = dice_chance(&world->dice, 0.5) ? CLIENT_GONE
                                                                         : CLIENT_HALF_CLOSED});
    }
    trace(world, "client   r%llu %s", (unsigned long long)request->number,
          client == CLIENT_GONE ? "gone" : "half-closed");
    request->gone = request->gone || client == CLIENT_GONE;
    request->half_closed = true;
    if (request->follows && client != CLIENT_GONE) {
        return;
    }
    if (request->follows) {
        if (request->leader) {
            leave_leader(world, request, POLICY_LEFT);
        } else {
            end_follower(world, request, POLICY_LEFT); /* before it could ask anew */
        }
        return;
    }
    if (request->entry.stage != ENTRY_CUT) { /* what is put off or gone leads nobody */
        let_followers_go(world, request, false);
    }
    step(world,
         (struct policy_event){.kind = POLICY_CLIENT, .entry = &request->entry, .client = client},
         &actions);
}

static void complete(struct world *world, unsigned worker)
{
    struct policy_actions actions;
    const struct policy_batch *batch = &world->batches[worker];
    trace(world, "complete w%u", worker);
    for (size_t i = 0; i < batch->n; i++) {
        struct request *request = request_of(batch->texts[i].entry);
        size_t index = batch->texts[i].index;
        request->texts_done++;
        world->clients[request->client].tokens += request->entry.starts[index + 1] -
                                                  request->entry.starts[index];
    }
    step(world, (struct policy_event){.kind = POLICY_COMPLETE, .worker = worker}, &actions);
    for (unsigned i = 0; i < world->scenario->policy.workers && !world->broken; i++) {
        struct sim_worker *member = &world->workers[i];
        if (member->state == WORKER_MEMBER && member->leader == worker) {
            ask(world, i);
        }
    }
    if (!world->broken) {
        ask(world, worker);
    }
}

static void tick(struct world *world)
{
    struct policy_actions actions;
    step(world, (struct policy_event){.kind = POLICY_TICK}, &actions);
    for (size_t i = 0; i < REQUESTS_MAX && world->scenario->following > 0; i++) {
        struct request *request = &world->requests[i];
        if (request->live && request->follows && request->leader &&
            request->entry.deadline_ns <= world->now_ns) {
            leave_leader(world, request, POLICY_EXPIRED);
        }
    }
    check_tick(world);
    world->ticking = world->waiting_requests > 0;
    if (world->ticking) {
        push(world, (struct sim_event){.at_ns = world->now_ns + POLICY_TICK_MS * NS_PER_MS,
                                       .kind = SIM_TICK});
    }
}

static void stop(struct world *world)
{
    struct policy_actions actions;
    trace(world, "stop");
    world->stopped = true;
    step(world, (struct policy_event){.kind = POLICY_STOP}, &actions);
}

static void happen(struct world *world, const struct sim_event *event)
{
    struct request *request = &world->requests[event->who % REQUESTS_MAX];
    struct sim_worker *worker = &world->workers[event->who % WORKERS_MAX];
    switch (event->kind) {
    case SIM_SEND:
        send(world, event->who);
        break;
    case SIM_ENTER:
        enter(world, request);
        break;
    case SIM_RELEASE:
        release(world, request);
        break;
    case SIM_ANEW:
        if (request->live && request->number == event->number) {
            ask_anew(world, request);
        }
        break;
    case SIM_LEAVE:
        if (request->live && request->number == event->number) {
            leave(world, request, event->client);
        }
        break;
    case SIM_WAKE:
        worker->wakes--;
        if (worker->state == WORKER_IDLE) {
            ask(world, event->who);
        }
        break;
    case SIM_ASK:
        if (worker->state == WORKER_IDLE && worker->ask_ns == event->at_ns) {
            ask(world, event->who);
        }
        break;
    case SIM_PASS:
        complete(world, event->who);
        break;
    case SIM_TICK:
        tick(world);
        break;
    case SIM_STOP:
        stop(world);
        break;
    case SIM_SWAP:
        swap(world);
        break;
    }
}

static void begin(struct world *world, const struct scenario *scenario, uint64_t without, FILE *out)
{
    struct policy_options options = scenario->policy;
    memset(&world->policy, 0, sizeof world->policy);
    memset(world->workers, 0, sizeof world->workers);
    memset(&world->totals, 0, sizeof world->totals);
    world->scenario = scenario;
    world->without = without;
    world->trace = out;
    world->now_ns = 1; /* 0 means never in places */
    world->dice = (struct dice){.state = scenario->seed ^ 0x5eed};
    world->flight_dice = (struct dice){.state = scenario->seed ^ 0xf117};
    world->leader = NULL;
    world->asked = 0;
    trace(world,
          "world    %s clients=%u workers=%u speed=%.0f believed=%.0f budget=%zu bound=%zu/%zu",
          scenario_names[scenario->kind], scenario->n_clients, options.workers,
          scenario->speed * options.workers, options.tokens_per_s, options.batch_tokens,
          options.queue_tokens, options.queue_requests);
    world->n_heap = 0;
    world->made = 0;
    world->ticking = world->stopped = false;
    world->waiting_tokens = world->waiting_requests = world->live = 0;
    world->version = 0;
    memset(world->holders, 0, sizeof world->holders);
    memset(world->let_go, 0, sizeof world->let_go);
    world->last_single_ns = world->singles_until_ns = 0;
    world->watched = world->oldest = NULL;
    world->alone = false;
    world->lone = world->lone_slow = 0;
    world->at_end = false;
    world->broken = NULL;
    world->free = NULL;
    for (size_t i = REQUESTS_MAX; i-- > 0;) {
        world->requests[i].live = false;
        give_back(world, &world->requests[i]);
    }
    options.max_wait_ns = scenario->off & OFF_FILL_WAIT ? 0 : options.max_wait_ns;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        world->batches[i] = (struct policy_batch){.texts = world->texts[i]};
    }
    policy_init(&world->policy, &options, world->batches, world->idle);
    for (unsigned i = 0; i < scenario->n_clients; i++) {
        if (i >= 64 || !(without >> i & 1)) {
            make_client(world, i);
        }
    }
    for (unsigned i = 0; i < options.workers; i++) {
        ask(world, i);
    }
    push(world, (struct sim_event){.at_ns = scenario->stop_ns, .kind = SIM_STOP});
    for (unsigned i = 0; i < scenario->n_swaps && !(scenario->off & OFF_SWAPS); i++) {
        push(world, (struct sim_event){.at_ns = scenario->swap_ns[i], .kind = SIM_SWAP});
    }
}

void simulate(struct world *world, const struct scenario *scenario, uint64_t without,
              uint64_t until_ns, FILE *out)
{
    begin(world, scenario, without, out);
    while (world->n_heap && !world->broken) {
        struct sim_event event = pop(world);
        if (until_ns && event.at_ns > until_ns) {
            break;
        }
        world->now_ns = event.at_ns > world->now_ns ? event.at_ns : world->now_ns;
        world->totals.events++;
        happen(world, &event);
        if (!world->broken) {
            check_always(world);
        }
    }
    if (!world->broken && !until_ns) {
        check_end(world);
    }
    world->totals.virtual_ns = world->now_ns;
}
