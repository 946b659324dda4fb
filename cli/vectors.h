/* How orthrus embed writes a vector: as a JSON line or as a row of a NumPy array, in fp32, fp16 or
 * one bit a dimension. */
#ifndef ORTHRUS_CLI_VECTORS_H
#define ORTHRUS_CLI_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum vector_format { VECTOR_NDJSON, VECTOR_NPY };
enum vector_dtype {
    VECTOR_FP32,
    VECTOR_FP16,   /* rounded to nearest even */
    VECTOR_UBINARY /* bit = 1 where x > 0, the first dimension in the highest bit of the first byte,
                      the last byte padded with 0: numpy.packbits(x > 0), as sentence-transformers
                    */
};

CHECK_RESULT enum err_code vector_format_parse(const char *word, enum vector_format *ret_format,
                                               struct err *err);
CHECK_RESULT enum err_code vector_dtype_parse(const char *word, enum vector_dtype *ret_dtype,
                                              struct err *err);
const char *vector_format_name(enum vector_format format);
const char *vector_dtype_name(enum vector_dtype dtype);

/* Numbers a vector of `width` dimensions is written as, and their bytes in npy. */
size_t vector_columns(enum vector_dtype dtype, size_t width);
size_t vector_row_bytes(enum vector_dtype dtype, size_t width);

/* NumPy's format 1.0: always this long, so that it can be written again when the rows are known. */
enum { VECTOR_NPY_HEADER = 128 };
void vector_npy_header(enum vector_dtype dtype, uint64_t rows, size_t width,
                       char out[VECTOR_NPY_HEADER]);

/* Appends one vector; id is JSON or NULL (then a JSON line is a bare array, otherwise
 * {"id": …, "embedding": […]}). False where a number doesn't fit the dtype or memory is out. */
bool vector_append(enum vector_format format, enum vector_dtype dtype, const float *row,
                   size_t width, const char *id, struct buf *out);

#endif
