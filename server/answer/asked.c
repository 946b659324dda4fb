/* Which heads a job asks, taken once in one version, and the room for what they will say. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "server/answer/answer_private.h"

static void answer_free(void *state)
{
    struct answer *answer = state;
    for (size_t i = 0; i < answer->n_asked; i++) {
        struct asked *asked = &answer->asked[i];
        if (asked->joined != asked->logits) {
            free(asked->joined);
        }
        free(asked->logits);
        free(asked->scores);
        free(asked->staged_logits);
        free(asked->items);
        free(asked->n_items);
    }
    heads_version_release(&answer->version);
    shadow_release(answer->shadow);
    free(answer->asked);
    free(answer->first);
    free(answer->starts);
    free(answer->stops);
    free(answer->parts);
    free(answer->hidden);
    free(answer->shares);
    free(answer->biases);
    free(answer);
}

bool answer_no_memory(struct job *job)
{
    return problem_set(&job->problem, PROBLEM_INTERNAL, NULL, "out of memory");
}

static bool absent(struct job *job, const char *name)
{
    return problem_set(&job->problem, PROBLEM_HEAD_ABSENT, NULL,
                       "the server has no %s head in service; PUT /admin/heads brings one", name);
}

/* True where the head was taken, or was not there and need not be. */
static bool take(struct job *job, const char *name, enum place_of place, bool must)
{
    struct answer *answer = job->answer;
    const struct head *head = heads_find(answer->version.heads, name);
    if (!head) {
        return !must || absent(job, name);
    }
    answer->asked[answer->n_asked++] = (struct asked){
        .head = head, .place = place, .staged = shadow_head(answer->shadow, head)};
    return true;
}

static bool take_tasks(struct job *job)
{
    const struct api_request *request = &job->request;
    bool good = true;
    if (request->tasks & API_TASK_CLASSIFY) {
        good = take(job, "classifier", PLACE_CLASSIFY, request->tasks_said);
    }
    if (good && (request->tasks & API_TASK_SENTIMENT)) {
        good = take(job, "sentiment", PLACE_SENTIMENT, request->tasks_said);
    }
    for (size_t i = 0; good && i < request->n_named; i++) {
        good = take(job, request->named[i].text, PLACE_NAMED, true);
    }
    return good;
}

static bool refuse(struct job *job, const char *param, enum problem_kind kind, const char *text)
{
    return problem_set(&job->problem, kind, param, "%s", text);
}

/* What a request may say of the one head it asks. */
static bool check_single(struct job *job, const struct engine *engine)
{
    const struct api_request *request = &job->request;
    const struct head *head = ((struct answer *)job->answer)->asked[0].head;
    bool tokens = head->type == HEAD_TOKENS;
    bool spread = head->type == HEAD_SIGMOID || head->type == HEAD_SCORE;
    if (!tokens && (request->aggregation || request->ignore_said)) {
        return refuse(job, request->aggregation ? "aggregation_strategy" : "ignore_labels",
                      PROBLEM_FIELD_VALUE, "this head gives labels for texts, not for tokens");
    }
    if (job->kind == API_RERANK && head->type != HEAD_SCORE) {
        return refuse(job, "head", PROBLEM_NOT_RANKER, "this head gives no single score");
    }
    if (tokens && job->kind == API_PREDICT) {
        return refuse(job, "head", PROBLEM_FIELD_VALUE,
                      "this head gives labels for tokens: POST /heads/{name} asks it");
    }
    if (tokens && request->top_k) {
        return refuse(job, "top_k", PROBLEM_FIELD_VALUE, "a head for tokens takes no top_k");
    }
    if (request->function == API_FUNCTION_SIGMOID && head->identity) {
        return refuse(job, "parameters.function_to_apply", PROBLEM_FIELD_VALUE,
                      "this head's scores are its logits; \"none\" is allowed");
    }
    if ((request->function == API_FUNCTION_SIGMOID && !spread) ||
        (request->function == API_FUNCTION_SOFTMAX && spread)) {
        return refuse(
            job, "parameters.function_to_apply", PROBLEM_FIELD_VALUE,
            spread ? "this head's scores are by sigmoid; \"sigmoid\" or \"none\" is allowed"
                   : "this head's scores are by softmax; \"softmax\" or \"none\" is allowed");
    }
    if (request->abstain && !head->thresholds) {
        return refuse(job, "abstain", PROBLEM_FIELD_VALUE,
                      "this head has no thresholds to abstain by");
    }
    if (request->explain &&
        (head->input != HEAD_INPUT_POOLED || engine->pooling != POOLING_MEAN || request->windows)) {
        return refuse(job, "explain", PROBLEM_EXPLAIN,
                      "a head on the mean over a text's tokens can be explained, and no windows");
    }
    return true;
}

/* Kinds that ask the one head of job->head. */
static bool asks_head(enum api_kind kind)
{
    return kind == API_CLASSIFY || kind == API_SENTIMENT || kind == API_PREDICT ||
           kind == API_HEAD || kind == API_RERANK;
}

