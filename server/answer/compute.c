/* One piece is computed: what the answer needs of the pass is taken before the worker goes on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer/answer_private.h"

/* Tokens [from,to) of the job, which are of that input. */
static struct spans_text text_of(const struct job *job, const struct engine *engine, size_t input,
                                 size_t from, size_t to)
{
    const struct answer *answer = job->answer;
    return (struct spans_text){
        .tokenizer = engine->model->tokenizer,
        .text = job->request.inputs[input].text,
        .size = job->request.inputs[input].size,
        .ids = job->ids + from,
        .starts = answer->starts + from,
        .stops = answer->stops + from,
        .parts = answer->parts + from,
        .n = to - from,
    };
}

struct spans_text piece_text(const struct job *job, const struct engine *engine, size_t piece,
                             size_t input)
{
    return text_of(job, engine, input, job->starts[piece], job->starts[piece + 1]);
}

struct spans_text input_text(const struct job *job, const struct engine *engine, size_t input)
{
    return text_of(job, engine, input, job->starts[answer_first(job->answer, input)],
                   job->starts[answer_first(job->answer, input + 1)]);
}

/* The input that a piece is of. */
static size_t input_of(const struct job *job, size_t piece)
{
    const struct answer *answer = job->answer;
    size_t low = 0;
    size_t high = job->request.n;
    if (!answer->first) {
        return piece;
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (answer->first[middle] <= piece) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool ask_tokens(struct job *job, struct asked *asked, size_t piece,
                       const struct computed_text *text, const struct engine *engine)
{
    const struct answer *answer = job->answer;
    const struct spans_text tokens = piece_text(job, engine, piece, input_of(job, piece));
    size_t n = spans_items(asked->head, &tokens, text->hidden, answer->strategy,
                           job->request.raw_scores, asked->items + job->starts[piece]);
    asked->n_items[piece] = n == SIZE_MAX ? 0 : n;
    return n != SIZE_MAX;
}

static bool ask_text(const struct head *head, float *all, size_t piece,
                     const struct computed_text *text)
{
    float *logits = all + piece * head->classes;
    head_logits(head, head->input == HEAD_INPUT_CLS ? text->hidden : text->pooled, 1, logits);
    for (size_t k = 0; k < head->classes; k++) {
        if (!isfinite(logits[k])) {
            return false;
        }
    }
    return true;
}

/* The best label's logit, told by the tokens. There are no windows: piece and input are one. */
static bool explain(struct job *job, size_t piece, const struct computed_text *text)
{
    struct answer *answer = job->answer;
    const struct asked *asked = &answer->asked[0];
    const struct head *head = asked->head;
    const float *logits = asked->logits + piece * head->classes;
    float *scratch = calloc(head->width, sizeof *scratch);
    if (!scratch) {
        return false;
    }
    size_t best = head_best(logits, head->classes);
    head_explain(head, text->hidden, text->n, text->pooled, best, logits[best], scratch,
                 answer->shares + job->starts[piece], &answer->biases[piece]);
    free(scratch);
    return true;
}

void answer_computed(struct job *job, size_t piece, const struct computed_text *text,
                     const struct engine *engine)
{
    struct answer *answer = job->answer;
    size_t width = vector_in(engine->model->vector);
    bool good = true;
    float *row = job->embeddings + piece * width;
    if (text->pooled != row) {
        memcpy(row, text->pooled, width * sizeof *text->pooled);
    }
    for (size_t i = 0; i < width; i++) {
        good = good && isfinite(text->pooled[i]);
    }
    for (size_t i = 0; good && i < answer->n_asked; i++) {
        struct asked *asked = &answer->asked[i];
        good = asked->items ? ask_tokens(job, asked, piece, text, engine)
                            : ask_text(asked->head, asked->logits, piece, text);
        if (asked->staged) {
            /* What it says is counted where it is finite; it answers nobody. */
            (void)ask_text(asked->staged, asked->staged_logits, piece, text);
        }
    }
    if (good && answer->hidden) {
        memcpy(answer->hidden + job->starts[piece] * engine->model->config.hidden, text->hidden,
               text->n * engine->model->config.hidden * sizeof *text->hidden);
    }
    if (good && answer->shares) {
        good = explain(job, piece, text);
    }
    if (!good) {
        atomic_store_explicit(&answer->broken, true, memory_order_relaxed);
    }
}
