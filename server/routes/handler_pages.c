#include "server/routes/handler_pages.h"

#include "server/routes/pages.h"

/* Pages bring all they need along and talk to this server alone. */
static bool html(struct exchange *x, const unsigned char *data, size_t size)
{
    exchange_header(x, "Content-Security-Policy",
                    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'");
    exchange_header(x, "X-Content-Type-Options", "nosniff");
    exchange_header(x, "Cache-Control", "no-cache");
    exchange_reply_fixed(x, 200, "text/html; charset=utf-8", data, size);
    return false;
}

static bool console(struct exchange *x)
{
    return html(x, page_console, page_console_size);
}

static bool docs(struct exchange *x)
{
    return html(x, page_docs, page_docs_size);
}

static bool openapi(struct exchange *x)
{
    exchange_header(x, "Cache-Control", "no-cache");
    exchange_reply_fixed(x, 200, "application/yaml", page_openapi, page_openapi_size);
    return false;
}

const struct handler handler_console = {.run = console};
const struct handler handler_docs = {.run = docs};
const struct handler handler_openapi = {.run = openapi};
