#include "server/queue/flights.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "model/files/safetensors.h"
#include "server/queue/cache.h"

enum { CHAINS = 16384 }; /* a power of two */

/* A text on its way. Its leader's. */
struct flight {
    struct cache_key key; /* the leader's ids */
    struct shared *leader;
    struct flight *next;    /* of its chain */
    struct follow *follows; /* those who wait for it */
    bool listed;            /* in its chain: others may follow */
    bool cut;               /* in a batch */
};

struct chain {
    struct flight *first;
};

/* One text that another job, or the same one, leads. The follower's. */
struct follow {
    struct shared *shared;
    size_t text;
    struct flight *flight;        /* NULL: it waits no more */
    struct follow *next, *prev;   /* of the flight's; then of those who left it together */
    struct computed_text vectors; /* what they are given */
};

/* What a job is here. Request lifetime; one block, freed with the job's work. pending counts what a
 * round waits for: the queue, every follow, and whoever is about to hand the job over. Who takes
 * the last of them away ends the round and owns the job. */
struct shared {
    struct job *job;
    struct shared *next, *prev; /* of those that follow anything */
    bool waits;                 /* in that list */
    atomic_size_t pending;
    bool lost;           /* a leader ended without its text: there is another round */
    enum policy_why why; /* POLICY_COMPUTED, or why it ends */
    uint64_t begun_ns;
    size_t wanted; /* tokens that it still lacked as its round began */
    size_t n_follows;
    size_t leaving;         /* follows that were taken from it, not yet from pending */
    struct shared *also;    /* of those that leave together */
    float *first;           /* [first] scratch; NULL where first tokens are not read */
    uint64_t *hashes;       /* [texts] */
    struct flight *flights; /* [texts] the first job->n_led are used */
    struct follow *follows; /* [texts] the first n_follows are used */
    bool *have;             /* [texts] */
};

struct flights {
    struct flights_options options;
    pthread_mutex_t lock;
    uint64_t seed;
    struct cache *cache;
    struct chain *chains;   /* [CHAINS] */
    struct shared *waiting; /* those that follow anything */
};

_Static_assert(FLIGHTS_TEXT_BYTES >= sizeof(struct flight) + sizeof(struct follow) +
                                         3 * sizeof(size_t) + sizeof(uint64_t) + sizeof(bool),
               "what a text takes here");

enum err_code flights_create(const struct flights_options *options, struct flights **ret_flights,
                             struct err *err)
{
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights) {
        return err_nomem(err, sizeof *flights);
    }
    flights->options = *options;
    if (pthread_mutex_init(&flights->lock, NULL) != 0) {
        free(flights);
        return err_set(err, ERR_NOMEM, "no memory for the cache's lock");
    }
    if (getrandom(&flights->seed, sizeof flights->seed, GRND_NONBLOCK) != sizeof flights->seed) {
        flights->seed = clock_wall_ns();
    }
    flights->chains = calloc(CHAINS, sizeof *flights->chains);
    enum err_code code = flights->chains ? cache_create(options->cache_bytes, options->pooled,
                                                        options->first, &flights->cache, err)
                                         : err_nomem(err, CHAINS * sizeof *flights->chains);
    if (code != ERR_OK) {
        flights_destroy(flights);
        return code;
    }
    metrics_gauge_limit(options->metrics, METRICS_CACHE_BYTES, options->cache_bytes);
    *ret_flights = flights;
    return ERR_OK;
}

void flights_destroy(struct flights *flights)
{
    if (!flights) {
        return;
    }
    CHECK(!flights->waiting);
    cache_destroy(flights->cache);
    free(flights->chains);
    (void)pthread_mutex_destroy(&flights->lock);
    free(flights);
}

static void lock(struct flights *flights)
{
    (void)pthread_mutex_lock(&flights->lock);
}

static void unlock(struct flights *flights)
{
    (void)pthread_mutex_unlock(&flights->lock);
}

/* Flights and follows. Lock held. */

static struct flight **chain_of(struct flights *flights, const struct cache_key *key)
{
    return &flights->chains[key->hash % CHAINS].first;
}

