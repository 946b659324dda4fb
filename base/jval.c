#include "base/jval.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

static json_t *in(const struct jval *value)
{
    return (json_t *)(uintptr_t)value;
}

static struct jval *out(json_t *value)
{
    return (struct jval *)value;
}

/* Thread lifetime. */
static _Thread_local bool memory_failed;

static void *allocate(size_t size)
{
    void *data = malloc(size);
    memory_failed |= !data;
    return data;
}

void jval_global_init(void)
{
    json_set_alloc_funcs(allocate, free);
    json_object_seed(0);
}

bool jval_memory_failed(void)
{
    bool failed = memory_failed;
    memory_failed = false;
    return failed;
}

bool jval_depth_ok(const char *text, size_t size, unsigned max)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max) {
                return false;
            }
        } else if ((c == ']' || c == '}') && depth) {
            depth--;
        }
    }
    return true;
}

/* Some of what jansson refuses is JSON all the same. */
static const char *why(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        return "the JSON has a name twice in one object";
    case json_error_numeric_overflow:
        return "the JSON has a number that is too large";
    case json_error_null_byte_in_key:
        return "the JSON has a name with U+0000";
    default:
        return "not valid JSON";
    }
}

static enum err_code parse(const char *text, size_t size, enum err_code twice,
                           struct jval **ret_value, struct err *err)
{
    if (!jval_depth_ok(text, size, JVAL_DEPTH_MAX)) {
        return err_set(err, ERR_INVALID, "JSON nested deeper than %d", JVAL_DEPTH_MAX);
    }
    /* jansson passes over a zero byte behind a number. */
    if (size && memchr(text, '\0', size)) {
        return err_set(err, ERR_INVALID, "not valid JSON (a byte that is zero)");
    }
    json_error_t error;
    (void)jval_memory_failed();
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (jval_memory_failed()) {
        json_decref(value);
        return err_nomem(err, size);
    }
    if (!value) {
        bool repeated = json_error_code(&error) == json_error_duplicate_key;
        return err_set(err, repeated ? twice : ERR_INVALID, "%s (line %d, column %d)", why(&error),
                       error.line, error.column);
    }
    *ret_value = out(value);
    return ERR_OK;
}

enum err_code jval_parse(const char *text, size_t size, struct jval **ret_value, struct err *err)
{
    return parse(text, size, ERR_INVALID, ret_value, err);
}

enum err_code jval_parse_body(const char *text, size_t size, struct jval **ret_value,
                              struct err *err)
{
    return parse(text, size, ERR_CONFLICT, ret_value, err);
}

/* Integers that 64 bits can't hold (a tokenizer's "no limit", 1000000000000000019884624838656)
 * become reals of about that value, in place: the last four digits turn into an exponent. Digits
 * inside strings stay. */
static void soften_integers(char *text, size_t size)
{
    static const char largest[] = "9223372036854775807";
    enum { DIGITS = sizeof largest - 1, EXPONENT = 4 };
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') {
            in_string = !in_string;
        } else if (in_string && text[i] == '\\') {
            i++;
        } else if (!in_string && text[i] >= '0' && text[i] <= '9') {
            size_t from = i;
            while (i < size && strchr("0123456789", text[i]) && text[i]) {
                i++;
            }
            bool real = i < size && strchr(".eE", text[i]) && text[i];
            bool part = from > 0 && (strchr(".eE+", text[from - 1]) ||
                                     (from > 1 && strchr("eE", text[from - 2])));
            bool large = i - from > DIGITS ||
                         (i - from == DIGITS && memcmp(text + from, largest, DIGITS) > 0);
            if (large && !real && !part) {
                memcpy(text + i - EXPONENT, "e+04", EXPONENT);
            }
            i--;
        }
    }
}

enum err_code jval_read_file(const char *path, size_t max_size, struct jval **ret_value,
                             struct err *err)
{
    char *text;
    size_t size;
    enum err_code code = file_read(path, max_size, &text, &size, err);
    if (code != ERR_OK) {
        return code;
    }
    soften_integers(text, size);
    code = jval_parse(text, size, ret_value, err);
    free(text);
    return code == ERR_OK ? ERR_OK : err_prefix(err, "%s", path);
}

void jval_free(struct jval *value)
{
    json_decref(in(value));
}

bool jval_is_object(const struct jval *value)
{
    return json_is_object(in(value));
}

bool jval_is_array(const struct jval *value)
{
    return json_is_array(in(value));
}

bool jval_is_string(const struct jval *value)
{
    return json_is_string(in(value));
}

bool jval_is_null(const struct jval *value)
{
    return json_is_null(in(value));
}

const struct jval *jval_get(const struct jval *object, const char *key)
{
    return out(json_object_get(in(object), key));
}

size_t jval_object_size(const struct jval *object)
{
    return json_object_size(in(object));
}

void *jval_object_next(const struct jval *object, void *iter, const char **ret_key,
                       const struct jval **ret_value)
{
    void *next = iter ? json_object_iter_next(in(object), iter) : json_object_iter(in(object));
    if (next) {
        *ret_key = json_object_iter_key(next);
        *ret_value = out(json_object_iter_value(next));
    }
    return next;
}

size_t jval_array_size(const struct jval *array)
{
    return json_array_size(in(array));
}

const struct jval *jval_at(const struct jval *array, size_t index)
{
    return out(json_array_get(in(array), index));
}

bool jval_string(const struct jval *value, const char **ret_text, size_t *ret_size)
{
    if (!json_is_string(in(value))) {
        return false;
    }
    *ret_text = json_string_value(in(value));
    *ret_size = json_string_length(in(value));
    return true;
}

bool jval_int(const struct jval *value, int64_t *ret)
{
    if (!json_is_integer(in(value))) {
        return false;
    }
    *ret = json_integer_value(in(value));
    return true;
}

bool jval_double(const struct jval *value, double *ret)
{
    if (!json_is_number(in(value))) {
        return false;
    }
    *ret = json_number_value(in(value));
    return true;
}

bool jval_bool(const struct jval *value, bool *ret)
{
    if (!json_is_boolean(in(value))) {
        return false;
    }
    *ret = json_is_true(in(value));
    return true;
}

bool jval_append_string(struct buf *buf, const char *text, size_t size)
{
    buf_append_char(buf, '"');
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        size_t length = utf8_sequence(text + i, size - i);
        if (length && c >= 0x20 && c != '"' && c != '\\') {
            i += length - 1;
            continue;
        }
        buf_append(buf, text + from, i - from);
        from = i + 1;
        if (!length) {
            buf_append_str(buf, "\xef\xbf\xbd");
            continue;
        }
        switch (c) {
        case '"':
            buf_append_str(buf, "\\\"");
            break;
        case '\\':
            buf_append_str(buf, "\\\\");
            break;
        case '\n':
            buf_append_str(buf, "\\n");
            break;
        case '\r':
            buf_append_str(buf, "\\r");
            break;
        case '\t':
            buf_append_str(buf, "\\t");
            break;
        default:
            buf_printf(buf, "\\u%04x", c);
        }
    }
    buf_append(buf, text + from, size - from);
    return buf_append_char(buf, '"');
}
