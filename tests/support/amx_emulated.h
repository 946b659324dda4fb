/* A software model of the AMX instructions in model/kernels/amx_tile_ops.h, to be included in its
 * place. What the SDM leaves to palette 1 is taken as given: eight tiles of 16 rows × 64 bytes. */
#ifndef ORTHRUS_TESTS_SUPPORT_AMX_EMULATED_H
#define ORTHRUS_TESTS_SUPPORT_AMX_EMULATED_H

#include <stdint.h>

#include "tests/support/testing.h"

enum { AMX_TILES = 8, AMX_TILE_ROWS = 16, AMX_TILE_COLUMNS = 16 };

static struct {
    bool configured;
    uint32_t words[AMX_TILES][AMX_TILE_ROWS][AMX_TILE_COLUMNS];
} amx;

static inline void amx_configure(const void *config)
{
    const uint8_t *bytes = config;
    assert_int_equal(bytes[0], 1); /* palette */
    assert_int_equal(bytes[1], 0); /* start row */
    for (size_t tile = 0; tile < AMX_TILES; tile++) {
        assert_int_equal(bytes[16 + 2 * tile] + 256 * bytes[17 + 2 * tile], 64);
        assert_int_equal(bytes[48 + tile], 16);
    }
    amx.configured = true;
}

static inline void amx_release(void)
{
    assert_true(amx.configured);
    amx.configured = false;
}

static inline void amx_zero(unsigned tile)
{
    assert_true(amx.configured);
    memset(amx.words[tile], 0, sizeof amx.words[tile]);
}

static inline void amx_load(unsigned tile, const void *memory, size_t stride)
{
    assert_true(amx.configured);
    for (size_t r = 0; r < AMX_TILE_ROWS; r++) {
        memcpy(amx.words[tile][r], (const char *)memory + r * stride, 64);
    }
}

static inline void amx_store(unsigned tile, void *memory, size_t stride)
{
    assert_true(amx.configured);
    for (size_t r = 0; r < AMX_TILE_ROWS; r++) {
        memcpy((char *)memory + r * stride, amx.words[tile][r], 64);
    }
}

static inline float amx_float(uint32_t word)
{
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* TDPBF16PS: each pair's products are added to a pair of sums of their own, which join the
 * destination at the end. */
static inline void amx_dot_bf16(unsigned sum, unsigned a, unsigned b)
{
    assert_true(amx.configured);
    for (size_t m = 0; m < AMX_TILE_ROWS; m++) {
        for (size_t n = 0; n < AMX_TILE_COLUMNS; n++) {
            float even = 0.0f;
            float odd = 0.0f;
            for (size_t k = 0; k < AMX_TILE_COLUMNS; k++) {
                uint32_t x = amx.words[a][m][k];
                uint32_t y = amx.words[b][k][n];
                even = fmaf(amx_float(x << 16), amx_float(y << 16), even);
                odd = fmaf(amx_float(x & 0xffff0000u), amx_float(y & 0xffff0000u), odd);
            }
            float total = amx_float(amx.words[sum][m][n]) + (even + odd);
            memcpy(&amx.words[sum][m][n], &total, sizeof total);
        }
    }
}

#define AMX_CONFIGURE(config)           amx_configure(config)
#define AMX_RELEASE()                   amx_release()
#define AMX_ZERO(tile)                  amx_zero(tile)
#define AMX_LOAD(tile, memory, stride)  amx_load(tile, memory, stride)
#define AMX_STORE(tile, memory, stride) amx_store(tile, memory, stride)
#define AMX_DOT_BF16(sum, a, b)         amx_dot_bf16(sum, a, b)

#endif