static void list(struct flights *flights, struct flight *flight)
{
    struct flight **chain = chain_of(flights, &flight->key);
    flight->next = *chain;
    *chain = flight;
    flight->listed = true;
}

/* Nobody follows it from now on; those who do stay. */
static void unlist(struct flights *flights, struct flight *flight)
{
    struct flight **at = chain_of(flights, &flight->key);
    while (flight->listed && *at != flight) {
        at = &(*at)->next;
    }
    if (flight->listed) {
        *at = flight->next;
        flight->listed = false;
    }
}

/* The newest flight of that text, from `at` on. */
static struct flight *find(struct flight *at, const struct cache_key *key)
{
    while (at && !cache_same(&at->key, key)) {
        at = at->next;
    }
    return at;
}

static void join(struct flight *flight, struct shared *shared, size_t text)
{
    struct follow *follow = &shared->follows[shared->n_follows++];
    *follow = (struct follow){
        .shared = shared, .text = text, .flight = flight, .next = flight->follows};
    if (follow->next) {
        follow->next->prev = follow;
    }
    flight->follows = follow;
}

static void part(struct follow *follow)
{
    struct follow **before = follow->prev ? &follow->prev->next : &follow->flight->follows;
    *before = follow->next;
    if (follow->next) {
        follow->next->prev = follow->prev;
    }
    follow->flight = NULL;
}

/* All its follows leave it, in front of *follows. */
static void part_all(struct flight *flight, struct follow **follows)
{
    for (struct follow *follow; (follow = flight->follows) != NULL;) {
        part(follow);
        follow->next = *follows;
        *follows = follow;
    }
}

/* The job follows nothing any more. How many it did is to be taken from pending. */
static size_t leave_all(struct shared *shared)
{
    size_t left = 0;
    for (size_t i = 0; i < shared->n_follows; i++) {
        if (shared->follows[i].flight) {
            part(&shared->follows[i]);
            left++;
        }
    }
    return left;
}

/* The job leads nothing any more, but with uncut_only what is in a batch. Those who followed are
 * lost. */
static void retire(struct flights *flights, struct shared *shared, bool uncut_only,
                   struct follow **lost)
{
    for (size_t i = 0; i < shared->job->n_led; i++) {
        struct flight *flight = &shared->flights[i];
        if (uncut_only && flight->cut) {
            continue;
        }
        unlist(flights, flight);
        for (struct follow *follow = flight->follows; follow; follow = follow->next) {
            follow->shared->lost = true;
        }
        part_all(flight, lost);
    }
}

static void wait_in_list(struct flights *flights, struct shared *shared)
{
    shared->waits = true;
    shared->prev = NULL;
    shared->next = flights->waiting;
    if (shared->next) {
        shared->next->prev = shared;
    }
    flights->waiting = shared;
}

static void leave_list(struct flights *flights, struct shared *shared)
{
    if (!shared->waits) {
        return;
    }
    *(shared->prev ? &shared->prev->next : &flights->waiting) = shared->next;
    if (shared->next) {
        shared->next->prev = shared->prev;
    }
    shared->waits = false;
}

/* Rounds */

static struct cache_key key_of(const struct shared *shared, size_t text)
{
    const struct job *job = shared->job;
    const size_t *starts = job->starts + text;
    return (struct cache_key){.ids = job->ids + starts[0],
                              .types = job->types ? job->types + starts[0] : NULL,
                              .n = starts[1] - starts[0],
                              .skip = job->skips ? job->skips[text] : 0,
                              .hash = shared->hashes[text]};
}

static void give(struct flights *flights, struct shared *shared, size_t text,
                 const struct computed_text *vectors)
{
    flights->options.computed(shared->job, text, vectors, flights->options.context);
    shared->have[text] = true;
}

