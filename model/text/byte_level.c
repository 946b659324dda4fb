#include "model/text/byte_level.h"

#include <string.h>

#include "base/utf8.h"

enum { FIRST_SUBSTITUTE = 0x100 };

static bool stands_for_itself(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
           (byte >= 0xae && byte <= 0xff);
}

uint32_t byte_level_scalar(unsigned char byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    /* The others take the next free characters in their order. */
    uint32_t order = byte <= ' ' ? byte : byte <= 0xa0 ? byte - 0x7fu + 33 : 67;
    return FIRST_SUBSTITUTE + order;
}

int byte_level_byte(uint32_t scalar)
{
    if (scalar < FIRST_SUBSTITUTE) {
        return stands_for_itself(scalar) ? (int)scalar : -1;
    }
    uint32_t order = scalar - FIRST_SUBSTITUTE;
    return order <= ' '  ? (int)order
           : order < 67  ? (int)(order - 33 + 0x7f)
           : order == 67 ? 0xad
                         : -1;
}

enum kind { OTHER, LETTER, NUMBER, BLANK };

static enum kind kind_at(const struct scalar_pages *properties, const char *text, size_t size,
                         size_t *at)
{
    uint32_t value = scalar_value(properties, utf8_next(text, size, at));
    return value & SCALAR_LETTER   ? LETTER
           : value & SCALAR_NUMBER ? NUMBER
           : value & SCALAR_BLANK  ? BLANK
                                   : OTHER;
}

static size_t match_contraction(const char *text, size_t size)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings && *text == '\''; i++) {
        size_t length = strlen(endings[i]);
        if (size >= length && memcmp(text, endings[i], length) == 0) {
            return length;
        }
    }
    return 0;
}

size_t byte_level_match(const struct scalar_pages *properties, const char *text, size_t size)
{
    size_t contraction = match_contraction(text, size);
    if (contraction) {
        return contraction;
    }
    size_t at = 0;
    enum kind first = kind_at(properties, text, size, &at);
    if (first == BLANK && text[0] == ' ' && at < size) {
        size_t behind = at;
        enum kind second = kind_at(properties, text, size, &behind);
        first = second == BLANK ? first : second;
        at = second == BLANK ? at : behind;
    }
    size_t last = 0; /* begin of the last character, where there are several */
    for (size_t next = at; next < size; at = next) {
        if (kind_at(properties, text, size, &next) != first) {
            break;
        }
        last = at;
    }
    /* White space before something else leaves its last character to that. */
    bool leaves = first == BLANK && at < size && last > 0;
    return leaves ? last : at;
}
