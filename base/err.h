/* Errors: a code for the program, a sentence for the human.
 *
 * Every function that can fail for a reason outside the program returns an err_code, takes a
 * caller-owned `struct err *` last and leaves its outputs untouched on failure. The first error
 * wins: a later err_set on the same struct changes nothing, so clean-up code can't hide the cause.
 * A failing function that is given err == NULL returns the code alone.
 *
 * Source of the scheme: jansson's json_error_t, systemd's CODING_STYLE. */
#ifndef ORTHRUS_BASE_ERR_H
#define ORTHRUS_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#include "base/banned.h"

enum err_code {
    ERR_OK = 0,
    ERR_NOMEM,       /* an allocation failed */
    ERR_IO,          /* the operating system refused: open, read, bind, … */
    ERR_INVALID,     /* malformed input: not JSON, not UTF-8, not safetensors */
    ERR_MISMATCH,    /* well-formed, but does not fit: another shape, another encoder */
    ERR_LIMIT,       /* larger than a stated limit */
    ERR_NOT_FOUND,   /* no such file, tensor, label, version */
    ERR_CONFLICT,    /* somebody else was first */
    ERR_UNSUPPORTED, /* valid, but not something this build or machine can do */
    ERR_USAGE,       /* wrong flag or argument */
};

enum { ERR_TEXT_MAX = 512 };

/* Lifetime: the caller's stack, as a rule. Start with ERR_INIT or zeroed. */
struct err {
    enum err_code code;
    char text[ERR_TEXT_MAX]; /* one line without a newline, "" while code is ERR_OK */
};

#define ERR_INIT ((struct err){.code = ERR_OK})

#if defined(__GNUC__)
#define CHECK_RESULT           __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CHECK_RESULT
#define PRINTF_LIKE(fmt, args)
#endif

/* Records code and text if err holds no error yet; returns code, so that `return err_set(…)` reads
 * as one step. err may be NULL. Control characters in the text become '?'. */
enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same, with ": " and the text of errno_value behind the sentence. */
enum err_code err_set_errno(struct err *err, enum err_code code, int errno_value, const char *fmt,
                            ...) PRINTF_LIKE(4, 5);

/* Puts a context and ": " before the text of an error that is set ("heads.safetensors: …").
 * Returns its code. */
enum err_code err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Records ERR_NOMEM for size bytes. */
enum err_code err_nomem(struct err *err, size_t size);

/* A short lower-case name of the code, constant. */
const char *err_name(enum err_code code);

#endif
