#include "model/text/unicode/scalars.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "model/text/unicode/scalar_tables.h"

/* The one scalar whose lower case is two: i and a combining dot above. */
enum { I_WITH_DOT = 0x130, COMBINING_DOT_ABOVE = 0x307 };

static bool is_uniform(const uint32_t *page)
{
    return memcmp(page, page + 1, (SCALAR_PAGE - 1) * sizeof *page) == 0;
}

/* Copies the pages of flat to the front, equal uniform ones once; returns how many there are. */
static size_t share_pages(struct scalar_pages *pages, uint32_t *flat)
{
    size_t count = 0;
    for (size_t i = 0; i < SCALAR_PAGES; i++) {
        uint32_t *page = flat + i * SCALAR_PAGE;
        size_t same = count;
        if (is_uniform(page)) {
            for (same = 0; same < count; same++) {
                uint32_t *known = flat + same * SCALAR_PAGE;
                if (known[0] == page[0] && is_uniform(known)) {
                    break;
                }
            }
        }
        if (same == count) {
            memmove(flat + count * SCALAR_PAGE, page, SCALAR_PAGE * sizeof *page);
            count++;
        }
        pages->page_of[i] = (uint16_t)same;
    }
    return count;
}

void scalar_pages_take(struct scalar_pages *pages, uint32_t *flat)
{
    size_t count = share_pages(pages, flat);
    uint32_t *shrunk = realloc(flat, count * sizeof *pages->pages);
    pages->pages = (uint32_t(*)[SCALAR_PAGE])(shrunk ? shrunk : flat);
}

void scalar_pages_done(struct scalar_pages *pages)
{
    free(pages->pages);
    pages->pages = NULL;
}

const struct scalar_range *scalar_ranges(size_t *ret_n)
{
    *ret_n = sizeof scalar_table / sizeof *scalar_table;
    return scalar_table;
}

const struct lower_range *lower_ranges(size_t *ret_n)
{
    *ret_n = sizeof lower_table / sizeof *lower_table;
    return lower_table;
}

static uint32_t *flat_create(struct err *err)
{
    size_t size = (SCALAR_LAST + 1) * sizeof(uint32_t);
    uint32_t *flat = calloc(1, size);
    if (!flat) {
        (void)err_nomem(err, size);
    }
    return flat;
}

enum err_code scalar_properties_init(struct scalar_pages *properties, struct err *err)
{
    uint32_t *flat = flat_create(err);
    if (!flat) {
        return ERR_NOMEM;
    }
    size_t n;
    const struct scalar_range *ranges = scalar_ranges(&n);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t scalar = ranges[i].first; scalar <= ranges[i].last; scalar++) {
            flat[scalar] = ranges[i].value;
        }
    }
    scalar_pages_take(properties, flat);
    return ERR_OK;
}

enum scalar_grapheme scalar_grapheme(const struct scalar_pages *properties, uint32_t scalar)
{
    if (scalar >= HANGUL_S && scalar < HANGUL_S + HANGUL_S_COUNT) {
        return (scalar - HANGUL_S) % HANGUL_T_COUNT ? GRAPHEME_LVT : GRAPHEME_LV;
    }
    return (enum scalar_grapheme)(scalar_value(properties, scalar) >> 24);
}

static uint32_t compose_hangul(uint32_t first, uint32_t second)
{
    if (first >= HANGUL_L && first < HANGUL_L + HANGUL_L_COUNT && second >= HANGUL_V &&
        second < HANGUL_V + HANGUL_V_COUNT) {
        return HANGUL_S +
               ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    }
    if (first >= HANGUL_S && first < HANGUL_S + HANGUL_S_COUNT && second > HANGUL_T &&
        second < HANGUL_T + HANGUL_T_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0) {
        return first + (second - HANGUL_T);
    }
    return 0;
}

