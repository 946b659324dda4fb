#include "api/response.h"

#include <stdlib.h>
#include <string.h>

#include "api/response_private.h"
#include "base/jval.h"
#include "base/size.h"
#include "base/utf8.h"

void append_text(struct buf *out, const char *text)
{
    jval_append_string(out, text, strlen(text));
}

void append_float(struct buf *out, float value)
{
    char text[FLOAT_TEXT_MAX];
    buf_append(out, text, float_text(value, text));
}

static void append_size(struct buf *out, size_t value)
{
    buf_printf(out, "%zu", value);
}

void append_row(struct buf *out, const float *row, size_t width)
{
    size_t room;
    char *start = size_mul(width, RESPONSE_FLOAT_ROOM, &room) && size_add(room, 2, &room)
                      ? buf_reserve(out, room)
                      : NULL;
    if (!start) {
        out->failed = true;
        return;
    }
    char *at = start;
    *at++ = '[';
    for (size_t i = 0; i < width; i++) {
        at += float_text(row[i], at);
        *at++ = ',';
    }
    at -= width != 0; /* the last comma */
    *at++ = ']';
    buf_added(out, (size_t)(at - start));
}

void response_embed(const float *embeddings, size_t n, size_t width, size_t stride, struct buf *out)
{
    buf_append_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) {
            buf_append_char(out, ',');
        }
        append_row(out, embeddings + i * stride, width);
    }
    buf_append_char(out, ']');
}

/* The machine's floats are the format's, or each is turned round. */
static void copy_little_endian(char *at, const float *row, size_t width)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(at, row, width * sizeof(float));
#else
    for (size_t i = 0; i < width; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], sizeof(bits));
        bits = __builtin_bswap32(bits);
        memcpy(at + i * sizeof(bits), &bits, sizeof(bits));
    }
#endif
}

void response_embed_raw(const float *embeddings, size_t n, size_t width, size_t stride,
                        struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        char *at = buf_reserve(out, width * sizeof(float));
        if (!at) {
            return;
        }
        copy_little_endian(at, embeddings + i * stride, width);
        buf_added(out, width * sizeof(float));
    }
}

/* Best first; NaN is worse than anything; equal scores keep the labels' order. */
static int compare_classes(const void *a, const void *b, void *context)
{
    const float *scores = context;
    size_t left = *(const size_t *)a;
    size_t right = *(const size_t *)b;
    bool left_nan = scores[left] != scores[left];
    bool right_nan = scores[right] != scores[right];
    if (left_nan != right_nan) {
        return left_nan ? 1 : -1;
    }
    if (!left_nan && scores[left] != scores[right]) {
        return scores[left] > scores[right] ? -1 : 1;
    }
    return left < right ? -1 : 1;
}

void rank_classes(const float *scores, size_t classes, size_t *order)
{
    for (size_t k = 0; k < classes; k++) {
        order[k] = k;
    }
    qsort_r(order, classes, sizeof(*order), compare_classes, (void *)(uintptr_t)scores);
}

/* order: scratch [K] */
static void append_ranking(struct buf *out, const struct response_head *head, const float *scores,
                           size_t top_k, size_t *order)
{
    rank_classes(scores, head->classes, order);
    buf_append_char(out, '[');
    for (size_t k = 0; k < top_k; k++) {
        buf_append_str(out, k ? ",{\"label\":" : "{\"label\":");
        append_text(out, head->labels[order[k]]);
        buf_append_str(out, ",\"score\":");
        append_float(out, scores[order[k]]);
        buf_append_char(out, '}');
    }
    buf_append_char(out, ']');
}

void response_classify(const struct response_head *head, size_t n, size_t top_k, bool single,
                       struct buf *out)
{
    size_t *order = calloc(size_max(head->classes, 1), sizeof(*order));
    if (!order) {
        out->failed = true;
        return;
    }
    size_t shown = top_k ? size_min(top_k, head->classes) : head->classes;
    if (!single) {
        buf_append_char(out, '[');
    }
    for (size_t i = 0; i < n; i++) {
        if (i) {
            buf_append_char(out, ',');
        }
        append_ranking(out, head, head->scores + i * head->classes, shown, order);
    }
    if (!single) {
        buf_append_char(out, ']');
    }
    free(order);
}

/* {"label","score","scores":{label: score,…}} */
static void append_judgement(struct buf *out, const struct response_head *head, size_t text)
{
    const float *scores = head->scores + text * head->classes;
    size_t best = 0;
    for (size_t k = 1; k < head->classes; k++) {
        /* Not <=: a NaN in the best place gives way to any number. */
        if (scores[k] > scores[best] || (scores[best] != scores[best] && scores[k] == scores[k])) {
            best = k;
        }
    }
    buf_append_str(out, "{\"label\":");
    append_text(out, head->labels[best]);
    buf_append_str(out, ",\"score\":");
    append_float(out, scores[best]);
    buf_append_str(out, ",\"scores\":{");
    for (size_t k = 0; k < head->classes; k++) {
        if (k) {
            buf_append_char(out, ',');
        }
        append_text(out, head->labels[k]);
        buf_append_char(out, ':');
        append_float(out, scores[k]);
    }
    buf_append_str(out, "}}");
}

/* ,"name":{…}; nothing for an absent head. */
static void append_verdict(struct buf *out, const char *name, const struct response_head *head,
                           size_t text)
{
    if (head->classes) {
        buf_append_char(out, ',');
        append_text(out, name);
        buf_append_char(out, ':');
        append_judgement(out, head, text);
    }
}

