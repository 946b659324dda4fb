#include "base/heap.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum {
    LARGE_BLOCK_BYTES = 256 * 1024,
    PROBE_BYTES = 128 * 1024, /* in the heap, and large enough for heap_return */
};

void heap_keep_no_large_blocks(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
#endif
}

void heap_return(void)
{
#ifdef __GLIBC__
    /* Small blocks that were freed wait in bins until a large one is asked for; that joins them,
     * and freeing it cuts the heap behind the last block in use. malloc_trim joins them too but
     * cuts the main thread's heap only. volatile: the compiler may leave out a pair of the two. */
    void *volatile probe = malloc(PROBE_BYTES);
    free(probe);
#endif
}

void heap_return_all(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