/* The vectors of a text that is held, in the job's row and in shared->first. Lock held. */
static bool look_up(struct flights *flights, struct shared *shared, size_t text,
                    struct computed_text *ret_vectors)
{
    const struct cache_key key = key_of(shared, text);
    float *row = shared->job->embeddings + text * flights->options.pooled;
    if (!cache_get(flights->cache, &key, row, shared->first)) {
        return false;
    }
    metrics_cache(flights->options.metrics, METRICS_CACHE_HIT, 1);
    *ret_vectors = (struct computed_text){.pooled = row, .hidden = shared->first, .n = 1};
    return true;
}

/* What is held is given, without the lock while heads are asked. True where all texts are there. */
static bool give_held(struct flights *flights, struct shared *shared)
{
    bool all = true;
    shared->wanted = 0;
    for (size_t text = 0; text < shared->job->texts; text++) {
        struct computed_text vectors;
        if (shared->have[text]) {
            continue;
        }
        lock(flights);
        bool held = look_up(flights, shared, text, &vectors);
        unlock(flights);
        if (held) {
            give(flights, shared, text, &vectors);
        } else {
            shared->wanted += shared->job->starts[text + 1] - shared->job->starts[text];
            all = false;
        }
    }
    return all;
}

/* One text that was not held a moment ago: held now, followed, or led. Lock held. */
static void place(struct flights *flights, struct shared *shared, size_t text, bool may_lead)
{
    struct job *job = shared->job;
    struct computed_text vectors;
    if (look_up(flights, shared, text, &vectors)) {
        give(flights, shared, text, &vectors);
        return;
    }
    const struct cache_key key = key_of(shared, text);
    struct flight *found = find(*chain_of(flights, &key), &key);
    if (found &&
        (found->leader == shared || found->cut || found->leader->wanted <= shared->wanted)) {
        join(found, shared, text);
        return;
    }
    size_t index = job->n_led++;
    job->led[index] = text;
    job->led_starts[index + 1] = job->led_starts[index] + key.n;
    shared->flights[index] = (struct flight){.key = key, .leader = shared};
    if (may_lead) {
        list(flights, &shared->flights[index]);
    }
}

enum round { ROUND_COMPLETE, ROUND_REFUSED, ROUND_GOES };

/* Admits what is led; then the round waits for all that it needs. Lock held. */
static enum round admit(struct flights *flights, struct shared *shared)
{
    struct job *job = shared->job;
    if (job->n_led == 0 && shared->n_follows == 0) {
        return ROUND_COMPLETE;
    }
    bool admitted = true;
    if (atomic_load_explicit(&job->client, memory_order_relaxed) == CLIENT_GONE) {
        job->entry.why = POLICY_LEFT;
        scheduler_tell(job);
        admitted = false;
    } else if (job->n_led > 0) {
        admitted = scheduler_admit(flights->options.scheduler, job);
    }
    if (!admitted) {
        struct follow *own = NULL; /* nobody else can follow yet */
        retire(flights, shared, false, &own);
        (void)leave_all(shared);
        return ROUND_REFUSED;
    }
    metrics_cache(flights->options.metrics, METRICS_CACHE_MISS, job->n_led);
    metrics_cache(flights->options.metrics, METRICS_CACHE_JOINED, shared->n_follows);
    atomic_store(&shared->pending, 1 + (job->n_led > 0) + shared->n_follows);
    if (shared->n_follows > 0) {
        wait_in_list(flights, shared);
    }
    return ROUND_GOES;
}

/* What the job lacks is looked for. ROUND_GOES: pending counts the caller. */
static enum round begin_round(struct flights *flights, struct shared *shared)
{
    struct job *job = shared->job;
    if (give_held(flights, shared)) {
        return ROUND_COMPLETE;
    }
    lock(flights);
    /* A job that is put off, or whose client is gone, leads nobody. */
    bool may_lead = atomic_load_explicit(&job->client, memory_order_relaxed) == CLIENT_WAITS;
    shared->lost = false;
    job->n_led = 0;
    shared->n_follows = 0;
    job->led_starts[0] = 0;
    for (size_t text = 0; text < job->texts; text++) {
        if (!shared->have[text]) {
            place(flights, shared, text, may_lead);
        }
    }
    enum round round = admit(flights, shared);
    unlock(flights);
    return round;
}

