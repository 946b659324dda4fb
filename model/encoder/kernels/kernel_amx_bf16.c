/* bf16 on AMX: 32 rows × 32 columns in four tiles of sums, two tiles of rows and two of columns a
 * step of 32 inputs.
 *
 * Rows are packed as the tiles read them: [⌈rows/16⌉][steps][16 rows][16 words]. Columns are the
 * words [steps · 16][32] that AVX512-BF16 reads too: a step's two tiles lie side by side.
 *
 * Loads from L2 are slower than the multiplication, so the inputs are cut into slices: a slice of
 * the columns (16 KiB) stays in L1 while all rows of the tile pass by; the sums wait in the tile's
 * memory in between. Each sum still adds its steps in order.
 *
 * gcc's _tile_loadd does not say that it reads memory: what is loaded must have been written by
 * another call that is not inlined here, as packing and the multiplications before are. */
#if defined(__x86_64__)
#include <stdbool.h>

#include "model/encoder/kernels/amx_tile.h"
#include "model/encoder/kernels/bf16_pack.h"

enum { SLICE_STEPS = 8 };

/* One row's steps, 64 bytes each, a tile apart. */
INLINE void pack_row(const float *x, size_t in, uint32_t *words)
{
    for (size_t k = 0; k < in; k += 32, words += AMX_TILE_WORDS) {
        _mm512_storeu_si512(words, bf16_words(x + k, in - k < 32 ? in - k : 32));
    }
}

static void pack_rows(const struct pack_args *args)
{
    size_t steps = (args->in + 31) / 32; /* of this part of the row */
    size_t tile_words = args->row_words / AMX_STEP_WORDS * AMX_TILE_WORDS;
    size_t padded = (args->rows + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS;
    for (size_t r = 0; r < padded; r++) {
        uint32_t *words = args->words + r / AMX_ROWS * tile_words + r % AMX_ROWS * AMX_STEP_WORDS;
        if (r < args->rows) {
            pack_row(args->x + r * args->ld, args->in, words);
            continue;
        }
        for (size_t s = 0; s < steps; s++) {
            _mm512_storeu_si512(words + s * AMX_TILE_WORDS, _mm512_setzero_si512());
        }
    }
}

/* Where the steps of one slice are for one or two tiles of rows. */
struct slice {
    const uint32_t *a0; /* rows 0 … 15 */
    const uint32_t *a1; /* rows 16 … 31 */
    const uint32_t *b;
    const char *next; /* fetched: `lines` of each next_bytes, one a step */
    size_t next_bytes;
    size_t lines;
    size_t steps;
    float *tile; /* sums of rows 0 … */
    size_t stride;
    bool first; /* no sums yet */
};

INLINE void fetch(const struct slice *slice, size_t step)
{
    const char *next = slice->next + step * slice->next_bytes;
    for (size_t line = 0; line < slice->lines; line++) {
        _mm_prefetch(next + line * 64, _MM_HINT_T1);
    }
}

/* 32 rows × 32 columns: sums in tiles 0 … 3. */
static void multiply_two(const struct slice *slice)
{
    float *low = slice->tile + AMX_ROWS * (slice->stride / sizeof(float));
    if (slice->first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, slice->tile, slice->stride);
        _tile_loadd(1, slice->tile + 16, slice->stride);
        _tile_loadd(2, low, slice->stride);
        _tile_loadd(3, low + 16, slice->stride);
    }
    for (size_t s = 0; s < slice->steps; s++) {
        const uint32_t *b = slice->b + s * AMX_STEP_WORDS * TILE_COLUMNS;
        _tile_loadd(4, slice->a0 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        _tile_loadd(6, b, AMX_COLUMN_STRIDE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, AMX_COLUMN_STRIDE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, slice->a1 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        fetch(slice, s);
    }
    _tile_stored(0, slice->tile, slice->stride);
    _tile_stored(1, slice->tile + 16, slice->stride);
    _tile_stored(2, low, slice->stride);
    _tile_stored(3, low + 16, slice->stride);
}

/* 16 rows × 32 columns: what is left of an odd number of row tiles. */
static void multiply_one(const struct slice *slice)
{
    if (slice->first) {
        _tile_zero(0);
        _tile_zero(1);
    } else {
        _tile_loadd(0, slice->tile, slice->stride);
        _tile_loadd(1, slice->tile + 16, slice->stride);
    }
    for (size_t s = 0; s < slice->steps; s++) {
        const uint32_t *b = slice->b + s * AMX_STEP_WORDS * TILE_COLUMNS;
        _tile_loadd(4, slice->a0 + s * AMX_TILE_WORDS, AMX_ROW_BYTES);
        _tile_loadd(6, b, AMX_COLUMN_STRIDE);
        _tile_loadd(7, b + 16, AMX_COLUMN_STRIDE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        fetch(slice, s);
    }
    _tile_stored(0, slice->tile, slice->stride);
    _tile_stored(1, slice->tile + 16, slice->stride);
}

static void multiply(const struct multiply_args *args)
{
    size_t steps = args->words / AMX_STEP_WORDS;
    size_t row_tiles = (args->rows + AMX_ROWS - 1) / AMX_ROWS;
    size_t turns = (row_tiles + 1) / 2;
    size_t next_bytes = AMX_STEP_WORDS * args->next_step;
    size_t lines = (next_bytes + 63) / 64;
    for (size_t from = 0; from < steps; from += SLICE_STEPS) {
        for (size_t turn = 0; turn < turns; turn++) {
            const uint32_t *a = (const uint32_t *)args->a +
                                (2 * turn * steps + from) * AMX_TILE_WORDS;
            size_t line = lines * turn / turns; /* each turn fetches its part of the next panel */
            const struct slice slice = {
                .a0 = a,
                .a1 = a + steps * AMX_TILE_WORDS,
                .b = (const uint32_t *)args->b + from * AMX_STEP_WORDS * TILE_COLUMNS,
                .next = (const char *)args->next + from * next_bytes + line * 64,
                .next_bytes = next_bytes,
                .lines = lines * (turn + 1) / turns - line,
                .steps = steps - from < SLICE_STEPS ? steps - from : SLICE_STEPS,
                .tile = args->tile + 2 * turn * AMX_ROWS * args->ld,
                .stride = args->ld * sizeof(float),
                .first = from == 0,
            };
            if (2 * turn + 1 < row_tiles) {
                multiply_two(&slice);
            } else {
                multiply_one(&slice);
            }
        }
    }
}

const struct tile_kernel tile_amx_bf16 = {
    .name = "amx bf16",
    .precision = PRECISION_BF16,
    .word_inputs = 2,
    .word_unit = AMX_STEP_WORDS,
    .rows_max = AMX_ROWS_MAX,
    .row_unit = AMX_ROWS,
    .columns = TILE_COLUMNS,
    .panels = 1,
    .pack_max = TILE_PACK,
    .pack_rows = pack_rows,
    .pack_columns = bf16_interleave,
    .multiply = multiply,
    .enter = amx_enter,
    .leave = amx_leave,
};
#endif
