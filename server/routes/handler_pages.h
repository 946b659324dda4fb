/* The pages that are part of the program: the console, the documentation, the contract. */
#ifndef ORTHRUS_SERVER_HANDLER_PAGES_H
#define ORTHRUS_SERVER_HANDLER_PAGES_H

#include "server/routes/routes.h"

extern const struct handler handler_console;
extern const struct handler handler_docs;
extern const struct handler handler_openapi_yaml;
extern const struct handler handler_openapi_json;

#endif
