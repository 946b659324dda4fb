#include "model/text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/text/byte_level.h"

static const char replacement_character[] = "\xef\xbf\xbd";

/* A row of words, one behind the other. */
struct row {
    struct buf bytes;
    size_t *ends; /* [n], owned */
    size_t n, room;
    bool failed;
};

static void row_done(struct row *row)
{
    buf_done(&row->bytes);
    free(row->ends);
}

static void row_add(struct row *row, const char *bytes, size_t size)
{
    row->failed = !buf_append(&row->bytes, bytes, size) || row->failed;
}

/* What was added since the last end is a word. */
static void row_end(struct row *row)
{
    if (row->n == row->room) {
        size_t room = 2 * row->room + 64;
        size_t *grown = realloc(row->ends, room * sizeof *grown);
        if (!grown) {
            row->failed = true;
            return;
        }
        row->ends = grown;
        row->room = room;
    }
    row->ends[row->n++] = row->bytes.size;
}

static struct word row_at(const struct row *row, size_t i)
{
    size_t from = i ? row->ends[i - 1] : 0;
    return (struct word){row->bytes.data ? row->bytes.data + from : "",
                         (uint32_t)(row->ends[i] - from)};
}

/* --- Replacing -------------------------------------------------------------------------------- */

static const char *find(struct word in, const char *pattern, size_t size)
{
    return in.size ? memmem(in.bytes, in.size, pattern, size) : NULL;
}

/* Adds a word with every match replaced; spaces: a match is two or more of them. */
static void add_replaced(struct row *to, struct word word, const char *pattern, size_t size,
                         const char *content, size_t content_size, bool spaces)
{
    for (const char *found; (found = find(word, pattern, size));) {
        size_t before = (size_t)(found - word.bytes);
        size_t behind = before + size;
        while (spaces && behind < word.size && word.bytes[behind] == ' ') {
            behind++;
        }
        row_add(to, word.bytes, before);
        row_add(to, content, content_size);
        word.bytes += behind;
        word.size -= (uint32_t)behind;
    }
    row_add(to, word.bytes, word.size);
}

