#include "model/encoder/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/size.h"

static void *map_huge(size_t size)
{
    size_t room;
    if (!size_add(size, PAGES_HUGE, &room)) {
        return NULL;
    }
    unsigned char *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);
    if (map == MAP_FAILED) {
        return NULL;
    }
    /* Give back what lies outside the aligned block. Both ends are page-aligned. */
    size_t before = (PAGES_HUGE - (uintptr_t)map % PAGES_HUGE) % PAGES_HUGE;
    size_t after = room - before - size;
    if (before > 0) {
        munmap(map, before);
    }
    if (after > 0) {
        munmap(map + before + size, after);
    }
    /* A wish: without it the memory works all the same, only slower. */
    (void)madvise(map + before, size, MADV_HUGEPAGE);
    return map + before;
}

/* A size wraps to 0 when it can't be rounded up. */
static size_t rounded(size_t size)
{
    size_t unit = size >= PAGES_HUGE ? PAGES_HUGE : PAGES_ALIGN;
    size_t sum;
    if (!size_add(size_max(size, 1), unit - 1, &sum)) {
        return 0;
    }
    return sum - sum % unit;
}

void *pages_alloc(size_t size)
{
    size_t room = rounded(size);
    if (room == 0) {
        return NULL;
    }
    if (size >= PAGES_HUGE) {
        return map_huge(room);
    }
    void *memory = aligned_alloc(PAGES_ALIGN, room);
    if (memory) {
        memset(memory, 0, room);
    }
    return memory;
}

void pages_free(void *memory, size_t size)
{
    if (!memory) {
        return;
    }
    if (size >= PAGES_HUGE) {
        munmap(memory, rounded(size));
    } else {
        free(memory);
    }
}

void *region_take(struct region *region, size_t count, size_t size)
{
    size_t bytes;
    size_t end;
    CHECK(size_mul(count, size, &bytes) && size_add(bytes, PAGES_ALIGN - 1, &bytes));
    bytes -= bytes % PAGES_ALIGN;
    CHECK(size_add(region->used, bytes, &end));
    void *taken = region->base ? region->base + region->used : NULL;
    region->used = end;
    return taken;
}
