/* Large long-lived memory on huge pages: packed weights and workspaces. A pass walks hundreds of
 * megabytes, and with 4 KiB pages the address translation alone costs several percent. */
#ifndef ORTHRUS_MODEL_PAGES_H
#define ORTHRUS_MODEL_PAGES_H

#include <stddef.h>

enum { PAGES_ALIGN = 64, PAGES_HUGE = 2 * 1024 * 1024 };

/* Zeroed memory. Blocks of at least PAGES_HUGE bytes are aligned to it and the kernel is asked for
 * huge pages; smaller ones come from the heap, aligned to PAGES_ALIGN. NULL when memory is out.
 * The owner frees with pages_free and the same size. */
void *pages_alloc(size_t size);
/* NULL is fine. */
void pages_free(void *memory, size_t size);

/* Carves one block into aligned pieces. Run the same calls twice: over a region without a base to
 * learn `used`, then over the block of that size. */
struct region {
    unsigned char *base; /* borrowed; NULL while measuring */
    size_t used;
};

/* count × size bytes aligned to PAGES_ALIGN, or NULL while measuring. Sizes come from a checked
 * config whose bounds keep the sum far below SIZE_MAX; a wrap is CHECKed. */
void *region_take(struct region *region, size_t count, size_t size);

#endif
