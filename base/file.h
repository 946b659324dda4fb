/* Files: bounded reads, read-only mappings, atomic durable writes. */
#ifndef ORTHRUS_BASE_FILE_H
#define ORTHRUS_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"

/* A read-only private mapping of a whole regular file. Lifetime: the owner's. */
struct file_map {
    const unsigned char *data; /* page-aligned; NULL for an empty file */
    size_t size;
    dev_t device; /* and the rest: which file it is, and when it was written to last */
    ino_t inode;
    struct timespec changed;
};

/* Maps a regular file of at most max_size bytes. Errors: ERR_NOT_FOUND, ERR_IO, ERR_LIMIT,
 * ERR_INVALID (not a regular file); the text names the path. */
CHECK_RESULT enum err_code file_map_open(const char *path, size_t max_size,
                                         struct file_map *ret_map, struct err *err);
/* ERR_IO where somebody has written into the file, or cut it, since it was mapped from path: what
 * was read meanwhile may be of before and of now. One that was replaced by rename or removed is
 * fine: the mapping is the old one's. */
CHECK_RESULT enum err_code file_map_unchanged(const struct file_map *map, const char *path,
                                              struct err *err);
/* NULL and zeroed structs are fine. */
void file_map_close(struct file_map *map);

/* Reads a whole file (a pipe or /dev/stdin too) of at most max_size bytes into malloc'ed memory
 * with a NUL behind it; the caller frees *ret_data. Errors as above. */
CHECK_RESULT enum err_code file_read(const char *path, size_t max_size, char **ret_data,
                                     size_t *ret_size, struct err *err);
/* The same for a regular file alone: a FIFO or device by that name is an error, never a wait. */
CHECK_RESULT enum err_code file_read_regular(const char *path, size_t max_size, char **ret_data,
                                             size_t *ret_size, struct err *err);

/* Replaces path durably: temporary file beside it, fsync, rename, fsync of the folder. After a
 * crash at any point the path holds the old bytes or the new ones. A character device (/dev/null)
 * is written to instead; what else is no regular file is an error and stays. */
CHECK_RESULT enum err_code file_write_atomic(const char *path, const void *data, size_t size,
                                             struct err *err);

/* The same, and tells where it failed: *ret_replaced is true when path holds the new bytes although
 * its folder could not be synced, so that nobody knows what a crash would leave. */
CHECK_RESULT enum err_code file_replace(const char *path, const void *data, size_t size,
                                        bool *ret_replaced, struct err *err);

/* The same in pieces, for what is too large to be held. Caller's stack; one thread. */
struct file_writer {
    int fd;
    char *path, *temporary; /* owned; temporary NULL: path is a device */
};
/* Opens the temporary file. Errors: ERR_IO, ERR_NOMEM; the text names the path. */
CHECK_RESULT enum err_code file_writer_open(const char *path, struct file_writer *ret_writer,
                                            struct err *err);
CHECK_RESULT enum err_code file_writer_put(struct file_writer *writer, const void *data,
                                           size_t size, struct err *err);
/* Puts the new file in place; on failure the old one stays. The writer is closed either way. */
CHECK_RESULT enum err_code file_writer_commit(struct file_writer *writer, struct err *err);
/* Closes without replacing anything. Fine after a commit and on a zeroed struct. */
void file_writer_abandon(struct file_writer *writer);

/* Renames a file that is complete to path, durably: the folder is synced too. */
CHECK_RESULT enum err_code file_rename(const char *from, const char *path, struct err *err);

/* All bytes to a descriptor, interrupted writes gone on with. False: errno says why. */
bool file_put(int fd, const void *data, size_t size);

/* False where it is surely not there. What can't be looked at may be there: reading it says why. */
bool file_exists(const char *path);
/* True where what is written to one path would replace what the other leads to: the same file or
 * folder, or, where they are not both there, the same path. Devices and pipes are nobody's. */
bool file_same(const char *path, const char *other);
/* Makes a folder and those above it; fine where they are there. Errors: ERR_IO, naming path. */
CHECK_RESULT enum err_code file_make_folders(const char *path, struct err *err);

/* "dir/name" in malloc'ed memory; NULL when memory is out. */
char *file_join(const char *dir, const char *name);

#endif
