/* An arena: many small allocations with one lifetime, freed together. Used for what a request
 * parses out of its body. Blocks grow geometrically up to the ceiling. Not thread-safe. */
#ifndef ORTHRUS_BASE_ARENA_H
#define ORTHRUS_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *head; /* newest block, owned */
    size_t used;              /* bytes used in the newest block */
    size_t total;             /* bytes allocated in all blocks */
    size_t ceiling;
};

void arena_init(struct arena *arena, size_t ceiling);
/* Frees every block. NULL and zeroed structs are fine. */
void arena_done(struct arena *arena);

/* size bytes aligned for any type, not zeroed; NULL over the ceiling or out of memory. size 0
 * gives a valid pointer. */
void *arena_alloc(struct arena *arena, size_t size);
/* count × size bytes, zeroed; NULL on overflow too. */
void *arena_calloc(struct arena *arena, size_t count, size_t size);
/* A copy of size bytes with a NUL behind. */
char *arena_memdup(struct arena *arena, const void *data, size_t size);

#endif
