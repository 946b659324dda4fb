#include "server/queue/prepare.h"

#include <pthread.h>

#include "base/clock.h"

struct prepare_pool {
    void (*prepare)(struct job *job, void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first; /* by job->next */
    struct job **end;
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

static struct job *pop(struct prepare_pool *pool)
{
    struct job *job = pool->first;
    pool->first = job->next;
    if (!pool->first) {
        pool->end = &pool->first;
    }
    job->next = NULL;
    pool->n_jobs--;
    return job;
}

static void *prepare_main(void *argument)
{
    struct prepare_pool *pool = argument;
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        if (!pool->first) {
            (void)pthread_cond_wait(&pool->more, &pool->lock);
            continue;
        }
        struct job *job = pop(pool);
        (void)pthread_mutex_unlock(&pool->lock);
        if (clock_now_ns() >= job->deadline_ns) {
            end_job(job, PROBLEM_DEADLINE, "the deadline passed before the request was read");
        } else if (atomic_load(&job->client) == CLIENT_GONE) {
            end_job(job, PROBLEM_DEADLINE, "the client went before the request was read");
        } else {
            pool->prepare(job, pool->context);
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
    pool->end = &pool->first;
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
    while (pool->first) {
        end_job(pop(pool), PROBLEM_DRAINING, "the server is shutting down");
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
        job->next = NULL;
        *pool->end = job;
        pool->end = &job->next;
        pool->n_jobs++;
        (void)pthread_cond_signal(&pool->more);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (!room) {
        end_job(job, PROBLEM_OVERLOADED, PROBLEM_FULL_TEXT);
    }
}
