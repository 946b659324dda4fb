/* N token sequences → one packed ragged batch: ids side by side, no padding. */
#ifndef ORTHRUS_MODEL_BATCH_H
#define ORTHRUS_MODEL_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Worker lifetime; arrays are sized once. */
struct batch {
    size_t n;          /* N texts */
    size_t total;      /* T packed tokens = starts[n] */
    int32_t *ids;      /* [T], each in 0 … V-1 */
    size_t *starts;    /* [N+1]; text i is ids[starts[i] … starts[i+1]) and not empty */
    size_t max_texts;  /* room */
    size_t max_tokens; /* room */
};

/* False when memory is out. */
bool batch_init(struct batch *batch, size_t max_texts, size_t max_tokens);
/* NULL and zeroed structs are fine. */
void batch_done(struct batch *batch);
void batch_clear(struct batch *batch);
/* Appends a sequence of n ≥ 1 ids; false when it does not fit, the batch then is unchanged. */
bool batch_add(struct batch *batch, const int32_t *ids, size_t n);

#endif
