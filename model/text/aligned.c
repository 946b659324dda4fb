#include "model/text/aligned.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

void aligned_done(struct aligned *text)
{
    free(text->bytes);
    free(text->begins);
    free(text->ends);
    *text = (struct aligned){0};
}

void aligned_clear(struct aligned *text, bool bare)
{
    text->size = 0;
    if (text->bare && !bare) {
        text->room = 0; /* the places have none yet */
    }
    text->bare = bare;
}

bool aligned_reserve(struct aligned *text, size_t more)
{
    text->failed = text->failed || more > ALIGNED_MAX - text->size;
    if (text->failed) {
        return false;
    }
    if (text->room - text->size >= more) {
        return true;
    }
    size_t room = size_max(text->room + text->room / 2, text->size + more) + 64;
    char *bytes = realloc(text->bytes, room);
    text->bytes = bytes ? bytes : text->bytes;
    if (bytes && text->bare) {
        text->room = room;
        return true;
    }
    uint32_t *begins = bytes ? realloc(text->begins, room * sizeof *begins) : NULL;
    text->begins = begins ? begins : text->begins;
    uint32_t *ends = begins ? realloc(text->ends, room * sizeof *ends) : NULL;
    text->ends = ends ? ends : text->ends;
    if (!ends) {
        text->failed = true;
        return false;
    }
    text->room = room;
    return true;
}

struct aligned_view aligned_all(const struct aligned *text)
{
    return (struct aligned_view){text->bytes, text->bare ? NULL : text->begins,
                                 text->bare ? NULL : text->ends, text->size};
}

struct aligned_view aligned_part(const struct aligned_view *view, size_t from, size_t to)
{
    return (struct aligned_view){view->bytes + from, view->begins ? view->begins + from : NULL,
                                 view->ends ? view->ends + from : NULL, to - from};
}

void aligned_add_original(struct aligned *text, const char *bytes, size_t size, uint32_t shift)
{
    if (!size || !aligned_reserve(text, size)) {
        return;
    }
    memcpy(text->bytes + text->size, bytes, size);
    uint32_t begin = shift;
    for (size_t i = 0; i < size && !text->bare;) {
        size_t next = i + 1;
        while (next < size && ((unsigned char)bytes[next] & 0xc0) == 0x80) {
            next++;
        }
        begin = shift + (uint32_t)i;
        for (; i < next; i++) {
            text->begins[text->size + i] = begin;
            text->ends[text->size + i] = shift + (uint32_t)next;
        }
    }
    text->size += size;
}

void aligned_add(struct aligned *text, const struct aligned_view *view)
{
    if (!view->size || !aligned_reserve(text, view->size)) {
        return;
    }
    memcpy(text->bytes + text->size, view->bytes, view->size);
    if (!text->bare) {
        memcpy(text->begins + text->size, view->begins, view->size * sizeof *view->begins);
        memcpy(text->ends + text->size, view->ends, view->size * sizeof *view->ends);
    }
    text->size += view->size;
}

void aligned_add_bytes(struct aligned *text, const char *bytes, size_t size,
                       const struct aligned_view *view, size_t at)
{
    if (!size || !aligned_reserve(text, size)) {
        return;
    }
    memcpy(text->bytes + text->size, bytes, size);
    for (size_t i = 0; i < size && !text->bare; i++) {
        text->begins[text->size + i] = view->begins[at];
        text->ends[text->size + i] = view->ends[at];
    }
    text->size += size;
}

struct aligned_writer aligned_writer(struct aligned_view from, struct aligned *to)
{
    aligned_clear(to, from.begins == NULL);
    (void)aligned_reserve(to, from.size);
    return (struct aligned_writer){.from = from, .to = to};
}

void aligned_skip(struct aligned_writer *writer, size_t chars)
{
    for (; chars && writer->at < writer->from.size; chars--) {
        do {
            writer->at++;
        } while (writer->at < writer->from.size &&
                 ((unsigned char)writer->from.bytes[writer->at] & 0xc0) == 0x80);
    }
}

void aligned_put(struct aligned_writer *writer, uint32_t scalar, ptrdiff_t change)
{
    const struct aligned_view *from = &writer->from;
    if (from->size == 0) {
        return;
    }
    char bytes[4];
    size_t size = utf8_put(scalar, bytes);
    size_t source = change > 0 && writer->at > 0 ? writer->at - 1 : writer->at;
    source = size_min(source, from->size - 1);
    aligned_add_bytes(writer->to, bytes, size, from, source);
    if (change <= 0) {
        aligned_skip(writer, 1 + (size_t)-change);
    }
}

void aligned_filter_put(struct aligned_filter *filter, uint32_t scalar, bool keep)
{
    if (!keep) {
        filter->removed++;
        return;
    }
    if (filter->holds) {
        aligned_put(filter->writer, filter->held, -(ptrdiff_t)filter->removed);
    } else {
        aligned_skip(filter->writer, filter->removed);
    }
    filter->holds = true;
    filter->held = scalar;
    filter->removed = 0;
}

void aligned_filter_end(struct aligned_filter *filter)
{
    if (filter->holds) {
        aligned_put(filter->writer, filter->held, -(ptrdiff_t)filter->removed);
    }
}
