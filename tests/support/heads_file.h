/* Valid heads files whose every number is the same, so that a mixture of two would show. */
#ifndef ORTHRUS_TESTS_SUPPORT_HEADS_FILE_H
#define ORTHRUS_TESTS_SUPPORT_HEADS_FILE_H

#include "base/buf.h"
#include "model/files/safetensors.h"
#include "tests/support/testing.h"

enum { HEADS_FILE_ROWS = 16, HEADS_FILE_WIDTH = 64 };

/* A head with 0 classes is left out; a classifier of two classes has labels of its own. encoder:
 * its digest for the metadata, or NULL. The caller frees the buffer. */
static inline struct buf heads_file_make(size_t hidden, size_t classes, size_t moods, float value,
                                         const char *encoder)
{
    float numbers[HEADS_FILE_ROWS * HEADS_FILE_WIDTH];
    assert_true(classes <= HEADS_FILE_ROWS && moods <= HEADS_FILE_ROWS &&
                hidden <= HEADS_FILE_WIDTH);
    for (size_t i = 0; i < HEADS_FILE_ROWS * HEADS_FILE_WIDTH; i++) {
        numbers[i] = value;
    }
    struct tensor_source tensors[4];
    size_t n = 0;
    if (classes) {
        tensors[n++] = (struct tensor_source){"classifier.weight", 2, {classes, hidden}, numbers};
        tensors[n++] = (struct tensor_source){"classifier.bias", 1, {classes}, numbers};
    }
    if (moods) {
        tensors[n++] = (struct tensor_source){"sentiment.weight", 2, {moods, hidden}, numbers};
        tensors[n++] = (struct tensor_source){"sentiment.bias", 1, {moods}, numbers};
    }
    struct metadata_source metadata[2];
    size_t n_metadata = 0;
    if (classes == 2) {
        metadata[n_metadata++] = (struct metadata_source){"classifier.labels",
                                                          "[\"red\",\"green\"]"};
    }
    if (encoder) {
        metadata[n_metadata++] = (struct metadata_source){"encoder.sha256", encoder};
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(safetensors_write(tensors, n, metadata, n_metadata, &out, NULL), ERR_OK);
    return out;
}

#endif
