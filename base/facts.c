#include "base/facts.h"

#include <stdio.h>
#include <string.h>

void facts_begin(struct buf *out)
{
    buf_clear(out);
    buf_append_char(out, '{');
}

void facts_add(struct buf *out, const char *key, const char *value)
{
    buf_append_str(out, out->size <= 1 ? "" : ", ");
    jval_append_string(out, key, strlen(key));
    buf_append_str(out, ": ");
    jval_append_string(out, value, strlen(value));
}

void facts_add_number(struct buf *out, const char *key, double value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.17g", value);
    facts_add(out, key, text);
}

bool facts_end(struct buf *out)
{
    return buf_append_char(out, '}');
}

enum err_code facts_check(const struct jval *then, const char *now, const char *path,
                          struct err *err)
{
    struct jval *wanted = NULL;
    enum err_code code = jval_parse(now, strlen(now), &wanted, err);
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while (code == ERR_OK && (iter = jval_object_next(wanted, iter, &key, &value)) != NULL) {
        const char *a = "";
        const char *b = "(nothing)";
        size_t size;
        (void)jval_string(value, &a, &size);
        (void)jval_string(jval_get(then, key), &b, &size);
        if (strcmp(a, b) != 0) {
            code = err_set(err, ERR_MISMATCH, "--resume: %s was made with %s %s, not %s", path, key,
                           b, a);
        }
    }
    jval_free(wanted);
    return code;
}
