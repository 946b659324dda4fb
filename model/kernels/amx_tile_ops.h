/* The few AMX instructions that the kernels use, under names of our own, so that a test can put a
 * software model in their place (tests/support/amx_emulated.h) and try the kernels' logic on any
 * machine. Eight tile registers, each 16 rows of 64 bytes; tile numbers are constants.
 * Source: Intel SDM volume 2, LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS. */
#ifndef ORTHRUS_MODEL_KERNELS_AMX_TILE_OPS_H
#define ORTHRUS_MODEL_KERNELS_AMX_TILE_OPS_H

#include <immintrin.h>

#define AMX_CONFIGURE(config)           _tile_loadconfig(config)
#define AMX_RELEASE()                   _tile_release()
#define AMX_ZERO(tile)                  _tile_zero(tile)
#define AMX_LOAD(tile, memory, stride)  _tile_loadd(tile, memory, stride)
#define AMX_STORE(tile, memory, stride) _tile_stored(tile, memory, stride)
#define AMX_DOT_BF16(sum, a, b)         _tile_dpbf16ps(sum, a, b)

#endif
