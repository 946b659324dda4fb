#include "model/encoder/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/blas.h"

enum {
    /* Packed rows that are multiplied with one panel after the other: they should stay in the L2
     * cache beside a panel. */
    CHUNK_BYTES = 512 * 1024,
    BLAS_COLUMNS = 64, /* a member's share is a multiple of it */
    ALIGN = PAGES_ALIGN,
    FLOATS_A_LINE = 16,
    FETCHED_ROWS = 16, /* of output: more lines at once would only wait for each other */
};

static bool quantizes(const struct tile_kernel *kernel)
{
    return kernel->precision == PRECISION_INT8;
}

/* 32-bit words that a row or a column takes: its inputs, wide ones, two scales for each group. */
static size_t column_words(const struct linear *linear)
{
    return linear->words + linear->wide + 2 * linear->groups;
}

/* keep: all inputs but the first n of wide_columns. */
static void note_keep(struct linear *linear, size_t n)
{
    if (!linear->keep) {
        return;
    }
    memset(linear->keep, 0, size_div_up(linear->in, 16) * sizeof *linear->keep);
    for (size_t k = 0; k < linear->in; k++) {
        linear->keep[k / 16] |= (uint16_t)(1u << k % 16);
    }
    for (size_t w = 0; w < n; w++) {
        size_t k = linear->wide_columns[w];
        linear->keep[k / 16] &= (uint16_t) ~(1u << k % 16);
    }
}

void linear_layout(struct linear *linear, const struct kernels *ops,
                   const struct tile_kernel *kernel, const struct linear_shape *shape,
                   struct region *region)
{
    size_t in = shape->in;
    size_t out = shape->out;
    *linear = (struct linear){.ops = ops, .kernel = kernel, .in = in, .out = out};
    if (!kernel) {
        linear->panels = size_div_up(out, BLAS_COLUMNS);
        linear->weight = region_take(region, out * in, sizeof(float));
    } else {
        linear->words = size_round_up(size_div_up(in, kernel->group), kernel->word_unit);
        linear->wide = shape->wide;
        if (quantizes(kernel)) {
            CHECK(shape->group > 0 && shape->group % INT8_UNIT == 0);
            linear->group = shape->group;
            linear->groups = size_div_up(in, shape->group);
        }
        linear->panels = size_div_up(out, kernel->columns);
        linear->panel_bytes = size_round_up(
            column_words(linear) * kernel->columns * sizeof(uint32_t), ALIGN);
        linear->weight = region_take(region, linear->panels, linear->panel_bytes);
        linear->wide_columns = region_take(region, shape->wide, sizeof(uint32_t));
        linear->keep = quantizes(kernel)
                           ? region_take(region, size_div_up(in, 16), sizeof(uint16_t))
                           : NULL;
        note_keep(linear, 0);
    }
    linear->bias = region_take(region, out, sizeof(float));
}

