#include "model/encoder/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/blas.h"
#include "model/encoder/grid.h"
#include "model/encoder/operand.h"

enum {
    /* A chunk of packed rows, which is multiplied with one panel after the other, should stay in
     * the L2 cache beside panels: half of it, of as much as one core may take for its own. */
    L2_MOST = 4 << 20,
    BLAS_COLUMNS = 64, /* a member's share is a multiple of it */
    ALIGN = PAGES_ALIGN,
    FLOATS_A_LINE = 16,
    FETCHED_ROWS = 16, /* of output: more lines at once would only wait for each other */
    HELD_BLOCKS = 16,
};

static bool quantizes(const struct tile_kernel *kernel)
{
    return kernel->precision == PRECISION_INT8;
}

/* 32-bit words that a column takes: its inputs, wide ones, two numbers for each group. */
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
        linear->words = size_round_up(size_div_up(in, kernel->word_inputs), kernel->word_unit);
        linear->wide = shape->wide;
        if (quantizes(kernel)) {
            CHECK(shape->group >= INT8_UNIT && shape->group <= INT8_GROUP_MAX &&
                  (shape->group & (shape->group - 1)) == 0);
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
        size_t l2 = shape->l2 > 0 ? size_min(shape->l2, L2_MOST) : CPU_L2_DEFAULT;
        linear->chunk = size_max(l2 / 2 / operand_bytes(linear, kernel->rows_max), 1);
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

/* Rows from … to of the stacked matrix [to-from,K]: where they stand in the file as fp32, else at
 * room. */
static const float *read_rows(const struct linear *linear, const struct linear_part *parts,
                              size_t n_parts, size_t from, size_t to, float *room)
{
    size_t each = linear->out / n_parts;
    if (from / each == (to - 1) / each) {
        return tensor_as_f32(parts[from / each].weight, from % each * linear->in,
                             (to - from) * linear->in, room);
    }
    for (size_t row = from; row < to; row++) {
        tensor_to_f32(parts[row / each].weight, row % each * linear->in, linear->in,
                      room + (row - from) * linear->in);
    }
    return room;
}

static void read_biases(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                        size_t from, size_t to)
{
    size_t each = linear->out / n_parts;
    for (size_t row = from; row < to; row++) {
        tensor_to_f32(parts[row / each].bias, row % each, 1, linear->bias + row);
    }
}

/* The wide inputs' weights → wide [wide][columns]. */
static void pack_wide_weights(const struct linear *linear, const float *rows, size_t n, float *wide)
{
    size_t columns = linear->kernel->columns;
    for (size_t w = 0; w < linear->wide; w++, wide += columns) {
        for (size_t c = 0; c < n; c++) {
            wide[c] = rows[c * linear->in + linear->wide_columns[w]];
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

/* n rows [n,K] → a panel of int8, as struct multiply_args says. */
static void quantize_weights(const struct linear *linear, const float *rows, size_t n, float *panel)
{
    size_t columns = linear->kernel->columns;
    uint32_t *pairs = (uint32_t *)(panel + linear->groups * columns);
    float *wide = (float *)(pairs + linear->groups * columns);
    const struct pack_args args = {
        .x = rows,
        .ld = linear->in,
        .rows = n,
        .in = linear->in,
        .stride = columns,
        .words = (uint32_t *)(wide + linear->wide * columns),
        .group = linear->group,
        .keep = linear->keep,
        .scales = panel,
        .pairs = pairs,
    };
    if (n < columns) {
        memset(panel, 0, linear->panel_bytes);
    }
    pack_wide_weights(linear, rows, n, wide);
    linear->kernel->pack_columns(&args);
}

void linear_pack(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                 size_t panel, float *scratch)
{
    const struct tile_kernel *kernel = linear->kernel;
    size_t columns = panel_columns(linear);
    size_t from = panel * columns;
    size_t to = size_min(from + columns, linear->out);
    CHECK(panel < linear->panels && linear->out % n_parts == 0);
    read_biases(linear, parts, n_parts, from, to);
    if (!kernel) {
        float *out = (float *)linear->weight + from * linear->in;
        const float *rows = read_rows(linear, parts, n_parts, from, to, out);
        if (rows != out) {
            memcpy(out, rows, (to - from) * linear->in * sizeof *out);
        }
        return;
    }
    const float *rows = read_rows(linear, parts, n_parts, from, to, scratch);
    unsigned char *out = linear->weight + panel * linear->panel_bytes;
    if (quantizes(kernel)) {
        quantize_weights(linear, rows, to - from, (float *)out);
    } else {
        interleave_weights(linear, rows, to - from, (uint32_t *)out);
    }
}

size_t linear_span_panels(const struct linear *linear, const struct linear *next)
{
    return next && linear->kernel ? size_div_up(operand_unit(next), linear->kernel->columns) : 1;
}

/* Blocks whose outputs wait for the span's last panel. */
static size_t held_blocks(size_t panels)
{
    return panels > 1 ? HELD_BLOCKS : 1;
}

static size_t tile_bytes(const struct tile_kernel *kernel)
{
    return size_round_up(
        (size_t)kernel->rows_max * kernel->panels * kernel->columns * sizeof(float), ALIGN);
}

size_t linear_scratch_bytes(const struct linear *linear, const struct linear *next)
{
    if (!linear->kernel) {
        return 0;
    }
    size_t panels = linear_span_panels(linear, next);
    size_t tiles = next ? size_div_up(panels, linear->kernel->panels) * held_blocks(panels) : 0;
    return tile_bytes(linear->kernel) * (1 + tiles);
}

/* What one member does of a product. */
struct share {
    const struct linear *linear;
    const struct linear_call *call;
    size_t span; /* panels */
    float *tile; /* [rows_max, kernel->panels · columns] */
    float *held; /* [held blocks][rows_max, span · columns]: outputs to be packed */
};

static size_t held_ld(const struct share *share)
{
    const struct tile_kernel *kernel = share->linear->kernel;
    return size_max(share->span, kernel->panels) * kernel->columns;
}

static float *held_block(const struct share *share, size_t nth)
{
    return share->held + nth * share->linear->kernel->rows_max * held_ld(share);
}

/* Where a tile's outputs go. nth: which of the held blocks. */
struct place {
    float *out;
    size_t ld;
};

static struct place place_of(const struct share *share, size_t block, size_t panel, size_t nth)
{
    const struct linear *linear = share->linear;
    const struct linear_call *call = share->call;
    size_t columns = linear->kernel->columns;
    size_t first = panel * columns;
    size_t from = operand_start(call->x, block);
    if (call->next) {
        return (struct place){held_block(share, nth) + panel % share->span * columns,
                              held_ld(share)};
    }
    if (!call->completion || call->completion->spans == 1) {
        return (struct place){call->out + from * call->out_ld + first, call->out_ld};
    }
    size_t rows = operand_start(call->x, block + 1) - from;
    size_t span_columns = call->completion_panels * columns;
    size_t span_first = first / span_columns * span_columns;
    return (struct place){
        call->out + from * linear->out + span_first * rows + first - span_first,
        size_min(span_columns, linear->out - span_first),
    };
}

static void finish_tile(const struct share *share, size_t block, size_t panel, size_t panels,
                        size_t nth)
{
    const struct linear *linear = share->linear;
    const struct linear_call *call = share->call;
    size_t columns = linear->kernel->columns;
    size_t first = panel * columns;
    size_t from = operand_start(call->x, block);
    const struct place place = place_of(share, block, panel, nth);
    const struct finish_args args = {
        .finish = call->finish,
        .rows = operand_start(call->x, block + 1) - from,
        .columns = size_min(panels * columns, linear->out - first),
        .sums = share->tile,
        .sums_ld = panels * columns,
        .bias = linear->bias + first,
        .residual = call->residual ? call->residual + from * call->residual_ld + first : NULL,
        .residual_ld = call->residual_ld,
        .out = place.out,
        .out_ld = place.ld,
    };
    linear->ops->finish(&args);
}

/* Asks for the lines that finish_tile will write (and read) while the tile is multiplied: stores to
 * lines that are far away stall it otherwise. */
static void prefetch_tile(const struct share *share, size_t block, size_t panel, size_t panels)
{
    const struct linear *linear = share->linear;
    const struct linear_call *call = share->call;
    size_t from = operand_start(call->x, block);
    size_t to = operand_start(call->x, block + 1);
    if (call->next || to - from > FETCHED_ROWS) {
        return;
    }
    size_t first = panel * linear->kernel->columns;
    size_t columns = size_min(panels * linear->kernel->columns, linear->out - first);
    const struct place place = place_of(share, block, panel, 0);
    for (size_t row = from; row < to; row++) {
        for (size_t c = 0; c < columns; c += FLOATS_A_LINE) {
            __builtin_prefetch(place.out + (row - from) * place.ld + c, 1);
            if (call->finish == FINISH_ADD) {
                __builtin_prefetch(call->residual + row * call->residual_ld + first + c, 0);
            }
        }
    }
}

/* The outputs of panels [from_panel,to_panel), a span, for the nth block that is held. */
static void pack_held(const struct share *share, size_t from_panel, size_t to_panel, size_t block,
                      size_t nth)
{
    size_t columns = share->linear->kernel->columns;
    operand_pack(share->call->next, block, held_block(share, nth), held_ld(share),
                 from_panel * columns, size_min(to_panel * columns, share->linear->out));
}

/* Of the first tile of so many panels. */
static size_t tile_panels_bytes(const struct linear *linear, size_t panels)
{
    return size_min(panels, linear->kernel->panels) * linear->panel_bytes;
}

static const unsigned char *panel_of(const struct linear *linear, size_t panel)
{
    return linear->weight + panel * linear->panel_bytes;
}

/* Panels of a span of outputs: of what is packed or completed at once. 0: of all. */
static size_t call_span(const struct share *share)
{
    const struct completion *completion = share->call->completion;
    if (completion) {
        return completion->spans > 1 ? share->call->completion_panels : 0;
    }
    return share->span > 1 ? share->span : 0;
}

/* Behind the last panel, up to `end`, of the span that `panel` is in. */
static size_t span_end(const struct share *share, size_t panel, size_t end)
{
    size_t span = call_span(share);
    return span > 0 ? size_min(panel - panel % span + span, end) : end;
}

/* Panels that are multiplied at once. */
struct tile {
    size_t panel;
    size_t panels;
    size_t parts; /* behind the last tile of a span, how many of its panels are there now; else 0:
                   * counting after each would wait for its stores */
};

/* Blocks [from,to) against the panels of a tile. While they are multiplied, what is multiplied
 * behind them is fetched from memory, a share with each block; NULL: nothing. */
static void run_panels(const struct share *share, const struct tile *tile, size_t from, size_t to,
                       const unsigned char *behind, size_t behind_bytes)
{
    const struct linear *linear = share->linear;
    const struct operand *x = share->call->x;
    CHECK(linear->words > 0 && from < to);
    size_t panel = tile->panel;
    size_t panels = tile->panels;
    const unsigned char *b = panel_of(linear, panel);
    /* What is behind may be another matrix with longer panels: beside each word that is read no
     * more than another one is asked for, so its end may have to come when it is multiplied. */
    size_t word_bytes = panels * linear->kernel->columns * sizeof(uint32_t);
    size_t step = behind ? size_div_up(behind_bytes, linear->words * (to - from)) : 0;
    step = size_min(step, word_bytes);
    for (size_t block = from; block < to; block++) {
        const struct multiply_args args = {
            .rows = operand_start(x, block + 1) - operand_start(x, block),
            .words = linear->words,
            .group_words = linear->group / 4,
            .groups = linear->groups,
            .wide = linear->wide,
            .a = operand_block(x, block),
            .b = b,
            .panels = panels,
            .panel_bytes = linear->panel_bytes,
            .next = step ? behind + (block - from) * linear->words * step : b,
            .next_step = step,
            .tile = share->tile,
            .ld = panels * linear->kernel->columns,
        };
        size_t nth = share->span > 1 ? block - from : 0;
        prefetch_tile(share, block, panel, panels);
        linear->kernel->multiply(&args);
        finish_tile(share, block, panel, panels, nth);
        if (share->call->completion && tile->parts > 0) {
            size_t span = call_span(share);
            completion_add(share->call->completion, block, span > 0 ? panel / span : 0,
                           (unsigned)tile->parts);
        }
        if (share->call->next && share->span == 1) {
            pack_held(share, panel, panel + panels, block, nth);
        }
    }
}

/* A chunk, blocks [from,to) of a piece, which stay in the L2 cache, against all of its panels.
 * Where several panels' outputs are packed at once, some blocks' outputs wait for the span's last.
 * behind: what comes after the chunk. */
static void run_chunk(const struct share *share, const struct piece *chunk,
                      const unsigned char *behind, size_t behind_bytes)
{
    const struct linear *linear = share->linear;
    size_t each = share->span > 1 ? HELD_BLOCKS : chunk->to_block - chunk->from_block;
    size_t end_panel;
    for (size_t panel = chunk->from_panel; panel < chunk->to_panel; panel = end_panel) {
        end_panel = span_end(share, panel, chunk->to_panel);
        for (size_t block = chunk->from_block; block < chunk->to_block; block += each) {
            size_t end = size_min(block + each, chunk->to_block);
            struct tile tile;
            for (tile.panel = panel; tile.panel < end_panel; tile.panel += tile.panels) {
                tile.panels = size_min(linear->kernel->panels, end_panel - tile.panel);
                size_t next = tile.panel + tile.panels;
                bool last = next == chunk->to_panel;
                tile.parts = next == end_panel ? end_panel - panel : 0;
                run_panels(share, &tile, block, end, last ? behind : panel_of(linear, next),
                           last ? behind_bytes : tile_panels_bytes(linear, chunk->to_panel - next));
            }
            for (size_t held = block; share->span > 1 && held < end; held++) {
                pack_held(share, panel, end_panel, held, held - block);
            }
        }
    }
}

/* behind: what comes after the piece. */
static void run_piece(const struct share *share, const struct piece *piece,
                      const unsigned char *behind, size_t behind_bytes)
{
    const struct linear *linear = share->linear;
    size_t blocks = piece->to_block - piece->from_block;
    size_t chunks = size_div_up(blocks, linear->chunk);
    for (size_t nth = 0; nth < chunks; nth++) {
        struct piece chunk = *piece;
        chunk.from_block = piece->from_block + blocks * nth / chunks;
        chunk.to_block = piece->from_block + blocks * (nth + 1) / chunks;
        if (nth + 1 < chunks) {
            run_chunk(share, &chunk, panel_of(linear, piece->from_panel),
                      tile_panels_bytes(linear, piece->to_panel - piece->from_panel));
        } else {
            run_chunk(share, &chunk, behind, behind_bytes);
        }
    }
}

static size_t pieces_of(const struct linear *linear, const struct linear *next, size_t rows,
                        const struct team *team, unsigned member, struct piece pieces[GRID_PIECES])
{
    size_t blocks = operand_blocks(linear, rows);
    CHECK(blocks > 0);
    const struct grid grid = {
        .blocks = blocks,
        .block_rows = size_div_up(rows, blocks),
        .panels = linear->panels,
        .span = linear_span_panels(linear, next),
    };
    return grid_share(&grid, team->width, member, pieces);
}

const void *linear_first_panels(const struct linear *linear, const struct linear *next, size_t rows,
                                const struct team *team, unsigned member, size_t *ret_bytes)
{
    struct piece pieces[GRID_PIECES];
    if (!linear->kernel || rows == 0 || pieces_of(linear, next, rows, team, member, pieces) == 0) {
        return NULL;
    }
    *ret_bytes = tile_panels_bytes(linear, pieces[0].to_panel - pieces[0].from_panel);
    return panel_of(linear, pieces[0].from_panel);
}

static void run_tiles(const struct linear *linear, const struct linear_call *call,
                      const struct team *team, unsigned member, unsigned char *scratch)
{
    const struct linear *next = call->next ? call->next->linear : NULL;
    const struct share share = {
        .linear = linear,
        .call = call,
        .span = linear_span_panels(linear, next),
        .tile = (float *)scratch,
        .held = (float *)(scratch + tile_bytes(linear->kernel)),
    };
    struct piece pieces[GRID_PIECES];
    size_t n = pieces_of(linear, next, call->x->rows, team, member, pieces);
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n) {
            const struct piece *after = &pieces[i + 1];
            run_piece(&share, &pieces[i], panel_of(linear, after->from_panel),
                      tile_panels_bytes(linear, after->to_panel - after->from_panel));
        } else {
            run_piece(&share, &pieces[i], call->fetched, call->fetched_bytes);
        }
    }
}

/* The member's columns of all rows, all at once. */
static void run_blas(const struct linear *linear, const struct linear_call *call,
                     const struct team *team, unsigned member)
{
    size_t from;
    size_t to;
    team_share(team, member, linear->out, BLAS_COLUMNS, &from, &to);
    if (from == to) {
        return;
    }
    const float *weight = (const float *)linear->weight;
    float *out = (call->next ? (float *)call->next->memory : call->out) + from;
    size_t ld = call->next ? linear->out : call->out_ld;
    size_t rows = call->x->rows;
    bool adds = call->finish == FINISH_ADD;
    for (size_t r = 0; adds && call->residual != call->out && r < rows; r++) {
        memcpy(out + r * ld, call->residual + r * call->residual_ld + from,
               (to - from) * sizeof *out);
    }
    const struct blas_call product = {
        .transpose_b = true,
        .m = rows,
        .n = to - from,
        .k = linear->in,
        .a = (const float *)call->x->memory,
        .a_ld = linear->in,
        .b = weight + from * linear->in,
        .b_ld = linear->in,
        .c = out,
        .c_ld = ld,
        .beta = adds ? 1.0f : 0.0f,
    };
    blas_multiply(&product);
    const struct finish_args args = {
        .finish = adds ? FINISH_BIAS : call->finish,
        .rows = rows,
        .columns = to - from,
        .sums = out,
        .sums_ld = ld,
        .bias = linear->bias + from,
        .out = out,
        .out_ld = ld,
    };
    linear->ops->finish(&args);
    for (size_t block = 0; call->completion && block < call->x->blocks; block++) {
        completion_add(call->completion, block, 0, (unsigned)size_div_up(to - from, BLAS_COLUMNS));
    }
}

void linear_run(const struct linear *linear, const struct linear_call *call,
                const struct team *team, unsigned member, void *scratch)
{
    if (call->x->rows == 0) {
        return;
    }
    CHECK(!call->next || call->next->blocks == call->x->blocks);
    CHECK(!call->completion || call->completion->spans == 1 || linear->kernel);
    if (!linear->kernel) {
        run_blas(linear, call, team, member);
        return;
    }
    if (linear->kernel->enter) {
        linear->kernel->enter();
    }
    run_tiles(linear, call, team, member, scratch);
    if (linear->kernel->leave) {
        linear->kernel->leave();
    }
}
