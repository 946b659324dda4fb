#include "model/files/fields.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/files/safetensors.h"

enum { FILE_BYTES_MAX = 16 * 1024 * 1024 };
static const double limit_none = 1e9;

enum err_code fields_open(const char *dir, const char *name, bool optional,
                          struct fields *ret_reader, struct err *err)
{
    struct fields fields = {.path = file_join(dir, name), .err = err};
    if (!fields.path) {
        return err_nomem(err, strlen(dir) + strlen(name));
    }
    if (!optional || file_exists(fields.path)) {
        enum err_code code = jval_read_file(fields.path, FILE_BYTES_MAX, &fields.root, err);
        if (code != ERR_OK) {
            free(fields.path);
            return code;
        }
    }
    *ret_reader = fields;
    return ERR_OK;
}

void fields_close(struct fields *fields)
{
    jval_free(fields->root);
    free(fields->path);
}

/* A string that is one short word, such as a name of a model or a class; else NULL. */
static const char *short_word(const struct jval *value)
{
    enum { WORD_MAX = 40 };
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    const char *word;
    size_t size;
    bool is_word = jval_string(value, &word, &size) && size > 0 && size <= WORD_MAX &&
                   strspn(word, letters) == size;
    return is_word ? word : NULL;
}

/* What stands there, for an error: a number or a word itself, of anything else only the kind. */
static void describe(const struct jval *value, char *out, size_t size)
{
    int64_t integer;
    double number;
    bool truth;
    if (jval_int(value, &integer)) {
        (void)snprintf(out, size, "%lld", (long long)integer);
    } else if (jval_double(value, &number)) {
        (void)snprintf(out, size, "%g", number);
    } else if (jval_bool(value, &truth)) {
        (void)snprintf(out, size, "%s", truth ? "true" : "false");
    } else if (short_word(value)) {
        (void)snprintf(out, size, "a string \"%s\"", short_word(value));
    } else {
        (void)snprintf(out, size, "%s",
                       !value                  ? "nothing"
                       : jval_is_null(value)   ? "null"
                       : jval_is_array(value)  ? "an array"
                       : jval_is_string(value) ? "a string"
                                               : "an object");
    }
}

enum err_code fields_wrong(const struct fields *fields, const char *field, enum err_code code,
                           const char *allowed)
{
    char found[64];
    describe(jval_get(fields->root, field), found, sizeof found);
    return err_set(fields->err, code, "%s: %s: found %s, allowed is %s", fields->path, field, found,
                   allowed);
}

enum err_code fields_check_object(const struct fields *fields)
{
    if (fields->root && !jval_is_object(fields->root)) {
        return err_set(fields->err, ERR_INVALID, "%s: must be a JSON object", fields->path);
    }
    return ERR_OK;
}

const struct jval *fields_get(const struct fields *fields, const char *field)
{
    const struct jval *value = jval_get(fields->root, field);
    return jval_is_null(value) ? NULL : value;
}

enum err_code fields_size(const struct fields *fields, const char *field, size_t min, size_t max,
                          size_t fallback, size_t *ret)
{
    const struct jval *value = fields_get(fields, field);
    if (!value && fallback) {
        *ret = fallback;
        return ERR_OK;
    }
    int64_t number;
    if (!jval_int(value, &number) || number < 0 || (uint64_t)number < min ||
        (uint64_t)number > max) {
        char allowed[80];
        (void)snprintf(allowed, sizeof allowed, "an integer from %zu to %zu", min, max);
        return fields_wrong(fields, field, ERR_INVALID, allowed);
    }
    *ret = (size_t)number;
    return ERR_OK;
}

enum err_code fields_float(const struct fields *fields, const char *field, double min, double max,
                           double fallback, float *ret)
{
    const struct jval *value = fields_get(fields, field);
    double number = fallback;
    if (value && (!jval_double(value, &number) || !(number >= min && number <= max))) {
        char allowed[80];
        (void)snprintf(allowed, sizeof allowed, "a number from %g to %g", min, max);
        return fields_wrong(fields, field, ERR_INVALID, allowed);
    }
    *ret = (float)number;
    return ERR_OK;
}

enum err_code fields_bool(const struct fields *fields, const char *field, bool fallback, bool *ret)
{
    const struct jval *value = fields_get(fields, field);
    bool truth = fallback;
    if (value && !jval_bool(value, &truth)) {
        return fields_wrong(fields, field, ERR_INVALID, "true or false");
    }
    *ret = truth;
    return ERR_OK;
}

enum err_code fields_limit(const struct fields *fields, const char *field, size_t min, size_t *ret)
{
    const struct jval *value = fields_get(fields, field);
    double number = 0;
    if (!value) {
        *ret = 0;
        return ERR_OK;
    }
    if (!jval_double(value, &number) || !(number >= (double)min) || floor(number) != number) {
        char allowed[96];
        (void)snprintf(allowed, sizeof allowed, "an integer from %zu on (over 1e9 means no limit)",
                       min);
        return fields_wrong(fields, field, ERR_INVALID, allowed);
    }
    *ret = number > limit_none ? SIZE_MAX : (size_t)number;
    return ERR_OK;
}

bool fields_is_word(const struct jval *value, const char *word)
{
    const char *text;
    size_t size;
    return jval_string(value, &text, &size) && size == strlen(word) &&
           memcmp(text, word, size) == 0;
}

/* Absent, null and false say nothing; so do, for FIELD_EMPTY, containers without members. */
static bool says_nothing(const struct jval *value, enum field_use use)
{
    bool truth;
    const char *text;
    size_t size;
    if (!value || jval_is_null(value) || (jval_bool(value, &truth) && !truth)) {
        return true;
    }
    return use == FIELD_EMPTY && ((jval_is_object(value) && jval_object_size(value) == 0) ||
                                  (jval_is_array(value) && jval_array_size(value) == 0) ||
                                  (jval_string(value, &text, &size) && size == 0));
}

static const struct field_rule *find_rule(const struct field_rule *rules, size_t n,
                                          const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rules[i].name, name) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

enum err_code fields_apply(const struct fields *fields, const struct field_rule *rules,
                           size_t n_rules, struct config *config)
{
    const char *name;
    const struct jval *value;
    void *iter = NULL;
    while ((iter = jval_object_next(fields->root, iter, &name, &value))) {
        const struct field_rule *rule = find_rule(rules, n_rules, name);
        if (!rule) {
            config_warn(config, "%s: field %s is not known and has no influence", fields->path,
                        tensor_shown_name(name));
        } else if ((rule->use == FIELD_FALSE || rule->use == FIELD_EMPTY) &&
                   !says_nothing(value, rule->use)) {
            return fields_wrong(fields, name, ERR_UNSUPPORTED,
                                rule->use == FIELD_FALSE ? "false or null" : "null or empty");
        }
    }
    return ERR_OK;
}
