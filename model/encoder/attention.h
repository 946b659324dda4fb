/* Self-attention over a ragged batch: each text attends to itself alone, so there is no mask and no
 * padding. Per (text, head): softmax(Q·Kᵀ/√D)·V, a block of rows at a time; scratch grows linearly
 * with the text's length. Softmax and every sum are fp32; both products are the tile's: fp32, or
 * bf16, which rounds queries, keys, values and weights. Source: Vaswani et al. 2017, eq. 1. */
#ifndef ORTHRUS_MODEL_ATTENTION_H
#define ORTHRUS_MODEL_ATTENTION_H

#include <stddef.h>

#include "model/encoder/batch.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/team.h"

/* What multiplies: ops' fp32 tile, or a set's bf16 one that has pack_pairs. */
const struct tile_kernel *attention_tile(enum isa isa, enum precision precision);

/* Bytes of scratch, aligned to 64, that one member needs for texts of up to n tokens. */
size_t attention_scratch_bytes(const struct tile_kernel *tile, size_t n, size_t head_width);

/* qkv [T,3H]: queries, keys and values side by side, each [A,D] per token; out [T,H]. This member's
 * share of the row blocks of all (head, text) pairs, heads slowest, so that members get equal work
 * whatever the lengths. written (NULL: nobody asks) is told of every head of rows [from,to) that is
 * in out. No barrier inside. */
struct attention_call {
    const struct kernels *ops;
    const struct tile_kernel *tile;
    const float *qkv;
    const struct batch *batch;
    size_t heads;
    size_t head_width;
    float *out;
    void (*written)(void *context, size_t head, size_t from, size_t to);
    void *context;
};
void attention_run(const struct attention_call *call, const struct team *team, unsigned member,
                   void *scratch);

#endif
