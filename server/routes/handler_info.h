/* GET /info: TEI's fields and ours. */
#ifndef ORTHRUS_SERVER_HANDLER_INFO_H
#define ORTHRUS_SERVER_HANDLER_INFO_H

#include "server/routes/routes.h"

extern const struct handler handler_info;

#endif
