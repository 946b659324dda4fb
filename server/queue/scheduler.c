#include "server/queue/scheduler.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"

enum { MUSTERED = 64 }; /* members of a team that are called under one hold of the lock */

/* One worker as the scheduler sees it. */
struct slot {
    pthread_cond_t wake;
    bool called;       /* into a team: only for `crew` to be set */
    unsigned leader;   /* whose */
    unsigned member;   /* as which of it, from 1 */
    struct crew *crew; /* set: join it now */
};

struct scheduler {
    struct scheduler_options options;
    pthread_mutex_t lock;
    struct policy policy;
    struct policy_batch *batches; /* [workers] */
    struct policy_text *texts;    /* [workers,batch_texts] */
    unsigned *idle;               /* [workers], the policy's */
    struct slot *slots;           /* [workers] */
    pthread_t ticker;
    pthread_cond_t tick; /* something waits, or stopping */
    bool ticking;        /* the ticker does not sleep without end */
    /* Copies for readers without the lock. */
    atomic_size_t seen_tokens, seen_requests, seen_bound;
    atomic_uint seen_retry_after_s;
    atomic_bool seen_full, seen_crowded;
};

/* Why a job ended, as its client reads it. The same words wherever a request is refused. */
void scheduler_tell(struct job *job)
{
    static const struct {
        enum problem_kind kind;
        const char *text;
    } problems[] = {
        [POLICY_FULL] = {PROBLEM_OVERLOADED, PROBLEM_FULL_TEXT},
        [POLICY_HOPELESS] = {PROBLEM_DEADLINE,
                             "the deadline would pass before the request is computed"},
        [POLICY_EXPIRED] = {PROBLEM_DEADLINE,
                            "the deadline passed before the request was computed"},
        [POLICY_LEFT] = {PROBLEM_DEADLINE, "the client went before the request was computed"},
        [POLICY_STOPPED] = {PROBLEM_DRAINING, "the server is shutting down"},
    };
    enum policy_why why = job->entry.why;
    (void)problem_set(&job->problem, problems[why].kind, NULL, "%s", problems[why].text);
    if (why == POLICY_STOPPED) {
        job->retry_after_s = 1; /* another one is to be asked */
    }
}

/* Publishes what others read without the lock. Lock held. */
static void publish(struct scheduler *scheduler)
{
    const struct policy *policy = &scheduler->policy;
    atomic_store_explicit(&scheduler->seen_tokens, policy->entries.all.tokens,
                          memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_requests, policy->entries.all.requests,
                          memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_bound, policy_bound(policy), memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_full, policy_full(policy), memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_crowded, policy_crowded(policy), memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_retry_after_s, policy->retry_after_s,
                          memory_order_relaxed);
}

/* One step of the policy, and what it asks of the threads. Lock held. */
static void step(struct scheduler *scheduler, const struct policy_event *event,
                 struct policy_actions *ret_actions)
{
    policy_step(&scheduler->policy, event, clock_now_ns(), ret_actions);
    publish(scheduler);
    if (ret_actions->cut) {
        for (unsigned i = 1; i < ret_actions->cut->width; i++) {
            struct slot *slot = &scheduler->slots[ret_actions->members[i - 1]];
            slot->called = true;
            slot->leader = event->worker;
            slot->member = i;
        }
    }
    if (ret_actions->wake == WAKE_ONE) {
        (void)pthread_cond_signal(&scheduler->slots[ret_actions->who].wake);
    }
    for (unsigned i = 0; ret_actions->wake == WAKE_ALL && i < scheduler->options.policy.workers;
         i++) {
        (void)pthread_cond_signal(&scheduler->slots[i].wake);
    }
}

