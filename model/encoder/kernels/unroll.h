/* Code of its own for each number of rows, with base/unroll.h. */
#ifndef ORTHRUS_MODEL_KERNELS_UNROLL_H
#define ORTHRUS_MODEL_KERNELS_UNROLL_H

#include "base/unroll.h"

/* Code for a number of rows, 1 … most ≤ 14, as a constant. */
#define ROWS_CASE(n, most, call, f, args) \
    case n:                               \
        if ((n) <= (most)) {              \
            call(n, f, args);             \
        }                                 \
        break;
#define ROWS_SWITCH(most, call, f, args)   \
    switch ((args)->rows) {                \
        ROWS_CASE(1, most, call, f, args)  \
        ROWS_CASE(2, most, call, f, args)  \
        ROWS_CASE(3, most, call, f, args)  \
        ROWS_CASE(4, most, call, f, args)  \
        ROWS_CASE(5, most, call, f, args)  \
        ROWS_CASE(6, most, call, f, args)  \
        ROWS_CASE(7, most, call, f, args)  \
        ROWS_CASE(8, most, call, f, args)  \
        ROWS_CASE(9, most, call, f, args)  \
        ROWS_CASE(10, most, call, f, args) \
        ROWS_CASE(11, most, call, f, args) \
        ROWS_CASE(12, most, call, f, args) \
        ROWS_CASE(13, most, call, f, args) \
        ROWS_CASE(14, most, call, f, args) \
    default:                               \
        break;                             \
    }

#define CALL_ROWS(n, f, args) f(n, args)
#define CALL_TILE(n, f, args)  \
    if ((args)->panels == 1) { \
        f(n, 1, args);         \
    } else {                   \
        f(n, 2, args);         \
    }

/* Calls f(rows, args) with the number of rows as a constant: every count gets its own code. */
#define ROWS_DISPATCH(most, f, args) ROWS_SWITCH(most, CALL_ROWS, f, args)
/* Calls f(rows, panels, args) with the numbers of rows and of panels, 1 or 2, as constants. */
#define TILE_DISPATCH(most, f, args) ROWS_SWITCH(most, CALL_TILE, f, args)

#endif
