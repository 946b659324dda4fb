#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jval.h"
#include "base/log_writer.h"

enum { LOG_MESSAGE_MAX = 1024, LOG_VALUE_MAX = 2048 };

/* Process lifetime; written by log_setup before threads start, read only afterwards. */
static struct {
    enum log_level least;
    enum log_format format;
} settings = {.least = LOG_INFO, .format = LOG_TEXT};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level least, enum log_format format)
{
    settings.least = least;
    settings.format = format;
}

bool log_enabled(enum log_level level)
{
    return level >= settings.least;
}

enum err_code log_level_parse(const char *word, enum log_level *ret, struct err *err)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(word, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_USAGE, "debug, info, warn or error is allowed");
}

enum err_code log_format_parse(const char *word, enum log_format *ret, struct err *err)
{
    bool json = strcmp(word, "json") == 0;
    if (!json && strcmp(word, "text") != 0) {
        return err_set(err, ERR_USAGE, "text or json is allowed");
    }
    *ret = json ? LOG_JSON : LOG_TEXT;
    return ERR_OK;
}

/* Text values that hold spaces, quotes or controls are quoted, so that a line splits at spaces. */
static bool plain(const char *text)
{
    if (!*text) {
        return false;
    }
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '=') {
            return false;
        }
    }
    return true;
}

static void append_value(struct buf *line, const struct log_field *field)
{
    switch (field->type) {
    case LOG_STRING:
        if (!field->text) {
            buf_append_str(line, settings.format == LOG_JSON ? "null" : "-");
        } else if (settings.format == LOG_TEXT && plain(field->text)) {
            buf_append(line, field->text, strnlen(field->text, LOG_VALUE_MAX));
        } else {
            jval_append_string(line, field->text, strnlen(field->text, LOG_VALUE_MAX));
        }
        break;
    case LOG_UINT:
        buf_printf(line, "%" PRIu64, field->uint);
        break;
    case LOG_DOUBLE:
        if (isfinite(field->number)) {
            buf_printf(line, "%.6g", field->number);
        } else {
            buf_append_str(line, "null");
        }
        break;
    case LOG_BOOL:
        buf_append_str(line, field->truth ? "true" : "false");
        break;
    }
}

/* Appends a field whole or not at all, so that a cut line stays valid. */
static void append_field(struct buf *line, const struct log_field *field)
{
    size_t before = line->size;
    if (settings.format == LOG_JSON) {
        buf_append_char(line, ',');
        jval_append_string(line, field->key, strlen(field->key));
        buf_append_char(line, ':');
    } else {
        buf_printf(line, " %s=", field->key);
    }
    append_value(line, field);
    if (buf_failed(line)) {
        line->failed = false;
        line->size = before;
        line->data[before] = '\0';
    }
}

static void write_line(enum log_level level, const char *message, const struct log_field *fields,
                       bool kept)
{
    if (!log_enabled(level)) {
        return;
    }
    char storage[LOG_LINE_MAX + 3];
    char when[32];
    clock_format_wall(clock_wall_ns(), when, sizeof when);
    struct buf line;
    buf_over(&line, storage, sizeof storage);
    line.ceiling -= 2; /* room for the end of a cut line */
    if (settings.format == LOG_JSON) {
        buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when,
                   level_names[level]);
        jval_append_string(&line, message, strnlen(message, LOG_MESSAGE_MAX));
    } else {
        buf_printf(&line, "%s %-5s %.*s", when, level_names[level], LOG_MESSAGE_MAX, message);
    }
    for (const struct log_field *field = fields; field->key; field++) {
        append_field(&line, field);
    }
    line.ceiling += 2;
    buf_append_str(&line, settings.format == LOG_JSON ? "}\n" : "\n");
    log_writer_put(line.data, line.size, kept);
}

void log_fields(enum log_level level, const char *message, const struct log_field *fields)
{
    write_line(level, message, fields, false);
}

void log_fields_kept(enum log_level level, const char *message, const struct log_field *fields)
{
    write_line(level, message, fields, true);
}
