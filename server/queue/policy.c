#include "server/queue/policy.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"

/* What a request may take at each turn. */
enum { TURN_TOKENS = 16 };
/* A request that has waited so long, and is the oldest, has half of each batch. */
enum { AGE_MS = 1000 };
/* Who sends one text a request is expected to send the next within this time. */
enum { SINGLES_MS = 1000 };
/* Of the throughput: what the automatic bound reckons with. A queue that fills brings its own
 * costs, of reading and refusing, which no batch before it has shown. */
#define SURE_PART 0.75
/* Weight of one batch in the throughput's moving average. A slower one counts more: what is in the
 * queue waits for it. */
#define LEARN_WEIGHT        0.05
#define LEARN_WEIGHT_SLOWER 0.2
/* A wait is an estimate: only one that is this much over the deadline ends a request. */
#define HOPELESS_FACTOR 1.33
/* The longest Retry-After. */
enum { RETRY_AFTER_MAX_S = 3600 };
/* Every so many teams the width beside the best is tried. */
enum { TRY_EVERY = 16 };
/* Weight of one pass in its width's pace: a worse one, perhaps an accident, counts less. */
#define PACE_WEIGHT       0.5
#define PACE_WEIGHT_WORSE 0.25
/* A pass slower than that says no more than that. */
#define PACE_WORST 2.0
/* Refusals in a row that come at once; how late the next one comes, doubled each time up to the
 * most. */
enum { PATIENT_REFUSALS = 8, DELAY_FIRST_MS = 64, DELAY_MAX_MS = 250 };

static bool has_work(const struct policy *policy)
{
    const struct entries *entries = &policy->entries;
    return entries->fresh.first || entries->turns.first || entries->last.first;
}

static void add_ended(struct policy_actions *actions, struct queue_entry *entry, uint64_t now_ns)
{
    entry->ended_ns = now_ns;
    entry->next = NULL;
    if (actions->ended) {
        actions->last_ended->next = entry;
    } else {
        actions->ended = entry;
    }
    actions->last_ended = entry;
}

/* Ends an entry that waits, at once or with the last batch that holds texts of it. */
static void end_waiting(struct policy *policy, struct queue_entry *entry, enum policy_why why,
                        uint64_t now_ns, struct policy_actions *actions)
{
    entries_move(&policy->entries, entry, ENTRY_CUT);
    entry->why = why;
    if (entry->in_work == 0) {
        add_ended(actions, entry, now_ns);
    }
}

/* Admission */

size_t policy_bound(const struct policy *policy)
{
    const struct policy_options *options = &policy->options;
    if (options->queue_tokens) {
        return options->queue_tokens;
    }
    size_t served = (size_t)(policy->tokens_per_s * SURE_PART * POLICY_QUEUE_S);
    /* Until its answer a request also waits for the batches before and for its own. */
    size_t batches = options->workers * options->batch_tokens;
    return size_max(served - size_min(served, batches), 2 * batches);
}

/* True if a newcomer finds room behind that many requests, of which it waits for `ahead` tokens. */
static bool has_room(const struct policy *policy, size_t tokens, size_t ahead, size_t requests)
{
    size_t bound = policy_bound(policy);
    return requests == 0 || (requests < policy->options.queue_requests && tokens <= bound &&
                             ahead <= bound - tokens);
}

/* For how much of an entry with that many tokens left a newcomer waits. */
static size_t shared(const struct queue_entry *entry, size_t left, size_t tokens)
{
    return size_min(left, size_max(tokens, entry_next_size(entry)));
}

/* Requests that a newcomer is behind: the half-closed let it pass. */
static size_t requests_before(const struct policy *policy)
{
    return policy->entries.all.requests - policy->entries.half_closed.requests;
}

static size_t tokens_before(const struct policy *policy)
{
    return policy->entries.all.tokens - policy->entries.half_closed.tokens;
}

