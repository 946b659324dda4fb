#include "model/text/bert/text.h"

#include <stdbool.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

static const struct {
    const char *word;
    size_t size;
} special_strings[TEXT_SPECIALS] = {
    [TEXT_CLS] = {"[CLS]", 5}, [TEXT_SEP] = {"[SEP]", 5},   [TEXT_PAD] = {"[PAD]", 5},
    [TEXT_UNK] = {"[UNK]", 5}, [TEXT_MASK] = {"[MASK]", 6},
};

const char *text_special_word(enum text_special special)
{
    return special_strings[special].word;
}

/* Puts a character at the word's end. */
static void word_add(struct text_word *word, uint32_t scalar, uint32_t source)
{
    if (word->chars == 0) {
        word->start = source;
    }
    word->stop = source + 1;
    if (word->chars++ < TEXT_WORD_CHARS) {
        size_t more = utf8_put(scalar, word->bytes + word->size);
        for (size_t i = 0; i < more; i++) {
            word->source[word->size++] = source;
        }
    }
}

static void word_add_hangul(struct text_word *word, uint32_t scalar, uint32_t source)
{
    uint32_t syllable = scalar - HANGUL_S;
    uint32_t tail = syllable % HANGUL_T_COUNT;
    uint32_t vowel = syllable / HANGUL_T_COUNT;
    word_add(word, HANGUL_L + vowel / HANGUL_V_COUNT, source);
    word_add(word, HANGUL_V + vowel % HANGUL_V_COUNT, source);
    if (tail) {
        word_add(word, HANGUL_T + tail, source);
    }
}

/* --- Canonical ordering ------------------------------------------------------------------------
 *
 * A run is a longest row of nonstarters (combining class other than 0). NFD sorts it by class,
 * stably. Nearly all nonstarters are marks and go, so a run matters only where it holds one that
 * stays: then it is read thrice, a counting sort that keeps no more than a word can hold. As the
 * whole run is within one word, a longer one makes the word unknown in any order.
 *
 * Positions follow the reference, which gives the i-th source of a run to its i-th nonstarter
 * after the sort, whichever it is; what a decomposition added has the source of the one before. */

enum { CLASSES = 256 };

struct run {
    uint64_t present[CLASSES / 64]; /* classes seen: only their counts are set */
    uint32_t sources[CLASSES];      /* nonstarters of that class in the text itself */
    uint32_t kept[CLASSES];         /* of those and of added ones, that stay */
    size_t kept_total;
};

/* One that stays, after the sort. */
struct run_slot {
    uint32_t scalar;
    uint32_t rank; /* its source is the rank-th of the run from 1; 0 the starter before */
};

/* The first that fit into a word, and the last, which decides the word's stop. */
struct run_slots {
    struct run_slot first[TEXT_WORD_CHARS];
    struct run_slot last;
};

struct run_item {
    uint32_t scalar;
    unsigned class;
    bool kept;
};

/* The next nonstarter of the text; false, the cursor being behind the run, where there is none. */
static bool run_next(struct text_cursor *cursor, struct run_item *ret_item)
{
    while (cursor->at < cursor->size) {
        size_t at = cursor->at;
        uint32_t scalar = utf8_next(cursor->text, cursor->size, &at);
        uint32_t entry = unicode_entry(cursor->unicode, scalar);
        enum unicode_kind kind = unicode_kind(entry);
        bool kept = kind == UNICODE_NONSTARTER;
        unsigned class = kept                   ? unicode_class(scalar)
                         : kind == UNICODE_MARK ? unicode_value(entry)
                                                : 0;
        if (class == 0 && kind != UNICODE_SKIP) {
            return false;
        }
        cursor->at = at;
        cursor->index++;
        if (class != 0) {
            *ret_item = (struct run_item){scalar, class, kept};
            return true;
        }
    }
    return false;
}

static void run_count(struct run *run, unsigned class, bool source, bool kept)
{
    uint64_t bit = 1ull << class % 64;
    if (!(run->present[class / 64] & bit)) {
        run->present[class / 64] |= bit;
        run->sources[class] = 0;
        run->kept[class] = 0;
    }
    run->sources[class] += source;
    run->kept[class] += kept;
    run->kept_total += kept;
}

