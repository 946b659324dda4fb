#include "server/queue/scheduler.h"

#include <math.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "server/queue/scheduler_parts.h"

/* While something waits, the sweeper looks this often: an expired job's 504 is at most this late.
 */
enum { SWEEP_MS = 20 };
/* How often the sweeper asks after the client of a job that waits, and how many it asks for at a
 * time. */
enum { GLANCE_MS = 100, GLANCES_AT_ONCE = 32 };

enum { RETRY_AFTER_MAX_S = 60 };

void scheduler_ended_init(struct ended *ended)
{
    *ended = (struct ended){.first = NULL};
    ended->end = &ended->first;
}

static void ended_add(struct ended *ended, struct job *job)
{
    job->next = NULL;
    *ended->end = job;
    ended->end = &job->next;
}

void scheduler_end_jobs(const struct scheduler *scheduler, struct ended *ended)
{
    for (struct job *job = ended->first; job;) {
        struct job *next = job->next; /* `done` gives the job away */
        if (!job->dead) {
            scheduler->options.finish(job, scheduler->options.context);
        }
        job->done(job);
        job = next;
    }
    scheduler_ended_init(ended);
}

void scheduler_publish(struct scheduler *scheduler, uint64_t now_ns)
{
    admission_seen(&scheduler->admission, scheduler->backlog, now_ns);
    size_t bound = admission_bound_now(&scheduler->admission, now_ns);
    size_t rate = (size_t)scheduler->admission.tokens_per_s;
    atomic_store_explicit(&scheduler->seen_tokens, scheduler->waiting_tokens, memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_requests, scheduler->waiting_requests,
                          memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_backlog, scheduler->backlog, memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_bound, bound, memory_order_relaxed);
    atomic_store_explicit(&scheduler->seen_rate, rate, memory_order_relaxed);
}

void scheduler_set_waiting(struct scheduler *scheduler, struct job *job, size_t tokens)
{
    scheduler->waiting_tokens += tokens;
    scheduler->waiting_tokens -= job->tokens_waiting;
    scheduler->backlog += admission_charge(&scheduler->admission, tokens);
    scheduler->backlog -= admission_charge(&scheduler->admission, job->tokens_waiting);
    job->tokens_waiting = tokens;
}

static void link_job(struct scheduler *scheduler, struct job *job)
{
    struct job *head = scheduler->ring;
    if (head) {
        job->next = head;
        job->prev = head->prev;
        head->prev->next = job;
        head->prev = job;
    } else {
        job->next = job;
        job->prev = job;
        scheduler->ring = job;
    }
    job->age_next = NULL;
    job->age_prev = scheduler->newest;
    if (scheduler->newest) {
        scheduler->newest->age_next = job;
    } else {
        scheduler->oldest = job;
    }
    scheduler->newest = job;
    job->queued = true;
}

void scheduler_unlink(struct scheduler *scheduler, struct job *job)
{
    CHECK(job->queued && job->next && job->prev);
    job->queued = false;
    scheduler->waiting_requests--;
    if (scheduler->ring == job) {
        scheduler->ring = job->next == job ? NULL : job->next;
    }
    job->next->prev = job->prev;
    job->prev->next = job->next;
    job->next = NULL;
    job->prev = NULL;
    if (job->age_prev) {
        job->age_prev->age_next = job->age_next;
    } else {
        scheduler->oldest = job->age_next;
    }
    if (job->age_next) {
        job->age_next->age_prev = job->age_prev;
    } else {
        scheduler->newest = job->age_prev;
    }
}

void scheduler_kill(struct scheduler *scheduler, struct job *job, enum problem_kind kind,
                    const char *text, struct ended *ended)
{
    if (job->dead) {
        return;
    }
    if (job->queued) {
        scheduler_set_waiting(scheduler, job, 0);
        scheduler_unlink(scheduler, job);
    }
    job->dead = true;
    if (!job->started_ns) {
        job->queue_ns = clock_now_ns() - job->queued_ns;
    }
    (void)problem_set(&job->problem, kind, NULL, "%s", text);
    if (job->refs == 0) {
        ended_add(ended, job);
    }
}

