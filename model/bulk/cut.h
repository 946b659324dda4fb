/* How a window's texts are cut into batches: longest first, so that a batch holds texts of one
 * kind, up to the token budget. Behind the last window nothing follows, so there batches become
 * ever smaller and all threads end together. Pure. Source: Polychronopoulos & Kuck 1987, guided
 * self-scheduling. */
#ifndef ORTHRUS_MODEL_CUT_H
#define ORTHRUS_MODEL_CUT_H

#include <stdbool.h>
#include <stddef.h>

struct cut {
    size_t batch_tokens; /* a longer text is a batch of its own */
    size_t batch_texts;
    unsigned threads; /* that take batches one by one */
    bool last;        /* of the windows */
};

/* Text i has the tokens starts[i] … starts[i+1]-1; n ≥ 1. order [n] is filled with the texts,
 * longest first and in their own order where they are equal; batches [n+1] with where each begins
 * in it, and behind them n. Returns how many batches there are. */
size_t cut_batches(const struct cut *cut, const size_t *starts, size_t n, size_t *order,
                   size_t *batches);

#endif