/* Turns counts into how many come before the first of a class. */
static void run_sum(struct run *run)
{
    uint32_t sources = 0;
    uint32_t kept = 0;
    for (unsigned i = 0; i < CLASSES / 64; i++) {
        for (uint64_t bits = run->present[i]; bits; bits &= bits - 1) {
            unsigned class = i * 64 + (unsigned)__builtin_ctzll(bits);
            uint32_t sources_here = run->sources[class];
            uint32_t kept_here = run->kept[class];
            run->sources[class] = sources;
            run->kept[class] = kept;
            sources += sources_here;
            kept += kept_here;
        }
    }
}

static void run_place(struct run *run, const struct run_item *item, bool source,
                      struct run_slots *slots)
{
    run->sources[item->class] += source;
    if (!item->kept) {
        return;
    }
    struct run_slot slot = {item->scalar, run->sources[item->class]};
    uint32_t place = run->kept[item->class]++;
    if (place < TEXT_WORD_CHARS) {
        slots->first[place] = slot;
    }
    if (place == run->kept_total - 1) {
        slots->last = slot;
    }
}

/* Adds the slots' characters; from is the run's begin. Ranks ascend, so one pass finds them. */
static void run_add(struct text_cursor from, const struct run *run, const struct run_slots *slots,
                    struct text_word *word)
{
    size_t shown = size_min(run->kept_total, TEXT_WORD_CHARS);
    bool hidden = run->kept_total > shown;
    uint32_t rank = 0;
    struct run_item item;
    for (size_t i = 0; i < shown + hidden; i++) {
        const struct run_slot *slot = i < shown ? &slots->first[i] : &slots->last;
        while (rank < slot->rank && run_next(&from, &item)) {
            rank++;
        }
        word_add(word, slot->scalar, from.index - 1);
    }
}

/* Takes a whole run that begins at the cursor, behind a starter that decomposed into `added`
 * nonstarters too (entries, 0-terminated). */
static void run_take(struct text_cursor *cursor, const uint32_t *added, struct text_word *word)
{
    const struct text_cursor from = *cursor;
    struct run run;
    memset(run.present, 0, sizeof run.present);
    run.kept_total = 0;
    for (size_t i = 0; added[i]; i++) {
        run_count(&run, unicode_class(unicode_value(added[i])), false, true);
    }
    struct run_item item;
    while (run_next(cursor, &item)) {
        run_count(&run, item.class, true, item.kept);
    }
    run_sum(&run);

    struct run_slots slots = {0};
    for (size_t i = 0; added[i]; i++) {
        uint32_t scalar = unicode_value(added[i]);
        run_place(&run, &(struct run_item){scalar, unicode_class(scalar), true}, false, &slots);
    }
    struct text_cursor again = from;
    while (run_next(&again, &item)) {
        run_place(&run, &item, true, &slots);
    }
    run_add(from, &run, &slots, word);
}

/* The begin of the run that the nonstarter at the cursor belongs to: marks before it, which were
 * passed over, count in positions. No character is stepped over twice, as run_take then passes the
 * whole run. */
static struct text_cursor run_begin(struct text_cursor cursor)
{
    struct text_cursor begin = cursor;
    while (cursor.at > 0) {
        do {
            cursor.at--;
        } while (((unsigned char)cursor.text[cursor.at] & 0xc0) == 0x80);
        cursor.index--;
        size_t at = cursor.at;
        uint32_t entry = unicode_entry(cursor.unicode, utf8_next(cursor.text, cursor.size, &at));
        enum unicode_kind kind = unicode_kind(entry);
        if (kind == UNICODE_MARK && unicode_value(entry) != 0) {
            begin = cursor;
        } else if (kind != UNICODE_SKIP) {
            break;
        }
    }
    return begin;
}

static const uint32_t nothing_added[] = {0};

/* --- Words ------------------------------------------------------------------------------------ */

/* The special string at the cursor, or TEXT_SPECIALS. */
static enum text_special special_at(const struct text_cursor *cursor)
{
    const char *text = cursor->text + cursor->at;
    size_t left = cursor->size - cursor->at;
    enum text_special special = 0;
    while (special < TEXT_SPECIALS &&
           (left < special_strings[special].size ||
            memcmp(text, special_strings[special].word, special_strings[special].size) != 0)) {
        special++;
    }
    return special;
}

