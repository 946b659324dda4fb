/* Cutting batches, building teams, ending what was computed. */
#include <sched.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "server/queue/scheduler_parts.h"

/* What a job may take at each turn. Small, so that one sentence among many big requests is in the
 * next batch; a longer text is taken on account and paid for by turns without one. */
enum { CREDIT_TOKENS = 16 };
/* A job that has waited so long has half of each batch for itself until it is through. */
enum { AGE_CAP_MS = 1000 };
/* A client that was asked after so recently is not asked again. */
enum { GLANCE_AGAIN_MS = 10 };

enum err_code work_init(struct work *work, size_t max_texts, struct err *err)
{
    *work = (struct work){.texts = NULL};
    work->texts = calloc(max_texts, sizeof *work->texts);
    work->glances = calloc(max_texts, sizeof(void *));
    if (!work->texts || !work->glances) {
        work_done(work);
        return err_nomem(err, max_texts * sizeof *work->texts);
    }
    return ERR_OK;
}

void work_done(struct work *work)
{
    if (work) {
        free(work->texts);
        free(work->glances);
        *work = (struct work){.texts = NULL};
    }
}

static size_t next_size(const struct job *job)
{
    return job->starts[job->next_text + 1] - job->starts[job->next_text];
}

/* Moves the job's next text into the batch; the job leaves the queue with its last one. */
static void take_text(struct scheduler *scheduler, struct job *job, struct work *work)
{
    size_t size = next_size(job);
    if (!job->started_ns) {
        job->started_ns = work->cut_ns;
        job->queue_ns = work->cut_ns - size_min(job->queued_ns, work->cut_ns);
    }
    if (work->cut_ns - size_min(job->glanced_ns, work->cut_ns) >= GLANCE_AGAIN_MS * NS_PER_MS) {
        job->glanced_ns = work->cut_ns;
        work->glances[work->n_glances++] = job;
    }
    work->texts[work->n++] = (struct work_text){.job = job, .index = job->next_text};
    work->tokens += size;
    job->next_text++;
    job->refs++;
    scheduler_set_waiting(scheduler, job, job->tokens_waiting - size);
    if (job->next_text == job->request.n) {
        scheduler_unlink(scheduler, job);
    }
}

/* True if the job's next text goes into the batch within budget. */
static bool fits(const struct scheduler *scheduler, const struct job *job, const struct work *work,
                 size_t budget)
{
    return work->n < scheduler->options.batch_texts && work->tokens < budget &&
           next_size(job) <= budget - work->tokens;
}

/* Fills the batch up from the queue. */
static void cut(struct scheduler *scheduler, struct work *work, struct ended *ended)
{
    size_t budget = scheduler->options.batch_tokens;
    work->cut_ns = clock_now_ns();
    struct job *oldest = scheduler->oldest;
    if (oldest && work->n == 0 && !scheduler_expire(scheduler, oldest, work->cut_ns, ended) &&
        work->cut_ns - size_min(oldest->queued_ns, work->cut_ns) >= AGE_CAP_MS * NS_PER_MS) {
        while (oldest->queued && fits(scheduler, oldest, work, budget / 2)) {
            take_text(scheduler, oldest, work);
        }
    }
    while (scheduler->ring) {
        struct job *job = scheduler->ring;
        if (scheduler_expire(scheduler, job, work->cut_ns, ended)) {
            continue;
        }
        if (!job->visited) {
            job->visited = true;
            job->credit += CREDIT_TOKENS;
        }
        while (job->queued && job->credit > 0) {
            if (!fits(scheduler, job, work, budget)) {
                return; /* it is the first in the next batch */
            }
            job->credit -= (ptrdiff_t)next_size(job);
            take_text(scheduler, job, work);
        }
        if (job->queued) {
            job->visited = false;
            scheduler->ring = job->next;
        }
    }
}

/* Asks for the clients of a batch's jobs, without the lock, and takes those that went out of it.
 * Returns true when there were any. */
