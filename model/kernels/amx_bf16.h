/* bf16 on AMX: 32 rows × 32 columns in four tiles of sums, two tiles of rows and two of columns a
 * step of 32 inputs. Included by kernel_amx.c after amx_tile_ops.h, and by its test after a
 * software model of the same operations.
 *
 * Rows are packed as the tiles read them: [⌈rows/16⌉][steps][16 rows][16 words]. Columns are the
 * words [steps · 16][32] that AVX512-BF16 reads too: a step's two tiles lie side by side.
 *
 * Loads from L2 are slower than the multiplication, so the inputs are cut into slices: a slice of
 * the columns (16 KiB) stays in L1 while all rows of the tile pass by; the sums wait in the tile's
 * memory in between. Each sum still adds its steps in order. */
#ifndef ORTHRUS_MODEL_KERNELS_AMX_BF16_H
#define ORTHRUS_MODEL_KERNELS_AMX_BF16_H

#include <string.h>

#include "model/kernels/bf16_pack.h"

enum {
    AMX_ROWS = 16,        /* of a tile */
    AMX_STEP_WORDS = 16,  /* inputs of a step, in words of two */
    AMX_ROWS_MAX = 128,   /* of a call */
    AMX_SLICE_STEPS = 8,  /* steps of a slice */
    AMX_TILE_WORDS = 256, /* 1 KiB */
    AMX_ROW_BYTES = 64,
    AMX_COLUMN_STRIDE = TILE_COLUMNS * sizeof(uint32_t),
};

/* One row's steps, 64 bytes each, a tile apart. */
INLINE void amx_pack_row(const float *x, size_t in, uint32_t *words)
{
    for (size_t k = 0; k < in; k += 32, words += AMX_TILE_WORDS) {
        _mm512_storeu_si512(words, bf16_words(x + k, in - k < 32 ? in - k : 32));
    }
}

static void amx_pack_rows(const struct pack_args *args)
{
    size_t steps = (args->in + 31) / 32;
    size_t padded = (args->rows + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS;
    for (size_t r = 0; r < padded; r++) {
        uint32_t *words = args->words + r / AMX_ROWS * steps * AMX_TILE_WORDS +
                          r % AMX_ROWS * AMX_STEP_WORDS;
        if (r < args->rows) {
            amx_pack_row(args->x + r * args->ld, args->in, words);
            continue;
        }
        for (size_t s = 0; s < steps; s++) {
            _mm512_storeu_si512(words + s * AMX_TILE_WORDS, _mm512_setzero_si512());
        }
    }
}

/* What LDTILECFG reads. */
struct amx_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct amx_config) == 64, "LDTILECFG reads 64 bytes");

/* All eight tiles at their full size. In memory for good: the compiler's LDTILECFG does not say
 * that it reads all 64 bytes, so stores to a local could be dropped. */
static const struct amx_config amx_full_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

static void amx_enter(void)
{
    AMX_CONFIGURE(&amx_full_tiles);
}

static void amx_leave(void)
{
    AMX_RELEASE();
}

/* Where the steps of one slice are for one or two tiles of rows. */
struct amx_slice {
    const uint32_t *a0; /* rows 0 … 15 */
    const uint32_t *a1; /* rows 16 … 31 */
    const uint32_t *b;
    const char *next; /* fetched, `lines` of them a step */
    size_t lines;
    size_t steps;
    float *tile; /* sums of rows 0 … */
    size_t stride;
    bool first; /* no sums yet */
};

INLINE void amx_fetch(const struct amx_slice *slice, size_t step)
{
    const char *next = slice->next + step * AMX_STEP_WORDS * AMX_COLUMN_STRIDE;
    for (size_t line = 0; line < slice->lines; line++) {
        _mm_prefetch(next + line * 64, _MM_HINT_T1);
    }
}

