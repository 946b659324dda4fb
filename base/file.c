#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mapped.h"

/* What one write(2) takes at most; Linux stops at 2 GiB. */
enum { WRITE_PIECE = 1 << 30 };

static enum err_code open_error(const char *path, int number, struct err *err)
{
    enum err_code code = number == ENOENT || number == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
    return err_set_errno(err, code, number, "%s", path);
}

static enum err_code too_large(const char *path, off_t size, size_t max_size, struct err *err)
{
    return err_set(err, ERR_LIMIT, "%s: %lld bytes, at most %zu are allowed", path, (long long)size,
                   max_size);
}

static enum err_code map_fd(int fd, const char *path, size_t max_size, struct file_map *ret_map,
                            struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_INVALID, "%s: not a regular file", path);
    }
    if ((unsigned long long)st.st_size > max_size) {
        return too_large(path, st.st_size, max_size, err);
    }
    struct file_map map = {
        .size = (size_t)st.st_size, .device = st.st_dev, .inode = st.st_ino, .changed = st.st_mtim};
    if (map.size) {
        void *data = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            return err_set_errno(err, ERR_IO, errno, "%s: mmap", path);
        }
        map.data = data;
        if (!mapped_add(data, map.size, path)) {
            file_map_close(&map);
            return err_nomem(err, strlen(path) + 1);
        }
    }
    *ret_map = map;
    return ERR_OK;
}

enum err_code file_map_open(const char *path, size_t max_size, struct file_map *ret_map,
                            struct err *err)
{
    /* O_NONBLOCK: opening a FIFO by mistake must end in an error, not in a wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return open_error(path, errno, err);
    }
    enum err_code code = map_fd(fd, path, max_size, ret_map, err);
    (void)close(fd);
    return code;
}

enum err_code file_map_unchanged(const struct file_map *map, const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || st.st_dev != map->device || st.st_ino != map->inode) {
        return ERR_OK;
    }
    bool same = (unsigned long long)st.st_size == map->size &&
                st.st_mtim.tv_sec == map->changed.tv_sec &&
                st.st_mtim.tv_nsec == map->changed.tv_nsec;
    return same ? ERR_OK : err_set(err, ERR_IO, "%s: was written to while it was read", path);
}

void file_map_close(struct file_map *map)
{
    if (map && map->data) {
        mapped_remove(map->data);
        (void)munmap((void *)(size_t)map->data, map->size);
    }
    if (map) {
        *map = (struct file_map){0};
    }
}

/* Reads to the end and closes fd. */
static enum err_code read_fd(int fd, const char *path, size_t max_size, char **ret_data,
                             size_t *ret_size, struct err *err)
{
    struct buf buf;
    buf_init(&buf, max_size);
    char chunk[65536];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            err_set_errno(err, ERR_IO, errno, "%s", path);
            break;
        }
        if (got == 0) {
            (void)close(fd);
            char *data = buf_steal(&buf, ret_size);
            if (!data) {
                return err_nomem(err, 1);
            }
            *ret_data = data;
            return ERR_OK;
        }
        bool over = (size_t)got > max_size - buf.size;
        if (over || !buf_append(&buf, chunk, (size_t)got)) {
            size_t reached = buf.size;
            (void)close(fd);
            buf_done(&buf);
            return over ? err_set(err, ERR_LIMIT, "%s: more than %zu bytes", path, max_size)
                        : err_nomem(err, reached);
        }
    }
    (void)close(fd);
    buf_done(&buf);
    return ERR_IO;
}

enum err_code file_read_regular(const char *path, size_t max_size, char **ret_data,
                                size_t *ret_size, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0) {
        return open_error(path, errno, err);
    }
    int number = fstat(fd, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
    if (number || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return number ? err_set_errno(err, ERR_IO, number, "%s", path)
                      : err_set(err, ERR_INVALID, "%s: not a regular file", path);
    }
    if ((unsigned long long)st.st_size > max_size) {
        (void)close(fd); /* before it takes memory up to the bound */
        return too_large(path, st.st_size, max_size, err);
    }
    return read_fd(fd, path, max_size, ret_data, ret_size, err);
}

enum err_code file_read(const char *path, size_t max_size, char **ret_data, size_t *ret_size,
                        struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? open_error(path, errno, err)
                  : read_fd(fd, path, max_size, ret_data, ret_size, err);
}

bool file_put(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t put = write(fd, at, size < WRITE_PIECE ? size : WRITE_PIECE);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return false;
        }
        at += put;
        size -= (size_t)put;
    }
    return true;
}

/* Makes a rename in the folder of path durable. */
static enum err_code sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = !slash          ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    if (!folder) {
        return ERR_NOMEM;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) {
        return ERR_IO;
    }
    int synced = fsync(fd);
    int number = errno;
    (void)close(fd);
    errno = number;
    return synced == 0 ? ERR_OK : ERR_IO;
}

/* Renames and makes that durable; *ret_replaced tells whether it came to the rename. */
static enum err_code rename_synced(const char *from, const char *path, bool *ret_replaced,
                                   struct err *err)
{
    if (rename(from, path) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s: write", path);
    }
    *ret_replaced = true;
    enum err_code code = sync_folder(path);
    return code == ERR_OK ? ERR_OK
                          : err_set_errno(err, code, errno, "%s: fsync of its folder", path);
}

