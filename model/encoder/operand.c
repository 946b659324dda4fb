#include "model/encoder/operand.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"

enum { PLAIN_ROWS = 16 }; /* of a block with OpenBLAS */

static size_t rows_max(const struct linear *linear)
{
    return linear->kernel ? linear->kernel->rows_max : PLAIN_ROWS;
}

static size_t row_unit(const struct linear *linear)
{
    return linear->kernel ? linear->kernel->row_unit : 1;
}

size_t operand_blocks(const struct linear *linear, size_t rows)
{
    return size_div_up(rows, rows_max(linear));
}

/* 32-bit words of a row: its inputs, wide ones, three numbers for each group. */
static size_t row_words(const struct linear *linear)
{
    return linear->kernel ? linear->words + linear->wide + 3 * linear->groups : linear->in;
}

static size_t block_bytes(const struct linear *linear)
{
    return size_round_up(row_words(linear) * rows_max(linear) * sizeof(uint32_t), PAGES_ALIGN);
}

size_t operand_bytes(const struct linear *linear, size_t rows)
{
    return size_max(operand_blocks(linear, rows), 1) * block_bytes(linear);
}

struct operand operand_of(const struct linear *linear, size_t rows, void *memory)
{
    struct operand operand = {
        .linear = linear,
        .rows = rows,
        .blocks = operand_blocks(linear, rows),
        .block_bytes = block_bytes(linear),
        .memory = memory,
    };
    if (operand.blocks > 0) { /* as even as can be, so that none is left with a single row */
        size_t units = size_div_up(rows, row_unit(linear));
        operand.block_rows = units / operand.blocks * row_unit(linear);
        operand.longer = units % operand.blocks;
    }
    return operand;
}

size_t operand_start(const struct operand *operand, size_t block)
{
    size_t start = block * operand->block_rows +
                   size_min(block, operand->longer) * row_unit(operand->linear);
    return size_min(start, operand->rows);
}

size_t operand_block_of(const struct operand *operand, size_t row)
{
    size_t unit = row_unit(operand->linear);
    size_t longer_rows = operand->longer * (operand->block_rows + unit);
    if (row < longer_rows) {
        return row / (operand->block_rows + unit);
    }
    return operand->longer + (row - longer_rows) / operand->block_rows;
}

const void *operand_block(const struct operand *operand, size_t block)
{
    if (!operand->linear->kernel) {
        return operand->memory +
               operand_start(operand, block) * operand->linear->in * sizeof(float);
    }
    return operand->memory + block * operand->block_bytes;
}

size_t operand_unit(const struct linear *linear)
{
    if (!linear->kernel) {
        return 1;
    }
    return linear->group ? linear->group
                         : (size_t)linear->kernel->word_inputs * linear->kernel->word_unit;
}

static void note_largest(const struct operand *operand, const float *x, size_t ld, size_t rows,
                         size_t from, size_t to)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t k = from; k < to; k++) {
            float magnitude = fabsf(x[r * ld + k - from]);
            operand->largest[k] = magnitude > operand->largest[k] ? magnitude : operand->largest[k];
        }
    }
}

/* Wide inputs among columns [from,to), in fp32. */
static void pack_wide(const struct linear *linear, const float *x, size_t ld, size_t rows,
                      size_t from, size_t to, float *wide)
{
    for (size_t w = 0; w < linear->wide; w++) {
        size_t k = linear->wide_columns[w];
        for (size_t r = 0; k >= from && k < to && r < rows; r++) {
            wide[w * rows + r] = x[r * ld + k - from];
        }
    }
}

void operand_pack(const struct operand *operand, size_t block, const float *x, size_t ld,
                  size_t from, size_t to)
{
    const struct linear *linear = operand->linear;
    const struct tile_kernel *kernel = linear->kernel;
    size_t rows = operand_start(operand, block + 1) - operand_start(operand, block);
    if (operand->largest) {
        note_largest(operand, x, ld, rows, from, to);
    }
    float *scales = (float *)(uintptr_t)operand_block(operand, block);
    if (!kernel) {
        for (size_t r = 0; r < rows; r++) {
            memcpy(scales + r * linear->in + from, x + r * ld, (to - from) * sizeof *x);
        }
        return;
    }
    float *offsets = scales + linear->groups * rows;
    uint32_t *pairs = (uint32_t *)(offsets + linear->groups * rows);
    float *wide = (float *)(pairs + linear->groups * rows);
    uint32_t *words = (uint32_t *)(wide + linear->wide * rows);
    size_t stride = kernel->row_unit > 1 ? kernel->row_unit : rows;
    size_t group = linear->group ? from / linear->group : 0;
    const struct pack_args args = {
        .x = x,
        .ld = ld,
        .rows = rows,
        .in = to - from,
        .stride = stride,
        .words = words + from / kernel->word_inputs * stride,
        .row_words = linear->words,
        .group = linear->group,
        .keep = linear->keep ? linear->keep + from / 16 : NULL,
        .scales = scales + group * rows,
        .offsets = offsets + group * rows,
        .pairs = pairs + group * rows,
    };
    kernel->pack_rows(&args);
    pack_wide(linear, x, ld, rows, from, to, wide);
}

void operand_pack_all(const struct operand *operand, const float *x, size_t ld)
{
    for (size_t block = 0; block < operand->blocks; block++) {
        operand_pack(operand, block, x + operand_start(operand, block) * ld, ld, 0,
                     operand->linear->in);
    }
}

void completion_add(const struct completion *completion, size_t block, size_t span, unsigned parts)
{
    atomic_uint *done = &completion->done[block * completion->spans + span];
    unsigned whole = completion->whole(completion->context, block, span);
    unsigned now = atomic_fetch_add_explicit(done, parts, memory_order_acq_rel) + parts;
    CHECK(now <= whole);
    if (now == whole) {
        atomic_store_explicit(done, 0, memory_order_relaxed); /* read again behind a barrier */
        completion->complete(completion->context, block, span);
    }
}
