/* The pages that are part of the program: the console, the documentation, the contract, and what
 * they load (script, style, icon). */
#ifndef ORTHRUS_SERVER_HANDLER_PAGES_H
#define ORTHRUS_SERVER_HANDLER_PAGES_H

#include "server/routes/routes.h"

extern const struct handler handler_console;
extern const struct handler handler_docs;
extern const struct handler handler_openapi_yaml;
extern const struct handler handler_openapi_json;
extern const struct handler handler_script;
extern const struct handler handler_style;
extern const struct handler handler_icon;

#endif
