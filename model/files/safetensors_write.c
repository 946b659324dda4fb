/* The writer of safetensors files. */
#include <stdint.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "model/files/safetensors.h"

enum { HEADER_ALIGN = 8 };

static void append_metadata(const struct metadata_source *metadata, size_t n, struct buf *header)
{
    buf_append_str(header, "\"__metadata__\":{");
    for (size_t i = 0; i < n; i++) {
        if (i) {
            buf_append_char(header, ',');
        }
        jval_append_string(header, metadata[i].key, strlen(metadata[i].key));
        buf_append_char(header, ':');
        jval_append_string(header, metadata[i].value, strlen(metadata[i].value));
    }
    buf_append_char(header, '}');
}

/* False when the bytes of the shape overflow. */
static bool source_size(const struct tensor_source *tensor, size_t *ret_bytes)
{
    size_t bytes = sizeof *tensor->data;
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (!size_mul(bytes, tensor->shape[i], &bytes)) {
            return false;
        }
    }
    *ret_bytes = bytes;
    return true;
}

/* The JSON, padded; the size of the data behind it. False when a size overflows. */
static bool append_header(const struct tensor_source *tensors, size_t n_tensors,
                          const struct metadata_source *metadata, size_t n_metadata,
                          struct buf *header, size_t *ret_data_size)
{
    const char *comma = "";
    size_t at = 0;
    buf_append_char(header, '{');
    if (n_metadata) {
        append_metadata(metadata, n_metadata, header);
        comma = ",";
    }
    for (size_t i = 0; i < n_tensors; i++) {
        size_t bytes;
        size_t end;
        if (!source_size(&tensors[i], &bytes) || !size_add(at, bytes, &end)) {
            return false;
        }
        buf_append_str(header, comma);
        jval_append_string(header, tensors[i].name, strlen(tensors[i].name));
        buf_append_str(header, ":{\"dtype\":\"F32\",\"shape\":[");
        for (unsigned d = 0; d < tensors[i].rank; d++) {
            buf_printf(header, "%s%zu", d ? "," : "", tensors[i].shape[d]);
        }
        buf_printf(header, "],\"data_offsets\":[%zu,%zu]}", at, end);
        comma = ",";
        at = end;
    }
    buf_append_char(header, '}');
    while (!buf_failed(header) && header->size % HEADER_ALIGN) {
        buf_append_char(header, ' ');
    }
    *ret_data_size = at;
    return true;
}

enum err_code safetensors_write(const struct tensor_source *tensors, size_t n_tensors,
                                const struct metadata_source *metadata, size_t n_metadata,
                                struct buf *out, struct err *err)
{
    struct buf header;
    buf_init(&header, SIZE_MAX / 2);
    size_t data_size;
    size_t total;
    bool sized = append_header(tensors, n_tensors, metadata, n_metadata, &header, &data_size);
    if (sized && buf_failed(&header)) {
        size_t reached = header.size;
        buf_done(&header);
        return err_nomem(err, reached);
    }
    uint64_t length = header.size;
    if (!sized || length > SAFETENSORS_HEADER_MAX ||
        !size_add(header.size + sizeof length, data_size, &total) ||
        total > out->ceiling - out->size) {
        buf_done(&header);
        return err_set(err, ERR_LIMIT, "safetensors: more than %zu bytes to write", out->ceiling);
    }
    bool whole = buf_append(out, &length, sizeof length) &&
                 buf_append(out, header.data, header.size);
    buf_done(&header);
    for (size_t i = 0; whole && i < n_tensors; i++) {
        size_t bytes = 0;
        whole = source_size(&tensors[i], &bytes) && buf_append(out, tensors[i].data, bytes);
    }
    return whole ? ERR_OK : err_nomem(err, total);
}

enum err_code safetensors_write_file(const char *path, const struct tensor_source *tensors,
                                     size_t n_tensors, const struct metadata_source *metadata,
                                     size_t n_metadata, struct err *err)
{
    struct buf header;
    buf_init(&header, SAFETENSORS_HEADER_MAX);
    size_t data_size;
    bool sized = append_header(tensors, n_tensors, metadata, n_metadata, &header, &data_size);
    if (!sized || buf_failed(&header)) {
        bool too_large = !sized || buf_full(&header);
        size_t reached = header.size;
        buf_done(&header);
        return too_large ? err_set(err, ERR_LIMIT, "%s: its header is too large", path)
                         : err_nomem(err, reached);
    }
    struct file_writer writer;
    uint64_t length = header.size;
    enum err_code code = file_writer_open(path, &writer, err);
    if (code != ERR_OK) {
        buf_done(&header);
        return code;
    }
    code = file_writer_put(&writer, &length, sizeof length, err);
    if (code == ERR_OK) {
        code = file_writer_put(&writer, header.data, header.size, err);
    }
    for (size_t i = 0; code == ERR_OK && i < n_tensors; i++) {
        size_t bytes = 0;
        (void)source_size(&tensors[i], &bytes); /* append_header has checked it */
        code = file_writer_put(&writer, tensors[i].data, bytes, err);
    }
    buf_done(&header);
    if (code == ERR_OK) {
        return file_writer_commit(&writer, err);
    }
    file_writer_abandon(&writer);
    return code;
}
