/* The thread that writes log lines, and the bounded ring in which they wait for it.
 *
 *   ordinary lines   dropped where the ring is full but for its reserve; how many is told by a line
 *                    of its own once there is room again, and by log_writer_dropped
 *   kept lines       use the reserve too, then memory of their own, up to LOG_KEPT_MAX bytes
 *
 * So a reader of stderr that stops reading, or a disk that is full, holds up no thread that logs.
 * Process lifetime: there is one, because there is one stderr. Thread-safe. */
#ifndef ORTHRUS_BASE_LOG_WRITER_H
#define ORTHRUS_BASE_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    LOG_LINE_MAX = 8192, /* bytes of a line, its end not counted */
    LOG_RING_BYTES = 1 << 20,
    LOG_RESERVE_BYTES = 64 * 1024, /* of the ring, for kept lines alone */
    LOG_KEPT_MAX = 64 << 20,       /* behind it: some hundred thousand lines that nobody reads */
};

/* Starts the thread; lines go through it from now on. */
CHECK_RESULT enum err_code log_writer_start(struct err *err);
/* Writes what waits, for at most timeout_ms, and ends the thread. Afterwards lines are written by
 * their own thread again. */
void log_writer_stop(unsigned timeout_ms);

/* Takes one whole line with its newline; log.c calls it. */
void log_writer_put(const char *line, size_t size, bool kept);
/* Lines lost so far: the ring was full, or stderr did not take them. */
uint64_t log_writer_dropped(void);

#endif
