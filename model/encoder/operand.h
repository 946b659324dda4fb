/* Rows of activations [T,K] as the matrix that multiplies them next reads them: in blocks of up to
 * kernel->rows_max rows, each packed once, by the thread that completes it. `linear` only reads
 * them.
 *
 *            K inputs                          block b of the operand
 *      ┌────────────────┐          ┌──────────────────────────────────────────────┐
 *   T  │ block 0        │   pack   │ int8 alone: scales, offsets, pairs [g.][rows]│
 *      │ block 1        │  ─────►  │             wide inputs  [wide][rows]        │
 *      │ …              │          │ words       [words][rows], interleaved       │
 *      └────────────────┘          └──────────────────────────────────────────────┘
 *
 * With OpenBLAS it is a plain float [T,K]. Which rows a block has follows from T and the kernel
 * alone, so that all operands of a pass are cut alike. Pass lifetime; a view, whose memory is the
 * workspace's. */
#ifndef ORTHRUS_MODEL_OPERAND_H
#define ORTHRUS_MODEL_OPERAND_H

#include <stdatomic.h>
#include <stddef.h>

#include "model/encoder/linear.h"

struct operand {
    const struct linear *linear; /* whose inputs they are */
    size_t rows;                 /* T */
    size_t blocks;
    size_t block_rows; /* of each block; … */
    size_t longer;     /* … the first so many have a kernel->row_unit more */
    size_t block_bytes;
    unsigned char *memory; /* operand_bytes, aligned to 64 */
    float *largest;        /* NULL; calibrating, [K]: raised to the magnitudes that are packed */
};

size_t operand_bytes(const struct linear *linear, size_t rows);
/* Blocks that so many rows are cut into. */
size_t operand_blocks(const struct linear *linear, size_t rows);
struct operand operand_of(const struct linear *linear, size_t rows, void *memory);

/* The first row of block b; of the number of blocks: T. */
size_t operand_start(const struct operand *operand, size_t block);
/* The block that row t < T is in. */
size_t operand_block_of(const struct operand *operand, size_t row);
const void *operand_block(const struct operand *operand, size_t block);

/* Columns [from,to) of a block's rows, from and to at multiples of operand_unit or to = K; x is
 * column `from` of the block's first row. Columns of a block may be packed by several threads at
 * once. */
void operand_pack(const struct operand *operand, size_t block, const float *x, size_t ld,
                  size_t from, size_t to);
size_t operand_unit(const struct linear *linear);
/* All rows of x [T,K]. */
void operand_pack_all(const struct operand *operand, const float *x, size_t ld);

/* Rows that many threads write in parts: who writes the last part of a span, some columns of a
 * block's rows, completes it. */
struct completion {
    atomic_uint *done; /* [blocks][spans] parts that are there; zero before, and again afterwards */
    size_t spans;      /* of a block, 1 … */
    unsigned (*whole)(const void *context, size_t block, size_t span); /* how many parts it has */
    void (*complete)(void *context, size_t block, size_t span);        /* called once a span */
    void *context;
};

/* Adds parts of a span. What other threads wrote before their own call is visible to complete. */
void completion_add(const struct completion *completion, size_t block, size_t span, unsigned parts);

#endif
