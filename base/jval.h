/* Values read from JSON files: safetensors headers, config.json, training data. A thin reader over
 * jansson (whose own names begin with json_, hence ours); the HTTP contract has its own code in
 * api/. Nobody else sees jansson.
 *
 * Duplicate keys are an error; nesting is bounded. Threads: a value may be read by many threads as
 * long as none frees it. */
#ifndef ORTHRUS_BASE_JVAL_H
#define ORTHRUS_BASE_JVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct jval; /* one JSON value; borrowed unless said otherwise */

enum { JVAL_DEPTH_MAX = 32 };

/* Call once before threads start: seeds jansson's hash tables, which is not thread-safe, and lets
 * jval_memory_failed know. */
void jval_global_init(void);
/* Whether jansson got no memory on this thread since the last call. Where that happens it calls the
 * text no JSON, or leaves out a byte of a string and says nothing. */
bool jval_memory_failed(void);

/* True if arrays and objects in the text nest at most max deep. Looks at brackets outside strings
 * only, so it is cheap and may come before a parser that recurses. */
bool jval_depth_ok(const char *text, size_t size, unsigned max);

/* Parses one whole UTF-8 text. Gives an owned value, freed with jval_free. Errors: ERR_INVALID,
 * with line and column. */
CHECK_RESULT enum err_code jval_parse(const char *text, size_t size, struct jval **ret_value,
                                      struct err *err);
/* The same, but ERR_CONFLICT where all that is wrong is a name twice in one object. */
CHECK_RESULT enum err_code jval_parse_body(const char *text, size_t size, struct jval **ret_value,
                                           struct err *err);
/* jval_parse for a file of at most max_size bytes; an error names the path. An integer of 19 digits
 * or more is read as a real. */
CHECK_RESULT enum err_code jval_read_file(const char *path, size_t max_size,
                                          struct jval **ret_value, struct err *err);
/* NULL is fine. */
void jval_free(struct jval *value);

bool jval_is_object(const struct jval *value);
bool jval_is_array(const struct jval *value);
bool jval_is_string(const struct jval *value);
bool jval_is_null(const struct jval *value);

/* Member of an object, or NULL when absent or when value is no object. */
const struct jval *jval_get(const struct jval *object, const char *key);
size_t jval_object_size(const struct jval *object);
/* Walks an object in the order of the text: start with iter NULL; returns NULL behind the last. */
void *jval_object_next(const struct jval *object, void *iter, const char **ret_key,
                       const struct jval **ret_value);

/* 0 for anything but an array; NULL behind its end. */
size_t jval_array_size(const struct jval *array);
const struct jval *jval_at(const struct jval *array, size_t index);

/* Each returns false for NULL or another type and then leaves *ret untouched. Strings are borrowed,
 * NUL-terminated, and may hold NULs inside. jval_double takes integers too. */
bool jval_string(const struct jval *value, const char **ret_text, size_t *ret_size);
bool jval_int(const struct jval *value, int64_t *ret);
bool jval_double(const struct jval *value, double *ret);
bool jval_bool(const struct jval *value, bool *ret);

/* Appends a JSON string literal with its quotes. Escapes quotes, backslashes and controls, nothing
 * else; a byte that is no UTF-8 (a file's name may hold any) becomes U+FFFD, so that what comes out
 * is always JSON. False when the buffer is full. */
bool jval_append_string(struct buf *buf, const char *text, size_t size);

#endif
