#include "server/routes/handler_predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "server/answer/answer.h"

static const char octets[] = "application/octet-stream";

/* X-Request-Timeout-Ms lowers the deadline; what is above the configured one counts as that. */
static bool take_timeout(struct exchange *x)
{
    const char *text = x->headers.timeout_ms;
    uint64_t most = x->server->settings->request_timeout_ms;
    if (!text) {
        return true;
    }
    /* Beyond what 64 bits hold, strtoull says the greatest number. */
    unsigned long long value = strtoull(text, NULL, 10);
    if (!*text || strspn(text, "0123456789") != strlen(text) || value < 1) {
        exchange_fail(x, PROBLEM_HEADER_VALUE, "X-Request-Timeout-Ms",
                      "X-Request-Timeout-Ms: an integer from 1 is allowed");
        return false;
    }
    x->timeout_ms = value < most ? value : most;
    return true;
}

/* What a request is read as: the route's, but POST / is whatever the folder is for, as TEI's. */
static enum api_kind kind_of(struct exchange *x)
{
    const struct engine *engine = server_engine(x->server);
    if (x->route->handler != &handler_root || engine->model->config.folder != FOLDER_SEQUENCE) {
        return x->route->kind;
    }
    return engine->model->config.n_labels == 1 ? API_RERANK : API_PREDICT;
}

/* The head that the path, the route or ?head= names, "" for none. */
static bool head_of(struct exchange *x, enum api_kind kind, char name[HEADS_NAME_MAX + 1])
{
    static const char *const of_kind[API_KINDS] = {[API_CLASSIFY] = "classifier",
                                                   [API_SENTIMENT] = "sentiment",
                                                   [API_PREDICT] = "classifier",
                                                   [API_RERANK] = "classifier"};
    char asked[HEADS_NAME_MAX + 2] = ""; /* what is cut is still too long for a name */
    (void)snprintf(name, HEADS_NAME_MAX + 1, "%s", of_kind[kind] ? of_kind[kind] : "");
    if (kind == API_HEAD) {
        (void)snprintf(asked, sizeof asked, "%s", routes_rest(x->route, x->path));
    } else if (kind == API_PREDICT || kind == API_RERANK) {
        if (exchange_query(x, "head", asked, sizeof asked) > 1) {
            exchange_fail(x, PROBLEM_FIELD_DUPLICATE, "head", "head may stand only once");
            return false;
        }
        if (!asked[0]) {
            return true;
        }
    } else {
        return true;
    }
    if (!head_name_ok(asked)) {
        exchange_fail(x, PROBLEM_HEAD_ABSENT, kind == API_HEAD ? NULL : "head",
                      "the name of a head in service is allowed; GET /heads lists them");
        return false;
    }
    (void)snprintf(name, HEADS_NAME_MAX + 1, "%s", asked);
    return true;
}

/* Routes that answer or compare vectors. */
static bool gives_vectors(struct exchange *x)
{
    enum api_kind kind = kind_of(x);
    return kind == API_EMBED || kind == API_OPENAI || kind == API_ANALYZE ||
           kind == API_SIMILARITY || kind == API_EMBED_ALL;
}

/* If-Embedding-Space: the first hexadecimal digits, 12 or more and in either case, of the space
 * that the client's index was made in. */
static bool space_fits(struct exchange *x, const struct engine *engine)
{
    enum { DIGITS_MIN = 12 };
    const char *text = x->headers.if_space;
    if (!text || !gives_vectors(x)) {
        return true;
    }
    size_t size = strlen(text);
    if (size < DIGITS_MIN || strspn(text, "0123456789abcdefABCDEF") != size) {
        exchange_fail(x, PROBLEM_HEADER_VALUE, "If-Embedding-Space",
                      "If-Embedding-Space: %d or more hexadecimal digits are allowed", DIGITS_MIN);
        return false;
    }
    if (size > SHA256_HEX_SIZE || strncasecmp(text, engine->space.id, size) != 0) {
        exchange_header(x, "X-Embedding-Space", "%.12s", engine->space.id);
        exchange_fail(x, PROBLEM_PRECONDITION, "If-Embedding-Space",
                      "this server's embedding space is %.12s: its vectors can't be compared with "
                      "those of the space that is asked for",
                      engine->space.id);
        return false;
    }
    return true;
}

/* True where the queue would refuse even the shortest text. A small body is read all the same where
 * there is a cache: its answer may be there. */
static bool full(const struct exchange *x, const struct engine *engine)
{
    bool small = !x->chunked && x->content_length <= PREPARE_INLINE_MAX;
    bool looked_up = engine->flights && small && !x->impatient;
    return engine_full(engine, x->impatient) && !looked_up;
}

