#include "server/routes/handler_pages.h"

#include <string.h>

#include "server/routes/pages.h"

/* If-None-Match names the page: alone, in a list, as a weak validator (RFC 9110, 13.1.2), or by *.
 */
static bool not_modified(const struct exchange *x, const struct page_form *form)
{
    const char *known = x->headers.if_none_match;
    return known && (strcmp(known, "*") == 0 || strstr(known, form->etag));
}

/* Browsers keep a page and ask each time whether it still holds: a new release shows at once. */
static bool send(struct exchange *x, const struct page *page, const char *type)
{
    bool gzip = accept_gzip(&x->headers.accept);
    const struct page_form *form = gzip ? &page->gzip : &page->plain;
    exchange_header(x, "ETag", "%s", form->etag);
    exchange_header(x, "Cache-Control", "no-cache");
    exchange_header(x, "Vary", "Accept-Encoding");
    exchange_header(x, "X-Content-Type-Options", "nosniff");
    if (not_modified(x, form)) {
        exchange_reply(x, 304, NULL);
    } else {
        if (gzip) {
            exchange_header(x, "Content-Encoding", "gzip");
        }
        exchange_reply_fixed(x, 200, type, form->data, form->size);
    }
    return false;
}

/* Pages load their script and style from here, nothing from elsewhere, and talk to this server
 * alone. */
static bool html(struct exchange *x, const struct page *page)
{
    exchange_header(x, "Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                    "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'");
    exchange_header(x, "Referrer-Policy", "no-referrer");
    return send(x, page, "text/html; charset=utf-8");
}

static bool console(struct exchange *x)
{
    return html(x, &page_console);
}

static bool docs(struct exchange *x)
{
    return html(x, &page_docs);
}

static bool script(struct exchange *x)
{
    return send(x, &page_script, "text/javascript; charset=utf-8");
}

static bool style(struct exchange *x)
{
    return send(x, &page_style, "text/css; charset=utf-8");
}

static bool icon(struct exchange *x)
{
    return send(x, &page_icon, "image/svg+xml");
}

static bool openapi_yaml(struct exchange *x)
{
    return send(x, &page_openapi_yaml, "application/yaml");
}

static bool openapi_json(struct exchange *x)
{
    return send(x, &page_openapi_json, "application/json");
}

const struct handler handler_console = {.run = console};
const struct handler handler_docs = {.run = docs};
const struct handler handler_script = {.run = script};
const struct handler handler_style = {.run = style};
const struct handler handler_icon = {.run = icon};
const struct handler handler_openapi_yaml = {.run = openapi_yaml};
const struct handler handler_openapi_json = {.run = openapi_json};