void scheduler_unref(struct job *job, struct ended *ended)
{
    CHECK(job->refs > 0);
    if (--job->refs == 0 && (job->dead || job->texts_left == 0)) {
        ended_add(ended, job);
    }
}

bool scheduler_expire(struct scheduler *scheduler, struct job *job, uint64_t now_ns,
                      struct ended *ended)
{
    if (now_ns >= job->deadline_ns) {
        scheduler_kill(scheduler, job, PROBLEM_DEADLINE,
                       "the deadline passed before the request was computed", ended);
        return true;
    }
    if (atomic_load_explicit(&job->cancelled, memory_order_acquire)) {
        scheduler_kill_gone(scheduler, job, ended);
        return true;
    }
    return false;
}

bool scheduler_gone(struct job *job)
{
    return atomic_load_explicit(&job->cancelled, memory_order_acquire) ||
           (job->abandoned && job->abandoned(job));
}

void scheduler_kill_gone(struct scheduler *scheduler, struct job *job, struct ended *ended)
{
    scheduler_kill(scheduler, job, PROBLEM_DEADLINE,
                   "the client went before the request was computed", ended);
}

/* Takes references to jobs that have waited since they were last asked for, from *at on in order of
 * age. */
static size_t pick_glances(struct scheduler *scheduler, uint64_t now_ns,
                           struct job *picked[GLANCES_AT_ONCE])
{
    size_t n = 0;
    for (struct job *job = scheduler->oldest; job && n < GLANCES_AT_ONCE; job = job->age_next) {
        if (now_ns - size_max(job->glanced_ns, job->queued_ns) >= GLANCE_MS * NS_PER_MS) {
            job->glanced_ns = now_ns;
            job->refs++;
            picked[n++] = job;
        }
    }
    return n;
}

/* Ends the expired and the abandoned among those that wait. The lock is held at entry and exit and
 * released in between. */
static void sweep(struct scheduler *scheduler)
{
    struct ended ended;
    scheduler_ended_init(&ended);
    uint64_t now_ns = clock_now_ns();
    for (struct job *job = scheduler->oldest; job;) {
        struct job *next = job->age_next;
        (void)scheduler_expire(scheduler, job, now_ns, &ended);
        job = next;
    }
    struct job *picked[GLANCES_AT_ONCE];
    for (;;) {
        size_t n = pick_glances(scheduler, now_ns, picked);
        scheduler_publish(scheduler, now_ns);
        (void)pthread_mutex_unlock(&scheduler->lock);
        scheduler_end_jobs(scheduler, &ended);
        bool gone[GLANCES_AT_ONCE];
        for (size_t i = 0; i < n; i++) {
            gone[i] = scheduler_gone(picked[i]);
        }
        (void)pthread_mutex_lock(&scheduler->lock);
        for (size_t i = 0; i < n; i++) {
            if (gone[i]) {
                scheduler_kill_gone(scheduler, picked[i], &ended);
            }
            scheduler_unref(picked[i], &ended);
        }
        if (n < GLANCES_AT_ONCE) {
            break;
        }
    }
    scheduler_publish(scheduler, now_ns);
    if (ended.first) {
        (void)pthread_mutex_unlock(&scheduler->lock);
        scheduler_end_jobs(scheduler, &ended);
        (void)pthread_mutex_lock(&scheduler->lock);
    }
}