/* What the reference's WordPiece decoder mends, in its order. */
static const char *const cleanups[][2] = {
    {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
    {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
    {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

/* Mends the word at the row's end that began at `from`. */
static void clean_up(struct row *row, size_t from, struct row *scratch)
{
    for (size_t i = 0; i < sizeof cleanups / sizeof *cleanups && !row->failed; i++) {
        struct word word = {row->bytes.data + from, (uint32_t)(row->bytes.size - from)};
        if (find(word, cleanups[i][0], strlen(cleanups[i][0]))) {
            buf_clear(&scratch->bytes);
            add_replaced(scratch, word, cleanups[i][0], strlen(cleanups[i][0]), cleanups[i][1],
                         strlen(cleanups[i][1]), false);
            row->bytes.size = from;
            row_add(row, scratch->bytes.data, scratch->bytes.size);
            row->failed = row->failed || scratch->failed;
        }
    }
}

/* --- Steps ------------------------------------------------------------------------------------ */

static void decode_wordpiece(const struct decoder_step *step, const struct row *from,
                             struct row *to)
{
    struct row scratch = {.n = 0};
    buf_init(&scratch.bytes, to->bytes.ceiling);
    for (size_t i = 0; i < from->n; i++) {
        struct word word = row_at(from, i);
        size_t begin = to->bytes.size;
        bool continues = word.size >= step->text_size &&
                         memcmp(word.bytes, step->text, step->text_size) == 0;
        if (i > 0 && continues) {
            row_add(to, word.bytes + step->text_size, word.size - step->text_size);
        } else {
            row_add(to, " ", i > 0);
            row_add(to, word.bytes, word.size);
        }
        if (step->cleanup) {
            clean_up(to, begin, &scratch);
        }
        row_end(to);
    }
    row_done(&scratch);
}

/* Size of the well-formed character at `at`, or minus the size of the part that one U+FFFD stands
 * for (Unicode's "maximal subpart"). */
static int character_size(const unsigned char *at, size_t left)
{
    unsigned char c = at[0];
    if (c < 0x80) {
        return 1;
    }
    int size = c >= 0xc2 && c <= 0xdf   ? 2
               : c >= 0xe0 && c <= 0xef ? 3
               : c >= 0xf0 && c <= 0xf4 ? 4
                                        : 0;
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < size; i++) {
        if ((size_t)i >= left || at[i] < low || at[i] > high) {
            return -i;
        }
        low = 0x80;
        high = 0xbf;
    }
    return size ? size : -1;
}

static void add_lossy(struct row *to, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        int step = character_size((const unsigned char *)bytes + at, size - at);
        if (step > 0) {
            row_add(to, bytes + at, (size_t)step);
        } else {
            row_add(to, replacement_character, sizeof replacement_character - 1);
        }
        at += (size_t)(step > 0 ? step : -step);
    }
}

/* Adds a word's bytes, or false where a character stands for none. */
static bool add_byte_level(struct row *to, struct word word)
{
    for (size_t at = 0; at < word.size;) {
        int byte = byte_level_byte(utf8_next(word.bytes, word.size, &at));
        if (byte < 0) {
            return false;
        }
        char c = (char)byte;
        row_add(to, &c, 1);
    }
    return true;
}

static void decode_byte_level(const struct row *from, struct row *to)
{
    struct row bytes = {.n = 0};
    buf_init(&bytes.bytes, to->bytes.ceiling);
    for (size_t i = 0; i < from->n; i++) {
        struct word word = row_at(from, i);
        size_t begin = bytes.bytes.size;
        if (!add_byte_level(&bytes, word)) {
            bytes.bytes.size = begin;
            row_add(&bytes, word.bytes, word.size);
        }
    }
    add_lossy(to, bytes.bytes.data, bytes.bytes.size);
    row_end(to);
    to->failed = to->failed || bytes.failed;
    row_done(&bytes);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte of "<0x41>", or -1. The reference reads the two digits as a number, so a sign and one
 * digit are one too. */
static int fallback_byte(struct word word)
{
    if (word.size != 6 || memcmp(word.bytes, "<0x", 3) != 0 || word.bytes[5] != '>') {
        return -1;
    }
    int high = word.bytes[3] == '+' ? 0 : hex_digit(word.bytes[3]);
    int low = hex_digit(word.bytes[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* Bytes in a row are one word where they are UTF-8, else a U+FFFD each. */
static void end_bytes(struct row *to, struct buf *bytes)
{
    if (bytes->size && utf8_valid(bytes->data, bytes->size)) {
        row_add(to, bytes->data, bytes->size);
        row_end(to);
    } else {
        for (size_t i = 0; i < bytes->size; i++) {
            row_add(to, replacement_character, sizeof replacement_character - 1);
            row_end(to);
        }
    }
    buf_clear(bytes);
}

static void decode_byte_fallback(const struct row *from, struct row *to)
{
    struct buf bytes;
    buf_init(&bytes, to->bytes.ceiling);
    for (size_t i = 0; i < from->n; i++) {
        struct word word = row_at(from, i);
        int byte = fallback_byte(word);
        if (byte >= 0) {
            to->failed = !buf_append_char(&bytes, (char)byte) || to->failed;
        } else {
            end_bytes(to, &bytes);
            row_add(to, word.bytes, word.size);
            row_end(to);
        }
    }
    end_bytes(to, &bytes);
    buf_done(&bytes);
}

static void add_metaspace(const struct decoder_step *step, struct word word, bool first,
                          struct row *to)
{
    bool drops = first && step->drops_first;
    add_replaced(to, word, step->text, step->text_size, " ", !drops, false);
}

static void add_stripped(const struct decoder_step *step, struct word word, struct row *to)
{
    size_t size = step->text_size;
    size_t low = 0;
    size_t high = word.size;
    for (size_t i = 0; i < step->start && word.size - low >= size &&
                       memcmp(word.bytes + low, step->text, size) == 0;
         i++) {
        low += size;
    }
    for (size_t i = 0;
         i < step->stop && high >= size && memcmp(word.bytes + high - size, step->text, size) == 0;
         i++) {
        high -= size;
    }
    row_add(to, word.bytes + low, high > low ? high - low : 0);
}

static void decode_each(const struct decoder_step *step, const struct row *from, struct row *to)
{
    for (size_t i = 0; i < from->n; i++) {
        struct word word = row_at(from, i);
        bool spaces = step->kind == DECODER_REPLACE_SPACES;
        switch (step->kind) {
        case DECODER_METASPACE:
            add_metaspace(step, word, i == 0, to);
            break;
        case DECODER_BPE:
            add_replaced(to, word, step->text, step->text_size, " ", i + 1 < from->n, false);
            break;
        case DECODER_STRIP:
            add_stripped(step, word, to);
            break;
        default:
            add_replaced(to, word, spaces ? "  " : step->text, spaces ? 2 : step->text_size,
                         step->content, step->content_size, spaces);
            break;
        }
        row_end(to);
    }
}

static void decode_step(const struct decoder_step *step, const struct row *from, struct row *to)
{
    switch (step->kind) {
    case DECODER_WORDPIECE:
        decode_wordpiece(step, from, to);
        break;
    case DECODER_BYTE_LEVEL:
        decode_byte_level(from, to);
        break;
    case DECODER_BYTE_FALLBACK:
        decode_byte_fallback(from, to);
        break;
    case DECODER_FUSE:
        row_add(to, from->bytes.data, from->bytes.size);
        row_end(to);
        break;
    default:
        decode_each(step, from, to);
        break;
    }
}

bool decoder_apply(const struct decoder *decoder, const struct word *words, size_t n,
                   struct buf *text)
{
    struct row rows[2];
    memset(rows, 0, sizeof rows);
    /* Steps may shorten a text, so those before the last may need more room than it has. */
    size_t ceiling = size_min(text->ceiling, SIZE_MAX / 8) * 4 + 4096;
    buf_init(&rows[0].bytes, ceiling);
    buf_init(&rows[1].bytes, ceiling);
    for (size_t i = 0; i < n; i++) {
        row_add(&rows[0], " ", decoder->spaced && i > 0);
        row_add(&rows[0], words[i].bytes, words[i].size);
        row_end(&rows[0]);
    }
    size_t now = 0;
    for (size_t i = 0; i < decoder->n && !rows[now].failed; i++) {
        struct row *to = &rows[!now];
        buf_clear(&to->bytes);
        to->n = 0;
        decode_step(&decoder->steps[i], &rows[now], to);
        now = !now;
    }
    bool done = !rows[now].failed && (rows[now].bytes.size == 0 ||
                                      buf_append(text, rows[now].bytes.data, rows[now].bytes.size));
    if (buf_full(&rows[0].bytes) || buf_full(&rows[1].bytes)) {
        text->failed = text->full = true;
    }
    row_done(&rows[0]);
    row_done(&rows[1]);
    return done;
}