/* Without the lock: answers for those that ended. */
static void end_jobs(const struct scheduler *scheduler, const struct policy_actions *actions)
{
    for (struct queue_entry *entry = actions->ended; entry;) {
        struct job *job = job_of(entry);
        uint64_t begun_ns = entry->started_ns ? entry->started_ns : entry->ended_ns;
        job->queue_ns = begun_ns - size_min(entry->entered_ns, begun_ns);
        job->encode_ns = entry->ended_ns - begun_ns;
        entry = entry->next; /* `done` gives the job away */
        if (job->shared) {
            scheduler->options.ended(job, scheduler->options.context);
            continue;
        }
        if (job->entry.why == POLICY_COMPUTED) {
            scheduler->options.finish(job, scheduler->options.context);
        } else {
            scheduler_tell(job);
        }
        job->done(job);
    }
}

/* A step of which nothing is asked but to end jobs. */
static void step_alone(struct scheduler *scheduler, const struct policy_event *event)
{
    struct policy_actions actions;
    (void)pthread_mutex_lock(&scheduler->lock);
    step(scheduler, event, &actions);
    (void)pthread_mutex_unlock(&scheduler->lock);
    end_jobs(scheduler, &actions);
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

static void *ticker_main(void *argument)
{
    struct scheduler *scheduler = argument;
    const struct policy *policy = &scheduler->policy;
    (void)pthread_mutex_lock(&scheduler->lock);
    while (!policy->stopping) {
        scheduler->ticking = policy->entries.all.requests > 0;
        if (!scheduler->ticking) {
            (void)pthread_cond_wait(&scheduler->tick, &scheduler->lock);
            continue;
        }
        uint64_t until_ns = clock_now_ns() + POLICY_TICK_MS * NS_PER_MS;
        struct timespec until = to_timespec(until_ns);
        while (!policy->stopping && clock_now_ns() < until_ns) {
            (void)pthread_cond_timedwait(&scheduler->tick, &scheduler->lock, &until);
        }
        struct policy_actions actions;
        step(scheduler, &(struct policy_event){.kind = POLICY_TICK}, &actions);
        (void)pthread_mutex_unlock(&scheduler->lock);
        end_jobs(scheduler, &actions);
        if (scheduler->options.tick) {
            scheduler->options.tick(scheduler->options.context);
        }
        (void)pthread_mutex_lock(&scheduler->lock);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return NULL;
}

/* starts and n are what the entry counts for. */
static bool admit(struct scheduler *scheduler, struct job *job, const size_t *starts, size_t n)
{
    struct policy_actions actions;
    struct queue_entry *entry = &job->entry;
    (void)pthread_mutex_lock(&scheduler->lock);
    if (entry->stage == ENTRY_CUT) { /* of a job that asks anew */
        *entry = (struct queue_entry){.client = entry->client};
    }
    entry->starts = starts;
    entry->n = n;
    entry->deadline_ns = job->deadline_ns;
    step(scheduler, &(struct policy_event){.kind = POLICY_ARRIVE, .entry = entry}, &actions);
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (!actions.admitted) {
        entry->why = actions.why;
        job->retry_after_s = actions.retry_after_s;
        scheduler_tell(job);
    }
    return actions.admitted;
}

bool scheduler_reserve(struct scheduler *scheduler, struct job *job, size_t tokens)
{
    job->reserved[1] = tokens;
    return admit(scheduler, job, job->reserved, 1);
}

void scheduler_release(struct scheduler *scheduler, struct job *job)
{
    step_alone(scheduler, &(struct policy_event){.kind = POLICY_RELEASE, .entry = &job->entry});
}

bool scheduler_admit(struct scheduler *scheduler, struct job *job)
{
    if (!job_room(job, scheduler->options.row_floats)) {
        return false;
    }
    return job->led ? admit(scheduler, job, job->led_starts, job->n_led)
                    : admit(scheduler, job, job->starts, job->texts);
}

void scheduler_enqueue(struct scheduler *scheduler, struct job *job)
{
    struct policy_actions actions;
    (void)pthread_mutex_lock(&scheduler->lock);
    step(scheduler, &(struct policy_event){.kind = POLICY_ENTER, .entry = &job->entry}, &actions);
    if (!scheduler->ticking) {
        (void)pthread_cond_signal(&scheduler->tick);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    end_jobs(scheduler, &actions);
}

void scheduler_client(struct scheduler *scheduler, struct job *job, enum policy_client client)
{
    step_alone(scheduler, &(struct policy_event){
                              .kind = POLICY_CLIENT, .entry = &job->entry, .client = client});
}

bool scheduler_full(const struct scheduler *scheduler)
{
    return atomic_load_explicit(&scheduler->seen_full, memory_order_relaxed);
}

bool scheduler_crowded(const struct scheduler *scheduler)
{
    return atomic_load_explicit(&scheduler->seen_crowded, memory_order_relaxed);
}

unsigned scheduler_retry_after_s(const struct scheduler *scheduler)
{
    return atomic_load_explicit(&scheduler->seen_retry_after_s, memory_order_relaxed);
}

void scheduler_queue(const struct scheduler *scheduler, size_t *ret_tokens, size_t *ret_requests)
{
    *ret_tokens = atomic_load_explicit(&scheduler->seen_tokens, memory_order_relaxed);
    *ret_requests = atomic_load_explicit(&scheduler->seen_requests, memory_order_relaxed);
}

size_t scheduler_bound(const struct scheduler *scheduler)
{
    return atomic_load_explicit(&scheduler->seen_bound, memory_order_relaxed);
}

void scheduler_stop(struct scheduler *scheduler)
{
    step_alone(scheduler, &(struct policy_event){.kind = POLICY_STOP});
    (void)pthread_mutex_lock(&scheduler->lock);
    (void)pthread_cond_signal(&scheduler->tick);
    (void)pthread_mutex_unlock(&scheduler->lock);
}

/* Waits for a wake, or until that time (0: without end). Lock held. */
static void sleep_until(struct scheduler *scheduler, struct slot *slot, uint64_t until_ns)
{
    if (until_ns) {
        struct timespec until = to_timespec(until_ns);
        (void)pthread_cond_timedwait(&slot->wake, &scheduler->lock, &until);
    } else {
        (void)pthread_cond_wait(&slot->wake, &scheduler->lock);
    }
}

enum take scheduler_take(struct scheduler *scheduler, unsigned worker,
                         const struct policy_batch **ret_batch, struct crew **ret_crew,
                         unsigned *ret_member)
{
    struct slot *slot = &scheduler->slots[worker];
    (void)pthread_mutex_lock(&scheduler->lock);
    for (;;) {
        while (slot->called && !slot->crew) {
            sleep_until(scheduler, slot, 0);
        }
        if (slot->crew) {
            *ret_crew = slot->crew;
            *ret_member = slot->member;
            slot->crew = NULL;
            slot->called = false;
            (void)pthread_mutex_unlock(&scheduler->lock);
            return TAKE_MEMBER;
        }
        struct policy_actions actions;
        step(scheduler, &(struct policy_event){.kind = POLICY_IDLE, .worker = worker}, &actions);
        if (actions.ended || actions.cut || actions.leave) {
            (void)pthread_mutex_unlock(&scheduler->lock);
            end_jobs(scheduler, &actions);
            if (actions.cut || actions.leave) {
                *ret_batch = actions.cut;
                return actions.cut ? TAKE_BATCH : TAKE_STOP;
            }
            (void)pthread_mutex_lock(&scheduler->lock);
        } else {
            sleep_until(scheduler, slot, actions.wait_until_ns);
        }
    }
}

void scheduler_muster(struct scheduler *scheduler, unsigned worker, struct crew *crew, void *task)
{
    unsigned width = scheduler->batches[worker].width;
    team_init(&crew->team, width);
    crew->task = task;
    atomic_store_explicit(&crew->returned, 0, memory_order_relaxed);
    if (width == 1) {
        return;
    }
    /* Woken without the lock, which each of them takes first. */
    unsigned workers = scheduler->options.policy.workers;
    for (unsigned next = 0; next < workers;) {
        struct slot *woken[MUSTERED];
        unsigned n = 0;
        (void)pthread_mutex_lock(&scheduler->lock);
        for (; next < workers && n < MUSTERED; next++) {
            struct slot *slot = &scheduler->slots[next];
            if (slot->called && !slot->crew && slot->leader == worker) {
                slot->crew = crew;
                woken[n++] = slot;
            }
        }
        (void)pthread_mutex_unlock(&scheduler->lock);
        for (unsigned i = 0; i < n; i++) {
            (void)pthread_cond_signal(&woken[i]->wake);
        }
    }
}

void crew_leave(struct crew *crew)
{
    (void)atomic_fetch_add_explicit(&crew->returned, 1, memory_order_release);
}

void crew_wait(struct crew *crew)
{
    /* They left the last barrier with the leader: this is short. */
    while (atomic_load_explicit(&crew->returned, memory_order_acquire) + 1 < crew->team.width) {
        (void)sched_yield();
    }
}

void scheduler_complete(struct scheduler *scheduler, unsigned worker)
{
    step_alone(scheduler, &(struct policy_event){.kind = POLICY_COMPLETE, .worker = worker});
}

static bool init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    bool made = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(cond, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    return made;
}

static void free_all(struct scheduler *scheduler)
{
    free(scheduler->slots);
    free(scheduler->idle);
    free(scheduler->texts);
    free(scheduler->batches);
    free(scheduler);
}

/* The memory of the policy. */
static bool init_policy(struct scheduler *scheduler)
{
    const struct policy_options *options = &scheduler->options.policy;
    size_t texts;
    scheduler->batches = calloc(options->workers, sizeof *scheduler->batches);
    scheduler->idle = calloc(options->workers, sizeof *scheduler->idle);
    if (size_mul(options->workers, options->batch_texts, &texts)) {
        scheduler->texts = calloc(texts, sizeof *scheduler->texts);
    }
    if (!scheduler->batches || !scheduler->idle || !scheduler->texts) {
        return false;
    }
    for (unsigned i = 0; i < options->workers; i++) {
        scheduler->batches[i].texts = scheduler->texts + i * options->batch_texts;
    }
    policy_init(&scheduler->policy, options, scheduler->batches, scheduler->idle);
    publish(scheduler);
    return true;
}

enum err_code scheduler_create(const struct scheduler_options *options,
                               struct scheduler **ret_scheduler, struct err *err)
{
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler) {
        return err_nomem(err, sizeof *scheduler);
    }
    scheduler->options = *options;
    scheduler->slots = calloc(options->policy.workers, sizeof *scheduler->slots);
    bool made = scheduler->slots && init_policy(scheduler) &&
                pthread_mutex_init(&scheduler->lock, NULL) == 0 && init_cond(&scheduler->tick);
    for (unsigned i = 0; made && i < options->policy.workers; i++) {
        made = init_cond(&scheduler->slots[i].wake);
    }
    if (!made || pthread_create(&scheduler->ticker, NULL, ticker_main, scheduler) != 0) {
        free_all(scheduler); /* mutexes and condition variables hold no memory here */
        return err_set(err, ERR_NOMEM, "no memory or thread for the scheduler");
    }
    *ret_scheduler = scheduler;
    return ERR_OK;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    if (!scheduler) {
        return;
    }
    CHECK(scheduler->policy.stopping && !scheduler->policy.entries.all.requests);
    (void)pthread_join(scheduler->ticker, NULL);
    for (unsigned i = 0; i < scheduler->options.policy.workers; i++) {
        (void)pthread_cond_destroy(&scheduler->slots[i].wake);
    }
    (void)pthread_cond_destroy(&scheduler->tick);
    (void)pthread_mutex_destroy(&scheduler->lock);
    free_all(scheduler);
}
