/* A job is made and freed here, whatever it was asked. */
#include "server/queue/job.h"

struct job *job_create(void)
{
    struct job *job = calloc(1, sizeof *job);
    if (job) {
        atomic_init(&job->client, CLIENT_WAITS);
    }
    return job;
}

void job_destroy(struct job *job)
{
    if (!job) {
        return;
    }
    arena_done(&job->arena);
    buf_done(&job->response);
    if (job->answer_free) {
        job->answer_free(job->answer);
    }
    free(job->ids);
    free(job->types);
    free(job->starts);
    free(job->truncated);
    free(job->skips);
    free(job->embeddings);
    free(job);
}
