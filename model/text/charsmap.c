#include "model/text/charsmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/text/unicode/graphemes.h"

/* A grapheme of more bytes is looked up character by character. */
enum { GRAPHEME_BYTES_MAX = 5 };

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Standard base64 with its padding; the size in bytes, or SIZE_MAX. */
static size_t decode_base64(const char *text, size_t size, unsigned char *out)
{
    size_t made = 0;
    if (size % 4 != 0) {
        return SIZE_MAX;
    }
    for (size_t i = 0; i < size; i += 4) {
        size_t padding = 0;
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = base64_digit(text[i + k]);
            bool pad = text[i + k] == '=' && i + 4 == size && k >= 2;
            if ((digit < 0 && !pad) || (digit >= 0 && padding)) {
                return SIZE_MAX;
            }
            padding += pad;
            group = group << 6 | (pad ? 0 : (uint32_t)digit);
        }
        for (size_t k = 0; k < 3 - padding; k++) {
            out[made++] = (unsigned char)(group >> (16 - 8 * k));
        }
    }
    return made;
}

static uint32_t read_u32(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

enum err_code charsmap_init(struct charsmap *map, const char *base64, size_t size,
                            const char *label, struct err *err)
{
    *map = (struct charsmap){0};
    if (size > CHARSMAP_MAX) {
        return err_set(err, ERR_LIMIT, "%s: %zu bytes, at most %d are allowed", label, size,
                       CHARSMAP_MAX);
    }
    map->data = malloc(size / 4 * 3 + 1);
    if (!map->data) {
        return err_nomem(err, size);
    }
    map->size = decode_base64(base64, size, map->data);
    if (map->size == SIZE_MAX || map->size < 4) {
        return err_set(err, ERR_INVALID, "%s: not base64 of a character map", label);
    }
    size_t trie = read_u32(map->data) / 4 * 4;
    if (trie == 0 || trie > map->size - 4) {
        return err_set(err, ERR_INVALID, "%s: its trie has %zu bytes, the map %zu", label, trie,
                       map->size);
    }
    map->units = trie / 4;
    map->texts = (const char *)map->data + 4 + trie;
    map->texts_size = map->size - 4 - trie;
    return utf8_valid(map->texts, map->texts_size)
               ? ERR_OK
               : err_set(err, ERR_INVALID, "%s: its texts are not UTF-8", label);
}

void charsmap_done(struct charsmap *map)
{
    free(map->data);
    *map = (struct charsmap){0};
}

/* --- Look-up ---------------------------------------------------------------------------------- */

static uint32_t unit_at(const struct charsmap *map, size_t at)
{
    return at < map->units ? read_u32(map->data + 4 + 4 * at) : 0;
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* What the first match of a beginning of the text becomes; false without one. A value that points
 * outside the texts, or into a character, is no match. */
static bool look_up(const struct charsmap *map, const char *text, size_t size,
                    const char **ret_text, size_t *ret_size)
{
    size_t at = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < size && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        at ^= c;
        uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xff)) != c) {
            return false;
        }
        at ^= unit_offset(unit);
        if (unit >> 8 & 1) {
            size_t value = unit_at(map, at) & ~(1u << 31);
            if (value >= map->texts_size || ((unsigned char)map->texts[value] & 0xc0) == 0x80) {
                return false;
            }
            *ret_text = map->texts + value;
            *ret_size = strnlen(*ret_text, map->texts_size - value);
            return true;
        }
    }
    return false;
}

bool charsmap_knows(const struct charsmap *map, const char *text)
{
    const char *becomes;
    size_t size;
    return look_up(map, text, strlen(text), &becomes, &size);
}

/* --- Rewriting -------------------------------------------------------------------------------- */

/* The reference writes all changes down first and mends the last ones when a text grows or
 * shrinks. Only the last one is ever mended by what comes behind it, so one is held back. */
struct rewriting {
    const struct charsmap *map;
    struct aligned_writer writer;
    uint32_t held;
    ptrdiff_t change;
    bool holds;
    bool modified;
};

static void put(struct rewriting *rewriting, uint32_t scalar, ptrdiff_t change)
{
    if (rewriting->holds) {
        aligned_put(&rewriting->writer, rewriting->held, rewriting->change);
    }
    rewriting->held = scalar;
    rewriting->change = change;
    rewriting->holds = true;
}

static void replace(struct rewriting *rewriting, size_t old_count, const char *text, size_t size)
{
    size_t count = utf8_length(text, size);
    size_t index = 0;
    for (size_t at = 0; at < size; index++) {
        put(rewriting, utf8_next(text, size, &at), index >= old_count);
    }
    if (count < old_count && rewriting->holds) {
        rewriting->change -= (ptrdiff_t)(old_count - count);
    }
    rewriting->modified = true;
}

static void rewrite_grapheme(struct rewriting *rewriting, const char *text, size_t size)
{
    const char *becomes;
    size_t becomes_size;
    if (size <= GRAPHEME_BYTES_MAX &&
        look_up(rewriting->map, text, size, &becomes, &becomes_size)) {
        replace(rewriting, utf8_length(text, size), becomes, becomes_size);
        return;
    }
    for (size_t at = 0; at < size;) {
        size_t begin = at;
        uint32_t scalar = utf8_next(text, size, &at);
        if (look_up(rewriting->map, text + begin, at - begin, &becomes, &becomes_size)) {
            replace(rewriting, 1, becomes, becomes_size);
        } else {
            put(rewriting, scalar, 0);
        }
    }
}

bool charsmap_apply(const struct charsmap *map, const struct scalar_pages *properties,
                    struct aligned_view from, struct aligned *to)
{
    struct rewriting rewriting = {.map = map, .writer = aligned_writer(from, to)};
    for (size_t at = 0; at < from.size;) {
        size_t size = grapheme_size(properties, from.bytes + at, from.size - at);
        rewrite_grapheme(&rewriting, from.bytes + at, size);
        at += size;
    }
    if (rewriting.holds) {
        aligned_put(&rewriting.writer, rewriting.held, rewriting.change);
    }
    return rewriting.modified;
}