static void end(struct flights *flights, struct shared *shared, enum round round)
{
    struct job *job = shared->job;
    lock(flights);
    job->shared = NULL; /* its client is no longer of interest here */
    unlock(flights);
    if (job->entry.started_ns == 0) {
        job->queue_ns = clock_now_ns() - shared->begun_ns;
        job->encode_ns = 0;
    }
    if (round == ROUND_COMPLETE) {
        flights->options.finish(job, flights->options.context);
    }
}

/* Takes n from what the round waits for. With the last of it the round is over: the job ends, or
 * asks anew for what it lost. */
static void take_away(struct flights *flights, struct shared *shared, size_t n)
{
    while (n > 0 && atomic_fetch_sub(&shared->pending, n) == n) {
        struct job *job = shared->job;
        enum round round = ROUND_COMPLETE;
        lock(flights);
        leave_list(flights, shared);
        unlock(flights);
        if (shared->why != POLICY_COMPUTED) {
            job->entry.why = shared->why;
            scheduler_tell(job);
            round = ROUND_REFUSED;
        } else if (shared->lost) {
            round = begin_round(flights, shared);
        }
        if (round != ROUND_GOES) {
            end(flights, shared, round);
            job->done(job);
            return;
        }
        if (job->n_led > 0) {
            scheduler_enqueue(flights->options.scheduler, job);
        }
        n = 1;
    }
}

/* Those whose leader ended without their text. */
static void let_go(struct flights *flights, struct follow *lost)
{
    while (lost) {
        struct follow *next = lost->next;
        take_away(flights, lost->shared, 1);
        lost = next;
    }
}

/* One block: the struct, then its arrays, the strictest first. */
static struct shared *make_shared(const struct flights *flights, struct job *job)
{
    size_t n = job->texts;
    size_t first = job->reads == JOB_READS_FIRST ? flights->options.first : 0;
    size_t fixed = sizeof(struct shared) + sizeof(size_t) + first * sizeof(float);
    size_t bytes;
    if (!size_mul(n, FLIGHTS_TEXT_BYTES, &bytes) || !size_add(bytes, fixed, &bytes)) {
        return NULL;
    }
    struct shared *shared = calloc(1, bytes);
    if (!shared) {
        return NULL;
    }
    shared->job = job;
    shared->begun_ns = clock_now_ns();
    shared->flights = (struct flight *)(void *)(shared + 1);
    shared->follows = (struct follow *)(void *)(shared->flights + n);
    shared->hashes = (uint64_t *)(void *)(shared->follows + n);
    job->led = (size_t *)(void *)(shared->hashes + n);
    job->led_starts = job->led + n;
    shared->first = first ? (float *)(void *)(job->led_starts + n + 1) : NULL;
    shared->have = (bool *)(void *)((float *)(void *)(job->led_starts + n + 1) + first);
    job->shared_block = shared;
    job->shared_bytes = bytes;
    atomic_init(&shared->pending, 0);
    for (size_t text = 0; text < n; text++) {
        const struct cache_key key = key_of(shared, text);
        shared->hashes[text] = cache_hash(&key, flights->seed);
    }
    return shared;
}

bool flights_admit(struct flights *flights, struct job *job)
{
    if (job->reads == JOB_READS_TOKENS) {
        return scheduler_admit(flights->options.scheduler, job);
    }
    if (!job_room(job, flights->options.row_floats)) {
        return false;
    }
    struct shared *shared = make_shared(flights, job);
    if (!shared) {
        return scheduler_admit(flights->options.scheduler, job);
    }
    lock(flights);
    job->shared = shared;
    unlock(flights);
    enum round round = begin_round(flights, shared);
    if (round != ROUND_GOES) {
        end(flights, shared, round);
    }
    return round == ROUND_GOES;
}

void flights_enqueue(struct flights *flights, struct job *job)
{
    struct shared *shared = job->shared;
    if (!shared || job->n_led > 0) {
        scheduler_enqueue(flights->options.scheduler, job);
    }
    if (shared) {
        take_away(flights, shared, 1);
    }
}