/* Of the tokens before it, those that a newcomer waits for. */
static size_t ahead_of(const struct policy *policy, size_t tokens)
{
    if (tokens_before(policy) == policy->entries.next_texts) {
        return policy->entries.next_texts; /* one text each: no need to look */
    }
    size_t ahead = 0;
    for (const struct queue_entry *entry = policy->entries.ages.first; entry;
         entry = entry_younger(entry)) {
        ahead += entry->stage == ENTRY_LAST ? 0 : shared(entry, entry->waiting, tokens);
    }
    return ahead;
}

/* True if there is room once each waiting request has had `level` tokens by its turns, and the
 * oldest ones as many together by their age. */
static bool room_at(const struct policy *policy, size_t tokens, size_t level, size_t *ret_served)
{
    size_t served = 0;
    for (const struct queue_entry *entry = policy->entries.ages.first; entry;
         entry = entry_younger(entry)) {
        served += entry->stage == ENTRY_LAST ? 0 : size_min(entry->waiting, level);
    }
    size_t by_age = served;
    size_t requests = 0;
    size_t ahead = 0;
    for (const struct queue_entry *entry = policy->entries.ages.first; entry;
         entry = entry_younger(entry)) {
        if (entry->stage == ENTRY_LAST) {
            continue;
        }
        size_t left = entry->waiting - size_min(entry->waiting, level);
        size_t aged = size_min(left, by_age);
        by_age -= aged;
        served += aged;
        left -= aged;
        requests += left > 0;
        ahead += shared(entry, left, tokens);
    }
    *ret_served = served;
    return has_room(policy, tokens, ahead, requests);
}

/* Tokens that are served until there is room for a newcomer if nobody else comes, to a sixteenth.
 */
static size_t served_until_room(const struct policy *policy, size_t tokens)
{
    size_t none = 0;
    size_t enough = 0;
    size_t served = 0;
    for (const struct queue_entry *entry = policy->entries.ages.first; entry;
         entry = entry_younger(entry)) {
        enough = size_max(enough, entry->waiting);
    }
    while (enough - none > enough / 16) {
        size_t level = none + (enough - none) / 2;
        if (room_at(policy, tokens, level, &served)) {
            enough = level;
        } else {
            none = level + 1;
        }
    }
    (void)room_at(policy, tokens, enough, &served);
    return served;
}

/* The same where all that wait have one text left. */
static size_t single_texts_until_room(const struct policy *policy, size_t tokens)
{
    size_t bound = policy_bound(policy);
    size_t ahead = policy->entries.next_texts;
    size_t requests = requests_before(policy);
    size_t most = policy->options.queue_requests;
    if (tokens > bound || requests == 0) {
        return ahead;
    }
    size_t too_many = requests < most ? 0 : requests - most + 1;
    return size_max(ahead - size_min(ahead, bound - tokens), ahead / requests * too_many);
}

/* Seconds until a newcomer with that many tokens finds room if nobody else comes. Clients that
 * don't wait ask again and again: until the queue changes by more than a batch, they are told the
 * same. */
static unsigned room_after_s(struct policy *policy, size_t tokens)
{
    struct policy_told *told = &policy->told[tokens % POLICY_TOLD];
    if (told->tokens == tokens) {
        return told->retry_after_s;
    }
    size_t served = tokens_before(policy) == policy->entries.next_texts
                        ? single_texts_until_room(policy, tokens)
                        : served_until_room(policy, tokens);
    double seconds = ceil((double)served / policy->tokens_per_s);
    told->tokens = tokens;
    told->retry_after_s = seconds < 1                   ? 1
                          : seconds > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S
                                                        : (unsigned)seconds;
    return told->retry_after_s;
}

static bool hopeless(const struct policy *policy, size_t tokens, uint64_t left_ns)
{
    double needed_s = (double)tokens / (policy->tokens_per_s * HOPELESS_FACTOR);
    return needed_s > (double)left_ns / (double)NS_PER_S;
}

bool policy_full(const struct policy *policy)
{
    return !has_room(policy, 1, policy->entries.next_texts, requests_before(policy));
}

bool policy_crowded(const struct policy *policy)
{
    size_t requests = requests_before(policy);
    size_t ahead = policy->entries.next_texts;
    return !has_room(policy, requests ? ahead / requests : 1, ahead, requests);
}

