/* A job is made and freed here, whatever it was asked, and what it holds is counted. */
#include "server/queue/job.h"

#include "base/clock.h"
#include "base/size.h"

struct job *job_create(void)
{
    struct job *job = calloc(1, sizeof *job);
    if (job) {
        atomic_init(&job->client, CLIENT_WAITS);
    }
    return job;
}

bool job_wanted(struct job *job)
{
    if (atomic_load_explicit(&job->client, memory_order_relaxed) == CLIENT_GONE) {
        return problem_set(&job->problem, PROBLEM_DEADLINE, NULL,
                           "the client went before the request was read");
    }
    return clock_now_ns() < job->deadline_ns ||
           problem_set(&job->problem, PROBLEM_DEADLINE, NULL,
                       "the deadline passed before the request was read");
}

void job_drop_body(struct job *job)
{
    buf_done(&job->held_body);
    job->body = "";
}

void job_drop_vectors(struct job *job)
{
    arena_done(&job->arena);
    if (job->answer_free) {
        job->answer_free(job->answer);
    }
    job->answer = NULL;
    job->answer_free = NULL;
    free(job->embeddings);
    job->embeddings = NULL;
    job->embeddings_bytes = 0;
}

void job_drop_work(struct job *job)
{
    job_drop_body(job);
    job_drop_vectors(job);
    free(job->ids);
    free(job->types);
    free(job->starts);
    free(job->truncated);
    free(job->skips);
    free(job->shared_block);
    job->shared_block = NULL;
    job->shared_bytes = 0;
    job->led = NULL;
    job->led_starts = NULL;
    job->skips = NULL;
    job->ids = NULL;
    job->types = NULL;
    job->starts = NULL;
    job->truncated = NULL;
}

void job_destroy(struct job *job)
{
    if (!job) {
        return;
    }
    job_drop_work(job);
    buf_done(&job->response);
    free(job);
}

/* What is there now; arrays that grow by doubling may be twice as large as they are filled. */
static size_t bytes_held(const struct job *job)
{
    size_t ids = job->ids ? 2 * job->total_tokens * (sizeof *job->ids + sizeof *job->types) : 0;
    size_t texts = job->starts ? job->texts * (sizeof *job->starts + sizeof *job->skips) : 0;
    return job->held_body.room + job->arena.total + ids + texts + job->embeddings_bytes +
           job->shared_bytes + job->response.room;
}

bool job_room(struct job *job, size_t row_floats)
{
    size_t floats;
    size_t bytes;
    if (!job->embeddings && size_mul(job->texts, row_floats, &floats) &&
        size_mul(floats, sizeof(float), &bytes)) {
        job->embeddings = malloc(bytes);
        job->embeddings_bytes = job->embeddings ? bytes : 0;
    }
    return job->embeddings || problem_set(&job->problem, PROBLEM_INTERNAL, NULL, "out of memory");
}

bool job_hold(struct job *job, size_t more)
{
    size_t bytes;
    if (!job->account) {
        return true;
    }
    enum account_verdict verdict = size_add(bytes_held(job), more, &bytes)
                                       ? account_hold(job->account, bytes)
                                       : ACCOUNT_NEVER;
    if (verdict == ACCOUNT_FULL) {
        job->retry_after_s = 1;
        return problem_set(&job->problem, PROBLEM_OVERLOADED, NULL, PROBLEM_FULL_TEXT);
    }
    return verdict == ACCOUNT_OK ||
           problem_set(&job->problem, PROBLEM_RESPONSE_LARGE, NULL,
                       "the request and its answer would take more than the %zu bytes that may be "
                       "held for clients; send fewer or shorter texts",
                       account_limit(job->account));
}
