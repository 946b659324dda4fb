#include "model/text/unicode/graphemes.h"

#include "base/utf8.h"

/* What the rules look back for, within a cluster: none of them reaches over a boundary. */
struct cluster {
    enum scalar_grapheme before;
    unsigned regionals; /* at the cluster's end */
    bool pictograph;    /* it ends in a pictograph and Extends */
    bool joined;        /* … and a ZWJ behind */
    bool consonant;     /* it ends in a consonant, linkers and extenders */
    bool linker;        /* … with a linker among them */
};

static void cluster_take(struct cluster *cluster, uint32_t properties, enum scalar_grapheme kind)
{
    cluster->before = kind;
    cluster->regionals = kind == GRAPHEME_REGIONAL ? cluster->regionals + 1 : 0;
    cluster->joined = cluster->pictograph && kind == GRAPHEME_ZWJ;
    cluster->pictograph = kind == GRAPHEME_PICTOGRAPH ||
                          (cluster->pictograph && kind == GRAPHEME_EXTEND);
    if (properties & SCALAR_LINKER) {
        cluster->linker = true;
    } else if (!(properties & SCALAR_EXTENDER)) {
        cluster->consonant = kind == GRAPHEME_CONSONANT;
        cluster->linker = false;
    }
}

static bool ends_all(enum scalar_grapheme kind)
{
    return kind == GRAPHEME_CR || kind == GRAPHEME_LF || kind == GRAPHEME_CONTROL;
}

static bool joins_hangul(enum scalar_grapheme before, enum scalar_grapheme after)
{
    switch (before) {
    case GRAPHEME_L:
        return after == GRAPHEME_L || after == GRAPHEME_V || after == GRAPHEME_LV ||
               after == GRAPHEME_LVT;
    case GRAPHEME_LV:
    case GRAPHEME_V:
        return after == GRAPHEME_V || after == GRAPHEME_T;
    case GRAPHEME_LVT:
    case GRAPHEME_T:
        return after == GRAPHEME_T;
    default:
        return false;
    }
}

/* True where there is no boundary before a scalar. */
static bool joins(const struct cluster *cluster, enum scalar_grapheme after)
{
    enum scalar_grapheme before = cluster->before;
    if (before == GRAPHEME_CR && after == GRAPHEME_LF) {
        return true;
    }
    if (ends_all(before) || ends_all(after)) {
        return false;
    }
    return joins_hangul(before, after) || after == GRAPHEME_EXTEND || after == GRAPHEME_ZWJ ||
           after == GRAPHEME_SPACING || before == GRAPHEME_PREPEND ||
           (after == GRAPHEME_CONSONANT && cluster->consonant && cluster->linker) ||
           (after == GRAPHEME_PICTOGRAPH && cluster->joined) ||
           (after == GRAPHEME_REGIONAL && cluster->regionals % 2 == 1);
}

size_t grapheme_size(const struct scalar_pages *properties, const char *text, size_t size)
{
    struct cluster cluster = {0};
    size_t at = 0;
    do {
        size_t behind = at;
        uint32_t scalar = utf8_next(text, size, &behind);
        enum scalar_grapheme kind = scalar_grapheme(properties, scalar);
        if (at > 0 && !joins(&cluster, kind)) {
            break;
        }
        cluster_take(&cluster, scalar_value(properties, scalar), kind);
        at = behind;
    } while (at < size);
    return at;
}
