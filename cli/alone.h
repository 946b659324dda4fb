/* One text at a time, as a server with idle threads computes it: all of them on one text. */
#ifndef ORTHRUS_CLI_ALONE_H
#define ORTHRUS_CLI_ALONE_H

#include "base/reader.h"
#include "cli/offline.h"

/* Tokenizes and encodes each of the n texts by itself, `width` threads sharing the work of each;
 * ret_ms [n] is the time of each in milliseconds. Errors: ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code alone_measure(const struct offline *offline,
                                         const struct line *const *texts, size_t n, unsigned width,
                                         double *ret_ms, struct err *err);

#endif
