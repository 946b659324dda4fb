/* The lines of an input file or of standard input, as UTF-8 texts. */
#ifndef ORTHRUS_CLI_LINES_H
#define ORTHRUS_CLI_LINES_H

#include <stddef.h>

#include "base/err.h"
#include "base/file.h"

struct line {
    const char *text; /* without its newline and a carriage return before it */
    size_t size;
};

/* Command lifetime. */
struct lines {
    struct line *at; /* [n] */
    size_t n;
    char *data;          /* owned, when read from a pipe */
    struct file_map map; /* when a regular file */
};

/* path NULL or "-": standard input. A last line without a newline counts; an empty input has no
 * lines. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID (not UTF-8: names file and line), ERR_LIMIT. */
CHECK_RESULT enum err_code lines_read(const char *path, struct lines *ret_lines, struct err *err);
void lines_done(struct lines *lines);

#endif
