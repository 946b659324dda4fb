/* One JSON file of a model folder while it is read: fields with their checks, and the rule for the
 * rest. Every error names path, field, what was found and what is allowed. For config.c and
 * modules.c. */
#ifndef ORTHRUS_MODEL_FIELDS_H
#define ORTHRUS_MODEL_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/jval.h"
#include "model/files/config.h"

struct fields {
    char *path;        /* owned */
    struct jval *root; /* owned; NULL where the file is absent */
    struct err *err;
};

/* An optional file may be absent; a file that is there must be JSON, an object unless array. */
CHECK_RESULT enum err_code fields_open(const char *dir, const char *name, bool optional,
                                       struct fields *ret_reader, struct err *err);
void fields_close(struct fields *fields);
CHECK_RESULT enum err_code fields_check_object(const struct fields *fields);

/* The field, or NULL when it is absent or null. */
const struct jval *fields_get(const struct fields *fields, const char *field);
/* The error for that field: found …, allowed is …. */
enum err_code fields_wrong(const struct fields *fields, const char *field, enum err_code code,
                           const char *allowed);

/* A fallback of 0 makes the field required. */
CHECK_RESULT enum err_code fields_size(const struct fields *fields, const char *field, size_t min,
                                       size_t max, size_t fallback, size_t *ret);
CHECK_RESULT enum err_code fields_float(const struct fields *fields, const char *field, double min,
                                        double max, double fallback, float *ret);
CHECK_RESULT enum err_code fields_bool(const struct fields *fields, const char *field,
                                       bool fallback, bool *ret);
/* A limit in tokens: 0 where absent, SIZE_MAX (none) over 10⁹, integral numbers in any spelling. */
CHECK_RESULT enum err_code fields_limit(const struct fields *fields, const char *field, size_t min,
                                        size_t *ret);

bool fields_is_word(const struct jval *value, const char *word);

/* What a field that no code reads by its value does. */
enum field_use {
    FIELD_READ,  /* honoured: read elsewhere */
    FIELD_NONE,  /* without influence on any answer */
    FIELD_FALSE, /* refused unless absent, null or false */
    FIELD_EMPTY, /* refused unless absent, null, false or an empty array, object or string */
};
struct field_rule {
    const char *name;
    enum field_use use;
};
/* Applies the rules to every field of the object; one that is in none is a warning of config. */
CHECK_RESULT enum err_code fields_apply(const struct fields *fields, const struct field_rule *rules,
                                        size_t n_rules, struct config *config);

#endif
