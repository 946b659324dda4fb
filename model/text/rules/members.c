#include "model/text/rules/members.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARNING_MAX = 400, NAMES_MAX = 400 };

void warnings_add(struct warnings *warnings, const char *fmt, ...)
{
    char text[WARNING_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (warnings->n < MEMBERS_WARNINGS_MAX) {
        char *copy = strdup(text);
        warnings->texts[warnings->n] = copy;
        warnings->n += copy != NULL;
    }
}

void warnings_done(struct warnings *warnings)
{
    for (size_t i = 0; i < warnings->n; i++) {
        free(warnings->texts[i]);
    }
    warnings->n = 0;
}

/* True for a text that a message may show. */
static bool showable(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e) {
            return false;
        }
    }
    return size <= 64;
}

static void show(const struct jval *value, char out[MEMBERS_SHOWN_MAX])
{
    const char *text;
    size_t size;
    int64_t integer;
    double number;
    bool boolean;
    if (!value) {
        (void)snprintf(out, MEMBERS_SHOWN_MAX, "nothing");
    } else if (jval_string(value, &text, &size)) {
        (void)snprintf(out, MEMBERS_SHOWN_MAX, showable(text, size) ? "\"%s\"" : "a string", text);
    } else if (jval_int(value, &integer)) {
        (void)snprintf(out, MEMBERS_SHOWN_MAX, "%lld", (long long)integer);
    } else if (jval_double(value, &number)) {
        (void)snprintf(out, MEMBERS_SHOWN_MAX, "%g", number);
    } else if (jval_bool(value, &boolean)) {
        (void)snprintf(out, MEMBERS_SHOWN_MAX, boolean ? "true" : "false");
    } else {
        (void)snprintf(out, MEMBERS_SHOWN_MAX,
                       jval_is_array(value)    ? "an array"
                       : jval_is_object(value) ? "an object"
                                               : "null");
    }
}

static const char *dot(const struct members *members)
{
    return members->way[0] ? "." : "";
}

enum err_code members_wrong(const struct members *members, const char *key, enum err_code code,
                            const char *allowed)
{
    char found[MEMBERS_SHOWN_MAX];
    show(jval_get(members->object, key), found);
    return err_set(members->err, code, "%s: %s%s%s: found %s, allowed: %s", members->file,
                   members->way, dot(members), key, found, allowed);
}

static void enter(const struct members *members, const struct jval *object, struct members *inner)
{
    inner->file = members->file;
    inner->object = object;
    inner->warnings = members->warnings;
    inner->err = members->err;
}

enum err_code members_enter(const struct members *members, const char *key,
                            struct members *ret_inner)
{
    const struct jval *object = jval_get(members->object, key);
    if (!jval_is_object(object)) {
        return members_wrong(members, key, ERR_INVALID, "an object");
    }
    (void)snprintf(ret_inner->way, sizeof ret_inner->way, "%.64s%s%.64s", members->way,
                   dot(members), key);
    enter(members, object, ret_inner);
    return ERR_OK;
}

enum err_code members_enter_at(const struct members *members, const char *key,
                               const struct jval *element, size_t index, struct members *ret_inner)
{
    (void)snprintf(ret_inner->way, sizeof ret_inner->way, "%.64s%s%.48s[%zu]", members->way,
                   dot(members), key, index);
    enter(members, element, ret_inner);
    return jval_is_object(element) ? ERR_OK
                                   : err_set(members->err, ERR_INVALID, "%s: %s: not an object",
                                             members->file, ret_inner->way);
}

bool members_absent(const struct members *members, const char *key)
{
    const struct jval *value = jval_get(members->object, key);
    return !value || jval_is_null(value);
}

enum err_code members_bool(const struct members *members, const char *key, bool required, bool *ret)
{
    bool absent = members_absent(members, key) && !required;
    return absent || jval_bool(jval_get(members->object, key), ret)
               ? ERR_OK
               : members_wrong(members, key, ERR_INVALID, "true or false");
}

enum err_code members_integer(const struct members *members, const char *key, bool required,
                              int64_t min, int64_t max, int64_t *ret)
{
    if (members_absent(members, key) && !required) {
        return ERR_OK;
    }
    int64_t value;
    if (!jval_int(jval_get(members->object, key), &value) || value < min || value > max) {
        char allowed[64];
        (void)snprintf(allowed, sizeof allowed, "a whole number from %lld to %lld", (long long)min,
                       (long long)max);
        return members_wrong(members, key, ERR_INVALID, allowed);
    }
    *ret = value;
    return ERR_OK;
}

enum err_code members_string(const struct members *members, const char *key, bool required,
                             size_t max_size, const char **ret, size_t *ret_size)
{
    if (members_absent(members, key) && !required) {
        return ERR_OK;
    }
    const char *text;
    size_t size;
    if (!jval_string(jval_get(members->object, key), &text, &size) || size > max_size) {
        char allowed[64];
        (void)snprintf(allowed, sizeof allowed, "a string of at most %zu bytes", max_size);
        return members_wrong(members, key, ERR_INVALID, allowed);
    }
    *ret = text;
    *ret_size = size;
    return ERR_OK;
}

enum err_code members_array(const struct members *members, const char *key, bool required,
                            const struct jval **ret)
{
    if (members_absent(members, key) && !required) {
        return ERR_OK;
    }
    const struct jval *array = jval_get(members->object, key);
    if (!jval_is_array(array)) {
        return members_wrong(members, key, ERR_INVALID, "an array");
    }
    *ret = array;
    return ERR_OK;
}

enum err_code members_type(const struct members *members, const char *const *names,
                           size_t *ret_place)
{
    const char *type;
    size_t size;
    char allowed[NAMES_MAX] = "";
    size_t used = 0;
    bool named = jval_string(jval_get(members->object, "type"), &type, &size);
    for (size_t i = 0; names[i]; i++) {
        if (named && strlen(names[i]) == size && memcmp(names[i], type, size) == 0) {
            *ret_place = i;
            return ERR_OK;
        }
        used += (size_t)snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "",
                                 names[i]);
        used = used < sizeof allowed ? used : sizeof allowed - 1;
    }
    return members_wrong(members, "type", ERR_UNSUPPORTED, allowed);
}

void members_known(const struct members *members, const char *const *known)
{
    const char *key;
    const struct jval *value;
    for (void *at = jval_object_next(members->object, NULL, &key, &value); at;
         at = jval_object_next(members->object, at, &key, &value)) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0) {
            i++;
        }
        if (!known[i]) {
            warnings_add(members->warnings, "%s: %s%s%s: unknown, not looked at", members->file,
                         members->way, dot(members),
                         showable(key, strlen(key)) ? key : "a member's name");
        }
    }
}
