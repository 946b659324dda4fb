/* The files that are mapped now, so that a page of them that can't be read names its file: it was
 * cut off meanwhile, or its disk or server fails. The kernel tells that by a signal (SIGBUS) that
 * would end the process without a word. */
#ifndef ORTHRUS_BASE_MAPPED_H
#define ORTHRUS_BASE_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

/* Call once, in main: from now on such a page ends the process with one line on stderr and status
 * 1. A SIGBUS of any other origin stays what it is. */
void mapped_tell(void);

/* For base/file.c. Thread-safe; path is copied. False when memory is out. Behind the first few
 * hundred mappings at a time the next ones are not noted. */
bool mapped_add(const void *data, size_t size, const char *path);
/* What was not noted is fine. */
void mapped_remove(const void *data);

#endif
