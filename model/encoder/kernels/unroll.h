/* Code of its own for each number of rows, with base/unroll.h. */
#ifndef ORTHRUS_MODEL_KERNELS_UNROLL_H
#define ORTHRUS_MODEL_KERNELS_UNROLL_H

#include "base/unroll.h"

/* Calls f(rows, args) with the number of rows, 1 … most ≤ 14, as a constant: every count gets its
 * own code. */
#define ROWS_CASE(n, most, f, args) \
    case n:                         \
        if ((n) <= (most)) {        \
            f(n, args);             \
        }                           \
        break;
#define ROWS_DISPATCH(most, f, args) \
    switch ((args)->rows) {          \
        ROWS_CASE(1, most, f, args)  \
        ROWS_CASE(2, most, f, args)  \
        ROWS_CASE(3, most, f, args)  \
        ROWS_CASE(4, most, f, args)  \
        ROWS_CASE(5, most, f, args)  \
        ROWS_CASE(6, most, f, args)  \
        ROWS_CASE(7, most, f, args)  \
        ROWS_CASE(8, most, f, args)  \
        ROWS_CASE(9, most, f, args)  \
        ROWS_CASE(10, most, f, args) \
        ROWS_CASE(11, most, f, args) \
        ROWS_CASE(12, most, f, args) \
        ROWS_CASE(13, most, f, args) \
        ROWS_CASE(14, most, f, args) \
    default:                         \
        break;                       \
    }

/* Calls f(rows, panels, args) with the number of rows, 1 … most ≤ 14, and of panels, 1 or 2, as
 * constants: every count gets its own code. */
#define TILE_CASE(n, most, f, args) \
    case n:                         \
        if ((n) > (most)) {         \
            break;                  \
        }                           \
        if ((args)->panels == 1) {  \
            f(n, 1, args);          \
        } else {                    \
            f(n, 2, args);          \
        }                           \
        break;
#define TILE_DISPATCH(most, f, args) \
    switch ((args)->rows) {          \
        TILE_CASE(1, most, f, args)  \
        TILE_CASE(2, most, f, args)  \
        TILE_CASE(3, most, f, args)  \
        TILE_CASE(4, most, f, args)  \
        TILE_CASE(5, most, f, args)  \
        TILE_CASE(6, most, f, args)  \
        TILE_CASE(7, most, f, args)  \
        TILE_CASE(8, most, f, args)  \
        TILE_CASE(9, most, f, args)  \
        TILE_CASE(10, most, f, args) \
        TILE_CASE(11, most, f, args) \
        TILE_CASE(12, most, f, args) \
        TILE_CASE(13, most, f, args) \
        TILE_CASE(14, most, f, args) \
    default:                         \
        break;                       \
    }

#endif
