/* Files that the build puts into the program (cmake/embed.cmake). Constant. */
#ifndef ORTHRUS_SERVER_PAGES_H
#define ORTHRUS_SERVER_PAGES_H

#include <stddef.h>

struct page_form {
    const unsigned char *data;
    size_t size;
    const char *etag; /* quotes included; changes when the bytes do */
};

struct page {
    struct page_form plain, gzip;
};

extern const struct page page_console, page_docs; /* server/routes/pages/NAME.html */
extern const struct page page_script;             /* its .js files, one behind the other */
extern const struct page page_style, page_icon;
extern const struct page page_openapi_yaml, page_openapi_json;

#endif
