#include "model/text/char_index.h"

#include <stdlib.h>

enum { BLOCK = 64 };

void char_index_done(struct char_index *index)
{
    free(index->blocks);
    *index = (struct char_index){0};
}

static bool begins_character(char byte)
{
    return ((unsigned char)byte & 0xc0) != 0x80;
}

bool char_index_set(struct char_index *index, const char *text, size_t size)
{
    size_t blocks = size / BLOCK + 1;
    if (blocks > index->room) {
        uint32_t *grown = realloc(index->blocks, blocks * sizeof *grown);
        if (!grown) {
            return false;
        }
        index->blocks = grown;
        index->room = blocks;
    }
    index->text = text;
    index->size = size;
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++) {
        if (i % BLOCK == 0) {
            index->blocks[i / BLOCK] = count;
        }
        count += begins_character(text[i]);
    }
    if (size % BLOCK == 0) {
        index->blocks[size / BLOCK] = count;
    }
    index->ascii = count == size;
    return true;
}

uint32_t char_index_at(const struct char_index *index, size_t byte)
{
    if (index->ascii) {
        return (uint32_t)byte;
    }
    size_t block = byte / BLOCK;
    uint32_t count = index->blocks[block];
    for (size_t i = block * BLOCK; i < byte; i++) {
        count += begins_character(index->text[i]);
    }
    /* Within a character: the one that has begun. */
    bool inside = byte < index->size && !begins_character(index->text[byte]);
    return count - inside;
}
