/* One prediction request on its way through the daemon.
 *
 *   http (I/O thread)            prepare                        scheduler + workers
 *   RECEIVED ──► prepare: parse, tokenize ──► scheduler_admit ──► QUEUED ──► texts computed in
 *   slices ──► last slice: finish: heads, response body ──► DONE ──► http replies
 *
 * Small bodies are prepared on the I/O thread, large ones on a preparing thread, so that probes
 * never wait behind a big body. Every way ends in exactly one call of `done`.
 *
 * Ownership: http creates and destroys a job; between scheduler_enqueue (or prepare_submit) and
 * `done` it belongs to the compute side, and http touches it through engine_client alone. Request
 * lifetime. */
#ifndef ORTHRUS_SERVER_JOB_H
#define ORTHRUS_SERVER_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "model/heads/heads.h"
#include "server/queue/client_bytes.h"
#include "server/queue/entries.h"

/* What the answer needs of each text: the pooled vector, its first token's too, or all of them. */
enum job_reads { JOB_READS_POOLED, JOB_READS_FIRST, JOB_READS_TOKENS };

struct job {
    /* Set by http before it is prepared. */
    enum api_kind kind;
    char head[HEADS_NAME_MAX + 1]; /* which one is asked, by route, path or query; "" for none */
    bool raw;                      /* Accept: application/octet-stream */
    atomic_int client;             /* enum policy_client, by engine_client alone */
    char request_id[130];
    const char *body; /* until it is parsed: in held_body, or borrowed */
    size_t body_size;
    struct buf held_body;    /* owned */
    struct account *account; /* of what the job holds; NULL: not counted */
    uint64_t arrived_ns;
    uint64_t deadline_ns;          /* absolute, monotonic */
    void (*done)(struct job *job); /* any thread, once; http resumes the connection */
    void *context;                 /* http's */

    /* Made when it is prepared. */
    struct arena arena;
    struct api_request request;
    size_t texts; /* how many to compute: the request's, or more where they are cut into windows */
    int32_t *ids; /* [total_tokens] packed, owned */
    uint8_t *types;  /* [total_tokens] token types, owned; NULL: all 0 */
    size_t *starts;  /* [texts+1], owned */
    bool *truncated; /* [n], owned */
    size_t *skips;   /* [texts] first tokens that pooling leaves out, owned; NULL: none */
    size_t total_tokens;
    size_t n_truncated;
    enum job_reads reads;

    /* The flights' (--cache-mib): which texts the queue computes, all where led is NULL. */
    struct shared *shared; /* NULL: nothing is shared; changes under the flights' lock */
    void *shared_block;    /* owned; led and led_starts are in it */
    size_t shared_bytes;
    size_t *led;        /* [n_led] texts */
    size_t *led_starts; /* [n_led+1] where they would begin side by side */
    size_t n_led;

    void *answer; /* server/answer's, owned through answer_free */
    void (*answer_free)(void *answer);

    struct queue_entry entry; /* the scheduler's, under its lock */
    size_t reserved[2];       /* what the entry counts for where nothing of it is computed */
    /* The preparing pool's. */
    struct job *next;
    uint64_t turn;      /* in bytes; the least is next */
    uint64_t handed_ns; /* when it came */
    bool put_off;       /* it is prepared; there it is admitted too */

    /* Result. */
    float *embeddings; /* [texts,H], malloc'ed by the scheduler at admission */
    size_t embeddings_bytes;
    struct problem problem;     /* kind PROBLEM_NONE: answered */
    unsigned retry_after_s;     /* with 429 and 503 */
    struct buf response;        /* whole body; JSON, or raw floats */
    char heads_id[32];          /* X-Heads: v<version>-<12 hex>, "" where no head took part */
    size_t raw_rows, raw_width; /* X-Shape of a raw answer */
    uint64_t prepare_ns;        /* waited for a preparing thread */
    uint64_t tokenize_ns, queue_ns, encode_ns;
};

struct job *job_create(void);
/* Frees everything; NULL is fine. */
void job_destroy(struct job *job);

/* Asked between two pieces of work: false with the problem set when the deadline has passed or the
 * client has gone. */
CHECK_RESULT bool job_wanted(struct job *job);

/* Counts what the job holds, and `more` that it is about to. False with the problem set: 429 where
 * others hold too much, 413 where it would not fit alone. */
CHECK_RESULT bool job_hold(struct job *job, size_t more);
/* Room for the embeddings, unless it is there. False with the problem set. */
CHECK_RESULT bool job_room(struct job *job, size_t row_floats);
/* Frees the body, which has been parsed; it is counted until the next job_hold. */
void job_drop_body(struct job *job);
/* Frees texts and vectors: the answer is written. */
void job_drop_vectors(struct job *job);
/* Frees all but the answer, or what takes its place. */
void job_drop_work(struct job *job);

/* Which text the queue's text `index` is. */
static inline size_t job_text(const struct job *job, size_t index)
{
    return job->led ? job->led[index] : index;
}

/* The job that an entry is part of. */
static inline struct job *job_of(struct queue_entry *entry)
{
    return (struct job *)((char *)entry - offsetof(struct job, entry));
}

#endif
