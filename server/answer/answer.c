/* The end of a job: vectors and what the heads said → response body. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/response_heads.h"
#include "base/size.h"
#include "server/answer/answer_private.h"

/* Bytes of JSON that one number, one label's entry and one text's frame may take. A label of 256
 * bytes can be six times as long when every one of them is escaped. */
enum { NUMBER_BYTES = 20, SCORE_BYTES = 64 + 6 * HEADS_LABEL_MAX, TEXT_BYTES = 1024 };

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

static void write_similarity(struct job *job, size_t hidden)
{
    size_t n = job->request.n - 1;
    embeddings_normalize(job->embeddings, n + 1, hidden);
    for (size_t i = 0; i < n; i++) {
        double cosine = 0;
        for (size_t k = 0; k < hidden; k++) {
            cosine += (double)job->embeddings[k] * (double)job->embeddings[(i + 1) * hidden + k];
        }
        /* Behind the vectors that are still read: row i+1 is done with. */
        job->embeddings[(i + 1) * hidden] = (float)cosine;
    }
    for (size_t i = 0; i < n; i++) {
        job->embeddings[i] = job->embeddings[(i + 1) * hidden];
    }
    response_floats(job->embeddings, n, &job->response);
}

static bool write_ranks(struct job *job)
{
    const struct answer *answer = job->answer;
    const struct asked *asked = &answer->asked[0];
    size_t n = job->request.n;
    size_t *order = calloc(n, sizeof *order);
    struct response_text *texts = job->request.return_text ? calloc(n, sizeof *texts) : NULL;
    bool whole = order && (texts || !job->request.return_text);
    for (size_t i = 0; whole && texts && i < n; i++) {
        texts[i] = (struct response_text){job->request.inputs[i].second,
                                          job->request.inputs[i].second_size};
    }
    if (whole) {
        response_ranks(job->request.raw_scores ? asked->joined : asked->scores, texts, n, order,
                       &job->response);
    }
    free(texts);
    free(order);
    return whole || answer_no_memory(job);
}

static void write_token_vectors(struct job *job, size_t hidden)
{
    const struct answer *answer = job->answer;
    buf_append_char(&job->response, '[');
    for (size_t i = 0; i < job->request.n; i++) {
        response_token_vectors(answer->hidden + job->starts[i] * hidden,
                               job->starts[i + 1] - job->starts[i], hidden, i == 0, &job->response);
    }
    buf_append_char(&job->response, ']');
}

/* More than the longest body that the writers can make of this job. */
static size_t response_ceiling(const struct job *job, size_t hidden, size_t token_width)
{
    const struct answer *answer = job->answer;
    size_t scores = 0;
    size_t per_token = 0;
    for (size_t i = 0; i < answer->n_asked; i++) {
        const struct head *head = answer->asked[i].head;
        bool tokens = head->type == HEAD_TOKENS;
        scores += tokens ? 0 : head->classes;
        per_token += tokens ? 2 * SCORE_BYTES : 0;
    }
    per_token += answer->hidden ? token_width * NUMBER_BYTES : 0;
    per_token += answer->shares ? SCORE_BYTES : 0;
    size_t per_text = hidden * NUMBER_BYTES + scores * SCORE_BYTES + TEXT_BYTES;
    size_t ceiling;
    size_t tokens;
    /* A text that comes back, or a token's share of it, is escaped: six bytes for one at most. */
    if (!size_mul(job->request.n + 1, per_text, &ceiling) ||
        !size_mul(job->total_tokens + 1, per_token, &tokens) ||
        !size_add(ceiling, tokens, &ceiling) || !size_mul(job->body_size, 6, &tokens) ||
        !size_add(ceiling, tokens, &ceiling)) {
        return SIZE_MAX;
    }
    return ceiling;
}

/* The heads have had the pooled vectors: what leaves goes through the folder's modules. */
static bool gives_vectors(const struct job *job)
{
    return job->kind == API_EMBED || job->kind == API_OPENAI || job->kind == API_SIMILARITY ||
           (job->kind == API_ANALYZE && (job->request.tasks & API_TASK_EMBED));
}

/* Pooled vectors → the folder's, of finite numbers. */
static bool make_vectors(struct job *job, const struct engine *engine)
{
    size_t count = job->request.n * vector_out(engine->model->vector);
    if (!vector_apply(engine->model->vector, job->embeddings, job->request.n)) {
        return answer_no_memory(job);
    }
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(job->embeddings[i])) {
            return problem_set(&job->problem, PROBLEM_INTERNAL, NULL,
                               "the encoder gave a number that is not finite");
        }
    }
    return true;
}

static bool write_answer(struct job *job, const struct engine *engine)
{
    const struct api_request *request = &job->request;
    size_t hidden = vector_out(engine->model->vector);
    bool written = true;
    if (gives_vectors(job) && !make_vectors(job, engine)) {
        return false;
    }
    buf_init(&job->response, response_ceiling(job, hidden, engine->model->config.hidden));
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
    case API_HEAD:
    case API_PREDICT:
        written = write_labels(job, engine);
        break;
    case API_ANALYZE:
        written = write_analyze(job, engine);
        break;
    case API_RERANK:
        written = write_ranks(job);
        break;
    case API_SIMILARITY:
        write_similarity(job, hidden);
        break;
    case API_EMBED_ALL:
        write_token_vectors(job, engine->model->config.hidden);
        break;
    case API_TOKENIZE:
    case API_DECODE:
    case API_KINDS:
        break; /* answered when they are prepared */
    }
    return written && (!buf_failed(&job->response) || answer_no_memory(job));
}

void answer_finish(struct job *job, const struct engine *engine)
{
    if (join_pieces(job, engine) && write_answer(job, engine)) {
        metrics_stages(engine->metrics, job->tokenize_ns, job->queue_ns, job->encode_ns);
        metrics_truncated(engine->metrics, job->n_truncated);
    }
}

const struct engine_answers answers = {
    .prepare = answer_prepare, .computed = answer_computed, .finish = answer_finish};
