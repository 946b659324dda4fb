#include "model/encoder/grid.h"

#include "base/check.h"
#include "base/size.h"

/* Reading a panel from memory takes about as long as multiplying it with so many rows, at every
 * precision: a word of weights is then read while that many products of words are made. */
enum { ROWS_A_READ = 20 };

static size_t spans_of(const struct grid *grid)
{
    return size_div_up(grid->panels, grid->span);
}

/* What the busiest member does, in rows × panels. */
static size_t cost(const struct grid *grid, size_t tiles, size_t spans)
{
    return grid->span * (tiles * grid->block_rows + spans * ROWS_A_READ);
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b > 0) {
        size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Tiles one after the other, along a span's blocks, then the next span's: even, but a span may be
 * read by two. */
static size_t cost_in_line(const struct grid *grid, unsigned width)
{
    size_t tiles = spans_of(grid) * grid->blocks;
    size_t most = size_div_up(tiles, width);
    /* Shares begin at multiples of `step` in a span. */
    size_t step = tiles % width == 0 ? common_divisor(most, grid->blocks) : 1;
    return cost(grid, most, (grid->blocks - step + most - 1) / grid->blocks + 1);
}

/* A grid of `rows` ranges of blocks × ranges of spans. */
static size_t cost_of_grid(const struct grid *grid, unsigned width, size_t rows)
{
    size_t columns = width / rows;
    CHECK(columns > 0);
    size_t spans = size_div_up(spans_of(grid), columns);
    return cost(grid, size_div_up(grid->blocks, rows) * spans, spans);
}

/* The rows of the best grid; 0: in line. */
static size_t best_rows(const struct grid *grid, unsigned width)
{
    size_t best = 1;
    size_t least = cost_of_grid(grid, width, 1);
    for (size_t rows = 2; rows <= size_min(width, grid->blocks); rows++) {
        size_t now = cost_of_grid(grid, width, rows);
        if (now < least) {
            least = now;
            best = rows;
        }
    }
    return cost_in_line(grid, width) < least ? 0 : best;
}

/* Part `nth` of `parts` of n things. */
static void share_out(size_t n, size_t parts, size_t nth, size_t *ret_from, size_t *ret_to)
{
    *ret_from = n * nth / parts;
    *ret_to = n * (nth + 1) / parts;
}

/* Nothing where one of the ranges is empty. */
static size_t add_piece(const struct grid *grid, size_t from_block, size_t to_block,
                        size_t from_span, size_t to_span, struct piece pieces[GRID_PIECES],
                        size_t n)
{
    if (from_block >= to_block || from_span >= to_span) {
        return n;
    }
    pieces[n] = (struct piece){
        .from_block = from_block,
        .to_block = to_block,
        .from_panel = from_span * grid->span,
        .to_panel = size_min(to_span * grid->span, grid->panels),
    };
    return n + 1;
}

static size_t share_in_line(const struct grid *grid, unsigned width, unsigned member,
                            struct piece pieces[GRID_PIECES])
{
    size_t from;
    size_t to;
    share_out(spans_of(grid) * grid->blocks, width, member, &from, &to);
    size_t first = from / grid->blocks;
    size_t last = to / grid->blocks;
    size_t head = from % grid->blocks;
    size_t tail = to % grid->blocks;
    if (first == last) {
        return add_piece(grid, head, tail, first, first + 1, pieces, 0);
    }
    size_t n = add_piece(grid, head, grid->blocks, first, first + 1, pieces, 0);
    n = add_piece(grid, 0, grid->blocks, first + 1, last, pieces, n);
    return add_piece(grid, 0, tail, last, last + 1, pieces, n);
}

size_t grid_share(const struct grid *grid, unsigned width, unsigned member,
                  struct piece pieces[GRID_PIECES])
{
    CHECK(width > 0 && member < width && grid->blocks > 0 && grid->panels > 0 && grid->span > 0);
    size_t rows = best_rows(grid, width);
    if (rows == 0) {
        return share_in_line(grid, width, member, pieces);
    }
    size_t columns = width / rows;
    if (member >= rows * columns) {
        return 0;
    }
    size_t from_block;
    size_t to_block;
    size_t from_span;
    size_t to_span;
    share_out(grid->blocks, rows, member % rows, &from_block, &to_block);
    share_out(spans_of(grid), columns, member / rows, &from_span, &to_span);
    return add_piece(grid, from_block, to_block, from_span, to_span, pieces, 0);
}