enum err_code file_rename(const char *from, const char *path, struct err *err)
{
    bool replaced;
    return rename_synced(from, path, &replaced, err);
}

/* What a rename would take the place of. A character device (/dev/null) is written to as it is;
 * opening anything else could wait, or take away what others meet at. */
static enum err_code open_device(const char *path, int *ret_fd, struct err *err)
{
    struct stat there;
    *ret_fd = -1;
    if (stat(path, &there) != 0 || S_ISREG(there.st_mode)) {
        return ERR_OK;
    }
    if (!S_ISCHR(there.st_mode)) {
        return err_set(err, ERR_IO, "%s: is no regular file, so it is not replaced", path);
    }
    *ret_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return *ret_fd >= 0 ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", path);
}

enum err_code file_writer_open(const char *path, struct file_writer *ret_writer, struct err *err)
{
    size_t length = strlen(path) + sizeof ".tmp-XXXXXX";
    struct file_writer writer = {.fd = -1};
    enum err_code code = open_device(path, &writer.fd, err);
    if (code != ERR_OK) {
        return code;
    }
    bool device = writer.fd >= 0;
    writer.path = strdup(path);
    writer.temporary = device ? NULL : malloc(length);
    if (!writer.path || (!device && !writer.temporary)) {
        file_writer_abandon(&writer);
        return err_nomem(err, length);
    }
    if (device) {
        *ret_writer = writer;
        return ERR_OK;
    }
    (void)snprintf(writer.temporary, length, "%s.tmp-XXXXXX", path);
    writer.fd = mkostemp(writer.temporary, O_CLOEXEC);
    /* mkostemp makes 0600; what is written here is configuration and weights, not secrets. */
    if (writer.fd < 0 || fchmod(writer.fd, 0644) != 0) {
        err_set_errno(err, ERR_IO, errno, "%s", writer.temporary);
        file_writer_abandon(&writer);
        return ERR_IO;
    }
    *ret_writer = writer;
    return ERR_OK;
}

enum err_code file_writer_put(struct file_writer *writer, const void *data, size_t size,
                              struct err *err)
{
    return file_put(writer->fd, data, size)
               ? ERR_OK
               : err_set_errno(err, ERR_IO, errno, "%s: write", writer->path);
}

static enum err_code commit(struct file_writer *writer, bool *ret_replaced, struct err *err)
{
    bool synced = !writer->temporary || fsync(writer->fd) == 0;
    int number = errno;
    bool closed = close(writer->fd) == 0;
    number = synced ? errno : number;
    writer->fd = -1;
    enum err_code code = ERR_OK;
    if (!synced || !closed) {
        code = err_set_errno(err, ERR_IO, number, "%s: write", writer->path);
    } else if (writer->temporary) {
        code = rename_synced(writer->temporary, writer->path, ret_replaced, err);
    }
    file_writer_abandon(writer);
    return code;
}

void file_writer_abandon(struct file_writer *writer)
{
    if (writer->fd >= 0 && writer->path) {
        (void)close(writer->fd);
    }
    if (writer->temporary) {
        (void)unlink(writer->temporary); /* gone already behind a rename */
    }
    free(writer->temporary);
    free(writer->path);
    *writer = (struct file_writer){.fd = -1};
}

enum err_code file_writer_commit(struct file_writer *writer, struct err *err)
{
    bool replaced;
    return commit(writer, &replaced, err);
}

enum err_code file_replace(const char *path, const void *data, size_t size, bool *ret_replaced,
                           struct err *err)
{
    struct file_writer writer = {.fd = -1};
    *ret_replaced = false;
    enum err_code code = file_writer_open(path, &writer, err);
    if (code != ERR_OK) {
        return code;
    }
    code = file_writer_put(&writer, data, size, err);
    if (code == ERR_OK) {
        return commit(&writer, ret_replaced, err);
    }
    file_writer_abandon(&writer);
    return code;
}

enum err_code file_write_atomic(const char *path, const void *data, size_t size, struct err *err)
{
    bool replaced;
    return file_replace(path, data, size, &replaced, err);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool file_same(const char *path, const char *other)
{
    struct stat a, b;
    if (stat(path, &a) != 0 || stat(other, &b) != 0) {
        return strcmp(path, other) == 0;
    }
    return (S_ISREG(a.st_mode) || S_ISDIR(a.st_mode)) && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

enum err_code file_make_folders(const char *path, struct err *err)
{
    char *copy = strdup(path);
    if (!copy) {
        return err_nomem(err, strlen(path));
    }
    for (char *at = copy; *at != '\0'; at++) {
        if (*at == '/' && at > copy) {
            *at = '\0';
            (void)mkdir(copy, 0777);
            *at = '/';
        }
    }
    free(copy);
    struct stat info;
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return err_set_errno(err, ERR_IO, errno, "%s", path);
    }
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return err_set(err, ERR_IO, "%s: is no folder", path);
    }
    return ERR_OK;
}

char *file_join(const char *dir, const char *name)
{
    size_t dir_size = strlen(dir);
    size_t size = dir_size + strlen(name) + 2;
    char *path = malloc(size);
    if (path) {
        const char *slash = dir_size && dir[dir_size - 1] == '/' ? "" : "/";
        (void)snprintf(path, size, "%s%s%s", dir, slash, name);
    }
    return path;
}