static void *sweeper_main(void *argument)
{
    struct scheduler *scheduler = argument;
    (void)pthread_mutex_lock(&scheduler->lock);
    while (!scheduler->stopping) {
        if (!scheduler->oldest) {
            (void)pthread_cond_wait(&scheduler->sweep, &scheduler->lock);
            continue;
        }
        uint64_t until_ns = clock_now_ns() + SWEEP_MS * NS_PER_MS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                 .tv_nsec = (long)(until_ns % NS_PER_S)};
        while (!scheduler->stopping && clock_now_ns() < until_ns) {
            (void)pthread_cond_timedwait(&scheduler->sweep, &scheduler->lock, &until);
        }
        sweep(scheduler);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return NULL;
}

/* What a job bigger than the longest text waits for: see admission.h. */
static size_t ahead_of(const struct scheduler *scheduler, size_t tokens)
{
    if (tokens <= scheduler->options.text_tokens) {
        return scheduler->backlog;
    }
    size_t ahead = scheduler->reserved_tokens;
    for (const struct job *job = scheduler->oldest; job; job = job->age_next) {
        ahead += size_min(job->tokens_waiting, tokens);
    }
    return ahead;
}

static bool refuse(const struct scheduler *scheduler, struct job *job, enum problem_kind kind,
                   const char *text)
{
    job->retry_after_s = scheduler_retry_after_s(scheduler);
    return problem_set(&job->problem, kind, NULL, "%s", text);
}

