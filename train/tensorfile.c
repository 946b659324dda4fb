#include "train/tensorfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jval.h"
#include "base/size.h"

enum { WRITE_PIECE = 1 << 30 };

static size_t tensor_bytes(const struct tensor_source *tensor)
{
    size_t count = 1;
    for (unsigned i = 0; i < tensor->rank; i++) {
        count *= tensor->shape[i];
    }
    return count * sizeof(float);
}

static void append_key(struct buf *out, const char *key, bool first)
{
    buf_append_str(out, first ? "" : ",");
    jval_append_string(out, key, strlen(key));
    buf_append_char(out, ':');
}

/* The 8 bytes of its size, then the JSON, padded with spaces to a multiple of 8. */
static void append_header(struct buf *out, const struct tensor_source *tensors, size_t n_tensors,
                          const struct metadata_source *metadata, size_t n_metadata)
{
    buf_append(out, "\0\0\0\0\0\0\0\0", 8);
    buf_append_char(out, '{');
    if (n_metadata > 0) {
        buf_append_str(out, "\"__metadata__\":{");
        for (size_t i = 0; i < n_metadata; i++) {
            append_key(out, metadata[i].key, i == 0);
            jval_append_string(out, metadata[i].value, strlen(metadata[i].value));
        }
        buf_append_char(out, '}');
    }
    size_t offset = 0;
    for (size_t i = 0; i < n_tensors; i++) {
        append_key(out, tensors[i].name, i == 0 && n_metadata == 0);
        buf_append_str(out, "{\"dtype\":\"F32\",\"shape\":[");
        for (unsigned k = 0; k < tensors[i].rank; k++) {
            buf_printf(out, "%s%zu", k == 0 ? "" : ",", tensors[i].shape[k]);
        }
        size_t end = offset + tensor_bytes(&tensors[i]);
        buf_printf(out, "],\"data_offsets\":[%zu,%zu]}", offset, end);
        offset = end;
    }
    buf_append_char(out, '}');
    while (!buf_failed(out) && out->size % 8 != 0) {
        buf_append_char(out, ' ');
    }
    for (size_t i = 0; !buf_failed(out) && i < 8; i++) {
        out->data[i] = (char)((uint64_t)(out->size - 8) >> (8 * i));
    }
}

static bool write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size_min(size, WRITE_PIECE));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* fsync of the folder that holds path, so that the new name survives a crash. */
static void sync_folder(char *path)
{
    char *slash = strrchr(path, '/');
    const char *folder = ".";
    if (slash) {
        slash[slash == path ? 1 : 0] = '\0';
        folder = path;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

static enum err_code write_file(const char *temporary, const struct buf *header,
                                const struct tensor_source *tensors, size_t n_tensors,
                                struct err *err)
{
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", temporary);
    }
    bool good = write_all(fd, header->data, header->size);
    for (size_t i = 0; good && i < n_tensors; i++) {
        good = write_all(fd, tensors[i].data, tensor_bytes(&tensors[i]));
    }
    good = good && fsync(fd) == 0;
    int failed = errno;
    if (close(fd) != 0 && good) {
        good = false;
        failed = errno;
    }
    return good ? ERR_OK : err_set_errno(err, ERR_IO, failed, "%s", temporary);
}

enum err_code tensorfile_write(const char *path, const struct tensor_source *tensors,
                               size_t n_tensors, const struct metadata_source *metadata,
                               size_t n_metadata, struct err *err)
{
    struct buf header;
    struct buf temporary;
    buf_init(&header, SAFETENSORS_HEADER_MAX);
    buf_init(&temporary, 65536);
    append_header(&header, tensors, n_tensors, metadata, n_metadata);
    buf_printf(&temporary, "%s.tmp", path);
    enum err_code code;
    if (buf_failed(&header) || buf_failed(&temporary)) {
        code = err_set(err, ERR_LIMIT, "%s: its header is too large", path);
    } else {
        code = write_file(temporary.data, &header, tensors, n_tensors, err);
        if (code == ERR_OK && rename(temporary.data, path) != 0) {
            code = err_set_errno(err, ERR_IO, errno, "%s", path);
        }
        if (code == ERR_OK) {
            sync_folder(temporary.data);
        } else {
            (void)unlink(temporary.data);
        }
    }
    buf_done(&temporary);
    buf_done(&header);
    return code;
}
