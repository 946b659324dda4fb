/* A text that is being rewritten and still knows where each of its bytes came from.
 *
 * Rewriting follows the reference's NormalizedString: a new character either replaces the next old
 * one, swallows some more behind it, or is inserted and takes the place of the one before it. */
#ifndef ORTHRUS_MODEL_ALIGNED_H
#define ORTHRUS_MODEL_ALIGNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No text grows beyond it, whatever the rules replace by what: it counts as out of memory. */
enum { ALIGNED_MAX = INT32_MAX };

/* A stretch of such a text, borrowed. begins and ends are in bytes of the original text, and
 * ascend; NULL where nobody asks for them. */
struct aligned_view {
    const char *bytes;
    const uint32_t *begins, *ends; /* [size] */
    size_t size;
};

/* Zero-initialize; aligned_done frees. A bare one knows its bytes alone: set bare while it is
 * empty, and put texts of the same sort into each other. Failure for want of memory is sticky. */
struct aligned {
    char *bytes;
    uint32_t *begins, *ends;
    size_t size, room;
    bool bare;
    bool failed;
};

void aligned_done(struct aligned *text);
/* Empties it, and says whether it is bare from now on. */
void aligned_clear(struct aligned *text, bool bare);
/* Room for more bytes; false without memory. */
bool aligned_reserve(struct aligned *text, size_t more);
struct aligned_view aligned_all(const struct aligned *text);
struct aligned_view aligned_part(const struct aligned_view *view, size_t from, size_t to);

/* Appends the original text, which begins at byte `shift` of the whole. */
void aligned_add_original(struct aligned *text, const char *bytes, size_t size, uint32_t shift);
/* Appends a part of another one. */
void aligned_add(struct aligned *text, const struct aligned_view *view);
/* Appends bytes that all come from where byte `at` of the view did. */
void aligned_add_bytes(struct aligned *text, const char *bytes, size_t size,
                       const struct aligned_view *view, size_t at);

/* One rewriting. Lifetime: the caller's stack. */
struct aligned_writer {
    struct aligned_view from;
    size_t at; /* bytes of from that are behind us */
    struct aligned *to;
};

/* Begins at from's begin; to is emptied. */
struct aligned_writer aligned_writer(struct aligned_view from, struct aligned *to);
/* Passes over characters. */
void aligned_skip(struct aligned_writer *writer, size_t chars);
/* Writes a character. change 1: it is inserted; 0: it replaces the next one; -n: it replaces the
 * next one and n behind it go. */
void aligned_put(struct aligned_writer *writer, uint32_t scalar, ptrdiff_t change);

/* --- A filter: keeps some characters, as the reference's NormalizedString::filter. */
struct aligned_filter {
    struct aligned_writer *writer;
    uint32_t held; /* the last one kept, written when the next one is */
    bool holds;
    size_t removed; /* since then */
};

void aligned_filter_put(struct aligned_filter *filter, uint32_t scalar, bool keep);
void aligned_filter_end(struct aligned_filter *filter);

#endif
