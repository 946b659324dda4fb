#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"

void buf_init(struct buf *buf, size_t ceiling)
{
    *buf = (struct buf){.ceiling = ceiling};
}

void buf_over(struct buf *buf, char *storage, size_t room)
{
    CHECK(room > 0);
    *buf = (struct buf){.data = storage, .room = room, .ceiling = room - 1};
    storage[0] = '\0';
}

void buf_done(struct buf *buf)
{
    if (buf) {
        free(buf->data);
        *buf = (struct buf){.ceiling = buf->ceiling};
    }
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
    buf->full = false;
    if (buf->data) {
        buf->data[0] = '\0';
    }
}

char *buf_reserve(struct buf *buf, size_t size)
{
    size_t need;
    if (buf->failed || !size_add(buf->size, size, &need) || need > buf->ceiling ||
        need == (size_t)-1) {
        buf->full |= !buf->failed;
        buf->failed = true;
        return NULL;
    }
    if (need + 1 > buf->room) {
        /* Doubled, to the ceiling in the last step: what grows by little pieces costs what it is.
         */
        size_t twice = buf->room <= buf->ceiling / 2 ? buf->room * 2 : buf->ceiling + 1;
        size_t room = size_max(size_max(need + 1, BUF_FIRST_ROOM), twice);
        char *data = realloc(buf->data, room);
        if (!data) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->room = room;
    }
    return buf->data + buf->size;
}

void buf_added(struct buf *buf, size_t size)
{
    CHECK(size < buf->room - buf->size);
    buf->size += size;
    buf->data[buf->size] = '\0';
}

bool buf_append(struct buf *buf, const void *data, size_t size)
{
    char *at = buf_reserve(buf, size);
    if (!at) {
        return false;
    }
    if (size) {
        memcpy(at, data, size);
    }
    buf_added(buf, size);
    return true;
}

bool buf_append_str(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

bool buf_append_char(struct buf *buf, char c)
{
    return buf_append(buf, &c, 1);
}

bool buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *at = size < 0 ? NULL : buf_reserve(buf, (size_t)size);
    if (at) {
        (void)vsnprintf(at, (size_t)size + 1, fmt, again);
        buf_added(buf, (size_t)size);
    } else {
        buf->failed = true;
    }
    va_end(again);
    return at != NULL;
}

char *buf_steal(struct buf *buf, size_t *ret_size)
{
    if (!buf_reserve(buf, 0)) {
        return NULL;
    }
    buf->data[buf->size] = '\0';
    char *data = buf->data;
    *ret_size = buf->size;
    *buf = (struct buf){.ceiling = buf->ceiling};
    return data;
}