uint32_t scalar_compose(const struct scalar_pages *properties, uint32_t first, uint32_t second)
{
    /* No second one of a pair is below U+0300, nor beyond the marks and vowels of a script. */
    if (second < 0x300 || scalar_value(properties, second) == 0) {
        return 0;
    }
    size_t low = 0;
    size_t high = sizeof composition_table / sizeof *composition_table;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct composition *row = &composition_table[middle];
        if (row->first == first && row->second == second) {
            return row->composite;
        }
        if (row->first < first || (row->first == first && row->second < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return compose_hangul(first, second);
}

/* --- Mappings --------------------------------------------------------------------------------- */

static bool add_row(struct scalar_map *map, uint32_t *flat, uint32_t scalar, const uint32_t *row,
                    size_t n)
{
    if (map->pool_room - map->pool_size < n) {
        size_t room = 2 * map->pool_room + 1024;
        uint32_t *grown = realloc(map->pool, room * sizeof *grown);
        if (!grown) {
            return false;
        }
        map->pool = grown;
        map->pool_room = room;
    }
    memcpy(map->pool + map->pool_size, row, n * sizeof *row);
    flat[scalar] = (uint32_t)(map->pool_size << 5 | n);
    map->pool_size += n;
    return true;
}

static bool add_lower(struct scalar_map *map, uint32_t *flat)
{
    size_t n;
    const struct lower_range *ranges = lower_ranges(&n);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t c = ranges[i].first; c <= ranges[i].last; c += ranges[i].step) {
            uint32_t lower = (uint32_t)((int32_t)c + ranges[i].delta);
            if (!add_row(map, flat, c, &lower, 1)) {
                return false;
            }
        }
    }
    const uint32_t dotted[] = {'i', COMBINING_DOT_ABOVE};
    return add_row(map, flat, I_WITH_DOT, dotted, 2);
}

static bool add_decomposed(struct scalar_map *map, uint32_t *flat, uint32_t scalar, bool compatible)
{
    utf8proc_int32_t whole[SCALAR_ROW_MAX];
    uint32_t row[SCALAR_ROW_MAX];
    int boundary = 0;
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)scalar, whole, SCALAR_ROW_MAX,
                                                 options, &boundary);
    CHECK(n > 0 && n <= SCALAR_ROW_MAX);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        row[i] = (uint32_t)whole[i];
    }
    return add_row(map, flat, scalar, row, (size_t)n);
}

static bool add_decompositions(struct scalar_map *map, uint32_t *flat, bool compatible)
{
    uint32_t wanted = SCALAR_DECOMPOSES | (compatible ? (uint32_t)SCALAR_COMPATIBLE : 0);
    size_t n;
    const struct scalar_range *ranges = scalar_ranges(&n);
    for (size_t i = 0; i < n; i++) {
        if (!(ranges[i].value & wanted)) {
            continue;
        }
        for (uint32_t c = ranges[i].first; c <= ranges[i].last; c++) {
            bool hangul = c >= HANGUL_S && c < HANGUL_S + HANGUL_S_COUNT;
            if (!hangul && !add_decomposed(map, flat, c, compatible)) {
                return false;
            }
        }
    }
    return true;
}

enum err_code scalar_map_init(struct scalar_map *map, enum scalar_mapping mapping, struct err *err)
{
    *map = (struct scalar_map){0};
    uint32_t *flat = flat_create(err);
    if (!flat) {
        return ERR_NOMEM;
    }
    bool made = mapping == SCALAR_LOWER
                    ? add_lower(map, flat)
                    : add_decompositions(map, flat, mapping == SCALAR_COMPATIBLE_TOO);
    if (!made) {
        free(flat);
        scalar_map_done(map);
        return err_nomem(err, 1);
    }
    scalar_pages_take(&map->pages, flat);
    return ERR_OK;
}

void scalar_map_done(struct scalar_map *map)
{
    scalar_pages_done(&map->pages);
    free(map->pool);
    map->pool = NULL;
}
