/* What a result depends on, as a JSON object of strings: kept beside an unfinished result, and
 * compared before a later run goes on from it. */
#ifndef ORTHRUS_BASE_FACTS_H
#define ORTHRUS_BASE_FACTS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/jval.h"

/* Start with an empty buf, add, then end; buf_failed tells of missing memory once. */
void facts_begin(struct buf *out);
void facts_add(struct buf *out, const char *key, const char *value);
void facts_add_number(struct buf *out, const char *key, double value); /* all its digits */
bool facts_end(struct buf *out);

/* Compares what a file was made with to what is asked for now. Errors: ERR_MISMATCH "--resume: path
 * was made with KEY then, not now", for the first that differs; ERR_NOMEM. */
CHECK_RESULT enum err_code facts_check(const struct jval *then, const char *now, const char *path,
                                       struct err *err);

#endif