/* ,"named":{name: …,…}; nothing where no other head was asked. */
static void append_named(struct buf *out, const struct response_analyze *analyze, size_t text)
{
    for (size_t i = 0; i < analyze->n_named; i++) {
        const struct response_named *named = &analyze->named[i];
        buf_append_str(out, i ? "," : ",\"named\":{");
        append_text(out, named->name);
        buf_append_char(out, ':');
        if (named->head.classes) {
            append_judgement(out, &named->head, text);
        } else {
            analyze->append_spans(analyze->context, i, text, out);
        }
    }
    if (analyze->n_named) {
        buf_append_char(out, '}');
    }
}

void response_analyze(const struct response_analyze *analyze, size_t n, struct buf *out)
{
    buf_append_str(out, "{\"model\":{\"encoder\":");
    append_text(out, analyze->encoder);
    buf_append_str(out, ",\"heads\":");
    if (analyze->heads) {
        append_text(out, analyze->heads);
    } else {
        buf_append_str(out, "null");
    }
    buf_append_str(out, ",\"precision\":");
    append_text(out, analyze->precision);
    buf_append_str(out, "},\"results\":[");
    for (size_t i = 0; i < n; i++) {
        buf_append_str(out, i ? ",{\"tokens\":" : "{\"tokens\":");
        append_size(out, analyze->tokens[i]);
        buf_append_str(out, ",\"truncated\":");
        buf_append_str(out, analyze->truncated[i] ? "true" : "false");
        if (analyze->windows) {
            buf_append_str(out, ",\"windows\":");
            append_size(out, analyze->windows[i]);
        }
        if (analyze->embeddings) {
            buf_append_str(out, ",\"embedding\":");
            append_row(out, analyze->embeddings + i * analyze->hidden, analyze->hidden);
        }
        append_verdict(out, "classify", &analyze->classify, i);
        append_verdict(out, "sentiment", &analyze->sentiment, i);
        append_named(out, analyze, i);
        buf_append_char(out, '}');
    }
    buf_append_str(out, "],\"usage\":{\"tokens\":");
    append_size(out, analyze->total_tokens);
    buf_append_str(out, "}}");
}

/* RFC 4648, section 4, of a row's little-endian bytes. */
static void append_base64(struct buf *out, const float *row, size_t width)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = width * sizeof(float);
    size_t text_size = size_div_up(size, 3) * 4;
    unsigned char *raw = malloc(size_max(size, 1));
    char *at = raw ? buf_reserve(out, text_size) : NULL;
    if (!at) {
        out->failed = true;
        free(raw);
        return;
    }
    copy_little_endian((char *)raw, row, width);
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)raw[i] << 16 | (left > 1 ? (uint32_t)raw[i + 1] << 8 : 0) |
                        (left > 2 ? raw[i + 2] : 0u);
        *at++ = digits[bits >> 18];
        *at++ = digits[bits >> 12 & 63];
        *at++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[bits & 63] : '=';
    }
    buf_added(out, text_size);
    free(raw);
}

void response_openai(const float *embeddings, size_t n, size_t width, size_t stride, bool base64,
                     const char *model, size_t total_tokens, struct buf *out)
{
    buf_append_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < n; i++) {
        buf_append_str(out, i ? ",{\"object\":\"embedding\",\"index\":"
                              : "{\"object\":\"embedding\",\"index\":");
        append_size(out, i);
        buf_append_str(out, ",\"embedding\":");
        const float *row = embeddings + i * stride;
        if (base64) {
            buf_append_char(out, '"');
            append_base64(out, row, width);
            buf_append_char(out, '"');
        } else {
            append_row(out, row, width);
        }
        buf_append_char(out, '}');
    }
    buf_append_str(out, "],\"model\":");
    append_text(out, model);
    buf_append_str(out, ",\"usage\":{\"prompt_tokens\":");
    append_size(out, total_tokens);
    buf_append_str(out, ",\"total_tokens\":");
    append_size(out, total_tokens);
    buf_append_str(out, "}}");
}

static struct place advance(struct place place, const char *text, size_t size, size_t scalar)
{
    while (place.scalar < scalar && place.byte < size) {
        (void)utf8_next(text, size, &place.byte);
        place.scalar++;
    }
    return place;
}

void append_token_text(struct buf *out, const struct response_token *token, const char *text,
                       size_t size, struct place *start)
{
    if (token->special) {
        append_text(out, token->word);
        return;
    }
    if (token->start < start->scalar) {
        *start = (struct place){0};
    }
    /* Starts only grow, but tokens of one character (as of U+00BD) share theirs. */
    *start = advance(*start, text, size, token->start);
    struct place stop = advance(*start, text, size, token->stop);
    jval_append_string(out, text + start->byte, stop.byte - start->byte);
}

void response_tokens(const struct response_token *tokens, size_t n, const char *text, size_t size,
                     struct buf *out)
{
    struct place start = {0};
    buf_append_char(out, '[');
    /* Tokens may share a long text (the bytes of an unknown word), so a full buffer ends it. */
    for (size_t i = 0; i < n && !buf_failed(out); i++) {
        const struct response_token *token = &tokens[i];
        buf_printf(out, "%s{\"id\":%d,\"text\":", i ? "," : "", (int)token->id);
        append_token_text(out, token, text, size, &start);
        if (token->special) {
            buf_append_str(out, ",\"special\":true,\"start\":null,\"stop\":null}");
        } else {
            buf_printf(out, ",\"special\":false,\"start\":%u,\"stop\":%u}", (unsigned)token->start,
                       (unsigned)token->stop);
        }
    }
    buf_append_char(out, ']');
}
