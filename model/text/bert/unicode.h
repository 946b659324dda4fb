/* What each Unicode scalar becomes in a BERT word, as one table look-up: cleaned, accents stripped,
 * lower-cased, classified, in the way that the options ask for.
 *
 * The table is put together once per tokenizer from model/text/unicode/scalars.h, which holds what
 * the reference's own (older and newer) Unicode versions say. utf8proc gives canonical
 * decompositions and combining classes of the scalars that have one there: both are frozen by
 * Unicode's stability policy, so that its version makes no difference. */
#ifndef ORTHRUS_MODEL_UNICODE_H
#define ORTHRUS_MODEL_UNICODE_H

#include <stdint.h>

#include "base/err.h"
#include "model/text/tokenizer.h"
#include "model/text/unicode/scalars.h"

enum unicode_kind {
    UNICODE_KEEP,       /* becomes the value */
    UNICODE_SKIP,       /* goes before normalization: nothing sees it */
    UNICODE_SPACE,      /* ends a word */
    UNICODE_ALONE,      /* becomes the value, a word of its own: punctuation, CJK */
    UNICODE_MARK,       /* goes in normalization; the value is its combining class */
    UNICODE_NONSTARTER, /* becomes the value, and canonical ordering may move it */
    UNICODE_HANGUL,     /* a syllable: becomes its two or three jamo */
    UNICODE_SEVERAL,    /* becomes several scalars; the value is an index into several */
};

enum {
    UNICODE_SEVERAL_MAX = 64,
    UNICODE_PARTS_MAX = 4,
};

/* Process lifetime, immutable. An entry is a kind in the upper 8 bits and a value below; the value
 * 0 of a scalar that stays means the scalar itself, so that whole pages are the same. */
struct unicode {
    uint8_t ascii[128]; /* ASCII's entries in short: see below */
    struct scalar_pages entries;
    /* Entries KEEP, then NONSTARTER; the rest 0. */
    uint32_t several[UNICODE_SEVERAL_MAX][UNICODE_PARTS_MAX];
    unsigned several_count;
};

/* Values of ascii that are no character of a word; greater ones are what the byte becomes. */
enum { UNICODE_ASCII_SKIP, UNICODE_ASCII_SPACE, UNICODE_ASCII_ALONE };

/* Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code unicode_init(struct unicode *unicode,
                                        const struct tokenizer_options *options, struct err *err);
/* Zeroed structs are fine. */
void unicode_done(struct unicode *unicode);

static inline uint32_t unicode_entry(const struct unicode *unicode, uint32_t scalar)
{
    return scalar_value(&unicode->entries, scalar);
}

static inline enum unicode_kind unicode_kind(uint32_t entry)
{
    return (enum unicode_kind)(entry >> 24);
}

static inline uint32_t unicode_value(uint32_t entry)
{
    return entry & 0xffffff;
}

/* Canonical combining class of a scalar whose kind is UNICODE_NONSTARTER. */
unsigned unicode_class(uint32_t scalar);

#endif
