/* What heads said → the bodies of /classify, /sentiment, /heads/{name}, /predict and /analyze. */
#include <stdlib.h>
#include <string.h>

#include "api/response_heads.h"
#include "server/answer/answer_private.h"

static struct response_head response_head(const struct job *job, const struct asked *asked)
{
    return (struct response_head){
        .labels = (const char *const *)asked->head->labels,
        .classes = asked->head->classes,
        .scores = job->request.raw_scores ? asked->joined : asked->scores,
    };
}

/* Everything that one text's spans need, found once. */
static bool append_spans(struct job *job, const struct engine *engine, const struct asked *asked,
                         size_t input)
{
    const struct answer *answer = job->answer;
    struct buf *out = &job->response;
    const struct spans_text text = input_text(job, engine, input);
    struct found found;
    struct buf word;
    if (!found_spans(job, engine, asked, input, &found)) {
        return answer_no_memory(job);
    }
    buf_init(&word, out->ceiling);
    buf_append_char(out, '[');
    for (size_t i = 0; i < found.n; i++) {
        const struct found_span *at = &found.spans[i];
        buf_clear(&word);
        if (!span_word(&text, found.items, &at->span, answer->strategy, &word)) {
            out->failed = true;
        }
        const struct response_span entry = {
            .label = at->label,
            .alone = answer->strategy == SPANS_NONE,
            .index = found.items[at->span.first].first - at->base + at->offset,
            .score = at->span.score,
            .word = word.data ? word.data : "",
            .word_size = word.size,
            .start = at->span.start,
            .end = at->span.end,
        };
        response_span(&entry, i == 0, out);
    }
    buf_append_char(out, ']');
    buf_done(&word);
    found_done(&found);
    return true;
}

static size_t windows_of(const struct answer *answer, size_t input)
{
    return answer_first(answer, input + 1) - answer_first(answer, input);
}

/* How a text's tokens share the best label's logit. tokens: room for all of them. */
static void fill_explanation(const struct job *job, const struct engine *engine, size_t input,
                             struct response_token *tokens, struct response_explanation *ret)
{
    const struct answer *answer = job->answer;
    const struct head *head = answer->asked[0].head;
    const struct spans_text text = piece_text(job, engine, input, input);
    for (size_t t = 0; t < text.n; t++) {
        const char *word = tokenizer_word(engine->model->tokenizer, text.ids[t]);
        tokens[t] = (struct response_token){.id = text.ids[t],
                                            .word = word ? word : "",
                                            .special = text.parts[t] == TOKEN_ADDED,
                                            .start = text.starts[t],
                                            .stop = text.stops[t]};
    }
    const float *logits = answer->asked[0].logits + input * head->classes;
    *ret = (struct response_explanation){
        .label = head->labels[head_best(logits, head->classes)],
        .bias = answer->biases[input],
        .exact = head->inner == 0,
        .tokens = tokens,
        .shares = answer->shares + job->starts[input],
        .n = text.n,
        .text = text.text,
        .size = text.size,
    };
}

/* Which labels stand by their thresholds. Returns true where the head abstains. */
static bool abstains(const struct asked *asked, size_t input, bool *left_out)
{
    const struct head *head = asked->head;
    const float *scores = asked->scores + input * head->classes;
    size_t best = head_best(scores, head->classes);
    bool any = false;
    if (head->type == HEAD_SOFTMAX) {
        return scores[best] < head->thresholds[best];
    }
    for (size_t k = 0; k < head->classes; k++) {
        left_out[k] = scores[k] < head->thresholds[k];
        any = any || !left_out[k];
    }
    return !any;
}

/* One text's object. tokens: scratch for the explanation. */
static void append_object(struct job *job, const struct engine *engine, size_t input,
                          struct response_token *tokens)
{
    const struct answer *answer = job->answer;
    const struct asked *asked = &answer->asked[0];
    const struct api_request *request = &job->request;
    struct response_explanation explanation;
    bool left_out[HEADS_CLASSES_MAX] = {false};
    bool sigmoid = asked->head->type == HEAD_SIGMOID;
    bool abstained = request->abstain && abstains(asked, input, left_out);
    size_t windows = windows_of(answer, input);
    if (abstained) {
        metrics_abstained(engine->metrics, asked->head->name);
    }
    struct response_verdict verdict = {
        .head = response_head(job, asked),
        .top_k = request->top_k,
        .left_out = request->abstain && sigmoid ? left_out : NULL,
        .no_label = abstained,
        .no_score = abstained && sigmoid,
        .abstained = request->abstain ? &abstained : NULL,
        .windows = request->windows ? &windows : NULL,
        .explanation = request->explain ? &explanation : NULL,
    };
    verdict.head.scores += input * asked->head->classes;
    if (request->explain) {
        fill_explanation(job, engine, input, tokens, &explanation);
    }
    response_verdict(&verdict, &job->response);
}