static void arrive(struct policy *policy, struct queue_entry *entry, uint64_t now_ns,
                   struct policy_actions *actions)
{
    CHECK(entry->stage == ENTRY_NEW && entry->n >= 1);
    size_t tokens = entry->starts[entry->n] - entry->starts[0];
    size_t ahead = ahead_of(policy, tokens);
    if (policy->stopping) {
        actions->why = POLICY_STOPPED;
    } else if (entry->client == CLIENT_GONE) {
        actions->why = POLICY_LEFT;
    } else if (now_ns >= entry->deadline_ns) {
        actions->why = POLICY_EXPIRED;
    } else if (!hopeless(policy, tokens, entry->deadline_ns - now_ns) &&
               !has_room(policy, tokens, ahead, requests_before(policy))) {
        actions->why = POLICY_FULL;
        actions->retry_after_s = room_after_s(policy, tokens);
    } else if (hopeless(policy, ahead + tokens, entry->deadline_ns - now_ns)) {
        actions->why = POLICY_HOPELESS;
    } else {
        entry->waiting = tokens;
        entry->credit = TURN_TOKENS;
        entries_move(&policy->entries, entry, ENTRY_ADMITTED);
        memset(policy->told, 0, sizeof policy->told);
        actions->admitted = true;
    }
}

/* Wakes an idle worker where work waits. */
static void wake_one(const struct policy *policy, struct policy_actions *actions)
{
    if (policy->n_idle && has_work(policy)) {
        actions->wake = WAKE_ONE;
        actions->who = policy->idle[policy->n_idle - 1];
    }
}

static void enter(struct policy *policy, struct queue_entry *entry, uint64_t now_ns,
                  struct policy_actions *actions)
{
    CHECK(entry->stage == ENTRY_ADMITTED);
    entry->entered_ns = now_ns;
    if (policy->stopping || entry->client == CLIENT_GONE) {
        end_waiting(policy, entry, policy->stopping ? POLICY_STOPPED : POLICY_LEFT, now_ns,
                    actions);
        return;
    }
    entries_move(&policy->entries, entry, entry->client == CLIENT_WAITS ? ENTRY_FRESH : ENTRY_LAST);
    if (entry->n == 1 && entry->stage == ENTRY_FRESH) {
        policy->singles_until_ns = now_ns + SINGLES_MS * NS_PER_MS;
    }
    wake_one(policy, actions);
}

/* What it was admitted for is done elsewhere. */
static void release(struct policy *policy, struct queue_entry *entry, uint64_t now_ns)
{
    CHECK(entry->stage == ENTRY_ADMITTED);
    entries_move(&policy->entries, entry, ENTRY_CUT);
    entry->ended_ns = now_ns;
    memset(policy->told, 0, sizeof policy->told);
}

/* Batches */

/* True (and the entry ended) when its time is over. */
static bool expire(struct policy *policy, struct queue_entry *entry, uint64_t now_ns,
                   struct policy_actions *actions)
{
    if (now_ns < entry->deadline_ns) {
        return false;
    }
    end_waiting(policy, entry, POLICY_EXPIRED, now_ns, actions);
    return true;
}

/* What a batch may hold when this entry's text is added. Whoever comes next waits for what is in
 * work: it is less of what clients may have left behind, and, while requests of one text come, of
 * those with more. */
static size_t budget_for(const struct policy *policy, const struct policy_batch *batch,
                         const struct queue_entry *entry)
{
    size_t budget = policy->options.batch_tokens;
    bool many = entry->n > 1 || batch->texts[0].entry->n > 1;
    bool small = entry->stage == ENTRY_LAST || (many && batch->cut_ns < policy->singles_until_ns);
    return small ? budget / 2 : budget;
}

static bool fits(const struct policy *policy, const struct policy_batch *batch,
                 const struct queue_entry *entry)
{
    return batch->n == 0 ||
           (batch->n < policy->options.batch_texts &&
            batch->tokens + entry_next_size(entry) <= budget_for(policy, batch, entry));
}