static bool drop_gone(struct scheduler *scheduler, struct work *work, struct ended *ended)
{
    size_t n_gone = 0;
    for (size_t i = 0; i < work->n_glances; i++) {
        if (scheduler_gone(work->glances[i])) {
            work->glances[n_gone++] = work->glances[i];
        }
    }
    work->n_glances = 0;
    if (n_gone == 0) {
        return false;
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    for (size_t i = 0; i < n_gone; i++) {
        scheduler_kill_gone(scheduler, work->glances[i], ended);
    }
    size_t kept = 0;
    for (size_t i = 0; i < work->n; i++) {
        struct work_text text = work->texts[i];
        if (text.job->dead) {
            work->tokens -= text.job->starts[text.index + 1] - text.job->starts[text.index];
            scheduler_unref(text.job, ended);
        } else {
            work->texts[kept++] = text;
        }
    }
    work->n = kept;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return true;
}

static void wake_idle(struct scheduler *scheduler)
{
    if (scheduler->ring && scheduler->n_idle) {
        (void)pthread_cond_signal(&scheduler->slots[scheduler->idle[scheduler->n_idle - 1]].wake);
    }
}

/* ns that an idle worker still waits for the batch to fill. */
static uint64_t fill_wait_ns(const struct scheduler *scheduler)
{
    if (scheduler->options.max_wait_ns == 0 ||
        scheduler->waiting_tokens >= scheduler->options.batch_tokens) {
        return 0;
    }
    uint64_t until_ns = scheduler->oldest->queued_ns + scheduler->options.max_wait_ns;
    uint64_t now_ns = clock_now_ns();
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

/* Waits on the worker's own condition, at most wait_ns (0: without end). */
static void idle_wait(struct scheduler *scheduler, unsigned worker, uint64_t wait_ns)
{
    struct slot *slot = &scheduler->slots[worker];
    scheduler->idle[scheduler->n_idle++] = worker;
    if (wait_ns) {
        uint64_t until_ns = clock_now_ns() + wait_ns;
        struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                 .tv_nsec = (long)(until_ns % NS_PER_S)};
        (void)pthread_cond_timedwait(&slot->wake, &scheduler->lock, &until);
    } else {
        (void)pthread_cond_wait(&slot->wake, &scheduler->lock);
    }
    /* Whoever gave it a crew has taken it off the stack already. */
    for (unsigned i = 0; i < scheduler->n_idle; i++) {
        if (scheduler->idle[i] == worker) {
            scheduler->n_idle--;
            memmove(&scheduler->idle[i], &scheduler->idle[i + 1],
                    (scheduler->n_idle - i) * sizeof *scheduler->idle);
            break;
        }
    }
}

/* Cuts a batch, without those whose clients have gone. Lock held at entry, released at exit. False
 * when nothing was left of it. */
static bool take_batch(struct scheduler *scheduler, struct work *work)
{
    struct ended ended;
    scheduler_ended_init(&ended);
    work->n = 0;
    work->tokens = 0;
    work->n_glances = 0;
    for (;;) {
        cut(scheduler, work, &ended);
        scheduler_publish(scheduler, work->cut_ns);
        wake_idle(scheduler);
        (void)pthread_mutex_unlock(&scheduler->lock);
        bool dropped = drop_gone(scheduler, work, &ended);
        scheduler_end_jobs(scheduler, &ended);
        if (!dropped) {
            return work->n > 0;
        }
        (void)pthread_mutex_lock(&scheduler->lock);
    }
}

enum take scheduler_take(struct scheduler *scheduler, unsigned worker, struct work *work,
                         struct crew **ret_crew, unsigned *ret_member)
{
    struct slot *slot = &scheduler->slots[worker];
    (void)pthread_mutex_lock(&scheduler->lock);
    for (;;) {
        if (slot->crew) {
            *ret_crew = slot->crew;
            *ret_member = slot->member;
            slot->crew = NULL;
            (void)pthread_mutex_unlock(&scheduler->lock);
            return TAKE_MEMBER;
        }
        if (scheduler->ring) {
            uint64_t wait_ns = fill_wait_ns(scheduler);
            if (wait_ns) {
                idle_wait(scheduler, worker, wait_ns);
                continue;
            }
            if (take_batch(scheduler, work)) {
                return TAKE_BATCH;
            }
            (void)pthread_mutex_lock(&scheduler->lock);
        } else if (scheduler->stopping) {
            (void)pthread_mutex_unlock(&scheduler->lock);
            return TAKE_STOP;
        } else {
            idle_wait(scheduler, worker, 0);
        }
    }
}

void scheduler_recruit(struct scheduler *scheduler, size_t tokens, struct crew *crew, void *task)
{
    const struct scheduler_options *options = &scheduler->options;
    unsigned width = 1;
    double worth = (double)tokens / options->member_tokens;
    (void)pthread_mutex_lock(&scheduler->lock);
    if (worth >= 2 && scheduler->n_idle) {
        size_t needed = size_div_up(scheduler->waiting_tokens, options->batch_tokens);
        size_t spare = scheduler->n_idle > needed ? scheduler->n_idle - needed : 0;
        size_t most = worth < (double)options->workers ? (size_t)worth : options->workers;
        width += (unsigned)size_min(spare, most - 1);
    }
    team_init(&crew->team, width);
    crew->task = task;
    atomic_store_explicit(&crew->returned, 0, memory_order_relaxed);
    for (unsigned member = 1; member < width; member++) {
        struct slot *slot = &scheduler->slots[scheduler->idle[--scheduler->n_idle]];
        slot->crew = crew;
        slot->member = member;
        (void)pthread_cond_signal(&slot->wake);
    }
    /* One of them may have been on its way to work that waits. */
    wake_idle(scheduler);
    (void)pthread_mutex_unlock(&scheduler->lock);
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

void scheduler_complete(struct scheduler *scheduler, struct work *work, unsigned width)
{
    struct ended ended;
    scheduler_ended_init(&ended);
    (void)pthread_mutex_lock(&scheduler->lock);
    uint64_t now_ns = clock_now_ns();
    for (size_t i = 0; i < work->n; i++) {
        struct job *job = work->texts[i].job;
        job->encode_ns = now_ns - job->started_ns;
        CHECK(job->texts_left > 0);
        job->texts_left--;
        scheduler_unref(job, &ended);
    }
    /* Small batches say little about what the workers can do. */
    if (work->tokens >= scheduler->options.batch_tokens / 2) {
        admission_learn(&scheduler->admission, work->tokens, now_ns - work->cut_ns,
                        (double)width / (double)scheduler->options.workers);
    }
    scheduler_publish(scheduler, now_ns);
    (void)pthread_mutex_unlock(&scheduler->lock);
    work->n = 0;
    scheduler_end_jobs(scheduler, &ended);
}
