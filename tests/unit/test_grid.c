/* How a team divides a product: every tile once, spans whole, nobody with far more than others. */
#include "model/encoder/grid.h"

#include "base/size.h"
#include "tests/support/testing.h"

enum { BLOCKS_MAX = 40, PANELS_MAX = 200, WIDTH_MAX = 70 };

static unsigned char taken[BLOCKS_MAX][PANELS_MAX];

/* Marks the member's tiles; returns how many. */
static size_t take(const struct grid *grid, unsigned width, unsigned member)
{
    struct piece pieces[GRID_PIECES];
    size_t n = grid_share(grid, width, member, pieces);
    size_t tiles = 0;
    assert_true(n <= GRID_PIECES);
    for (size_t i = 0; i < n; i++) {
        const struct piece *piece = &pieces[i];
        assert_true(piece->from_block < piece->to_block && piece->to_block <= grid->blocks);
        assert_true(piece->from_panel < piece->to_panel && piece->to_panel <= grid->panels);
        assert_int_equal(piece->from_panel % grid->span, 0);
        assert_true(piece->to_panel % grid->span == 0 || piece->to_panel == grid->panels);
        for (size_t block = piece->from_block; block < piece->to_block; block++) {
            for (size_t panel = piece->from_panel; panel < piece->to_panel; panel++) {
                assert_int_equal(taken[block][panel]++, 0);
                tiles++;
            }
        }
    }
    return tiles;
}

/* Returns the tiles of the busiest. */
static size_t take_all(const struct grid *grid, unsigned width)
{
    size_t all = 0;
    size_t most = 0;
    memset(taken, 0, sizeof taken);
    for (unsigned member = 0; member < width; member++) {
        size_t tiles = take(grid, width, member);
        all += tiles;
        most = size_max(most, tiles);
    }
    assert_int_equal(all, grid->blocks * grid->panels);
    return most;
}

static void test_every_tile_once(void **state)
{
    (void)state;
    uint32_t seed = 5;
    for (int round = 0; round < 3000; round++) {
        size_t draws[5];
        for (size_t i = 0; i < 5; i++) {
            seed = seed * 1664525u + 1013904223u;
            draws[i] = seed >> 8;
        }
        const struct grid grid = {
            .blocks = 1 + draws[0] % BLOCKS_MAX,
            .block_rows = 1 + draws[1] % 14,
            .panels = 1 + draws[2] % PANELS_MAX,
            .span = 1 + draws[3] % 4,
        };
        (void)take_all(&grid, 1 + (unsigned)(draws[4] % WIDTH_MAX));
    }
}

/* The matrices of bert-base in int8, 24 tokens: 4 blocks of 6 rows. */
static void test_wide_teams_are_even(void **state)
{
    (void)state;
    static const struct {
        size_t panels;
        size_t span;
        unsigned width;
        size_t most;
    } cases[] = {
        {144, 1, 2, 288}, {144, 1, 8, 72},  {144, 1, 16, 36}, {144, 1, 32, 18}, {48, 1, 8, 24},
        {48, 1, 16, 12},  {48, 1, 32, 6},   {48, 1, 64, 4}, /* a panel of its own is cheaper */
        {192, 8, 16, 48}, {192, 8, 32, 32}, {192, 1, 32, 24}, {192, 1, 64, 12},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct grid grid = {
            .blocks = 4, .block_rows = 6, .panels = cases[i].panels, .span = cases[i].span};
        assert_int_equal(take_all(&grid, cases[i].width), cases[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tile_once),
        cmocka_unit_test(test_wide_teams_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
