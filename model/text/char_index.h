/* Bytes of a text → its characters, in constant time. */
#ifndef ORTHRUS_MODEL_CHAR_INDEX_H
#define ORTHRUS_MODEL_CHAR_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialize; char_index_done frees. Borrows the text. */
struct char_index {
    const char *text;
    size_t size;
    uint32_t *blocks; /* characters that begin before each block */
    size_t room;
    bool ascii; /* a byte is a character */
};

void char_index_done(struct char_index *index);
/* Indexes another text; false without memory. */
bool char_index_set(struct char_index *index, const char *text, size_t size);
/* Characters that begin before the character that holds a byte; at the text's end all of them. */
uint32_t char_index_at(const struct char_index *index, size_t byte);

#endif
