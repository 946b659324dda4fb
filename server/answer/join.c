/* Pieces → inputs: windows are joined, logits become scores, spans are put in order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer/answer_private.h"

/* Logits of the pieces [from,to) → one row: a sigmoid head's best window tells, others' mean. */
static void join_logits(const struct head *head, const float *logits, size_t from, size_t to,
                        float *out)
{
    for (size_t k = 0; k < head->classes; k++) {
        double sum = 0;
        float highest = logits[from * head->classes + k];
        for (size_t piece = from; piece < to; piece++) {
            float logit = logits[piece * head->classes + k];
            sum += (double)logit;
            highest = logit > highest ? logit : highest;
        }
        out[k] = head->type == HEAD_SIGMOID ? highest : (float)(sum / (double)(to - from));
    }
}

/* The vectors of an input's windows → their mean, weighted by tokens, in the input's row. */
static void join_vectors(struct job *job, size_t input, size_t width)
{
    const struct answer *answer = job->answer;
    size_t from = answer->first[input];
    size_t to = answer->first[input + 1];
    float *out = job->embeddings + input * width; /* input ≤ from: nothing unread is overwritten */
    double total = (double)(job->starts[to] - job->starts[from]);
    for (size_t i = 0; to - from > 1 && i < width; i++) {
        double sum = 0;
        for (size_t piece = from; piece < to; piece++) {
            double tokens = (double)(job->starts[piece + 1] - job->starts[piece]);
            sum += tokens * (double)job->embeddings[piece * width + i];
        }
        out[i] = (float)(sum / total);
    }
    if (to - from == 1) {
        memmove(out, job->embeddings + from * width, width * sizeof *out);
    }
}

static bool score(struct job *job, struct asked *asked, size_t input)
{
    const struct answer *answer = job->answer;
    const struct head *head = asked->head;
    float *row = asked->joined + input * head->classes;
    float *scores = asked->scores + input * head->classes;
    if (answer->first) {
        join_logits(head, asked->logits, answer->first[input], answer->first[input + 1], row);
    }
    head_scores(head, row, scores);
    for (size_t k = 0; k < head->classes; k++) {
        if (!isfinite(scores[k])) {
            return false;
        }
    }
    return true;
}

static void count(const struct engine *engine, const struct asked *asked, size_t input)
{
    const struct head *head = asked->head;
    const float *scores = asked->scores + input * head->classes;
    size_t best = head_best(scores, head->classes);
    metrics_prediction(engine->metrics, head->name,
                       best < METRICS_LABELS_MAX ? head->labels[best] : "other",
                       (double)scores[best]);
}

/* The staged head saw the text too. */
static void count_shadow(const struct job *job, const struct engine *engine,
                         const struct asked *asked, size_t input)
{
    const struct answer *answer = job->answer;
    const struct head *staged = asked->staged;
    float scores[HEADS_CLASSES_MAX];
    join_logits(staged, asked->staged_logits, answer_first(answer, input),
                answer_first(answer, input + 1), scores);
    head_scores(staged, scores, scores);
    for (size_t k = 0; k < staged->classes; k++) {
        if (!isfinite(scores[k])) {
            return;
        }
    }
    bool agrees = shadow_count(answer->shadow, asked->head, staged,
                               asked->scores + input * asked->head->classes, scores);
    metrics_shadow(engine->metrics, asked->head->name, agrees);
}

bool join_pieces(struct job *job, const struct engine *engine)
{
    struct answer *answer = job->answer;
    size_t width = vector_in(engine->model->vector);
    if (atomic_load_explicit(&answer->broken, memory_order_relaxed)) {
        return problem_set(&job->problem, PROBLEM_INTERNAL, NULL,
                           "the encoder or a head gave a number that is not finite");
    }
    for (size_t input = 0; input < job->request.n; input++) {
        if (answer->first) {
            join_vectors(job, input, width);
        }
        for (size_t i = 0; i < answer->n_asked; i++) {
            struct asked *asked = &answer->asked[i];
            if (asked->items) {
                continue;
            }
            if (!score(job, asked, input)) {
                return problem_set(&job->problem, PROBLEM_INTERNAL, NULL,
                                   "the %s head gave a score that is not finite",
                                   asked->head->name);
            }
            count(engine, asked, input);
            if (asked->staged) {
                count_shadow(job, engine, asked, input);
            }
        }
    }
    return true;
}

static int by_place(const void *a, const void *b)
{
    const struct found_span *left = a;
    const struct found_span *right = b;
    if (left->span.start != right->span.start) {
        return left->span.start < right->span.start ? -1 : 1;
    }
    return left->piece < right->piece ? -1 : left->piece > right->piece;
}

/* Where two windows found spans that overlap, the longer one stays, and of equal ones the surer. */
static size_t drop_overlapping(struct found_span *spans, size_t n)
{
    size_t kept = 0;
    for (size_t i = 1; i < n; i++) {
        const struct span *last = &spans[kept].span;
        const struct span *span = &spans[i].span;
        uint32_t last_length = last->end - last->start;
        uint32_t length = span->end - span->start;
        if (span->start >= last->end) {
            spans[++kept] = spans[i];
        } else if (length > last_length || (length == last_length && span->score > last->score)) {
            spans[kept] = spans[i];
        }
    }
    return n ? kept + 1 : 0;
}

static bool ignored(const struct job *job, const char *label)
{
    const struct api_request *request = &job->request;
    if (!request->ignore_said) {
        return strcmp(label, "O") == 0;
    }
    for (size_t i = 0; i < request->n_ignore_labels; i++) {
        if (strcmp(request->ignore_labels[i].text, label) == 0) {
            return true;
        }
    }
    return false;
}

bool found_spans(const struct job *job, const struct engine *engine, const struct asked *asked,
                 size_t input, struct found_span **ret_spans, size_t *ret_n)
{
    const struct answer *answer = job->answer;
    size_t from = answer_first(answer, input);
    size_t to = answer_first(answer, input + 1);
    size_t tokens = job->starts[to] - job->starts[from];
    struct found_span *found = calloc(tokens + 1, sizeof *found);
    struct span *spans = calloc(tokens + 1, sizeof *spans);
    size_t n = 0;
    for (size_t piece = from; found && spans && piece < to; piece++) {
        const struct spans_text text = piece_text(job, engine, piece, input);
        const struct span_item *items = asked->items + job->starts[piece];
        size_t groups = spans_group(asked->head, &text, items, asked->n_items[piece],
                                    answer->strategy, spans);
        for (size_t i = 0; i < groups; i++) {
            const char *label = span_label(asked->head, &items[spans[i].first], answer->strategy);
            if (!ignored(job, label)) {
                found[n++] = (struct found_span){spans[i], piece};
            }
        }
    }
    free(spans);
    if (!found || !spans) {
        free(found);
        return false;
    }
    if (to - from > 1) {
        qsort(found, n, sizeof *found, by_place);
        n = drop_overlapping(found, n);
    }
    *ret_spans = found;
    *ret_n = n;
    return true;
}