/* What the asked heads, and those staged beside them, read of a text. */
static enum job_reads reads_of(const struct job *job)
{
    const struct answer *answer = job->answer;
    enum job_reads reads = JOB_READS_POOLED;
    if (job->kind == API_EMBED_ALL || job->request.explain) {
        return JOB_READS_TOKENS;
    }
    for (size_t i = 0; i < answer->n_asked; i++) {
        const struct asked *asked = &answer->asked[i];
        if (asked->head->type == HEAD_TOKENS) {
            return JOB_READS_TOKENS;
        }
        if (asked->head->input == HEAD_INPUT_CLS ||
            (asked->staged && asked->staged->input == HEAD_INPUT_CLS)) {
            reads = JOB_READS_FIRST;
        }
    }
    return reads;
}

static bool take_heads(struct job *job, const struct engine *engine)
{
    struct answer *answer = job->answer;
    bool analyze = job->kind == API_ANALYZE;
    headstore_acquire(engine->headstore, &answer->version);
    answer->shadow = shadow_acquire(engine->headstore, &answer->version);
    if (analyze ? !take_tasks(job) : !take(job, job->head, PLACE_ALONE, true)) {
        return false;
    }
    if (answer->n_asked) {
        (void)snprintf(job->heads_id, sizeof job->heads_id, "%s", answer->version.id);
    }
    static const enum spans_strategy strategies[] = {
        [API_AGGREGATE_UNSAID] = SPANS_SIMPLE,   [API_AGGREGATE_NONE] = SPANS_NONE,
        [API_AGGREGATE_SIMPLE] = SPANS_SIMPLE,   [API_AGGREGATE_FIRST] = SPANS_FIRST,
        [API_AGGREGATE_AVERAGE] = SPANS_AVERAGE, [API_AGGREGATE_MAX] = SPANS_MAX};
    answer->strategy = strategies[job->request.aggregation];
    answer->offsets = job->request.explain;
    for (size_t i = 0; i < answer->n_asked; i++) {
        answer->offsets = answer->offsets || answer->asked[i].head->type == HEAD_TOKENS;
    }
    return analyze || check_single(job, engine);
}

bool asked_take(struct job *job, const struct engine *engine)
{
    struct answer *answer = calloc(1, sizeof *answer);
    if (!answer) {
        return answer_no_memory(job);
    }
    atomic_init(&answer->broken, false);
    job->answer = answer;
    job->answer_free = answer_free;
    answer->asked = calloc(API_TASKS_MAX, sizeof *answer->asked);
    if (!answer->asked) {
        return answer_no_memory(job);
    }
    if ((job->kind == API_ANALYZE || asks_head(job->kind)) && !take_heads(job, engine)) {
        return false;
    }
    job->reads = reads_of(job);
    return true;
}

/* calloc of a × b of size bytes, 1 at least. */
static void *room(size_t a, size_t b, size_t size)
{
    size_t count;
    return size_mul(a, b, &count) ? calloc(size_max(count, 1), size) : NULL;
}

static bool room_of_head(const struct job *job, struct asked *asked)
{
    if (asked->head->type == HEAD_TOKENS) {
        asked->items = room(job->total_tokens, 1, sizeof *asked->items);
        asked->n_items = room(job->texts, 1, sizeof *asked->n_items);
        return asked->items && asked->n_items;
    }
    const struct answer *answer = job->answer;
    size_t classes = asked->head->classes;
    asked->logits = room(job->texts, classes, sizeof(float));
    asked->joined = answer->first ? room(job->request.n, classes, sizeof(float)) : asked->logits;
    asked->scores = room(job->request.n, classes, sizeof(float));
    if (asked->staged) {
        asked->staged_logits = room(job->texts, asked->staged->classes, sizeof(float));
    }
    return asked->logits && asked->joined && asked->scores &&
           (asked->staged_logits || !asked->staged);
}

/* Every token's vector is held until it is written: more than this is answered before it is
 * computed. */
static bool vectors_fit(struct job *job, const struct engine *engine)
{
    enum { VECTORS_MIB = 256, NUMBER_BYTES = 12 };
    size_t bytes;
    if (job->kind != API_EMBED_ALL ||
        (size_mul(job->total_tokens, engine->model->config.hidden * NUMBER_BYTES, &bytes) &&
         bytes <= (size_t)VECTORS_MIB * 1024 * 1024)) {
        return true;
    }
    return problem_set(&job->problem, PROBLEM_RESPONSE_LARGE, NULL,
                       "the answer would be larger than %d MiB; send fewer or shorter texts",
                       VECTORS_MIB);
}

bool asked_room(struct job *job, const struct engine *engine)
{
    struct answer *answer = job->answer;
    bool whole = true;
    if (!vectors_fit(job, engine)) {
        return false;
    }
    for (size_t i = 0; whole && i < answer->n_asked; i++) {
        whole = room_of_head(job, &answer->asked[i]);
    }
    if (whole && job->kind == API_EMBED_ALL) {
        answer->hidden = room(job->total_tokens, engine->model->config.hidden, sizeof(float));
        whole = answer->hidden;
    }
    if (whole && job->request.explain) {
        answer->shares = room(job->total_tokens, 1, sizeof(float));
        answer->biases = room(job->request.n, 1, sizeof(float));
        whole = answer->shares && answer->biases;
    }
    return whole || answer_no_memory(job);
}
