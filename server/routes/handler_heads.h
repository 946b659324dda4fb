/* GET /heads: which heads are in service and what they give. */
#ifndef ORTHRUS_SERVER_HANDLER_HEADS_H
#define ORTHRUS_SERVER_HANDLER_HEADS_H

#include "server/routes/routes.h"

extern const struct handler handler_heads;

/* Appends ["label",…]. */
void append_labels(struct buf *out, const struct head *head);

#endif
