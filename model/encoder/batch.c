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
    fresh.starts = calloc(starts, sizeof *fresh.starts);
    if (!fresh.ids || !fresh.starts) {
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
        free(batch->starts);
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
    if (n == 0 || batch->n == batch->max_texts || n > batch->max_tokens - batch->total) {
        return false;
    }
    memcpy(batch->ids + batch->total, ids, n * sizeof *ids);
    batch->total += n;
    batch->n++;
    batch->starts[batch->n] = batch->total;
    return true;
}