static int by_index(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

void linear_choose_wide(struct linear *linear, const float *weight)
{
    uint32_t *chosen = linear->wide_columns; /* the greatest so far, in falling order */
    size_t n = 0;
    for (size_t k = 0; k < linear->in; k++) {
        if (n == linear->wide && (n == 0 || !(weight[k] > weight[chosen[n - 1]]))) {
            continue;
        }
        size_t at = n < linear->wide ? n++ : n - 1;
        for (; at > 0 && weight[k] > weight[chosen[at - 1]]; at--) {
            chosen[at] = chosen[at - 1];
        }
        chosen[at] = (uint32_t)k;
    }
    CHECK(n == linear->wide);
    if (n > 0) {
        qsort(chosen, n, sizeof *chosen, by_index);
    }
    note_keep(linear, n);
}

/* Columns of one pack job. */
static size_t panel_columns(const struct linear *linear)
{
    return linear->kernel ? linear->kernel->columns : BLAS_COLUMNS;
}

size_t linear_pack_floats(const struct linear *linear)
{
    return linear->kernel ? panel_columns(linear) * linear->in : 0;
}

/* Rows from … to of the stacked matrix → out [to-from, K]; their biases to their place. */
static void read_rows(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                      size_t from, size_t to, float *out)
{
    size_t each = linear->out / n_parts;
    for (size_t row = from; row < to; row++) {
        const struct linear_part *part = &parts[row / each];
        size_t local = row % each;
        tensor_to_f32(part->weight, local * linear->in, linear->in,
                      out + (row - from) * linear->in);
        tensor_to_f32(part->bias, local, 1, linear->bias + row);
    }
}

/* Moves the wide inputs' weights out of the rows (zero there afterwards) to wide [wide][columns].
 */
static void pack_wide_weights(const struct linear *linear, float *rows, size_t n, float *wide)
{
    size_t columns = linear->kernel->columns;
    for (size_t w = 0; w < linear->wide; w++, wide += columns) {
        float *column = rows + linear->wide_columns[w];
        for (size_t c = 0; c < n; c++) {
            wide[c] = column[c * linear->in];
            column[c * linear->in] = 0.0f;
        }
    }
}

/* n rows [n,K] → words, fp32 or bf16. */
static void interleave_weights(const struct linear *linear, const float *rows, size_t n,
                               uint32_t *words)
{
    const struct tile_kernel *kernel = linear->kernel;
    for (size_t first = 0; first < kernel->columns; first += kernel->pack_max) {
        const struct pack_args args = {
            .x = first < n ? rows + first * linear->in : rows,
            .ld = linear->in,
            .rows = first < n ? size_min(n - first, kernel->pack_max) : 0,
            .in = linear->in,
            .stride = kernel->columns,
            .words = words + first,
        };
        kernel->pack_columns(&args);
    }
}

/* One group of a row's inputs → int8 at bytes, every fourth next to the other, the next four
 * `stride` bytes on; returns their sum. The scale is NaN where one of them is: what they multiply
 * must not look like a number. */
static int32_t quantize_group(const float *x, size_t n, int8_t *bytes, size_t stride,
                              float *ret_scale)
{
    float largest = 0.0f;
    for (size_t k = 0; k < n; k++) {
        float size = fabsf(x[k]);
        largest = size > largest || isnan(size) ? size : largest; /* NaN stays */
    }
    float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    int32_t sum = 0;
    for (size_t k = 0; k < n; k++) {
        float steps = x[k] * inverse;
        int32_t value = isnan(steps) ? 0 : (int32_t)lrintf(steps);
        bytes[k / 4 * stride + k % 4] = (int8_t)value;
        sum += value;
    }
    *ret_scale = largest / 127.0f;
    return sum;
}

/* n rows [n,K] → a panel of int8, as struct multiply_args says. */
static void quantize_weights(const struct linear *linear, float *rows, size_t n, float *panel)
{
    size_t columns = linear->kernel->columns;
    float *sums = panel + linear->groups * columns;
    float *wide = sums + linear->groups * columns;
    uint32_t *words = (uint32_t *)(wide + linear->wide * columns);
    memset(panel, 0, linear->panel_bytes);
    pack_wide_weights(linear, rows, n, wide);
    for (size_t c = 0; c < n; c++) {
        for (size_t g = 0; g < linear->groups; g++) {
            size_t k = g * linear->group;
            size_t at = g * columns + c;
            int8_t *bytes = (int8_t *)(words + k / 4 * columns + c);
            int32_t sum = quantize_group(rows + c * linear->in + k,
                                         size_min(linear->group, linear->in - k), bytes,
                                         columns * sizeof *words, &panel[at]);
            sums[at] = panel[at] * (float)sum;
        }
    }
}

void linear_pack(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                 size_t panel, float *scratch)
{
    const struct tile_kernel *kernel = linear->kernel;
    size_t columns = panel_columns(linear);
    size_t from = panel * columns;
    size_t to = size_min(from + columns, linear->out);
    CHECK(panel < linear->panels && linear->out % n_parts == 0);
    if (!kernel) {
        read_rows(linear, parts, n_parts, from, to, (float *)linear->weight + from * linear->in);
        return;
    }
    read_rows(linear, parts, n_parts, from, to, scratch);
    unsigned char *out = linear->weight + panel * linear->panel_bytes;
    if (quantizes(kernel)) {
        quantize_weights(linear, scratch, to - from, (float *)out);
    } else {
        interleave_weights(linear, scratch, to - from, (uint32_t *)out);
    }
}

/* Room for one block of packed rows with the slack that pack_rows asks for. */
static size_t block_bytes(const struct linear *linear)
{
    const struct tile_kernel *kernel = linear->kernel;
    size_t words = column_words(linear) * kernel->rows_max + kernel->pack_max;
    return size_round_up(words * sizeof(uint32_t), ALIGN);
}

/* Blocks of rows that are packed at a time. */
static size_t chunk_blocks(const struct linear *linear, size_t blocks)
{
    size_t fit = size_max(CHUNK_BYTES / block_bytes(linear), 1);
    return size_div_up(blocks, size_div_up(blocks, fit));
}

static size_t tile_bytes(const struct tile_kernel *kernel)
{
    return size_round_up((size_t)kernel->rows_max * kernel->columns * sizeof(float), ALIGN);
}

size_t linear_scratch_bytes(const struct linear *linear, size_t rows)
{
    if (!linear->kernel) {
        return 0;
    }
    size_t blocks = size_max(size_div_up(rows, linear->kernel->rows_max), 1);
    size_t fit = size_max(CHUNK_BYTES / block_bytes(linear), 1);
    return tile_bytes(linear->kernel) + size_min(fit, blocks) * block_bytes(linear);
}

/* Where block b of `blocks` starts: as even as can be, so that none is left with a single row. */
static size_t block_start(const struct linear *linear, size_t rows, size_t blocks, size_t b)
{
    size_t unit = linear->kernel->row_unit;
    return size_min(size_div_up(rows, unit) * b / blocks * unit, rows);
}

static void pack_block(const struct linear *linear, const struct linear_call *call, size_t from,
                       size_t to, unsigned char *block)
{
    size_t rows = to - from;
    float *lows = (float *)block + linear->groups * rows;
    float *wide = lows + linear->groups * rows;
    const struct pack_args args = {
        .x = call->x + from * call->x_ld,
        .ld = call->x_ld,
        .rows = rows,
        .in = linear->in,
        .stride = rows,
        .words = (uint32_t *)(wide + linear->wide * rows),
        .group = linear->group,
        .keep = linear->keep,
        .scales = (float *)block,
        .lows = lows,
    };
    linear->kernel->pack_rows(&args);
    for (size_t w = 0; w < linear->wide; w++) {
        const float *x = args.x + linear->wide_columns[w];
        for (size_t r = 0; r < rows; r++) {
            wide[w * rows + r] = x[r * args.ld];
        }
    }
}

static void finish_tile(const struct linear *linear, const struct linear_call *call,
                        const float *tile, size_t from, size_t to, size_t panel)
{
    size_t columns = linear->kernel->columns;
    size_t first = panel * columns;
    const struct finish_args args = {
        .finish = call->finish,
        .rows = to - from,
        .columns = size_min(columns, linear->out - first),
        .sums = tile,
        .sums_ld = columns,
        .bias = linear->bias + first,
        .residual = call->residual ? call->residual + from * call->residual_ld + first : NULL,
        .residual_ld = call->residual_ld,
        .out = call->out + from * call->out_ld + first,
        .out_ld = call->out_ld,
    };
    linear->ops->finish(&args);
}

/* Asks for the lines that finish_tile will write (and read) while the tile is multiplied: stores to
 * lines that are far away stall it otherwise. */
static void prefetch_tile(const struct linear *linear, const struct linear_call *call, size_t from,
                          size_t to, size_t panel)
{
    size_t first = panel * linear->kernel->columns;
    size_t columns = size_min(linear->kernel->columns, linear->out - first);
    for (size_t row = from; row < to; row++) {
        for (size_t c = first; c < first + columns; c += FLOATS_A_LINE) {
            __builtin_prefetch(call->out + row * call->out_ld + c, 1);
            if (call->finish == FINISH_ADD) {
                __builtin_prefetch(call->residual + row * call->residual_ld + c, 0);
            }
        }
    }
}

/* One chunk of packed row blocks against this member's panels. While a panel's blocks are
 * multiplied, the panel after it is fetched from memory, a share with each block. */
static void run_chunk(const struct linear *linear, const struct linear_call *call, size_t blocks,
                      size_t first_block, size_t end_block, size_t from_panel, size_t to_panel,
                      unsigned char *packed, float *tile)
{
    size_t each = block_bytes(linear);
    CHECK(linear->words > 0 && first_block < end_block);
    size_t share = size_div_up(linear->panel_bytes, linear->words * (end_block - first_block));
    for (size_t panel = from_panel; panel < to_panel; panel++) {
        const unsigned char *b = linear->weight + panel * linear->panel_bytes;
        const unsigned char *next = b + linear->panel_bytes;
        size_t next_step = panel + 1 < to_panel ? share : 0;
        for (size_t block = first_block; block < end_block; block++) {
            size_t from = block_start(linear, call->rows, blocks, block);
            size_t to = block_start(linear, call->rows, blocks, block + 1);
            const struct multiply_args args = {
                .rows = to - from,
                .words = linear->words,
                .group_words = linear->group / 4,
                .groups = linear->groups,
                .wide = linear->wide,
                .a = packed + (block - first_block) * each,
                .b = b,
                .next = next_step ? next + (block - first_block) * linear->words * next_step : b,
                .next_step = next_step,
                .tile = tile,
                .ld = linear->kernel->columns,
            };
            if (to - from <= FETCHED_ROWS) {
                prefetch_tile(linear, call, from, to, panel);
            }
            linear->kernel->multiply(&args);
            finish_tile(linear, call, tile, from, to, panel);
        }
    }
}

static void run_tiles(const struct linear *linear, const struct linear_call *call,
                      size_t from_panel, size_t to_panel, unsigned char *scratch)
{
    size_t blocks = size_div_up(call->rows, linear->kernel->rows_max);
    size_t each = chunk_blocks(linear, blocks);
    float *tile = (float *)scratch;
    unsigned char *packed = scratch + tile_bytes(linear->kernel);
    for (size_t first = 0; first < blocks; first += each) {
        size_t end = size_min(first + each, blocks);
        for (size_t block = first; block < end; block++) {
            pack_block(linear, call, block_start(linear, call->rows, blocks, block),
                       block_start(linear, call->rows, blocks, block + 1),
                       packed + (block - first) * block_bytes(linear));
        }
        run_chunk(linear, call, blocks, first, end, from_panel, to_panel, packed, tile);
    }
}

static void run_blas(const struct linear *linear, const struct linear_call *call, size_t from,
                     size_t to)
{
    const float *weight = (const float *)linear->weight;
    const struct blas_call product = {
        .transpose_b = true,
        .m = call->rows,
        .n = to - from,
        .k = linear->in,
        .a = call->x,
        .a_ld = call->x_ld,
        .b = weight + from * linear->in,
        .b_ld = linear->in,
        .c = call->out + from,
        .c_ld = call->out_ld,
    };
    blas_multiply(&product);
    const struct finish_args args = {
        .finish = call->finish,
        .rows = call->rows,
        .columns = to - from,
        .sums = call->out + from,
        .sums_ld = call->out_ld,
        .bias = linear->bias + from,
        .residual = call->residual ? call->residual + from : NULL,
        .residual_ld = call->residual_ld,
        .out = call->out + from,
        .out_ld = call->out_ld,
    };
    linear->ops->finish(&args);
}

void linear_run(const struct linear *linear, const struct linear_call *call,
                const struct team *team, unsigned member, void *scratch)
{
    size_t from;
    size_t to;
    team_share(team, member, linear->panels, 1, &from, &to);
    if (from == to || call->rows == 0) {
        return;
    }
    if (!linear->kernel) {
        run_blas(linear, call, from * BLAS_COLUMNS, size_min(to * BLAS_COLUMNS, linear->out));
        return;
    }
    if (linear->kernel->enter) {
        linear->kernel->enter();
    }
    run_tiles(linear, call, from, to, scratch);
    if (linear->kernel->leave) {
        linear->kernel->leave();
    }
}