/* Moves the entry's next text into the batch. */
static void take_text(struct policy *policy, struct policy_batch *batch, struct queue_entry *entry)
{
    size_t size = entry_next_size(entry);
    batch->texts[batch->n++] = (struct policy_text){.entry = entry, .index = entry->next_text};
    batch->tokens += size;
    entry->in_work++;
    entry->started_ns = entry->started_ns ? entry->started_ns : batch->cut_ns;
    entries_cut_text(&policy->entries, entry);
}

/* Gives the oldest request its half of the batch, a text at least. Where nothing else found room
 * beside it in the last batch, the turns come first in this one. */
static void serve_oldest(struct policy *policy, struct policy_batch *batch,
                         struct policy_actions *actions)
{
    const struct policy_options *options = &policy->options;
    struct queue_entry *oldest = entries_oldest(&policy->entries);
    if (policy->crowded || !oldest || oldest->stage == ENTRY_LAST ||
        expire(policy, oldest, batch->cut_ns, actions) ||
        batch->cut_ns - oldest->entered_ns < AGE_MS * NS_PER_MS) {
        return;
    }
    while (entry_waits(oldest) &&
           (batch->n == 0 ||
            (2 * (batch->n + 1) <= options->batch_texts &&
             2 * (batch->tokens + entry_next_size(oldest)) <= options->batch_tokens))) {
        take_text(policy, batch, oldest);
    }
}

/* Fills the batch up with turns of one list. False when the next text finds no room. */
static bool serve_turns(struct policy *policy, struct policy_batch *batch, struct queue_list *list,
                        struct policy_actions *actions)
{
    while (list->first) {
        struct queue_entry *entry = list->first;
        if (expire(policy, entry, batch->cut_ns, actions)) {
            continue;
        }
        while (entry_waits(entry) && entry->credit > 0) {
            if (!fits(policy, batch, entry)) {
                return false; /* it is the first in the next batch */
            }
            entry->credit -= (ptrdiff_t)entry_next_size(entry);
            take_text(policy, batch, entry);
        }
        if (entry_waits(entry)) {
            entry->credit += TURN_TOKENS;
            entries_move(&policy->entries, entry,
                         entry->stage == ENTRY_FRESH ? ENTRY_TURNS : entry->stage);
        }
    }
    return true;
}

static void cut(struct policy *policy, struct policy_batch *batch, uint64_t now_ns,
                struct policy_actions *actions)
{
    batch->n = 0;
    batch->tokens = 0;
    batch->cut_ns = now_ns;
    serve_oldest(policy, batch, actions);
    size_t by_age = batch->n;
    if (serve_turns(policy, batch, &policy->entries.fresh, actions) &&
        serve_turns(policy, batch, &policy->entries.turns, actions) && batch->n == 0) {
        (void)serve_turns(policy, batch, &policy->entries.last, actions);
    }
    policy->crowded = by_age > 0 && batch->n == by_age;
}

/* Teams */

static unsigned width_index(unsigned width)
{
    unsigned index = 0;
    while (index + 1 < POLICY_WIDTHS && 1u << index < width) {
        index++;
    }
    return index;
}

/* How many workers are best for a batch that may have up to `most`. */
static unsigned best_width(struct policy *policy, unsigned most)
{
    unsigned top = width_index(most);
    unsigned best = 0;
    for (unsigned i = 1; i <= top; i++) {
        best = policy->pace[i] < policy->pace[best] ? i : best;
    }
    if (top > 0 && ++policy->teams % TRY_EVERY == 0) {
        bool wider = policy->teams / TRY_EVERY % 2 == 1;
        if (wider ? best < top : best > 0) {
            best = wider ? best + 1 : best - 1;
        }
    }
    return (unsigned)size_min((size_t)1 << best, most);
}

