#include "model/text/bert/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "model/text/unicode/scalars.h"

/* The one scalar whose lower case is two: i and a combining dot above. */
enum { I_WITH_DOT = 0x130, COMBINING_DOT_ABOVE = 0x307 };

/* What decides over a scalar in a BERT word. */
enum {
    OF_WORDS = SCALAR_DROP | SCALAR_SPACE | SCALAR_CJK | SCALAR_PUNCT | SCALAR_MARK |
               SCALAR_NONSTARTER | SCALAR_DECOMPOSES
};

/* Longest canonical decomposition of a single scalar. */
enum { DECOMPOSED_MAX = 4 };

static uint32_t make_entry(enum unicode_kind kind, uint32_t value)
{
    return (uint32_t)kind << 24 | value;
}

static uint32_t flags_of(uint32_t scalar)
{
    size_t high;
    const struct scalar_range *ranges = scalar_ranges(&high);
    size_t low = 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (scalar > ranges[middle].last) {
            low = middle + 1;
        } else if (scalar < ranges[middle].first) {
            high = middle;
        } else {
            return ranges[middle].value & OF_WORDS;
        }
    }
    return 0;
}

static uint32_t lower_of(uint32_t scalar)
{
    size_t n;
    const struct lower_range *ranges = lower_ranges(&n);
    for (size_t i = 0; i < n && scalar >= ranges[i].first; i++) {
        if (scalar <= ranges[i].last && (scalar - ranges[i].first) % ranges[i].step == 0) {
            return (uint32_t)((int32_t)scalar + ranges[i].delta);
        }
    }
    return scalar;
}

unsigned unicode_class(uint32_t scalar)
{
    return (unsigned)utf8proc_get_property((utf8proc_int32_t)scalar)->combining_class;
}

static uint32_t add_several(struct unicode *unicode, const uint32_t *parts, size_t n)
{
    CHECK(unicode->several_count < UNICODE_SEVERAL_MAX && n <= UNICODE_PARTS_MAX);
    memcpy(unicode->several[unicode->several_count], parts, n * sizeof *parts);
    return make_entry(UNICODE_SEVERAL, unicode->several_count++);
}

/* The entry of a scalar with a decomposition: what is left of it without its marks. */
static uint32_t decomposed_entry(struct unicode *unicode, uint32_t scalar,
                                 const struct tokenizer_options *options)
{
    if (scalar >= HANGUL_S && scalar < HANGUL_S + HANGUL_S_COUNT) {
        return make_entry(UNICODE_HANGUL, 0);
    }
    utf8proc_int32_t whole[DECOMPOSED_MAX];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)scalar, whole, DECOMPOSED_MAX,
                                                 UTF8PROC_DECOMPOSE, &boundary);
    CHECK(n > 0 && n <= DECOMPOSED_MAX);
    uint32_t parts[DECOMPOSED_MAX];
    uint32_t flags = 0;
    size_t kept = 0;
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t part = (uint32_t)whole[i];
        flags = flags_of(part);
        if (!(flags & SCALAR_MARK)) {
            part = options->lower_case ? lower_of(part) : part;
            parts[kept++] = make_entry(flags & SCALAR_NONSTARTER ? UNICODE_NONSTARTER
                                       : flags & SCALAR_PUNCT    ? UNICODE_ALONE
                                                                 : UNICODE_KEEP,
                                       part);
        }
    }
    if (kept == 0) {
        uint32_t first = (uint32_t)whole[0];
        return make_entry(UNICODE_MARK,
                          flags_of(first) & SCALAR_NONSTARTER ? unicode_class(first) : 0);
    }
    return kept == 1 ? parts[0] : add_several(unicode, parts, kept);
}

static uint32_t flagged_entry(struct unicode *unicode, uint32_t scalar, uint32_t flags,
                              const struct tokenizer_options *options)
{
    if (flags & SCALAR_DROP) {
        return make_entry(UNICODE_SKIP, 0);
    }
    if (flags & SCALAR_SPACE) {
        return make_entry(UNICODE_SPACE, 0);
    }
    uint32_t entry = make_entry(flags & SCALAR_PUNCT ? UNICODE_ALONE : UNICODE_KEEP, 0);
    if (options->strip_accents) {
        if (flags & SCALAR_MARK) {
            return make_entry(UNICODE_MARK, flags & SCALAR_NONSTARTER ? unicode_class(scalar) : 0);
        }
        if (flags & SCALAR_DECOMPOSES) {
            entry = decomposed_entry(unicode, scalar, options);
        } else if (flags & SCALAR_NONSTARTER) {
            return make_entry(UNICODE_NONSTARTER, 0);
        }
    } else if (options->lower_case && unicode_kind(entry) == UNICODE_KEEP) {
        uint32_t lower = lower_of(scalar);
        entry = lower == scalar ? entry : make_entry(UNICODE_KEEP, lower);
    }
    if (flags & SCALAR_CJK && options->tokenize_chinese_chars) {
        entry = make_entry(UNICODE_ALONE, unicode_value(entry));
    }
    return entry;
}

/* Every scalar's entry. */
static void fill(struct unicode *unicode, const struct tokenizer_options *options, uint32_t *flat)
{
    size_t n;
    const struct lower_range *lowers = lower_ranges(&n);
    for (size_t i = 0; i < n && options->lower_case; i++) {
        for (uint32_t scalar = lowers[i].first; scalar <= lowers[i].last;
             scalar += lowers[i].step) {
            flat[scalar] = make_entry(UNICODE_KEEP, (uint32_t)((int32_t)scalar + lowers[i].delta));
        }
    }
    const struct scalar_range *ranges = scalar_ranges(&n);
    for (size_t i = 0; i < n; i++) {
        uint32_t flags = ranges[i].value & OF_WORDS;
        for (uint32_t scalar = ranges[i].first; flags && scalar <= ranges[i].last; scalar++) {
            flat[scalar] = flagged_entry(unicode, scalar, flags, options);
        }
    }
    if (options->lower_case && !options->strip_accents) {
        const uint32_t parts[] = {make_entry(UNICODE_KEEP, 'i'),
                                  make_entry(UNICODE_KEEP, COMBINING_DOT_ABOVE)};
        flat[I_WITH_DOT] = add_several(unicode, parts, 2);
    }
}

static void fill_ascii(struct unicode *unicode)
{
    for (uint32_t c = 0; c < sizeof unicode->ascii; c++) {
        uint32_t entry = unicode_entry(unicode, c);
        uint32_t value = unicode_value(entry);
        enum unicode_kind kind = unicode_kind(entry);
        unicode->ascii[c] = kind == UNICODE_SKIP    ? UNICODE_ASCII_SKIP
                            : kind == UNICODE_SPACE ? UNICODE_ASCII_SPACE
                            : kind == UNICODE_ALONE ? UNICODE_ASCII_ALONE
                                                    : (uint8_t)(value ? value : c);
    }
}

enum err_code unicode_init(struct unicode *unicode, const struct tokenizer_options *options,
                           struct err *err)
{
    *unicode = (struct unicode){0};
    size_t size = (SCALAR_LAST + 1) * sizeof(uint32_t);
    uint32_t *flat = calloc(1, size);
    if (!flat) {
        return err_nomem(err, size);
    }
    fill(unicode, options, flat);
    scalar_pages_take(&unicode->entries, flat);
    fill_ascii(unicode);
    return ERR_OK;
}

void unicode_done(struct unicode *unicode)
{
    scalar_pages_done(&unicode->entries);
}
