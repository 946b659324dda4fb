/* What glibc's allocator keeps of memory that was freed. It counts as resident, so a bound on what
 * is held now is only as good as what goes back. Elsewhere than with glibc nothing happens.
 * Source: glibc 2.36, malloc/malloc.c, _int_free and heap_trim. */
#ifndef ORTHRUS_BASE_HEAP_H
#define ORTHRUS_BASE_HEAP_H

/* Call once, before threads start: from now on a block of 256 KiB or more has pages of its own,
 * which go back to the system when it is freed. */
void heap_keep_no_large_blocks(void);

/* Call behind freeing very many small blocks (a tree of megabytes): the pages that have become free
 * at the end of this thread's heap go back to the system. Microseconds where there are none. */
void heap_return(void);

/* Free pages in all threads' heaps, those between blocks in use too, go back to the system.
 * Thread-safe; milliseconds where there are many, in which other threads may wait for memory. */
void heap_return_all(void);

#endif