/* Forms the batch's team out of the asking worker and idle ones that what waits does not need. */
static void recruit(struct policy *policy, struct policy_batch *batch,
                    struct policy_actions *actions)
{
    const struct policy_options *options = &policy->options;
    size_t needed = size_div_up(policy->entries.all.tokens, options->batch_tokens);
    size_t spare = policy->n_idle - size_min(policy->n_idle, needed);
    double worth = (double)batch->tokens / options->member_tokens;
    size_t most = worth < (double)options->workers ? (size_t)worth : options->workers;
    most = size_max(size_min(most, spare + 1), 1);
    batch->width = best_width(policy, (unsigned)most);
    policy->n_idle -= batch->width - 1;
    actions->members = policy->idle + policy->n_idle;
}

/* What one worker needs for a pass of that many tokens, at the speed of the start. */
static double solo_ns(const struct policy *policy, size_t tokens)
{
    double per_token_ns = (double)policy->options.workers * (double)NS_PER_S /
                          policy->options.tokens_per_s;
    return ((double)tokens + policy->options.pass_tokens) * per_token_ns;
}

/* What a batch's time says about the throughput and about teams. */
static void learn(struct policy *policy, const struct policy_batch *batch, uint64_t now_ns)
{
    if (now_ns <= batch->cut_ns) {
        return;
    }
    double busy_ns = (double)(now_ns - batch->cut_ns);
    double *pace = &policy->pace[width_index(batch->width)];
    double seen = busy_ns / solo_ns(policy, batch->tokens);
    seen = seen < PACE_WORST ? seen : PACE_WORST;
    *pace += (seen - *pace) * (seen > *pace ? PACE_WEIGHT_WORSE : PACE_WEIGHT);
    /* Small batches say little about what the workers can do. */
    if (batch->width == 1 && 2 * batch->tokens >= policy->options.batch_tokens) {
        double rate = (double)batch->tokens * (double)policy->options.workers * (double)NS_PER_S /
                      busy_ns;
        double weight = rate < policy->tokens_per_s ? LEARN_WEIGHT_SLOWER : LEARN_WEIGHT;
        policy->tokens_per_s += (rate - policy->tokens_per_s) * weight;
    }
}

/* Events */

/* When an idle worker must not wait any longer for a batch to fill; 0: it must not wait. */
static uint64_t fill_until_ns(const struct policy *policy, uint64_t now_ns)
{
    const struct queue_entry *oldest = entries_oldest(&policy->entries);
    if (policy->options.max_wait_ns == 0 || !oldest ||
        policy->entries.all.tokens >= policy->options.batch_tokens) {
        return 0;
    }
    uint64_t until_ns = oldest->entered_ns + policy->options.max_wait_ns;
    return until_ns > now_ns ? until_ns : 0;
}

static void ask(struct policy *policy, unsigned worker, uint64_t now_ns,
                struct policy_actions *actions)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < policy->n_idle; i++) {
        policy->idle[kept] = policy->idle[i];
        kept += policy->idle[i] != worker;
    }
    policy->n_idle = kept;
    if (has_work(policy)) {
        actions->wait_until_ns = fill_until_ns(policy, now_ns);
        if (!actions->wait_until_ns) {
            struct policy_batch *batch = &policy->batches[worker];
            cut(policy, batch, now_ns, actions);
            if (batch->n) {
                actions->cut = batch;
                recruit(policy, batch, actions);
                wake_one(policy, actions);
                return;
            }
        }
    }
    if (policy->stopping) {
        actions->leave = true;
        return;
    }
    policy->idle[policy->n_idle++] = worker;
}

static void complete(struct policy *policy, struct policy_batch *batch, uint64_t now_ns,
                     struct policy_actions *actions)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct queue_entry *entry = batch->texts[i].entry;
        CHECK(entry->in_work > 0);
        entry->in_work--;
        if (entry->in_work == 0 && entry->stage == ENTRY_CUT) {
            add_ended(actions, entry, now_ns);
        }
    }
    learn(policy, batch, now_ns);
    batch->n = 0;
}

