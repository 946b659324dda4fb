/* Lines of a file or of standard input, one at a time: memory for one line alone, nothing mapped,
 * so that a file may shrink or grow under the reader.
 *
 * Standard input is read from descriptor 0, from where it stands: a shell's `read` before, a socket
 * and sudo all work. A last line without a newline counts; a carriage return before a newline is
 * no part of the line, nor is a byte order mark (U+FEFF) before the first; one with nothing behind
 * it is no line. */
#ifndef ORTHRUS_BASE_READER_H
#define ORTHRUS_BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

enum { READER_LINE_MAX = 64 * 1024 * 1024 };

struct line {
    const char *text; /* valid UTF-8, no newline; borrowed until the next line is read */
    size_t size;
};

/* Caller's stack; zeroed or opened. One thread. */
struct reader {
    const char *label; /* the path as given, or "standard input"; borrowed */
    int fd;
    bool opened;
    bool regular;    /* a file: read by position */
    uint64_t offset; /* of the next byte to read, in regular files */
    uint64_t line;   /* number of the last line given, from 1 */
    bool end;        /* the last byte was read */
    char *data;      /* owned */
    size_t from, size, room;
    struct sha256 *sha; /* owned; NULL: no digest is wanted */
};

enum reader_state {
    READER_LINE,
    READER_NOTHING_YET, /* only where the caller doesn't wait */
    READER_END
};

/* path NULL or "-": standard input. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID (a folder). */
CHECK_RESULT enum err_code reader_open(const char *path, struct reader *ret_reader,
                                       struct err *err);
/* Zeroed structs are fine. Leaves standard input behind the last line read. */
void reader_close(struct reader *reader);

/* From here on a digest of all bytes is kept; call before the first line. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code reader_digest(struct reader *reader, struct err *err);
/* The digest of everything up to READER_END; once. */
void reader_digest_text(struct reader *reader, char out[SHA256_HEX_SIZE + 1]);

/* The next line. Without wait, a pipe that has nothing for some milliseconds gives
 * READER_NOTHING_YET. Errors, "label:line: …": ERR_INVALID (not UTF-8), ERR_LIMIT (longer than
 * READER_LINE_MAX), ERR_IO, ERR_NOMEM. */
CHECK_RESULT enum err_code reader_next(struct reader *reader, bool wait,
                                       enum reader_state *ret_state, struct line *ret_line,
                                       struct err *err);

/* Bytes of a regular file, 0 for anything else. */
uint64_t reader_file_size(const struct reader *reader);

#endif
