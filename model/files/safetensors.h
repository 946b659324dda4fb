/* safetensors files: a hostile file becomes named, validated views; and the writer for ours.
 * Format: 8 bytes little-endian header size, JSON header, data. Reference: huggingface/safetensors
 * (its README's format section and its Rust validation). */
#ifndef ORTHRUS_MODEL_SAFETENSORS_H
#define ORTHRUS_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/jval.h"

/* Every dtype of the format is understood in a header; only the three floats can be read. */
enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_F8_E5M2,
    DTYPE_F8_E4M3,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_I64,
    DTYPE_U64,
};

enum {
    TENSOR_RANK_MAX = 8,
    SAFETENSORS_HEADER_MAX = 100 * 1000 * 1000,
    SAFETENSORS_TENSORS_MAX = 65536,
    /* Commas in the header: bounds the memory that its JSON tree can take. */
    SAFETENSORS_VALUES_MAX = 16 * SAFETENSORS_TENSORS_MAX,
};
#define SAFETENSORS_FILE_MAX ((size_t)1 << 40)

/* A view into the file's bytes; valid as long as the file is. data may be unaligned. */
struct tensor {
    const char *name; /* NUL-terminated, without NULs inside */
    enum dtype dtype;
    unsigned rank;
    size_t shape[TENSOR_RANK_MAX]; /* [rank], row-major */
    size_t count;                  /* product of shape */
    const unsigned char *data;
    size_t size; /* bytes */
};

struct safetensors; /* immutable once made; any number of threads may read it */

/* Maps and validates a file. The whole header is checked before anything is returned: sizes
 * without overflow, offsets in range, no holes, no overlap, the last tensor ending at the file's
 * end, no duplicate names, known dtypes, metadata of strings. Errors: ERR_NOT_FOUND, ERR_IO,
 * ERR_INVALID, ERR_LIMIT, ERR_NOMEM; the text names path and tensor.
 *
 * The file must keep its bytes while it is open. Who is through asks safetensors_unchanged; a page
 * that somebody has cut off ends the process (base/mapped). Replace a model by rename, not in
 * place. The encoder copies what it needs and closes the file; heads are read into memory, not
 * mapped. */
CHECK_RESULT enum err_code safetensors_open(const char *path, struct safetensors **ret_file,
                                            struct err *err);
/* The same over memory that the caller keeps alive and unchanged until safetensors_close. label
 * stands for the path in errors. */
CHECK_RESULT enum err_code safetensors_parse(const void *data, size_t size, const char *label,
                                             struct safetensors **ret_file, struct err *err);
/* ERR_IO where the file was written to since it was opened (file_map_unchanged). */
CHECK_RESULT enum err_code safetensors_unchanged(const struct safetensors *file, struct err *err);
/* NULL is fine. */
void safetensors_close(struct safetensors *file);

/* The path or label it was opened with. */
const char *safetensors_label(const struct safetensors *file);
/* The bytes of the whole file. */
const unsigned char *safetensors_bytes(const struct safetensors *file, size_t *ret_size);

size_t safetensors_count(const struct safetensors *file);
/* Tensors in the order of their data. */
const struct tensor *safetensors_at(const struct safetensors *file, size_t index);
/* NULL when absent. */
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);
/* The __metadata__ object, or NULL. */
const struct jval *safetensors_metadata(const struct safetensors *file);

const char *dtype_name(enum dtype dtype);
size_t dtype_size(enum dtype dtype);
/* False for a word that is no dtype of the format. */
bool dtype_parse(const char *word, enum dtype *ret_dtype);
bool dtype_is_float(enum dtype dtype); /* F32, F16 or BF16 */

/* ERR_UNSUPPORTED where the tensor is no float that can be read. label: the file's, for errors. */
CHECK_RESULT enum err_code tensor_check_float(const struct tensor *tensor, const char *label,
                                              struct err *err);
/* The same, and ERR_MISMATCH where it does not have the shape that config.json gives. */
CHECK_RESULT enum err_code tensor_check(const struct tensor *tensor, const char *label,
                                        unsigned rank, const size_t *shape, struct err *err);

/* An F32 tensor over floats [rows,columns] in memory; borrows them. */
struct tensor tensor_of_floats(const float *data, size_t rows, size_t columns);

/* Converts count elements from element first on to fp32. The tensor is F32, F16 or BF16. */
void tensor_to_f32(const struct tensor *tensor, size_t first, size_t count, float *out);
/* The same values where they stand in the file, if they are aligned fp32 there, else at room
 * [count], converted. */
const float *tensor_as_f32(const struct tensor *tensor, size_t first, size_t count, float *room);

/* The index of the first infinity or NaN, or count where all values are finite. */
size_t floats_first_nonfinite(const float *values, size_t count);

enum { TENSOR_SHAPE_TEXT_SIZE = TENSOR_RANK_MAX * 22 + 3 };
/* "[768, 3072]" into out. */
void tensor_shape_text(const struct tensor *tensor, char out[TENSOR_SHAPE_TEXT_SIZE]);
void shape_text(const size_t *shape, unsigned rank, char out[TENSOR_SHAPE_TEXT_SIZE]);
/* name as an error may quote it: itself where it is short printable ASCII, else a constant. */
const char *tensor_shown_name(const char *name);

/* One tensor to write: fp32 data, borrowed. */
struct tensor_source {
    const char *name;
    unsigned rank;
    size_t shape[TENSOR_RANK_MAX];
    const float *data;
};
/* One metadata entry to write; value is UTF-8. */
struct metadata_source {
    const char *key;
    const char *value;
};

/* Appends a whole F32 file to out, tensors in the order given, the header padded with spaces to a
 * multiple of 8. Deterministic. Errors: ERR_LIMIT when out's ceiling is reached, ERR_NOMEM. */
CHECK_RESULT enum err_code safetensors_write(const struct tensor_source *tensors, size_t n_tensors,
                                             const struct metadata_source *metadata,
                                             size_t n_metadata, struct buf *out, struct err *err);
/* The same file to a path, replaced durably, as a stream: a model of half a gigabyte is never held
 * twice. Errors: ERR_IO, naming path; ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code safetensors_write_file(const char *path,
                                                  const struct tensor_source *tensors,
                                                  size_t n_tensors,
                                                  const struct metadata_source *metadata,
                                                  size_t n_metadata, struct err *err);

#endif