static void hear_client(struct policy *policy, struct queue_entry *entry, enum policy_client client,
                        uint64_t now_ns, struct policy_actions *actions)
{
    if (client <= entry->client) {
        return;
    }
    entry->client = client;
    memset(policy->told, 0, sizeof policy->told);
    if (!entry_ready(entry)) {
        return;
    }
    if (client == CLIENT_GONE) {
        end_waiting(policy, entry, POLICY_LEFT, now_ns, actions);
    } else {
        entries_move(&policy->entries, entry, ENTRY_LAST);
    }
}

/* Ends all that wait, or with `expired` those whose deadline has passed. */
static void end_all(struct policy *policy, bool expired, uint64_t now_ns,
                    struct policy_actions *actions)
{
    for (struct queue_entry *entry = policy->entries.ages.first; entry;) {
        struct queue_entry *next = entry_younger(entry);
        if (entry_ready(entry)) { /* the others end when they enter */
            if (!expired) {
                end_waiting(policy, entry, POLICY_STOPPED, now_ns, actions);
            } else {
                (void)expire(policy, entry, now_ns, actions);
            }
        }
        entry = next;
    }
}

void policy_init(struct policy *policy, const struct policy_options *options,
                 struct policy_batch *batches, unsigned *idle)
{
    CHECK(options->workers >= 1 && options->batch_texts >= 1 && options->batch_tokens >= 1 &&
          options->member_tokens > 0);
    *policy = (struct policy){
        .options = *options, .batches = batches, .idle = idle, .retry_after_s = 1};
    policy->options.tokens_per_s = options->tokens_per_s > 1 ? options->tokens_per_s : 1;
    policy->tokens_per_s = policy->options.tokens_per_s;
    for (unsigned i = 0; i < POLICY_WIDTHS; i++) {
        policy->pace[i] = 1.0 / (double)(1u << i); /* hoped for: what is not yet tried is tried */
    }
}

void policy_step(struct policy *policy, const struct policy_event *event, uint64_t now_ns,
                 struct policy_actions *ret_actions)
{
    *ret_actions = (struct policy_actions){.admitted = false};
    switch (event->kind) {
    case POLICY_ARRIVE:
        arrive(policy, event->entry, now_ns, ret_actions);
        break;
    case POLICY_ENTER:
        enter(policy, event->entry, now_ns, ret_actions);
        break;
    case POLICY_RELEASE:
        release(policy, event->entry, now_ns);
        break;
    case POLICY_IDLE:
        ask(policy, event->worker, now_ns, ret_actions);
        break;
    case POLICY_COMPLETE:
        complete(policy, &policy->batches[event->worker], now_ns, ret_actions);
        break;
    case POLICY_CLIENT:
        hear_client(policy, event->entry, event->client, now_ns, ret_actions);
        break;
    case POLICY_TICK:
        end_all(policy, true, now_ns, ret_actions);
        memset(policy->told, 0, sizeof policy->told);
        policy->retry_after_s = policy_full(policy) ? room_after_s(policy, 1) : 1;
        break;
    case POLICY_STOP:
        policy->stopping = true;
        end_all(policy, false, now_ns, ret_actions);
        ret_actions->wake = WAKE_ALL;
        break;
    }
}

uint64_t policy_lateness_ns(const struct policy_patience *patience)
{
    if (patience->refused < PATIENT_REFUSALS) {
        return 0;
    }
    unsigned doublings = patience->refused - PATIENT_REFUSALS;
    return (doublings < 2 ? (uint64_t)DELAY_FIRST_MS << doublings : DELAY_MAX_MS) * NS_PER_MS;
}

uint64_t policy_refused(struct policy_patience *patience, unsigned retry_after_s, uint64_t asked_ns)
{
    if (asked_ns >= patience->until_ns) {
        patience->refused = 0;
    }
    uint64_t late_ns = policy_lateness_ns(patience);
    patience->refused++;
    patience->until_ns = asked_ns + late_ns + retry_after_s * NS_PER_S;
    return late_ns;
}

bool policy_impatient(const struct policy_patience *patience, uint64_t now_ns)
{
    return patience->refused >= PATIENT_REFUSALS && now_ns < patience->until_ns;
}

void policy_answered(struct policy_patience *patience)
{
    *patience = (struct policy_patience){.refused = 0};
}
