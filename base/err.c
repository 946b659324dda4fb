#include "base/err.h"

#include <stdio.h>
#include <string.h>

/* Texts go into logs and terminals as one line: an input that was quoted in one must not be able
 * to forge a second. */
static void sanitize(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
}

PRINTF_LIKE(3, 0)
static void set_text(struct err *err, enum err_code code, const char *fmt, va_list args)
{
    err->code = code;
    if (vsnprintf(err->text, sizeof err->text, fmt, args) < 0) {
        err->text[0] = '\0';
    }
    sanitize(err->text);
}

enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    if (err && err->code == ERR_OK) {
        va_list args;
        va_start(args, fmt);
        set_text(err, code, fmt, args);
        va_end(args);
    }
    return code;
}

enum err_code err_set_errno(struct err *err, enum err_code code, int errno_value, const char *fmt,
                            ...)
{
    if (err && err->code == ERR_OK) {
        va_list args;
        va_start(args, fmt);
        set_text(err, code, fmt, args);
        va_end(args);

        char reason[128];
        const char *text = strerror_r(errno_value, reason, sizeof reason);
        size_t used = strlen(err->text);
        (void)snprintf(err->text + used, sizeof err->text - used, ": %s", text);
    }
    return code;
}

enum err_code err_prefix(struct err *err, const char *fmt, ...)
{
    if (!err || err->code == ERR_OK) {
        return err ? err->code : ERR_OK;
    }
    char old[ERR_TEXT_MAX];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, fmt);
    set_text(err, err->code, fmt, args);
    va_end(args);
    size_t used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    return err->code;
}

enum err_code err_nomem(struct err *err, size_t size)
{
    return err_set(err, ERR_NOMEM, "out of memory (%zu bytes)", size);
}

const char *err_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_OK] = "ok",
        [ERR_NOMEM] = "no_memory",
        [ERR_IO] = "io",
        [ERR_INVALID] = "invalid",
        [ERR_MISMATCH] = "mismatch",
        [ERR_LIMIT] = "limit",
        [ERR_NOT_FOUND] = "not_found",
        [ERR_CONFLICT] = "conflict",
        [ERR_UNSUPPORTED] = "unsupported",
        [ERR_USAGE] = "usage",
    };
    return (size_t)code < sizeof names / sizeof *names ? names[code] : "unknown";
}
