/* What the AMX kernels share: the layout of the eight tile registers, 16 rows × 64 bytes each, set
 * before a thread multiplies and dropped afterwards, so that it carries no tiles when it is
 * switched. Source: Intel SDM volume 2, LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS. */
#ifndef ORTHRUS_MODEL_KERNELS_AMX_TILE_H
#define ORTHRUS_MODEL_KERNELS_AMX_TILE_H

#include <immintrin.h>
#include <stdint.h>

#include "model/encoder/kernels/avx512_tile.h"

enum {
    TILE_COLUMNS = 32,   /* two tiles */
    AMX_ROWS = 16,       /* of a tile */
    AMX_STEP_WORDS = 16, /* of a tile's row: the inputs of one step */
    AMX_ROW_BYTES = 64,
    AMX_TILE_WORDS = 256, /* 1 KiB */
    AMX_ROWS_MAX = 128,   /* of a call */
    AMX_COLUMN_STRIDE = TILE_COLUMNS * sizeof(uint32_t),
};

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
    _tile_loadconfig(&amx_full_tiles);
}

static void amx_leave(void)
{
    _tile_release();
}

#endif