/* 32 rows × 32 columns: sums in tiles 0 … 3. */
static void amx_two(const struct amx_slice *slice)
{
    float *low = slice->tile + AMX_ROWS * (slice->stride / sizeof(float));
    if (slice->first) {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    } else {
        AMX_LOAD(0, slice->tile, slice->stride);
        AMX_LOAD(1, slice->tile + 16, slice->stride);
        AMX_LOAD(2, low, slice->stride);
        AMX_LOAD(3, low + 16, slice->stride);
    }
    for (size_t s = 0; s < slice->steps; s++) {
        const uint32_t *b = slice->b + s * AMX_STEP_WORDS * TILE_COLUMNS;
        AMX_LOAD(4, slice->a0 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        AMX_LOAD(6, b, AMX_COLUMN_STRIDE);
        AMX_DOT_BF16(0, 4, 6);
        AMX_LOAD(7, b + 16, AMX_COLUMN_STRIDE);
        AMX_DOT_BF16(1, 4, 7);
        AMX_LOAD(5, slice->a1 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        AMX_DOT_BF16(2, 5, 6);
        AMX_DOT_BF16(3, 5, 7);
        amx_fetch(slice, s);
    }
    AMX_STORE(0, slice->tile, slice->stride);
    AMX_STORE(1, slice->tile + 16, slice->stride);
    AMX_STORE(2, low, slice->stride);
    AMX_STORE(3, low + 16, slice->stride);
}

/* 16 rows × 32 columns: what is left of an odd number of row tiles. */
static void amx_one(const struct amx_slice *slice)
{
    if (slice->first) {
        AMX_ZERO(0);
        AMX_ZERO(1);
    } else {
        AMX_LOAD(0, slice->tile, slice->stride);
        AMX_LOAD(1, slice->tile + 16, slice->stride);
    }
    for (size_t s = 0; s < slice->steps; s++) {
        const uint32_t *b = slice->b + s * AMX_STEP_WORDS * TILE_COLUMNS;
        AMX_LOAD(4, slice->a0 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        AMX_LOAD(6, b, AMX_COLUMN_STRIDE);
        AMX_LOAD(7, b + 16, AMX_COLUMN_STRIDE);
        AMX_DOT_BF16(0, 4, 6);
        AMX_DOT_BF16(1, 4, 7);
        amx_fetch(slice, s);
    }
    AMX_STORE(0, slice->tile, slice->stride);
    AMX_STORE(1, slice->tile + 16, slice->stride);
}

static void amx_multiply(const struct multiply_args *args)
{
    size_t steps = args->words / AMX_STEP_WORDS;
    size_t row_tiles = (args->rows + AMX_ROWS - 1) / AMX_ROWS;
    size_t turns = (row_tiles + 1) / 2;
    size_t lines = AMX_STEP_WORDS * AMX_COLUMN_STRIDE / 64; /* of a step's columns */
    for (size_t from = 0; from < steps; from += AMX_SLICE_STEPS) {
        for (size_t turn = 0; turn < turns; turn++) {
            const uint32_t *a = (const uint32_t *)args->a +
                                (2 * turn * steps + from) * AMX_TILE_WORDS;
            size_t line = lines * turn / turns; /* each turn fetches its part of the next panel */
            const struct amx_slice slice = {
                .a0 = a,
                .a1 = a + steps * AMX_TILE_WORDS,
                .b = (const uint32_t *)args->b + from * AMX_STEP_WORDS * TILE_COLUMNS,
                .next = (const char *)args->next + from * AMX_STEP_WORDS * AMX_COLUMN_STRIDE +
                        line * 64,
                .lines = args->next == args->b ? 0 : lines * (turn + 1) / turns - line,
                .steps = steps - from < AMX_SLICE_STEPS ? steps - from : AMX_SLICE_STEPS,
                .tile = args->tile + 2 * turn * AMX_ROWS * args->ld,
                .stride = args->ld * sizeof(float),
                .first = from == 0,
            };
            if (2 * turn + 1 < row_tiles) {
                amx_two(&slice);
            } else {
                amx_one(&slice);
            }
        }
    }
}

#define AMX_BF16_KERNEL                                                                           \
    {                                                                                             \
        .name = "amx bf16", .precision = PRECISION_BF16, .group = 2, .word_unit = AMX_STEP_WORDS, \
        .rows_max = AMX_ROWS_MAX, .row_unit = AMX_ROWS, .columns = TILE_COLUMNS,                  \
        .pack_max = TILE_PACK, .pack_rows = amx_pack_rows, .pack_columns = bf16_interleave,       \
        .multiply = amx_multiply, .enter = amx_enter, .leave = amx_leave,                         \
    }

#endif
