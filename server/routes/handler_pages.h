/* Pages that are part of the program: the console, the documentation, openapi.yaml. */
#ifndef ORTHRUS_SERVER_HANDLER_PAGES_H
#define ORTHRUS_SERVER_HANDLER_PAGES_H

#include "server/routes/routes.h"

extern const struct handler handler_console;
extern const struct handler handler_docs;
extern const struct handler handler_openapi;

#endif
