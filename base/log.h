/* Structured log lines on stderr: a message and typed fields, as text for people or as one JSON
 * object a line for machines. Used by server/ and cli/; libraries return errors and never log.
 *
 * Lines of several threads never mix. Until log_start each is written by its thread; afterwards a
 * thread of its own writes them (log_writer.h), so that a reader of stderr that has stopped reading
 * stops nobody. No line needs memory to be allocated. Thread-safe after log_setup. */
#ifndef ORTHRUS_BASE_LOG_H
#define ORTHRUS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

/* One field. Build them with the macros below; text is borrowed until the call returns. */
struct log_field {
    const char *key; /* NULL ends the list */
    enum { LOG_STRING, LOG_UINT, LOG_DOUBLE, LOG_BOOL } type;
    union {
        const char *text; /* NULL prints as null / - */
        uint64_t uint;
        double number;
        bool truth;
    };
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .type = LOG_STRING, .text = (v)})
#define LOG_U(k, v) ((struct log_field){.key = (k), .type = LOG_UINT, .uint = (v)})
#define LOG_D(k, v) ((struct log_field){.key = (k), .type = LOG_DOUBLE, .number = (v)})
#define LOG_B(k, v) ((struct log_field){.key = (k), .type = LOG_BOOL, .truth = (v)})

/* Call once, before threads start. Until then: LOG_INFO, LOG_TEXT, stderr. */
void log_setup(enum log_level least, enum log_format format);
bool log_enabled(enum log_level level);
/* ERR_USAGE with the allowed words. */
CHECK_RESULT enum err_code log_level_parse(const char *word, enum log_level *ret, struct err *err);
CHECK_RESULT enum err_code log_format_parse(const char *word, enum log_format *ret,
                                            struct err *err);

/* Writes a line if level is enabled. fields end with a field whose key is NULL. Long lines are cut
 * at 8 KiB, still valid in their format. */
void log_fields(enum log_level level, const char *message, const struct log_field *fields);

/* The same for a line that must not be lost: who changed what serves, and when the daemon began and
 * ended. Where others are dropped it waits in memory. */
void log_fields_kept(enum log_level level, const char *message, const struct log_field *fields);

#define LOG(level, message, ...) \
    log_fields(                  \
        (level), (message),      \
        (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, )(struct log_field){.key = NULL}})

#define LOG_KEPT(level, message, ...) \
    log_fields_kept(                  \
        (level), (message),           \
        (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, )(struct log_field){.key = NULL}})

#endif