static bool write_objects(struct job *job, const struct engine *engine)
{
    const struct answer *answer = job->answer;
    struct buf *out = &job->response;
    bool tokens_head = answer->asked[0].head->type == HEAD_TOKENS;
    struct response_token *tokens = calloc(job->total_tokens, sizeof *tokens);
    bool whole = tokens != NULL;
    for (size_t i = 0; whole && i < job->request.n; i++) {
        buf_append_str(out, job->request.single ? "" : i ? "," : "[");
        if (tokens_head) {
            buf_append_str(out, "{\"entities\":");
            whole = append_spans(job, engine, &answer->asked[0], i);
            buf_printf(out, ",\"windows\":%zu}", windows_of(answer, i));
        } else {
            append_object(job, engine, i, tokens);
        }
    }
    buf_append_str(out, job->request.single ? "" : "]");
    free(tokens);
    return whole || answer_no_memory(job);
}

static bool write_lists(struct job *job, const struct engine *engine)
{
    const struct answer *answer = job->answer;
    struct buf *out = &job->response;
    bool whole = true;
    for (size_t i = 0; whole && i < job->request.n; i++) {
        buf_append_str(out, job->request.single ? "" : i ? "," : "[");
        whole = append_spans(job, engine, &answer->asked[0], i);
    }
    buf_append_str(out, job->request.single ? "" : "]");
    return whole;
}

bool write_labels(struct job *job, const struct engine *engine)
{
    const struct answer *answer = job->answer;
    const struct api_request *request = &job->request;
    const struct asked *asked = &answer->asked[0];
    if (request->abstain || request->explain || request->windows) {
        return write_objects(job, engine);
    }
    if (asked->head->type == HEAD_TOKENS) {
        return write_lists(job, engine);
    }
    struct response_head head = response_head(job, asked);
    response_classify(&head, request->n, request->top_k, request->single, &job->response);
    return true;
}

/* For response_analyze, which does not know of spans. */
struct spans_context {
    struct job *job;
    const struct engine *engine;
    const struct asked *const *named; /* [n_named] */
};

static void append_named_spans(void *context, size_t named, size_t text, struct buf *out)
{
    struct spans_context *spans = context;
    if (!append_spans(spans->job, spans->engine, spans->named[named], text)) {
        out->failed = true;
    }
}

/* Puts what each head said where /analyze has it. */
static void place_heads(const struct job *job, struct response_analyze *analyze,
                        struct response_named *named, const struct asked **asked_of)
{
    const struct answer *answer = job->answer;
    for (size_t i = 0; i < answer->n_asked; i++) {
        const struct asked *asked = &answer->asked[i];
        struct response_head head = {0};
        if (!asked->items) {
            head = response_head(job, asked);
        }
        if (asked->place == PLACE_CLASSIFY) {
            analyze->classify = head;
        } else if (asked->place == PLACE_SENTIMENT) {
            analyze->sentiment = head;
        } else {
            asked_of[analyze->n_named] = asked;
            named[analyze->n_named++] = (struct response_named){asked->head->name, head};
        }
    }
}

bool write_analyze(struct job *job, const struct engine *engine)
{
    const struct answer *answer = job->answer;
    size_t n = job->request.n;
    size_t hidden = vector_out(engine->model->vector);
    struct response_named named[API_TASKS_MAX];
    const struct asked *asked_of[API_TASKS_MAX];
    struct spans_context context = {job, engine, asked_of};
    uint32_t *tokens = calloc(n, sizeof *tokens);
    size_t *windows = calloc(n, sizeof *windows);
    bool embed = job->request.tasks & API_TASK_EMBED;
    if (!tokens || !windows) {
        free(tokens);
        free(windows);
        return answer_no_memory(job);
    }
    for (size_t i = 0; i < n; i++) {
        size_t from = answer_first(answer, i);
        size_t to = answer_first(answer, i + 1);
        tokens[i] = (uint32_t)(job->starts[to] - job->starts[from]);
        windows[i] = to - from;
    }
    if (embed && job->request.normalize) {
        embeddings_normalize(job->embeddings, n, hidden);
    }
    struct response_analyze analyze = {
        .encoder = engine->encoder_id,
        .heads = answer->n_asked ? job->heads_id : NULL,
        .precision = precision_name(encoder_precision(engine->model->encoder)),
        .tokens = tokens,
        .truncated = job->truncated,
        .embeddings = embed ? job->embeddings : NULL,
        .hidden = hidden,
        .named = named,
        .windows = job->request.windows ? windows : NULL,
        .append_spans = append_named_spans,
        .context = &context,
        .total_tokens = job->total_tokens,
    };
    place_heads(job, &analyze, named, asked_of);
    response_analyze(&analyze, n, &job->response);
    free(windows);
    free(tokens);
    return true;
}
