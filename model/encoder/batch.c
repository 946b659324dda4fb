#include "model/encoder/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

bool batch_init(struct batch *batch, size_t max_texts, size_t max_tokens)
{
    struct batch fresh = {.max_texts = max_texts, .max_tokens = max_tokens};
    size_t starts;
    if (!size_add(max_texts, 1, &starts)) {
        return false;
    }
    fresh.ids = calloc(size_max(max_tokens, 1), sizeof *fresh.ids);
    fresh.types = calloc(size_max(max_tokens, 1), sizeof *fresh.types);
    fresh.starts = calloc(starts, sizeof *fresh.starts);
    fresh.skips = calloc(starts, sizeof *fresh.skips);
    if (!fresh.ids || !fresh.types || !fresh.starts || !fresh.skips) {
        batch_done(&fresh);
        return false;
    }
    *batch = fresh;
    return true;
}

void batch_done(struct batch *batch)
{
    if (batch) {
        free(batch->ids);
        free(batch->types);
        free(batch->starts);
        free(batch->skips);
        *batch = (struct batch){0};
    }
}

void batch_clear(struct batch *batch)
{
    batch->n = 0;
    batch->total = 0;
}

bool batch_add(struct batch *batch, const int32_t *ids, size_t n)
{
    return batch_add_text(batch, &(struct batch_text){.ids = ids, .n = n});
}

bool batch_add_text(struct batch *batch, const struct batch_text *text)
{
    size_t n = text->n;
    if (n == 0 || batch->n == batch->max_texts || n > batch->max_tokens - batch->total) {
        return false;
    }
    memcpy(batch->ids + batch->total, text->ids, n * sizeof *text->ids);
    if (text->types) {
        memcpy(batch->types + batch->total, text->types, n);
    } else {
        memset(batch->types + batch->total, 0, n);
    }
    batch->skips[batch->n] = text->skip < n ? text->skip : 0;
    batch->total += n;
    batch->n++;
    batch->starts[batch->n] = batch->total;
    return true;
}
