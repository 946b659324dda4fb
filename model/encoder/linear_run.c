/* The product of a linear: how a member's share is cut into tiles, and what becomes of one. */
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/blas.h"
#include "model/encoder/grid.h"
#include "model/encoder/linear.h"
#include "model/encoder/operand.h"

enum {
    FLOATS_A_LINE = 16,
    FETCHED_ROWS = 16, /* of output: more lines at once would only wait for each other */
    HELD_BLOCKS = 16,
};

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
        (size_t)kernel->rows_max * kernel->panels * kernel->columns * sizeof(float), PAGES_ALIGN);
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
    unsigned member, width; /* of the team */
    size_t span;            /* panels */
    float *tile;            /* [rows_max, kernel->panels · columns] */
    float *held;            /* [held blocks][rows_max, span · columns]: outputs to be packed */
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

/* The rows of a tile: a block of x. */
struct rows {
    size_t block;
    size_t first;
    size_t n;
    size_t held; /* which of the held blocks its outputs wait in */
};

/* Where a tile's outputs go. */
struct place {
    float *out;
    size_t ld;
};

static struct place place_of(const struct share *share, const struct rows *rows, size_t panel)
{
    const struct linear *linear = share->linear;
    const struct linear_call *call = share->call;
    size_t columns = linear->kernel->columns;
    size_t first = panel * columns;
    if (call->next) {
        return (struct place){held_block(share, rows->held) + panel % share->span * columns,
                              held_ld(share)};
    }
    if (!call->completion || call->completion->spans == 1) {
        return (struct place){call->out + rows->first * call->out_ld + first, call->out_ld};
    }
    size_t span_columns = call->completion_panels * columns;
    size_t span_first = first / span_columns * span_columns;
    return (struct place){
        call->out + rows->first * linear->out + span_first * rows->n + first - span_first,
        size_min(span_columns, linear->out - span_first),
    };
}

/* Panels that are multiplied at once. */
struct tile {
    size_t panel;
    size_t panels;
    size_t parts; /* behind the last tile of a span, how many of its panels are there now; else 0:
                   * counting after each would wait for its stores */
};

static size_t tile_columns(const struct linear *linear, const struct tile *tile)
{
    size_t columns = linear->kernel->columns;
    return size_min(tile->panels * columns, linear->out - tile->panel * columns);
}

static void finish_tile(const struct share *share, const struct rows *rows, const struct tile *tile,
                        const struct place *place)
{
    const struct linear *linear = share->linear;
    const struct linear_call *call = share->call;
    size_t first = tile->panel * linear->kernel->columns;
    const struct finish_args args = {
        .finish = call->finish,
        .rows = rows->n,
        .columns = tile_columns(linear, tile),
        .sums = share->tile,
        .sums_ld = tile->panels * linear->kernel->columns,
        .bias = linear->bias + first,
        .residual = call->residual ? call->residual + rows->first * call->residual_ld + first
                                   : NULL,
        .residual_ld = call->residual_ld,
        .out = place->out,
        .out_ld = place->ld,
    };
    linear->ops->finish(&args);
}

/* Asks for the lines that finish_tile will write (and read) while the tile is multiplied: stores to
 * lines that are far away stall it otherwise. */
static void prefetch_tile(const struct share *share, const struct rows *rows,
                          const struct tile *tile, const struct place *place)
{
    const struct linear_call *call = share->call;
    if (call->next || rows->n > FETCHED_ROWS) {
        return;
    }
    size_t columns = tile_columns(share->linear, tile);
    size_t first = tile->panel * share->linear->kernel->columns;
    for (size_t row = 0; row < rows->n; row++) {
        size_t at = (rows->first + row) * call->residual_ld + first;
        for (size_t c = 0; c < columns; c += FLOATS_A_LINE) {
            __builtin_prefetch(place->out + row * place->ld + c, 1);
            if (call->finish == FINISH_ADD) {
                __builtin_prefetch(call->residual + at + c, 0);
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

/* Whether blocks are counted, and may be complete, behind the tile. */
static bool completes(const struct share *share, const struct tile *tile)
{
    return share->call->completion && tile->parts > 0;
}

/* One block against the panels of a tile. */
static void run_tile(const struct share *share, const struct tile *tile, const struct rows *rows,
                     struct multiply_args *args)
{
    const struct linear_call *call = share->call;
    const struct place place = place_of(share, rows, tile->panel);
    prefetch_tile(share, rows, tile, &place);
    args->rows = rows->n;
    args->a = operand_block(call->x, rows->block);
    share->linear->kernel->multiply(args);
    finish_tile(share, rows, tile, &place);
    if (completes(share, tile)) {
        size_t span = call_span(share);
        completion_add(call->completion, rows->block, span > 0 ? tile->panel / span : 0,
                       (unsigned)tile->parts);
    }
    if (call->next && share->span == 1) {
        pack_held(share, tile->panel, tile->panel + tile->panels, rows->block, rows->held);
    }
}

/* Blocks [from,to) against the panels of a tile. While they are multiplied, what is multiplied
 * behind them is fetched from memory, a share with each block; NULL: nothing. */
static void run_panels(const struct share *share, const struct tile *tile, size_t from, size_t to,
                       const unsigned char *behind, size_t behind_bytes)
{
    const struct linear *linear = share->linear;
    const struct operand *x = share->call->x;
    CHECK(linear->words > 0 && from < to);
    size_t n = to - from;
    const unsigned char *b = panel_of(linear, tile->panel);
    /* What is behind may be another matrix with longer panels: beside each word that is read no
     * more than another one is asked for, so its end may have to come when it is multiplied. */
    size_t word_bytes = tile->panels * linear->kernel->columns * sizeof(uint32_t);
    size_t step = behind ? size_div_up(behind_bytes, linear->words * n) : 0;
    step = size_min(step, word_bytes);
    struct multiply_args args = {
        .words = linear->words,
        .group_words = linear->group / 4,
        .groups = linear->groups,
        .wide = linear->wide,
        .b = b,
        .panels = tile->panels,
        .panel_bytes = linear->panel_bytes,
        .next = step ? behind : b,
        .next_step = step,
        .tile = share->tile,
        .ld = tile->panels * linear->kernel->columns,
    };
    /* Members begin with different blocks where they complete them, or the slowest would complete
     * all. */
    size_t turn = completes(share, tile) ? n * share->member / share->width : 0;
    for (size_t nth = 0; nth < n; nth++) {
        size_t at = nth + turn < n ? nth + turn : nth + turn - n;
        size_t first = operand_start(x, from + at);
        const struct rows rows = {
            .block = from + at,
            .first = first,
            .n = operand_start(x, from + at + 1) - first,
            .held = share->span > 1 ? at : 0,
        };
        run_tile(share, tile, &rows, &args);
        args.next = (const unsigned char *)args.next + linear->words * step;
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
        .member = member,
        .width = team->width,
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
    team_share(team, member, linear->out, LINEAR_BLAS_COLUMNS, &from, &to);
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
        completion_add(call->completion, block, 0,
                       (unsigned)size_div_up(to - from, LINEAR_BLAS_COLUMNS));
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
