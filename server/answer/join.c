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
    /* Windows, and items within one, stand in the order of the text. */
    return left->span.first < right->span.first ? -1 : left->span.first > right->span.first;
}

/* Tokens one by one: of those that two windows saw, the surer window's stay. (In one window several
 * may begin at the same character.) */
static void drop_repeated(struct found *found)
{
    struct found_span *spans = found->spans;
    size_t kept = 0;
    for (size_t from = 0, to; from < found->n; from = to) {
        size_t best = from;
        for (to = from + 1; to < found->n && spans[to].span.start == spans[from].span.start; to++) {
            if (spans[to].piece != spans[to - 1].piece &&
                spans[to].span.score > spans[best].span.score) {
                best = to;
            }
        }
        size_t piece = spans[best].piece;
        for (size_t i = best; i < to && spans[i].piece == piece; i++) {
            spans[kept++] = spans[i];
        }
    }
    found->n = kept;
}

/* Left grows by what right has beyond it: its items before right's first, then right's, in a run of
 * their own at the end of found->items. */
static void join_two(struct found *found, const struct spans_text *text, struct span *left,
                     const struct span *right)
{
    struct span_item *items = found->items;
    size_t n = 0;
    while (n < left->items && text->starts[items[left->first + n].first] < right->start) {
        n++;
    }
    if (left->first + left->items == found->n_items) {
        found->n_items = left->first + n;
    } else {
        memcpy(items + found->n_items, items + left->first, n * sizeof *items);
        left->first = found->n_items;
        found->n_items += n;
    }
    memcpy(items + found->n_items, items + right->first, right->items * sizeof *items);
    found->n_items += right->items;
    left->items = n + right->items;
    left->end = right->end;
    left->score = 0;
    for (size_t i = 0; i < left->items; i++) {
        left->score += items[left->first + i].score;
    }
    left->score /= (float)left->items;
}

/* Where two windows found spans that overlap: of the same label they are one, as far as both reach;
 * else the longer one stays, and of equal ones the surer. */
static void join_overlapping(struct found *found, const struct spans_text *text)
{
    struct found_span *spans = found->spans;
    size_t kept = 0;
    for (size_t i = 1; i < found->n; i++) {
        struct span *last = &spans[kept].span;
        const struct span *span = &spans[i].span;
        uint32_t last_length = last->end - last->start;
        uint32_t length = span->end - span->start;
        if (span->start >= last->end || spans[i].piece == spans[kept].piece) {
            spans[++kept] = spans[i];
        } else if (strcmp(spans[i].label, spans[kept].label) == 0 && span->start > last->start &&
                   span->end > last->end) {
            join_two(found, text, last, span);
            spans[kept].piece = spans[i].piece;
        } else if (length > last_length || (length == last_length && span->score > last->score)) {
            spans[kept] = spans[i];
        }
    }
    found->n = found->n ? kept + 1 : 0;
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

/* Tokens of the text before those of a window, both with the template's first ones: where the
 * window before has this one's first token. */
static size_t window_offset(const struct spans_text *before, const struct spans_text *window)
{
    size_t first = 0;
    while (first < window->n && window->parts[first] == TOKEN_ADDED) {
        first++;
    }
    size_t t = first;
    while (first < window->n && t < before->n &&
           (before->parts[t] == TOKEN_ADDED || before->starts[t] != window->starts[first])) {
        t++;
    }
    return t - first;
}

/* A piece's spans, its items counted from the input's first token on. */
static void find_in_piece(const struct job *job, const struct asked *asked,
                          const struct spans_text *text, size_t piece, size_t base, size_t offset,
                          struct span *spans, struct found *found)
{
    const struct answer *answer = job->answer;
    enum spans_strategy strategy = answer->strategy;
    const struct span_item *items = asked->items + job->starts[piece];
    size_t groups = spans_group(asked->head, text, items, asked->n_items[piece], strategy, spans);
    for (size_t i = 0; i < groups; i++) {
        const char *label = span_label(asked->head, &items[spans[i].first], strategy);
        if (!ignored(job, label)) {
            spans[i].first += found->n_items;
            found->spans[found->n++] = (struct found_span){
                .span = spans[i], .label = label, .piece = piece, .base = base, .offset = offset};
        }
    }
    for (size_t i = 0; i < asked->n_items[piece]; i++) {
        struct span_item *item = &found->items[found->n_items++];
        *item = items[i];
        item->first += (uint32_t)base;
    }
}

bool found_spans(const struct job *job, const struct engine *engine, const struct asked *asked,
                 size_t input, struct found *ret_found)
{
    const struct answer *answer = job->answer;
    size_t from = answer_first(answer, input);
    size_t to = answer_first(answer, input + 1);
    size_t tokens = job->starts[to] - job->starts[from];
    size_t room = to - from > 1 ? 2 * tokens : tokens; /* joined spans are written anew */
    struct found found = {.spans = calloc(tokens + 1, sizeof *found.spans),
                          .items = calloc(room + 1, sizeof *found.items)};
    struct span *spans = calloc(tokens + 1, sizeof *spans);
    if (!found.spans || !found.items || !spans) {
        free(spans);
        found_done(&found);
        return false;
    }
    struct spans_text before = {0};
    size_t offset = 0;
    for (size_t piece = from; piece < to; piece++) {
        const struct spans_text text = piece_text(job, engine, piece, input);
        offset += piece > from ? window_offset(&before, &text) : 0;
        find_in_piece(job, asked, &text, piece, job->starts[piece] - job->starts[from], offset,
                      spans, &found);
        before = text;
    }
    free(spans);
    if (to - from > 1) {
        const struct spans_text all = input_text(job, engine, input);
        qsort(found.spans, found.n, sizeof *found.spans, by_place);
        if (answer->strategy == SPANS_NONE) {
            drop_repeated(&found);
        } else {
            join_overlapping(&found, &all);
        }
    }
    *ret_found = found;
    return true;
}

void found_done(struct found *found)
{
    free(found->items);
    free(found->spans);
    *found = (struct found){0};
}
