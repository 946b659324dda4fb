/* What a Unicode scalar is and what it becomes, by the tables of the reference's libraries.
 *
 * Those are of several Unicode versions; model/text/unicode/scalar_tables.h was written by asking
 * the reference about every scalar. utf8proc gives decompositions of the scalars that have one
 * there: they are frozen by Unicode's stability policy, so that its version makes no difference. */
#ifndef ORTHRUS_MODEL_SCALARS_H
#define ORTHRUS_MODEL_SCALARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SCALAR_LAST = 0x10ffff,
    SCALAR_PAGE = 256,
    SCALAR_PAGES = (SCALAR_LAST + 1) / SCALAR_PAGE,
};

/* The lower 16 bits of a scalar's properties. */
enum scalar_flag {
    SCALAR_DROP = 1 << 0,       /* BertNormalizer cleans it away */
    SCALAR_SPACE = 1 << 1,      /* BertNormalizer makes it a space */
    SCALAR_CJK = 1 << 2,        /* BertNormalizer puts spaces around it */
    SCALAR_PUNCT = 1 << 3,      /* BertPreTokenizer makes it a word of its own */
    SCALAR_MARK = 1 << 4,       /* nonspacing mark (Mn): BertNormalizer strips it behind NFD */
    SCALAR_COMBINING = 1 << 5,  /* StripAccents strips it (M) */
    SCALAR_NONSTARTER = 1 << 6, /* canonical combining class other than 0 */
    SCALAR_DECOMPOSES = 1 << 7, /* has a canonical decomposition */
    SCALAR_COMPATIBLE = 1 << 8, /* has a compatibility decomposition, other than the canonical */
    SCALAR_WHITE = 1 << 9,      /* white space */
    SCALAR_WORD = 1 << 10,      /* \w of Whitespace and of single_word */
    SCALAR_LETTER = 1 << 11,    /* \p{L} of ByteLevel */
    SCALAR_NUMBER = 1 << 12,    /* \p{N} of ByteLevel */
    SCALAR_BLANK = 1 << 13,     /* \s of ByteLevel */
    SCALAR_LINKER = 1 << 14,    /* InCB=Linker */
    SCALAR_EXTENDER = 1 << 15,  /* InCB=Extend */
};

/* Grapheme_Cluster_Break; a Hangul syllable is told by arithmetic. */
enum scalar_grapheme {
    GRAPHEME_ANY,
    GRAPHEME_CR,
    GRAPHEME_LF,
    GRAPHEME_CONTROL,
    GRAPHEME_EXTEND,
    GRAPHEME_ZWJ,
    GRAPHEME_REGIONAL,
    GRAPHEME_PREPEND,
    GRAPHEME_SPACING,
    GRAPHEME_L,
    GRAPHEME_V,
    GRAPHEME_T,
    GRAPHEME_PICTOGRAPH,
    GRAPHEME_CONSONANT,
    GRAPHEME_LV,
    GRAPHEME_LVT,
};

/* Hangul syllables are made of jamo by arithmetic (Unicode 3.12). */
enum {
    HANGUL_S = 0xac00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11a7,
    HANGUL_L_COUNT = 19,
    HANGUL_V_COUNT = 21,
    HANGUL_T_COUNT = 28,
    HANGUL_S_COUNT = HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT,
};

/* first … last: flags, canonical combining class << 16, grapheme class << 24. */
struct scalar_range {
    uint32_t first, last, value;
};

/* first, first + step … last: lower case is delta away. */
struct lower_range {
    uint32_t first, last, step;
    int32_t delta;
};

struct composition {
    uint32_t first, second, composite;
};

/* A number for every scalar, in pages of which equal ones are kept once. Process lifetime. */
struct scalar_pages {
    uint16_t page_of[SCALAR_PAGES];
    uint32_t (*pages)[SCALAR_PAGE]; /* owned */
};

static inline uint32_t scalar_value(const struct scalar_pages *pages, uint32_t scalar)
{
    return pages->pages[pages->page_of[scalar / SCALAR_PAGE]][scalar % SCALAR_PAGE];
}

/* Takes flat, malloc'ed, [SCALAR_LAST + 1]. */
void scalar_pages_take(struct scalar_pages *pages, uint32_t *flat);
/* Zeroed structs are fine. */
void scalar_pages_done(struct scalar_pages *pages);

/* The generated tables, ascending. */
const struct scalar_range *scalar_ranges(size_t *ret_n);
const struct lower_range *lower_ranges(size_t *ret_n);

/* Properties of every scalar. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code scalar_properties_init(struct scalar_pages *properties, struct err *err);

static inline bool scalar_is(const struct scalar_pages *properties, uint32_t scalar,
                             enum scalar_flag flag)
{
    return (scalar_value(properties, scalar) & (uint32_t)flag) != 0;
}

/* Canonical combining class. */
static inline unsigned scalar_class(const struct scalar_pages *properties, uint32_t scalar)
{
    return scalar_value(properties, scalar) >> 16 & 0xff;
}

enum scalar_grapheme scalar_grapheme(const struct scalar_pages *properties, uint32_t scalar);

/* The scalar that canonical composition makes of two, or 0. */
uint32_t scalar_compose(const struct scalar_pages *properties, uint32_t first, uint32_t second);

/* What each scalar becomes: a row of scalars. Process lifetime. */
struct scalar_map {
    struct scalar_pages pages; /* begin in pool << 5 | count; 0: itself */
    uint32_t *pool;            /* owned */
    size_t pool_size, pool_room;
};

enum scalar_mapping { SCALAR_LOWER, SCALAR_CANONICAL, SCALAR_COMPATIBLE_TOO };

/* Lower case per character; full canonical decompositions; full decompositions of both kinds.
 * Hangul syllables are left out. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code scalar_map_init(struct scalar_map *map, enum scalar_mapping mapping,
                                           struct err *err);
/* Zeroed structs are fine. */
void scalar_map_done(struct scalar_map *map);

/* Longest row of any mapping. */
enum { SCALAR_ROW_MAX = 18 };

/* What the scalar becomes; itself in *self where it stays. */
static inline const uint32_t *scalar_mapped(const struct scalar_map *map, uint32_t *self,
                                            size_t *ret_n)
{
    uint32_t entry = scalar_value(&map->pages, *self);
    *ret_n = entry ? entry & 31 : 1;
    return entry ? map->pool + (entry >> 5) : self;
}

#endif
