/* Files that the build puts into the program (cmake/embed.cmake). Constant. */
#ifndef ORTHRUS_SERVER_PAGES_H
#define ORTHRUS_SERVER_PAGES_H

#include <stddef.h>

extern const unsigned char page_console[]; /* server/routes/pages/console.html */
extern const size_t page_console_size;
extern const unsigned char page_docs[]; /* server/routes/pages/docs.html */
extern const size_t page_docs_size;
extern const unsigned char page_openapi[]; /* openapi.yaml */
extern const size_t page_openapi_size;

#endif
