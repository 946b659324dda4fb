#include "model/text/token_sink.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/text/pipeline.h"

void tokens_done(struct tokens *tokens)
{
    if (tokens) {
        free(tokens->ids);
        free(tokens->starts);
        free(tokens->stops);
        free(tokens->types);
        free(tokens->parts);
        pipeline_scratch_destroy(tokens->scratch);
        *tokens = (struct tokens){0};
    }
}

/* Grows an array to `bytes`; false when memory is out, the array is as it was then. */
static bool grow(void *array, size_t bytes)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, bytes);
    if (grown) {
        memcpy(array, &grown, sizeof grown);
    }
    return grown != NULL;
}

enum err_code token_sink_reserve(const struct token_sink *sink, size_t n, struct err *err)
{
    struct tokens *tokens = sink->tokens;
    size_t needed = tokens->n + n;
    bool has_offsets = !sink->offsets || tokens->starts;
    if (needed <= tokens->room && has_offsets) {
        return ERR_OK;
    }
    size_t room = size_max(size_max(2 * needed, tokens->room), 64);
    bool offsets = sink->offsets || tokens->starts;
    /* room is what all arrays have, so it counts only once the last one has grown. */
    if (!grow(&tokens->ids, room * sizeof *tokens->ids) || !grow(&tokens->types, room) ||
        !grow(&tokens->parts, room) ||
        (offsets && (!grow(&tokens->stops, room * sizeof *tokens->stops) ||
                     !grow(&tokens->starts, room * sizeof *tokens->starts)))) {
        return err_nomem(err, room * sizeof *tokens->ids);
    }
    tokens->room = room;
    return ERR_OK;
}

static void put(const struct token_sink *sink, const struct token *token, uint8_t type,
                uint8_t part)
{
    struct tokens *tokens = sink->tokens;
    tokens->ids[tokens->n] = token->id;
    tokens->types[tokens->n] = type;
    tokens->parts[tokens->n] = part;
    if (sink->offsets) {
        tokens->starts[tokens->n] = token->start;
        tokens->stops[tokens->n] = token->stop;
    }
    tokens->n++;
}

void token_sink_frame(const struct token_sink *sink, int32_t id, uint8_t type)
{
    put(sink, &(struct token){.id = id}, type, TOKEN_ADDED);
}

/* Drops the text's tokens but for the last ones. */
static void drop_left(const struct token_sink *sink, size_t keep)
{
    struct tokens *tokens = sink->tokens;
    size_t to = sink->first;
    size_t from = tokens->n - keep;
    memmove(tokens->ids + to, tokens->ids + from, keep * sizeof *tokens->ids);
    if (sink->offsets) {
        memmove(tokens->starts + to, tokens->starts + from, keep * sizeof *tokens->starts);
        memmove(tokens->stops + to, tokens->stops + from, keep * sizeof *tokens->stops);
    }
    tokens->n = to + keep;
}

enum err_code token_sink_add(struct token_sink *sink, const struct token *added, size_t count,
                             bool *ret_full, struct err *err)
{
    struct tokens *tokens = sink->tokens;
    size_t left = sink->keep - size_min(tokens->n - sink->first, sink->keep);
    size_t n = sink->side == TRUNCATE_RIGHT ? size_min(count, left) : count;
    enum err_code code = token_sink_reserve(sink, n, err);
    if (code != ERR_OK) {
        return code;
    }
    for (size_t i = 0; i < n; i++) {
        put(sink, &added[i], sink->type, sink->part);
    }
    sink->total += count;
    if (n < count) {
        tokens->truncated = true;
        *ret_full = !sink->count_all;
    }
    /* The left end is dropped once it is as long as the rest: that costs no more than making the
     * tokens did, and memory is bounded by what stays. */
    if (left == 0 && tokens->n - sink->first - sink->keep > size_max(sink->keep, 64)) {
        drop_left(sink, sink->keep);
        tokens->truncated = true;
    }
    return ERR_OK;
}

void token_sink_end(struct token_sink *sink)
{
    if (sink->tokens->n - sink->first > sink->keep) {
        token_sink_cut(sink, sink->keep);
    }
}

void token_sink_cut(struct token_sink *sink, size_t keep)
{
    struct tokens *tokens = sink->tokens;
    if (sink->side == TRUNCATE_LEFT) {
        drop_left(sink, keep);
    }
    tokens->n = sink->first + keep;
    tokens->truncated = true;
}
