#include "server/routes/routes.h"

#include <stdio.h>
#include <string.h>

#include "server/routes/handler_admin.h"
#include "server/routes/handler_heads.h"
#include "server/routes/handler_info.h"
#include "server/routes/handler_models.h"
#include "server/routes/handler_ops.h"
#include "server/routes/handler_pages.h"
#include "server/routes/handler_predict.h"

enum {
    BOTH = LISTENER_MAIN | LISTENER_ADMIN,
    PREDICT = ROUTE_BODY | ROUTE_JSON | ROUTE_API_KEY,
    OPENAI = PREDICT | ROUTE_OPENAI_SHAPE,
    ADMIN = ROUTE_ADMIN_TOKEN,
    PROBE = ROUTE_PROBE | ROUTE_NO_STORE,
};

static const struct route routes[] = {
    {"/embed", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_EMBED, &handler_predict, API_EMBED},
    {"/", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_EMBED, &handler_root, API_EMBED},
    {"/classify", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_CLASSIFY, &handler_predict,
     API_CLASSIFY},
    {"/sentiment", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_SENTIMENT, &handler_predict,
     API_SENTIMENT},
    {"/heads/", HTTP_POST, LISTENER_MAIN, PREDICT | ROUTE_PREFIX, ROUTE_HEADS, &handler_predict,
     API_HEAD},
    {"/heads", HTTP_GET, LISTENER_MAIN, ROUTE_NO_STORE, ROUTE_HEADS_LIST, &handler_heads, 0},
    {"/rerank", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_RERANK, &handler_predict, API_RERANK},
    {"/similarity", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_SIMILARITY, &handler_predict,
     API_SIMILARITY},
    {"/embed_all", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_EMBED_ALL, &handler_predict,
     API_EMBED_ALL},
    {"/decode", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_DECODE, &handler_predict, API_DECODE},
    {"/predict", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_PREDICT, &handler_predict, API_PREDICT},
    {"/analyze", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_ANALYZE, &handler_predict, API_ANALYZE},
    {"/tokenize", HTTP_POST, LISTENER_MAIN, PREDICT, ROUTE_TOKENIZE, &handler_predict,
     API_TOKENIZE},
    {"/v1/embeddings", HTTP_POST, LISTENER_MAIN, OPENAI, ROUTE_OPENAI, &handler_predict,
     API_OPENAI},
    {"/embeddings", HTTP_POST, LISTENER_MAIN, OPENAI, ROUTE_OPENAI, &handler_predict, API_OPENAI},
    {"/v1/models", HTTP_GET, LISTENER_MAIN, ROUTE_OPENAI_SHAPE, ROUTE_MODELS, &handler_models, 0},
    {"/v1/models/", HTTP_GET, LISTENER_MAIN, ROUTE_OPENAI_SHAPE | ROUTE_PREFIX, ROUTE_MODELS,
     &handler_model, 0},
    {"/health", HTTP_GET, LISTENER_MAIN, PROBE, ROUTE_HEALTH, &handler_health, 0},
    {"/livez", HTTP_GET, BOTH, PROBE, ROUTE_LIVEZ, &handler_livez, 0},
    {"/readyz", HTTP_GET, BOTH, PROBE, ROUTE_READYZ, &handler_readyz, 0},
    {"/metrics", HTTP_GET, BOTH, PROBE, ROUTE_METRICS, &handler_metrics, 0},
    {"/info", HTTP_GET, BOTH, ROUTE_NO_STORE, ROUTE_INFO, &handler_info, 0},
    {"/", HTTP_GET, LISTENER_MAIN, 0, ROUTE_CONSOLE, &handler_console, 0},
    {"/docs", HTTP_GET, LISTENER_MAIN, 0, ROUTE_DOCS, &handler_docs, 0},
    {"/openapi.yaml", HTTP_GET, LISTENER_MAIN, 0, ROUTE_OPENAPI, &handler_openapi_yaml, 0},
    {"/openapi.json", HTTP_GET, LISTENER_MAIN, 0, ROUTE_OPENAPI, &handler_openapi_json, 0},
    {"/assets/orthrus.js", HTTP_GET, LISTENER_MAIN, 0, ROUTE_ASSETS, &handler_script, 0},
    {"/assets/orthrus.css", HTTP_GET, LISTENER_MAIN, 0, ROUTE_ASSETS, &handler_style, 0},
    {"/favicon.ico", HTTP_GET, LISTENER_MAIN, 0, ROUTE_ASSETS, &handler_icon, 0},
    {"/admin/heads", HTTP_GET, LISTENER_ADMIN, ADMIN, ROUTE_ADMIN, &handler_heads_list, 0},
    {"/admin/heads", HTTP_PUT, LISTENER_ADMIN, ADMIN | ROUTE_BODY, ROUTE_ADMIN, &handler_heads_put,
     0},
    {"/admin/shadow", HTTP_GET, LISTENER_ADMIN, ADMIN, ROUTE_ADMIN, &handler_shadow_report, 0},
    {"/admin/shadow", HTTP_DELETE, LISTENER_ADMIN, ADMIN, ROUTE_ADMIN, &handler_shadow_drop, 0},
    {"/admin/shadow/promote", HTTP_POST, LISTENER_ADMIN, ADMIN | ROUTE_BODY, ROUTE_ADMIN,
     &handler_shadow_promote, 0},
    {"/admin/heads/rollback", HTTP_POST, LISTENER_ADMIN, ADMIN | ROUTE_BODY, ROUTE_ADMIN,
     &handler_heads_rollback, 0},
    {"/admin/heads/", HTTP_DELETE, LISTENER_ADMIN, ADMIN | ROUTE_PREFIX, ROUTE_ADMIN,
     &handler_heads_delete, 0},
    {"/admin/heads/", HTTP_GET, LISTENER_ADMIN, ADMIN | ROUTE_PREFIX, ROUTE_ADMIN,
     &handler_heads_file, 0},
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static bool path_matches(const struct route *route, const char *path)
{
    if (!(route->flags & ROUTE_PREFIX)) {
        return strcmp(route->path, path) == 0;
    }
    size_t size = strlen(route->path);
    return strncmp(route->path, path, size) == 0 && path[size] != '\0';
}

/* A whole path beats a prefix: /admin/heads/rollback is no version. */
static bool shadowed(const struct route *route, enum listener listener, const char *path)
{
    for (size_t i = 0; i < N_ROUTES && route->flags & ROUTE_PREFIX; i++) {
        if (routes[i].listeners & listener && !(routes[i].flags & ROUTE_PREFIX) &&
            strcmp(routes[i].path, path) == 0) {
            return true;
        }
    }
    return false;
}

const struct route *routes_find(enum listener listener, const char *path, enum http_method method,
                                const struct route **ret_any)
{
    *ret_any = NULL;
    enum http_method wanted = method == HTTP_HEAD ? HTTP_GET : method;
    for (size_t i = 0; i < N_ROUTES; i++) {
        const struct route *route = &routes[i];
        if (!(route->listeners & listener) || !path_matches(route, path) ||
            shadowed(route, listener, path)) {
            continue;
        }
        *ret_any = route;
        if (route->method == wanted) {
            return route;
        }
    }
    return NULL;
}

const char *routes_rest(const struct route *route, const char *path)
{
    return path + strlen(route->path);
}

void routes_allow(enum listener listener, const char *path, bool options, char *out, size_t size)
{
    static const struct {
        enum http_method method;
        const char *text;
    } methods[] = {
        {HTTP_GET, "GET, HEAD"}, {HTTP_POST, "POST"}, {HTTP_PUT, "PUT"}, {HTTP_DELETE, "DELETE"}};
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const struct route *any;
        if (routes_find(listener, path, methods[i].method, &any)) {
            int wrote = snprintf(out + used, size - used, "%s%s", used ? ", " : "",
                                 methods[i].text);
            used += wrote > 0 ? (size_t)wrote : 0;
        }
    }
    if (options && used < size) {
        (void)snprintf(out + used, size - used, ", OPTIONS");
    }
}
