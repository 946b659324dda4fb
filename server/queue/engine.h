/* The compute side of the daemon: model, heads, scheduler, workers. http submits jobs and reads
 * states; nothing here knows a socket. Process lifetime. */
#ifndef ORTHRUS_SERVER_ENGINE_H
#define ORTHRUS_SERVER_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/model.h"
#include "model/space.h"
#include "server/heads/headstore.h"
#include "server/metrics/metrics.h"
#include "server/queue/job.h"
#include "server/queue/measure.h"
#include "server/settings.h"

struct engine;
struct scheduler;
struct workers;
struct prepare_pool;
struct flights;

/* What a pass leaves of one text; borrowed from the worker for the length of a call. */
struct computed_text {
    const float *pooled; /* [P] not normalized */
    const float *hidden; /* [n,H] fp32 hidden states of its tokens */
    size_t n;
};

/* What is asked of a job and what it is answered, of whoever knows the contract (server/answer).
 * Any thread. */
struct engine_answers {
    /* Body → request and token ids. False with the job's problem set. Where the job is
     * API_TOKENIZE or API_DECODE, its response is complete afterwards. */
    bool (*prepare)(struct job *job, const struct engine *engine);
    /* One text is computed: takes what the answer needs of it. Several workers may be at one job,
     * each with a text of its own. */
    void (*computed)(struct job *job, size_t index, const struct computed_text *text,
                     const struct engine *engine);
    /* All texts are computed: writes the response or sets the problem. */
    void (*finish)(struct job *job, const struct engine *engine);
};

struct engine {
    const struct settings *settings;
    const struct engine_answers *answers;
    struct metrics *metrics;
    struct model *model; /* owned */
    enum pooling pooling;
    size_t max_length;            /* tokens per text */
    unsigned threads;             /* compute threads */
    size_t max_batch_tokens;      /* budget of a batch; a longer text goes alone */
    size_t max_queue_tokens;      /* the automatic one as it is at the start */
    struct err isa_warning;       /* see struct choice */
    struct measured measured;     /* at the start */
    struct headstore *headstore;  /* owned */
    struct scheduler *scheduler;  /* owned */
    struct flights *flights;      /* owned; NULL: no cache */
    struct workers *workers;      /* owned */
    struct prepare_pool *prepare; /* owned */
    const char *model_name;       /* --served-model-name, else the folder's; borrowed */
    char encoder_id[40];          /* X-Encoder: <12 hex>-<precision> */
    struct space space;           /* what makes this server's vectors */
    struct api_limits limits;
    const char **prompt_names; /* [limits.n_prompts], owned; the names are the model's */
    size_t longest_prompt;     /* bytes */
};

/* Loads the model and heads, warms up, measures, starts workers. May take seconds; the listeners
 * already answer 503 meanwhile. */
CHECK_RESULT enum err_code engine_create(const struct settings *settings,
                                         const struct engine_answers *answers,
                                         struct metrics *metrics, struct engine **ret_engine,
                                         struct err *err);
/* Stops the workers after the jobs they hold; jobs still queued end with PROBLEM_DRAINING. */
void engine_destroy(struct engine *engine);

/* Bodies up to this size are prepared by the caller (an I/O thread); /tokenize answers there too,
 * which takes far longer than a body's size tells. */
enum { PREPARE_INLINE_MAX = 16 * 1024, TOKENIZE_INLINE_MAX = 1024 };

/* Admission, before the connection is suspended: reserves the job's tokens in the queue. False
 * where it is over: with PROBLEM_OVERLOADED, PROBLEM_DRAINING or PROBLEM_DEADLINE (the deadline
 * would pass in the queue), or with its answer, which the cache held. Call after it is prepared. */
CHECK_RESULT bool engine_admit(struct engine *engine, struct job *job);
/* The same for what is answered without a worker (/tokenize, /decode): while it is worked on it
 * takes the room of as many tokens as could be computed in that time, at least one. After it, on
 * every way, engine_release. Called by `prepare`. */
CHECK_RESULT bool engine_reserve(const struct engine *engine, struct job *job, size_t tokens);
void engine_release(const struct engine *engine, struct job *job);
/* Hands an admitted job over. Touch nothing of it afterwards. */
void engine_enqueue(struct engine *engine, struct job *job);
/* Tells what the client did. Any thread, at any time while the job surely lives; states only rise.
 */
void engine_client(struct engine *engine, struct job *job, enum policy_client client);
/* For large bodies: prepare, admit and enqueue on a preparing thread. Touch nothing afterwards. */
void engine_submit_large(struct engine *engine, struct job *job);
/* True when even a one-token request would be refused now, or of an impatient client one with a
 * text of the usual length: lets http answer 429 before it reads or parses a body. */
bool engine_full(const struct engine *engine, bool impatient);
/* Seconds until the queue should have room, at least 1, for Retry-After. */
unsigned engine_retry_after_s(const struct engine *engine);

/* False when a compute thread that has work has made no progress for 30 s. */
bool engine_alive(const struct engine *engine);

struct queue_state {
    size_t tokens, requests; /* that wait */
    size_t bound;            /* tokens that may wait now */
};
struct queue_state engine_queue(const struct engine *engine);

#endif
