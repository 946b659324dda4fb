#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { ARENA_FIRST_BLOCK = 4096 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    alignas(max_align_t) char data[];
};

void arena_init(struct arena *arena, size_t ceiling)
{
    *arena = (struct arena){.ceiling = ceiling};
}

void arena_done(struct arena *arena)
{
    if (!arena) {
        return;
    }
    for (struct arena_block *block = arena->head; block;) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct arena){.ceiling = arena->ceiling};
}

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    size_t want = arena->head ? arena->head->size * 2 : ARENA_FIRST_BLOCK;
    want = size_max(size_min(want, arena->ceiling - arena->total), size);
    size_t bytes;
    if (size > arena->ceiling - arena->total ||
        !size_add(sizeof(struct arena_block), want, &bytes)) {
        return NULL;
    }
    struct arena_block *block = malloc(bytes);
    if (!block) {
        return NULL;
    }
    block->next = arena->head;
    block->size = want;
    arena->head = block;
    arena->used = 0;
    arena->total += want;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t padded;
    if (!size_add(size, alignof(max_align_t) - 1, &padded)) {
        return NULL;
    }
    padded -= padded % alignof(max_align_t);
    struct arena_block *block = arena->head;
    if (!block || block->size - arena->used < padded) {
        block = add_block(arena, padded);
        if (!block) {
            return NULL;
        }
    }
    void *at = block->data + arena->used;
    arena->used += padded;
    return at;
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes)) {
        return NULL;
    }
    void *at = arena_alloc(arena, bytes);
    if (at && bytes) {
        memset(at, 0, bytes);
    }
    return at;
}

char *arena_memdup(struct arena *arena, const void *data, size_t size)
{
    size_t bytes;
    char *at = size_add(size, 1, &bytes) ? arena_alloc(arena, bytes) : NULL;
    if (at) {
        if (size) {
            memcpy(at, data, size);
        }
        at[size] = '\0';
    }
    return at;
}