void flights_client(struct flights *flights, struct job *job, enum policy_client client)
{
    struct follow *lost = NULL;
    size_t left = 0;
    lock(flights);
    struct shared *shared = job->shared;
    if (shared && client != CLIENT_WAITS) {
        retire(flights, shared, true, &lost);
    }
    if (shared && client == CLIENT_GONE) {
        left = leave_all(shared);
        if (left > 0 && shared->why == POLICY_COMPUTED) {
            shared->why = POLICY_LEFT;
        }
    }
    unlock(flights);
    /* With `left` still to be taken away the job can't end meanwhile; without, it is not touched
     * again. */
    scheduler_client(flights->options.scheduler, job, client);
    if (left > 0) {
        take_away(flights, shared, left);
    }
    let_go(flights, lost);
}

void flights_entry_ended(struct flights *flights, struct job *job)
{
    struct shared *shared = job->shared;
    struct follow *lost = NULL;
    size_t left = 0;
    lock(flights);
    retire(flights, shared, false, &lost);
    if (job->entry.why != POLICY_COMPUTED) {
        left = leave_all(shared);
        if (shared->why == POLICY_COMPUTED) {
            shared->why = job->entry.why;
        }
    }
    unlock(flights);
    take_away(flights, shared, left + 1);
    let_go(flights, lost);
}

void flights_tick(struct flights *flights)
{
    uint64_t now_ns = clock_now_ns();
    struct shared *expired = NULL;
    lock(flights);
    for (struct shared *shared = flights->waiting; shared; shared = shared->next) {
        size_t left = now_ns >= shared->job->deadline_ns ? leave_all(shared) : 0;
        if (left > 0) {
            shared->why = shared->why == POLICY_COMPUTED ? POLICY_EXPIRED : shared->why;
            shared->leaving = left;
            shared->also = expired;
            expired = shared;
        }
    }
    unlock(flights);
    while (expired) {
        struct shared *also = expired->also;
        take_away(flights, expired, expired->leaving);
        expired = also;
    }
}

void flights_cut(struct flights *flights, const struct policy_batch *batch)
{
    lock(flights);
    for (size_t i = 0; i < batch->n; i++) {
        struct shared *shared = job_of(batch->texts[i].entry)->shared;
        if (shared) {
            shared->flights[batch->texts[i].index].cut = true;
        }
    }
    unlock(flights);
}

void flights_computed(struct flights *flights, struct job *job, size_t index,
                      const struct computed_text *vectors, struct follow **follows)
{
    const struct flights_options *options = &flights->options;
    struct shared *shared = job->shared;
    struct follow *here = NULL;
    if (!shared) {
        options->computed(job, index, vectors, options->context);
        return;
    }
    give(flights, shared, job->led[index], vectors);
    bool good = floats_first_nonfinite(vectors->pooled, options->pooled) == options->pooled &&
                floats_first_nonfinite(vectors->hidden, options->first) == options->first;
    const struct cache_key *key = &shared->flights[index].key;
    bool first = job->reads == JOB_READS_FIRST;
    lock(flights);
    struct flight *flight = find(*chain_of(flights, key), key);
    while (flight) {
        struct flight *older = find(flight->next, key);
        unlist(flights, flight);
        part_all(flight, &here);
        flight = older;
    }
    for (struct follow *follow = here, *next; follow; follow = next) {
        next = follow->next;
        first = first || follow->shared->job->reads == JOB_READS_FIRST;
        follow->vectors = *vectors;
        follow->next = *follows;
        *follows = follow;
    }
    if (good) {
        cache_put(flights->cache, key, vectors->pooled, first ? vectors->hidden : NULL);
        const struct cache_state state = cache_state(flights->cache);
        metrics_cache_holds(options->metrics, state.bytes, state.evictions);
    }
    unlock(flights);
}

void flights_deliver(struct flights *flights, struct follow *follows)
{
    while (follows) {
        struct follow *next = follows->next;
        struct shared *shared = follows->shared;
        give(flights, shared, follows->text, &follows->vectors);
        take_away(flights, shared, 1);
        follows = next;
    }
}
