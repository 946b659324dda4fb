/* Progress on stderr: a bar on a terminal, in one line whatever its width, at most ten times a
 * second; elsewhere a line every thirty seconds. */
#ifndef ORTHRUS_CLI_PROGRESS_H
#define ORTHRUS_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Caller's stack; one thread. */
struct progress {
    const char *what; /* "embedding", borrowed */
    const char *unit; /* "sentences" */
    uint64_t total;   /* 0: unknown */
    uint64_t start_ns, drawn_ns;
    bool terminal;
};

void progress_start(struct progress *progress, const char *what, const char *unit, uint64_t total);
void progress_update(struct progress *progress, uint64_t done);
/* Draws the last state and ends the line. */
void progress_end(struct progress *progress, uint64_t done);
/* Clears the bar's line, so that another line can be printed; the next update draws it again. */
void progress_clear(struct progress *progress);

#endif
