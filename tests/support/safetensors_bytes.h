/* Hand-made safetensors files: any header text, right or wrong. */
#ifndef ORTHRUS_TESTS_SUPPORT_SAFETENSORS_BYTES_H
#define ORTHRUS_TESTS_SUPPORT_SAFETENSORS_BYTES_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "tests/support/testing.h"

enum { TEST_FILE_MAX = 1 << 28 };

/* Length, header and data_size bytes of data (zeros where data is NULL). */
static inline void make_file(struct buf *out, const char *header, size_t header_size,
                             const void *data, size_t data_size)
{
    uint64_t length = header_size;
    buf_init(out, TEST_FILE_MAX);
    assert_true(buf_append(out, &length, sizeof length));
    assert_true(buf_append(out, header, header_size));
    char *at = buf_reserve(out, data_size);
    assert_non_null(at);
    if (data) {
        memcpy(at, data, data_size);
    } else {
        memset(at, 0, data_size);
    }
    buf_added(out, data_size);
}

#endif
