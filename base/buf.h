/* A growable byte buffer that is born with a ceiling: an append past it fails, and memory is only
 * what was really appended (at most twice). Source of the idea: curl's dynbuf.
 *
 * Failure is sticky: after the first append that fails, later appends fail too and
 * buf_failed() is true, so a writer may append many times and check once. Not thread-safe. */
#ifndef ORTHRUS_BASE_BUF_H
#define ORTHRUS_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* The least that a buffer allocates. */
enum { BUF_FIRST_ROOM = 256 };

struct buf {
    char *data;     /* owned; NULL while empty; NUL-terminated behind size otherwise */
    size_t size;    /* bytes used, without the NUL */
    size_t room;    /* bytes allocated */
    size_t ceiling; /* largest size allowed */
    bool failed;
    bool full; /* failed: at its ceiling, not for want of memory */
};

void buf_init(struct buf *buf, size_t ceiling);
/* A buffer over room bytes of the caller's, of which it uses all but one: it never allocates, and
 * must not be handed to buf_done or buf_steal. */
void buf_over(struct buf *buf, char *storage, size_t room);
/* Frees the memory; the buffer is empty and usable again. NULL and zeroed structs are fine. */
void buf_done(struct buf *buf);
/* Empties it and forgets a failure, keeps the memory. */
void buf_clear(struct buf *buf);

/* Each returns false when the ceiling or memory is exhausted. */
bool buf_append(struct buf *buf, const void *data, size_t size);
bool buf_append_str(struct buf *buf, const char *text);
bool buf_append_char(struct buf *buf, char c);
bool buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for size more bytes: returns where they go (then call buf_added), or NULL. */
char *buf_reserve(struct buf *buf, size_t size);
void buf_added(struct buf *buf, size_t size);

static inline bool buf_failed(const struct buf *buf)
{
    return buf->failed;
}

/* Whether it failed at its ceiling. */
static inline bool buf_full(const struct buf *buf)
{
    return buf->full;
}

/* Hands the memory over: returns data (caller frees with free()), never NULL unless memory is out;
 * the buffer is empty again. */
char *buf_steal(struct buf *buf, size_t *ret_size);

#endif