static void take_special(struct text_cursor *cursor, enum text_special special,
                         struct text_word *word)
{
    size_t size = special_strings[special].size;
    word->special = special;
    word->start = cursor->index;
    word->stop = cursor->index + (uint32_t)size;
    cursor->at += size;
    cursor->index = word->stop;
}

/* A starter that becomes several: the starters go into the word, nonstarters into the run. */
static void take_several(struct text_cursor *cursor, const uint32_t *parts, struct text_word *word)
{
    uint32_t added[UNICODE_PARTS_MAX + 1] = {0};
    size_t added_count = 0;
    for (size_t i = 0; i < UNICODE_PARTS_MAX && parts[i]; i++) {
        if (unicode_kind(parts[i]) == UNICODE_NONSTARTER) {
            added[added_count++] = parts[i];
        } else {
            word_add(word, unicode_value(parts[i]), cursor->index - 1);
        }
    }
    if (added_count) {
        run_take(cursor, added, word);
    }
}

/* Takes the scalar at the cursor, which is not ASCII. True when the word is complete; a scalar
 * that ends it is not taken then, unless the word is that scalar alone. */
static bool take_scalar(struct text_cursor *cursor, struct text_word *word)
{
    size_t at = cursor->at;
    uint32_t scalar = utf8_next(cursor->text, cursor->size, &at);
    uint32_t entry = unicode_entry(cursor->unicode, scalar);
    uint32_t value = unicode_value(entry);
    enum unicode_kind kind = unicode_kind(entry);
    if ((kind == UNICODE_SPACE || kind == UNICODE_ALONE) && word->chars) {
        return true;
    }
    if (kind == UNICODE_NONSTARTER) {
        *cursor = run_begin(*cursor);
        run_take(cursor, nothing_added, word);
        return false;
    }
    uint32_t source = cursor->index++;
    cursor->at = at;
    switch (kind) {
    case UNICODE_KEEP:
    case UNICODE_ALONE:
        word_add(word, value ? value : scalar, source);
        break;
    case UNICODE_HANGUL:
        word_add_hangul(word, scalar, source);
        break;
    case UNICODE_SEVERAL:
        take_several(cursor, cursor->unicode->several[value], word);
        break;
    case UNICODE_SKIP:
    case UNICODE_SPACE:
    case UNICODE_MARK:
    case UNICODE_NONSTARTER:
        break;
    }
    return kind == UNICODE_ALONE;
}

/* Takes ASCII characters of a word as long as there are any. */
static void take_ascii(struct text_cursor *cursor, struct text_word *word)
{
    const uint8_t *ascii = cursor->unicode->ascii;
    const unsigned char *text = (const unsigned char *)cursor->text;
    size_t at = cursor->at;
    while (at < cursor->size && text[at] < 0x80 && ascii[text[at]] > UNICODE_ASCII_ALONE) {
        if (word->chars < TEXT_WORD_CHARS) {
            word->bytes[word->size] = (char)ascii[text[at]];
            word->source[word->size++] = cursor->index + (uint32_t)(at - cursor->at);
        }
        word->chars++;
        at++;
    }
    if (at > cursor->at) {
        uint32_t taken = (uint32_t)(at - cursor->at);
        word->start = word->chars == taken ? cursor->index : word->start;
        cursor->index += taken;
        cursor->at = at;
        word->stop = cursor->index;
    }
}

enum text_found text_next(struct text_cursor *cursor, struct text_word *word)
{
    word->chars = 0;
    word->size = 0;
    while (take_ascii(cursor, word), cursor->at < cursor->size) {
        unsigned char c = (unsigned char)cursor->text[cursor->at];
        if (c >= 0x80) {
            if (take_scalar(cursor, word)) {
                return TEXT_WORD;
            }
            continue;
        }
        unsigned what = cursor->unicode->ascii[c];
        if (what != UNICODE_ASCII_SKIP && word->chars) {
            return TEXT_WORD;
        }
        enum text_special special = c == '[' ? special_at(cursor) : TEXT_SPECIALS;
        if (special != TEXT_SPECIALS) {
            take_special(cursor, special, word);
            return TEXT_SPECIAL;
        }
        uint32_t source = cursor->index++;
        cursor->at++;
        if (what == UNICODE_ASCII_ALONE) {
            word_add(word, c, source);
            return TEXT_WORD;
        }
    }
    return word->chars ? TEXT_WORD : TEXT_END;
}
