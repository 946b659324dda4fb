/* The end of a job: embeddings → heads → response body. */
#include "server/answer/answer.h"

#include <math.h>

#include "api/response.h"
#include "base/size.h"
#include "server/answer/ask.h"
#include "server/queue/engine.h"

/* Bytes of JSON that one number, one label's entry and one text's frame may take. A label of 256
 * bytes can be six times as long when every one of them is escaped. */
enum { NUMBER_BYTES = 20, SCORE_BYTES = 64 + 6 * HEADS_LABEL_MAX, TEXT_BYTES = 1024 };

/* What one head said about all texts of a job; [N,K] each. */
struct opinion {
    const struct head *head;
    float *logits;
    float *scores;
};

struct answer {
    struct job *job;
    const struct engine *engine;
    struct heads_version version;
    struct asked asked;
    struct opinion opinions[HEADS_MAX]; /* [asked.n] */
};

static void answer_done(struct answer *answer)
{
    for (size_t i = 0; i < answer->asked.n; i++) {
        free(answer->opinions[i].logits);
        free(answer->opinions[i].scores);
    }
    heads_version_release(&answer->version);
}

static bool out_of_memory(struct job *job)
{
    return problem_set(&job->problem, PROBLEM_INTERNAL, NULL, "out of memory");
}

/* Both the float32 printer and JSON know finite numbers alone. */
static bool finite_embeddings(struct job *job, size_t hidden)
{
    size_t count = job->request.n * hidden;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(job->embeddings[i])) {
            return problem_set(&job->problem, PROBLEM_INTERNAL, NULL,
                               "the encoder gave a number that is not finite");
        }
    }
    return true;
}

static void count_predictions(const struct answer *answer, const struct opinion *opinion)
{
    const struct head *head = opinion->head;
    for (size_t i = 0; i < answer->job->request.n; i++) {
        const float *row = opinion->scores + i * head->classes;
        size_t best = head_best(row, head->classes);
        metrics_prediction(answer->engine->metrics, head->name, head->labels[best],
                           (double)row[best]);
    }
}

static bool ask_head(struct answer *answer, struct opinion *opinion)
{
    struct job *job = answer->job;
    const struct head *head = opinion->head;
    size_t count;
    size_t bytes;
    if (!size_mul(job->request.n, head->classes, &count) ||
        !size_mul(count, sizeof(float), &bytes)) {
        return out_of_memory(job);
    }
    opinion->logits = malloc(bytes);
    opinion->scores = malloc(bytes);
    if (!opinion->logits || !opinion->scores) {
        return out_of_memory(job);
    }
    head_logits(head, job->embeddings, job->request.n, opinion->logits);
    for (size_t i = 0; i < job->request.n; i++) {
        head_scores(head, opinion->logits + i * head->classes, opinion->scores + i * head->classes);
    }
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(opinion->logits[i]) || !isfinite(opinion->scores[i])) {
            return problem_set(&job->problem, PROBLEM_INTERNAL, NULL,
                               "the %s head gave a score that is not finite", head->name);
        }
    }
    count_predictions(answer, opinion);
    return true;
}

static bool ask_heads(struct answer *answer)
{
    struct job *job = answer->job;
    if (answer->asked.n == 0) {
        return true;
    }
    headstore_acquire(answer->engine->headstore, &answer->version);
    if (!asked_present(&answer->asked, answer->version.heads, &job->problem)) {
        return false;
    }
    (void)snprintf(job->heads_id, sizeof job->heads_id, "%s", answer->version.id);
    for (size_t i = 0; i < answer->asked.n; i++) {
        answer->opinions[i].head = heads_find(answer->version.heads, answer->asked.name[i]);
        if (!ask_head(answer, &answer->opinions[i])) {
            return false;
        }
    }
    return true;
}

/* What the head of that name said; empty where it was not asked. */
static struct response_head response_head(const struct answer *answer, const char *name)
{
    for (size_t i = 0; i < answer->asked.n; i++) {
        const struct opinion *opinion = &answer->opinions[i];
        if (strcmp(answer->asked.name[i], name) == 0) {
            return (struct response_head){
                .labels = (const char *const *)opinion->head->labels,
                .classes = opinion->head->classes,
                .scores = answer->job->request.raw_scores ? opinion->logits : opinion->scores,
            };
        }
    }
    return (struct response_head){0};
}

/* Cuts to the asked dimensions, side by side, then normalizes. Returns the width. */
static size_t shape_embeddings(struct job *job, size_t hidden, bool normalize)
{
    size_t n = job->request.n;
    size_t width = job->request.dimensions ? size_min(job->request.dimensions, hidden) : hidden;
    if (width < hidden) {
        for (size_t i = 1; i < n; i++) {
            memmove(job->embeddings + i * width, job->embeddings + i * hidden,
                    width * sizeof(float));
        }
    }
    if (normalize) {
        embeddings_normalize(job->embeddings, n, width);
    }
    return width;
}

