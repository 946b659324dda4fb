/* One packed ragged batch: the ids of N texts side by side, no padding. */
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
    uint8_t *types;    /* [T] token types, 0 unless given */
    size_t *starts;    /* [N+1]; text i is ids[starts[i] … starts[i+1]) and not empty */
    size_t *skips;     /* [N] first tokens of a text that pooling leaves out: a prompt's, where the
                          folder says include_prompt false; else 0 */
    size_t max_texts;  /* room */
    size_t max_tokens; /* room */
};

/* False when memory is out. */
bool batch_init(struct batch *batch, size_t max_texts, size_t max_tokens);
/* NULL and zeroed structs are fine. */
void batch_done(struct batch *batch);
void batch_clear(struct batch *batch);
/* Appends a sequence of n ≥ 1 ids of type 0; false when it does not fit, the batch then is
 * unchanged. */
bool batch_add(struct batch *batch, const int32_t *ids, size_t n);

/* One text as batch_add_text takes it; arrays are borrowed and copied. */
struct batch_text {
    const int32_t *ids;   /* [n] */
    const uint8_t *types; /* [n], each below the model's type_vocab_size; NULL: all 0 */
    size_t n;             /* ≥ 1 */
    size_t skip;          /* tokens that pooling leaves out; where ≥ n, none */
};
/* batch_add with everything that a text may bring. */
bool batch_add_text(struct batch *batch, const struct batch_text *text);

#endif