static void begin(struct exchange *x)
{
    struct engine *engine = server_engine(x->server);
    enum server_phase phase = server_phase(x->server);
    char head[HEADS_NAME_MAX + 1];
    if (phase == SERVER_STOPPING) {
        exchange_fail(x, PROBLEM_DRAINING, NULL, "the server is shutting down");
    } else if (!engine) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    } else if (take_timeout(x) && space_fits(x, engine) && head_of(x, kind_of(x), head) &&
               full(x, engine)) {
        struct problem problem = {0};
        (void)problem_set(&problem, PROBLEM_OVERLOADED, NULL, PROBLEM_FULL_TEXT);
        exchange_problem(x, &problem, engine_retry_after_s(engine));
    }
}

static void on_done(struct job *job)
{
    exchange_resume(job->context);
}

static void client_changed(struct exchange *x, enum policy_client client)
{
    engine_client(server_engine(x->server), x->job, client);
}

static void reply(struct exchange *x)
{
    struct job *job = x->job;
    struct engine *engine = server_engine(x->server);
    if (job->problem.kind != PROBLEM_NONE) {
        exchange_problem(x, &job->problem, job->retry_after_s);
        return;
    }
    exchange_header(x, "X-Encoder", "%s", engine->encoder_id);
    if (job->heads_id[0]) {
        exchange_header(x, "X-Heads", "%s", job->heads_id);
    }
    if (gives_vectors(x)) {
        exchange_header(x, "X-Embedding-Space", "%.12s", engine->space.id);
    }
    exchange_header(x, "X-Compute-Tokens", "%zu", job->total_tokens);
    exchange_header(x, "X-Truncated", "%zu", job->n_truncated);
    char waited[40] = "";
    if (job->prepare_ns) {
        (void)snprintf(waited, sizeof waited, ", prepare;dur=%.3f", (double)job->prepare_ns / 1e6);
    }
    exchange_header(x, "Server-Timing", "tokenize;dur=%.3f, queue;dur=%.3f, encode;dur=%.3f%s",
                    (double)job->tokenize_ns / 1e6, (double)job->queue_ns / 1e6,
                    (double)job->encode_ns / 1e6, waited);
    if (job->request.windows && (job->kind == API_EMBED || job->kind == API_OPENAI)) {
        exchange_header(x, "X-Windows", "%zu", job->texts);
    }
    if (job->raw) {
        exchange_header(x, "X-Shape", "%zu,%zu", job->raw_rows, job->raw_width);
    }
    buf_done(&x->reply.body);
    x->reply.body = job->response;
    buf_init(&job->response, 0);
    exchange_reply(x, 200, job->raw ? octets : "application/json");
}

/* Whether the I/O thread prepares the job itself. */
static bool is_small(const struct job *job)
{
    return job->body_size <=
           (size_t)(job->kind == API_TOKENIZE ? TOKENIZE_INLINE_MAX : PREPARE_INLINE_MAX);
}

static bool run(struct exchange *x)
{
    struct engine *engine = server_engine(x->server);
    if (server_phase(x->server) == SERVER_STOPPING) {
        /* The drain ended while the body came in. */
        exchange_fail(x, PROBLEM_DRAINING, NULL, "the server is shutting down");
        return false;
    }
    struct job *job = job_create();
    if (!job) {
        exchange_fail(x, PROBLEM_INTERNAL, NULL, "no memory for the request");
        return false;
    }
    x->job = job;
    x->client_changed = client_changed;
    job->kind = kind_of(x);
    (void)head_of(x, job->kind, job->head);
    job->raw = job->kind == API_EMBED && accept_octets(&x->headers.accept);
    job->held_body = x->body; /* from here on the job's, which frees it as soon as it can */
    buf_init(&x->body, 0);
    job->body = job->held_body.data ? job->held_body.data : "";
    job->body_size = job->held_body.size;
    job->account = &x->account;
    (void)snprintf(job->request_id, sizeof job->request_id, "%s", x->request_id);
    job->arrived_ns = x->arrived_ns;
    job->deadline_ns = x->arrived_ns + x->timeout_ms * NS_PER_MS;
    job->done = on_done;
    job->context = x;
    if (!is_small(job)) {
        return true;
    }
    if (!answer_prepare(job, engine) || job->texts == 0 || !engine_admit(engine, job)) {
        reply(x);
        return false;
    }
    return true;
}

static void submit(struct exchange *x)
{
    struct engine *engine = server_engine(x->server);
    if (is_small(x->job)) {
        engine_enqueue(engine, x->job);
    } else {
        engine_submit_large(engine, x->job);
    }
}

const struct handler handler_predict = {
    .begin = begin, .run = run, .submit = submit, .finish = reply};
const struct handler handler_root = {.begin = begin, .run = run, .submit = submit, .finish = reply};
