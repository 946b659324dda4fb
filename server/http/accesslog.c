#include "server/http/accesslog.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/queue/job.h"
#include "server/routes/routes.h"

enum { PATH_LOGGED_MAX = 128, FIELDS_MAX = 24 };

/* What a client sent goes into the log as printable ASCII, and not much of it. */
static void sanitize(const char *text, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", text);
    for (char *at = out; *at; at++) {
        if (*at <= ' ' || *at > '~') {
            *at = '?';
        }
    }
}

/* W3C Trace Context, version 00: "00-<32 hex>-<16 hex>-<2 hex>", the ids not all zero. */
static bool traceparent_ok(const char *text)
{
    static const char form[] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (!text || strlen(text) != sizeof form - 1) {
        return false;
    }
    for (size_t i = 0; form[i]; i++) {
        bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (form[i] == 'x' ? !hex : text[i] != form[i]) {
            return false;
        }
    }
    return strspn(text + 3, "0") < 32 && strspn(text + 36, "0") < 16;
}

static double ms(uint64_t ns)
{
    uint64_t us = ns / NS_PER_US;
    return (double)us / 1e3;
}

void accesslog_write(const struct exchange *x, int status, bool complete)
{
    bool probe = x->route && x->route->flags & ROUTE_PROBE;
    enum log_level level = probe ? LOG_DEBUG : LOG_INFO;
    if (!log_enabled(level)) {
        return;
    }
    char path[PATH_LOGGED_MAX];
    char method[16];
    struct log_field fields[FIELDS_MAX];
    size_t n = 0;
    sanitize(x->path, path, sizeof path);
    sanitize(x->method_name, method, sizeof method);
    fields[n++] = LOG_S("method", method);
    fields[n++] = LOG_S("path", path);
    fields[n++] = LOG_S("route", x->path_route ? metrics_route_name(exchange_label(x)) : NULL);
    fields[n++] = LOG_U("status", (uint64_t)status);
    fields[n++] = LOG_D("duration_ms", ms(clock_now_ns() - x->arrived_ns));
    fields[n++] = LOG_U("bytes_in", x->received);
    fields[n++] = LOG_U("bytes_out", x->queued ? x->reply_size : 0);
    fields[n++] = LOG_S("remote", x->remote);
    fields[n++] = LOG_S("request_id", x->request_id);
    if (x->problem != PROBLEM_NONE) {
        fields[n++] = LOG_S("code", problem_row(x->problem)->code);
    }
    if (x->queued && !complete) {
        fields[n++] = LOG_B("aborted", true);
    }
    if (x->key_id[0]) {
        fields[n++] = LOG_S("key", x->key_id);
    }
    if (x->job) {
        fields[n++] = LOG_U("texts", x->job->request.n);
        fields[n++] = LOG_U("tokens", x->job->total_tokens);
        fields[n++] = LOG_D("tokenize_ms", ms(x->job->tokenize_ns));
        fields[n++] = LOG_D("queue_ms", ms(x->job->queue_ns));
        fields[n++] = LOG_D("encode_ms", ms(x->job->encode_ns));
    }
    if (traceparent_ok(x->headers.traceparent)) {
        fields[n++] = LOG_S("traceparent", x->headers.traceparent);
    }
    fields[n] = (struct log_field){.key = NULL};
    log_fields(level, "request", fields);
}