bool scheduler_admit(struct scheduler *scheduler, struct job *job)
{
    size_t floats;
    size_t bytes;
    job->embeddings = NULL;
    if (size_mul(job->request.n, scheduler->options.hidden, &floats) &&
        size_mul(floats, sizeof(float), &bytes)) {
        job->embeddings = malloc(bytes);
    }
    if (!job->embeddings) {
        return refuse(scheduler, job, PROBLEM_INTERNAL, "out of memory");
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    uint64_t now_ns = clock_now_ns();
    const struct admission_question question = {
        .tokens = job->total_tokens,
        .backlog = scheduler->backlog,
        .ahead = ahead_of(scheduler, job->total_tokens),
        .requests = scheduler->waiting_requests,
        .now_ns = now_ns,
        .deadline_ns = job->deadline_ns,
    };
    bool stopping = scheduler->stopping;
    enum admission_verdict verdict = admission_ask(&scheduler->admission, &question);
    if (!stopping && verdict == ADMISSION_YES) {
        scheduler->waiting_requests++;
        scheduler->reserved_tokens += job->total_tokens;
        scheduler_set_waiting(scheduler, job, job->total_tokens);
    }
    scheduler_publish(scheduler, now_ns);
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (stopping) {
        return refuse(scheduler, job, PROBLEM_DRAINING, "the server is shutting down");
    }
    if (verdict == ADMISSION_FULL) {
        return refuse(scheduler, job, PROBLEM_OVERLOADED,
                      "the queue is full; try again after Retry-After seconds");
    }
    if (verdict == ADMISSION_HOPELESS) {
        return refuse(scheduler, job, PROBLEM_DEADLINE,
                      "the deadline passes before the request can be computed");
    }
    return true;
}

void scheduler_enqueue(struct scheduler *scheduler, struct job *job)
{
    struct ended ended;
    scheduler_ended_init(&ended);
    (void)pthread_mutex_lock(&scheduler->lock);
    job->queued_ns = clock_now_ns();
    job->texts_left = job->request.n;
    scheduler->reserved_tokens -= job->total_tokens;
    link_job(scheduler, job);
    if (scheduler->stopping) {
        scheduler_kill(scheduler, job, PROBLEM_DRAINING, "the server is shutting down", &ended);
    } else {
        if (scheduler->oldest == job) {
            (void)pthread_cond_signal(&scheduler->sweep);
        }
        if (scheduler->n_idle) {
            (void)pthread_cond_signal(
                &scheduler->slots[scheduler->idle[scheduler->n_idle - 1]].wake);
        }
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    scheduler_end_jobs(scheduler, &ended);
}

bool scheduler_full(const struct scheduler *scheduler)
{
    size_t requests = atomic_load_explicit(&scheduler->seen_requests, memory_order_relaxed);
    size_t backlog = atomic_load_explicit(&scheduler->seen_backlog, memory_order_relaxed);
    size_t bound = scheduler_bound(scheduler);
    return requests >= scheduler->options.queue_requests || (requests > 0 && backlog >= bound);
}

unsigned scheduler_retry_after_s(const struct scheduler *scheduler)
{
    size_t backlog = atomic_load_explicit(&scheduler->seen_backlog, memory_order_relaxed);
    size_t rate = atomic_load_explicit(&scheduler->seen_rate, memory_order_relaxed);
    size_t seconds = size_div_up(backlog, size_max(rate, 1));
    return (unsigned)size_max(1, size_min(seconds, RETRY_AFTER_MAX_S));
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

double scheduler_tokens_per_s(struct scheduler *scheduler)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    double rate = scheduler->admission.tokens_per_s;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return rate;
}

void scheduler_stop(struct scheduler *scheduler)
{
    struct ended ended;
    scheduler_ended_init(&ended);
    (void)pthread_mutex_lock(&scheduler->lock);
    scheduler->stopping = true;
    while (scheduler->oldest) {
        scheduler_kill(scheduler, scheduler->oldest, PROBLEM_DRAINING,
                       "the server is shutting down", &ended);
    }
    scheduler_publish(scheduler, clock_now_ns());
    for (unsigned i = 0; i < scheduler->options.workers; i++) {
        (void)pthread_cond_broadcast(&scheduler->slots[i].wake);
    }
    (void)pthread_cond_broadcast(&scheduler->sweep);
    (void)pthread_mutex_unlock(&scheduler->lock);
    scheduler_end_jobs(scheduler, &ended);
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

static void init_admission(struct scheduler *scheduler)
{
    const struct scheduler_options *options = &scheduler->options;
    scheduler->admission = (struct admission){
        .fixed_tokens = options->queue_tokens,
        .bound_requests = options->queue_requests,
        .busy_tokens = 2 * (size_t)options->workers * options->batch_tokens,
        .text_tokens = options->text_tokens,
        .tokens_per_s = fmax(options->tokens_per_s, 1),
    };
    scheduler_publish(scheduler, clock_now_ns());
}

enum err_code scheduler_create(const struct scheduler_options *options,
                               struct scheduler **ret_scheduler, struct err *err)
{
    CHECK(options->workers >= 1 && options->batch_texts >= 1 && options->text_tokens >= 1 &&
          options->batch_tokens >= options->text_tokens);
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler) {
        return err_nomem(err, sizeof *scheduler);
    }
    scheduler->options = *options;
    scheduler->slots = calloc(options->workers, sizeof *scheduler->slots);
    scheduler->idle = calloc(options->workers, sizeof *scheduler->idle);
    bool made = scheduler->slots && scheduler->idle &&
                pthread_mutex_init(&scheduler->lock, NULL) == 0 && init_cond(&scheduler->sweep);
    for (unsigned i = 0; made && i < options->workers; i++) {
        made = init_cond(&scheduler->slots[i].wake);
    }
    if (made) {
        init_admission(scheduler);
        made = pthread_create(&scheduler->sweeper, NULL, sweeper_main, scheduler) == 0;
    }
    if (!made) {
        /* Mutexes and condition variables hold no memory here. */
        free(scheduler->slots);
        free(scheduler->idle);
        free(scheduler);
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
    CHECK(scheduler->stopping && !scheduler->oldest);
    (void)pthread_join(scheduler->sweeper, NULL);
    for (unsigned i = 0; i < scheduler->options.workers; i++) {
        (void)pthread_cond_destroy(&scheduler->slots[i].wake);
    }
    (void)pthread_cond_destroy(&scheduler->sweep);
    (void)pthread_mutex_destroy(&scheduler->lock);
    free(scheduler->slots);
    free(scheduler->idle);
    free(scheduler);
}
