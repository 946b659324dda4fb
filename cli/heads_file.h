/* Heads files as calibrate and merge-heads make them: read, changed, written again. */
#ifndef ORTHRUS_CLI_HEADS_FILE_H
#define ORTHRUS_CLI_HEADS_FILE_H

#include "base/err.h"
#include "model/heads/heads.h"

/* Writes the set's file to path with other temperatures: temperatures [heads->n], in the order of
 * its list. Everything else stays. Errors: ERR_IO, ERR_NOMEM. */
CHECK_RESULT enum err_code heads_file_write(const struct heads *heads, const double *temperatures,
                                            const char *path, struct err *err);

#endif
