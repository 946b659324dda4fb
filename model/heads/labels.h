/* A head's labels: from the metadata of a heads file, checked, and back into it. For heads.c. */
#ifndef ORTHRUS_MODEL_LABELS_H
#define ORTHRUS_MODEL_LABELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "model/heads/heads.h"

/* True without control characters: labels become JSON keys and metric labels. */
bool label_is_plain(const char *label, size_t size);
/* json is the metadata's value: an array of head->classes distinct strings of 1 to HEADS_LABEL_MAX
 * bytes. NULL gives the names known for a head of that name, number of classes and kind; where none
 * are known it is an error that says what to add. *ret_labels lives in arena. Errors: ERR_INVALID,
 * naming file and key; ERR_NOMEM. */
CHECK_RESULT enum err_code labels_read(const char *json, const struct head *head, const char *file,
                                       struct arena *arena, char ***ret_labels, struct err *err);
CHECK_RESULT enum err_code labels_copy(const char *const *labels, size_t classes,
                                       struct arena *arena, char ***ret_labels, struct err *err);
/* The JSON array that labels_read takes. False when the buffer is full. */
bool labels_append(char *const *labels, size_t classes, struct buf *out);

#endif
