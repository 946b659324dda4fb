/* How a team divides the tiles of a product, row blocks × panels of weights: a pure function of
 * sizes. Nothing here decides a bit, for a tile is the same whoever computes it. */
#ifndef ORTHRUS_MODEL_GRID_H
#define ORTHRUS_MODEL_GRID_H

#include <stddef.h>

struct grid {
    size_t blocks;     /* 1 … */
    size_t block_rows; /* of the longest block */
    size_t panels;     /* 1 … */
    size_t span;       /* panels that stay together */
};

/* Each block from … to against each panel from … to. */
struct piece {
    size_t from_block;
    size_t to_block;
    size_t from_panel; /* a multiple of span, as is to_panel where it isn't the last */
    size_t to_panel;
};

enum { GRID_PIECES = 3 };

/* The part of member 0 … width-1 of a team → pieces, in the order of their panels; returns how
 * many, 0 where nothing is left for it. All parts together are the whole grid, each tile once. */
size_t grid_share(const struct grid *grid, unsigned width, unsigned member,
                  struct piece pieces[GRID_PIECES]);

#endif