static void write_embed(struct job *job, size_t hidden)
{
    size_t n = job->request.n;
    size_t width = shape_embeddings(job, hidden, job->request.normalize);
    if (job->raw) {
        job->raw_rows = n;
        job->raw_width = width;
        response_embed_raw(job->embeddings, n, width, width, &job->response);
    } else {
        response_embed(job->embeddings, n, width, width, &job->response);
    }
}

static bool write_analyze(struct answer *answer, size_t hidden)
{
    struct job *job = answer->job;
    size_t n = job->request.n;
    uint32_t *tokens = malloc(n * sizeof *tokens);
    if (!tokens) {
        return out_of_memory(job);
    }
    for (size_t i = 0; i < n; i++) {
        tokens[i] = (uint32_t)(job->starts[i + 1] - job->starts[i]);
    }
    bool embed = job->request.tasks & API_TASK_EMBED;
    if (embed && job->request.normalize) {
        embeddings_normalize(job->embeddings, n, hidden);
    }
    const struct response_analyze analyze = {
        .encoder = answer->engine->encoder_id,
        .heads = answer->asked.n ? job->heads_id : NULL,
        .precision = precision_name(encoder_precision(answer->engine->model->encoder)),
        .tokens = tokens,
        .truncated = job->truncated,
        .embeddings = embed ? job->embeddings : NULL,
        .hidden = hidden,
        .classify = response_head(answer, "classifier"),
        .sentiment = response_head(answer, "sentiment"),
        .total_tokens = job->total_tokens,
    };
    response_analyze(&analyze, n, &job->response);
    free(tokens);
    return true;
}

/* More than the longest body that the writers can make of this job. */
static size_t response_ceiling(const struct answer *answer, size_t hidden)
{
    size_t scores = 0;
    for (size_t i = 0; i < answer->asked.n; i++) {
        scores += answer->opinions[i].head->classes;
    }
    size_t per_text = hidden * NUMBER_BYTES + scores * SCORE_BYTES + TEXT_BYTES;
    size_t ceiling;
    if (!size_mul(answer->job->request.n + 1, per_text, &ceiling)) {
        return SIZE_MAX;
    }
    return ceiling;
}

/* The heads have had the pooled vectors: what leaves goes through the folder's modules. */
static bool gives_vectors(const struct job *job)
{
    return job->kind == API_EMBED || job->kind == API_OPENAI ||
           (job->kind == API_ANALYZE && (job->request.tasks & API_TASK_EMBED));
}

static bool write_answer(struct answer *answer)
{
    struct job *job = answer->job;
    const struct engine *engine = answer->engine;
    const struct api_request *request = &job->request;
    size_t hidden = vector_out(engine->model->vector);
    if (gives_vectors(job)) {
        if (!vector_apply(engine->model->vector, job->embeddings, request->n)) {
            return out_of_memory(job);
        }
        if (!finite_embeddings(job, hidden)) {
            return false;
        }
    }
    buf_init(&job->response, response_ceiling(answer, hidden));
    switch (job->kind) {
    case API_EMBED:
        write_embed(job, hidden);
        break;
    case API_OPENAI: {
        size_t width = shape_embeddings(job, hidden, true);
        response_openai(job->embeddings, request->n, width, width, request->base64,
                        engine->model_name, job->total_tokens, &job->response);
        break;
    }
    case API_CLASSIFY:
    case API_SENTIMENT:
    case API_PREDICT: {
        struct response_head head = response_head(answer, job->head);
        response_classify(&head, request->n, request->top_k, request->single, &job->response);
        break;
    }
    case API_ANALYZE:
        if (!write_analyze(answer, hidden)) {
            return false;
        }
        break;
    case API_TOKENIZE:
        break; /* answered by answer_prepare */
    }
    return !buf_failed(&job->response) || out_of_memory(job);
}

void answer_finish(struct job *job, const struct engine *engine)
{
    struct answer answer = {.job = job, .engine = engine};
    asked_of(job, &answer.asked);
    if (finite_embeddings(job, vector_in(engine->model->vector)) && ask_heads(&answer) &&
        write_answer(&answer)) {
        metrics_stages(engine->metrics, job->tokenize_ns, job->queue_ns, job->encode_ns);
        metrics_truncated(engine->metrics, job->n_truncated);
    }
    answer_done(&answer);
}

const struct engine_answers answers = {.prepare = answer_prepare, .finish = answer_finish};
