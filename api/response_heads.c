#include "api/response_heads.h"

#include <stdlib.h>
#include <string.h>

#include "api/response_private.h"
#include "base/jval.h"
#include "base/size.h"

static void append_bool(struct buf *out, bool value)
{
    buf_append_str(out, value ? "true" : "false");
}

static void append_explanation(struct buf *out, const struct response_explanation *explanation)
{
    buf_append_str(out, "{\"label\":");
    append_text(out, explanation->label);
    buf_append_str(out, ",\"bias\":");
    append_float(out, explanation->bias);
    buf_append_str(out, explanation->exact ? ",\"method\":\"exact\",\"tokens\":["
                                           : ",\"method\":\"gradient\",\"tokens\":[");
    struct place start = {0};
    for (size_t i = 0; i < explanation->n; i++) {
        const struct response_token *token = &explanation->tokens[i];
        buf_append_str(out, i ? ",{\"text\":" : "{\"text\":");
        append_token_text(out, token, explanation->text, explanation->size, &start);
        if (token->special) {
            buf_append_str(out, ",\"start\":null,\"end\":null");
        } else {
            buf_printf(out, ",\"start\":%u,\"end\":%u", (unsigned)token->start,
                       (unsigned)token->stop);
        }
        buf_append_str(out, ",\"share\":");
        append_float(out, explanation->shares[i]);
        buf_append_char(out, '}');
    }
    buf_append_str(out, "]}");
}

void response_verdict(const struct response_verdict *verdict, struct buf *out)
{
    const struct response_head *head = &verdict->head;
    size_t *order = calloc(head->classes, sizeof *order);
    if (!order) {
        out->failed = true;
        return;
    }
    rank_classes(head->scores, head->classes, order);
    buf_append_str(out, "{\"label\":");
    if (verdict->no_label) {
        buf_append_str(out, "null");
    } else {
        append_text(out, head->labels[order[0]]);
    }
    buf_append_str(out, ",\"score\":");
    if (verdict->no_score) {
        buf_append_str(out, "null");
    } else {
        append_float(out, head->scores[order[0]]);
    }
    buf_append_str(out, ",\"scores\":[");
    size_t shown = 0;
    for (size_t i = 0; i < head->classes && (!verdict->top_k || shown < verdict->top_k); i++) {
        size_t k = order[i];
        if (!verdict->left_out || !verdict->left_out[k]) {
            buf_append_str(out, shown++ ? ",{\"label\":" : "{\"label\":");
            append_text(out, head->labels[k]);
            buf_append_str(out, ",\"score\":");
            append_float(out, head->scores[k]);
            buf_append_char(out, '}');
        }
    }
    buf_append_char(out, ']');
    if (verdict->abstained) {
        buf_append_str(out, ",\"abstained\":");
        append_bool(out, *verdict->abstained);
    }
    if (verdict->windows) {
        buf_printf(out, ",\"windows\":%zu", *verdict->windows);
    }
    if (verdict->explanation) {
        buf_append_str(out, ",\"explanation\":");
        append_explanation(out, verdict->explanation);
    }
    buf_append_char(out, '}');
    free(order);
}

void response_span(const struct response_span *span, bool first, struct buf *out)
{
    buf_append_str(out, first ? "{" : ",{");
    buf_append_str(out, span->alone ? "\"entity\":" : "\"entity_group\":");
    append_text(out, span->label);
    buf_append_str(out, ",\"score\":");
    append_float(out, span->score);
    if (span->alone) {
        buf_printf(out, ",\"index\":%zu", span->index);
    }
    buf_append_str(out, ",\"word\":");
    jval_append_string(out, span->word, span->word_size);
    buf_printf(out, ",\"start\":%u,\"end\":%u}", (unsigned)span->start, (unsigned)span->end);
}

/* Best first; of equal scores the later one, as TEI's reversed sort gives. */
static int compare_ranks(const void *a, const void *b, void *context)
{
    const float *scores = context;
    size_t left = *(const size_t *)a;
    size_t right = *(const size_t *)b;
    if (scores[left] < scores[right] || scores[left] > scores[right]) {
        return scores[left] > scores[right] ? -1 : 1;
    }
    return left > right ? -1 : 1;
}

void response_ranks(const float *scores, const struct response_text *texts, size_t n, size_t *order,
                    struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    qsort_r(order, n, sizeof *order, compare_ranks, (void *)(uintptr_t)scores);
    buf_append_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s{\"index\":%zu", i ? "," : "", order[i]);
        if (texts) {
            buf_append_str(out, ",\"text\":");
            jval_append_string(out, texts[order[i]].text, texts[order[i]].size);
        }
        buf_append_str(out, ",\"score\":");
        append_float(out, scores[order[i]]);
        buf_append_char(out, '}');
    }
    buf_append_char(out, ']');
}

void response_floats(const float *values, size_t n, struct buf *out)
{
    append_row(out, values, n);
}

void response_token_vectors(const float *values, size_t n, size_t width, bool first,
                            struct buf *out)
{
    if (!first) {
        buf_append_char(out, ',');
    }
    response_embed(values, n, width, width, out);
}

void response_text(const char *text, size_t size, bool first, struct buf *out)
{
    if (!first) {
        buf_append_char(out, ',');
    }
    jval_append_string(out, text, size);
}
