#include "server/queue/prepare.h"

#include <pthread.h>

#include "base/clock.h"

struct prepare_pool {
    void (*prepare)(struct job *job, void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first;   /* by job->next, in the order of their turns */
    uint64_t served;     /* the turn of the job that was last taken */
    unsigned small_only; /* threads that are to leave large jobs to the others */
    size_t n_jobs;
    size_t max_jobs;
    bool stopping;
    unsigned n_threads;
    pthread_t thread[];
};

static void end_job(struct job *job, enum problem_kind kind, const char *text)
{
    job->retry_after_s = 1;
    (void)problem_set(&job->problem, kind, NULL, "%s", text);
    job->done(job);
}

/* The next one in turn that is no larger than most; NULL when there is none. Lock held. */
static struct job *pop(struct prepare_pool *pool, size_t most)
{
    struct job **at = &pool->first;
    while (*at && (*at)->body_size > most) {
        at = &(*at)->next;
    }
    struct job *job = *at;
    if (job) {
        *at = job->next;
        job->next = NULL;
        pool->served = job->turn > pool->served ? job->turn : pool->served;
        pool->n_jobs--;
    }
    return job;
}

/* Lock held. */
static void push(struct prepare_pool *pool, struct job *job)
{
    struct job **at = &pool->first;
    job->turn = pool->served + job->body_size;
    while (*at && (*at)->turn <= job->turn) {
        at = &(*at)->next;
    }
    job->next = *at;
    *at = job;
    pool->n_jobs++;
}

static void *prepare_main(void *argument)
{
    struct prepare_pool *pool = argument;
    (void)pthread_mutex_lock(&pool->lock);
    size_t most = pool->small_only ? PREPARE_SMALL_MAX : SIZE_MAX;
    pool->small_only -= pool->small_only > 0;
    while (!pool->stopping) {
        struct job *job = pop(pool, most);
        if (!job) {
            (void)pthread_cond_wait(&pool->more, &pool->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&pool->lock);
        job->prepare_ns = clock_now_ns() - job->handed_ns;
        if (job_wanted(job)) {
            pool->prepare(job, pool->context);
        } else {
            job->done(job);
        }
        (void)pthread_mutex_lock(&pool->lock);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

enum err_code prepare_create(unsigned threads, size_t max_jobs,
                             void (*prepare)(struct job *job, void *context), void *context,
                             struct prepare_pool **ret_pool, struct err *err)
{
    struct prepare_pool *pool = calloc(1, sizeof *pool + threads * sizeof *pool->thread);
    if (!pool) {
        return err_nomem(err, sizeof *pool);
    }
    pool->prepare = prepare;
    pool->context = context;
    pool->max_jobs = max_jobs;
    pool->small_only = 1;
    if (pthread_mutex_init(&pool->lock, NULL) != 0 || pthread_cond_init(&pool->more, NULL) != 0) {
        free(pool);
        return err_set(err, ERR_NOMEM, "no memory for the preparing threads");
    }
    for (unsigned i = 0; i < threads; i++) {
        int number = pthread_create(&pool->thread[i], NULL, prepare_main, pool);
        if (number != 0) {
            prepare_destroy(pool);
            return err_set_errno(err, ERR_IO, number, "preparing thread %u", i);
        }
        pool->n_threads++;
    }
    *ret_pool = pool;
    return ERR_OK;
}

void prepare_destroy(struct prepare_pool *pool)
{
    if (!pool) {
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->more);
    (void)pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        (void)pthread_join(pool->thread[i], NULL);
    }
    for (struct job *job; (job = pop(pool, SIZE_MAX)) != NULL;) {
        end_job(job, PROBLEM_DRAINING, "the server is shutting down");
    }
    (void)pthread_cond_destroy(&pool->more);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void prepare_submit(struct prepare_pool *pool, struct job *job)
{
    (void)pthread_mutex_lock(&pool->lock);
    bool room = !pool->stopping && pool->n_jobs < pool->max_jobs;
    if (room) {
        job->handed_ns = clock_now_ns();
        push(pool, job);
        /* All of them: the one that is woken might be the one that leaves large jobs alone. */
        (void)pthread_cond_broadcast(&pool->more);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (!room) {
        end_job(job, PROBLEM_OVERLOADED, PROBLEM_FULL_TEXT);
    }
}
