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

static enum err_code open_error(const char *path, int number, struct err *err)
{
    enum err_code code = number == ENOENT || number == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
    return err_set_errno(err, code, number, "%s", path);
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
        return err_set(err, ERR_LIMIT, "%s: %lld bytes, at most %zu are allowed", path,
                       (long long)st.st_size, max_size);
    }
    struct file_map map = {.size = (size_t)st.st_size};
    if (map.size) {
        void *data = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            return err_set_errno(err, ERR_IO, errno, "%s: mmap", path);
        }
        map.data = data;
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

void file_map_close(struct file_map *map)
{
    if (map && map->data) {
        (void)munmap((void *)(size_t)map->data, map->size);
    }
    if (map) {
        *map = (struct file_map){0};
    }
}

enum err_code file_read(const char *path, size_t max_size, char **ret_data, size_t *ret_size,
                        struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return open_error(path, errno, err);
    }
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

static enum err_code write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t put = write(fd, data, size);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return ERR_IO;
        }
        data += put;
        size -= (size_t)put;
    }
    return ERR_OK;
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

enum err_code file_write_atomic(const char *path, const void *data, size_t size, struct err *err)
{
    size_t length = strlen(path) + sizeof ".tmp-XXXXXX";
    char *temporary = malloc(length);
    if (!temporary) {
        return err_nomem(err, length);
    }
    (void)snprintf(temporary, length, "%s.tmp-XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "%s", temporary);
        free(temporary);
        return ERR_IO;
    }
    /* mkostemp makes 0600; what is written here is configuration and weights, not secrets. */
    bool written = fchmod(fd, 0644) == 0 && write_all(fd, data, size) == ERR_OK && fsync(fd) == 0;
    int number = errno;
    bool closed = close(fd) == 0;
    if (!written || !closed || rename(temporary, path) != 0) {
        number = written ? errno : number;
        (void)unlink(temporary);
        free(temporary);
        return err_set_errno(err, ERR_IO, number, "%s: write", path);
    }
    free(temporary);
    enum err_code code = sync_folder(path);
    return code == ERR_OK ? ERR_OK
                          : err_set_errno(err, code, errno, "%s: fsync of its folder", path);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
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
