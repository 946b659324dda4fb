#include "model/bulk/cut.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/size.h"

/* Of the smallest batches: to wait for fewer at the end costs less than one more batch. */
enum { TAIL_TOKENS = 64 };

static size_t length_of(const size_t *starts, size_t text)
{
    return starts[text + 1] - starts[text];
}

static int longer_first(const void *a, const void *b, void *context)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    size_t length_x = length_of(context, x);
    size_t length_y = length_of(context, y);
    if (length_x != length_y) {
        return length_x < length_y ? 1 : -1;
    }
    return x < y ? -1 : x > y;
}

/* Tokens of the next batch, where `left` are to come. */
static size_t budget_of(const struct cut *cut, size_t left)
{
    size_t share = size_div_up(left, (size_t)2 * cut->threads);
    return cut->last && cut->threads > 1 ? size_min(cut->batch_tokens, size_max(share, TAIL_TOKENS))
                                         : cut->batch_tokens;
}

size_t cut_batches(const struct cut *cut, const size_t *starts, size_t n, size_t *order,
                   size_t *batches)
{
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    qsort_r(order, n, sizeof *order, longer_first, (void *)(uintptr_t)starts);
    size_t left = starts[n]; /* from the batch that is filled on */
    size_t budget = budget_of(cut, left);
    size_t n_batches = 0;
    size_t tokens = 0;
    batches[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = length_of(starts, order[i]);
        size_t texts = i - batches[n_batches];
        if (texts == cut->batch_texts || (texts > 0 && tokens + length > budget)) {
            batches[++n_batches] = i;
            left -= tokens;
            budget = budget_of(cut, left);
            tokens = 0;
        }
        tokens += length;
    }
    batches[++n_batches] = n;
    return n_batches;
}
