#include "server/http/accesslog.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rate.h"
#include "server/exchange/proxies.h"
#include "server/queue/job.h"
#include "server/routes/routes.h"

enum {
    PATH_LOGGED_MAX = 128,
    FORWARDED_LOGGED_MAX = 256,
    TRACE_SIZE = 55, /* of a traceparent's fields in version 00 */
    TRACE_ID_SIZE = 32,
    SPAN_ID_SIZE = 16,
    FIELDS_MAX = 32,
    REFUSALS_BURST = 50, /* refusals under overload that are logged at once … */
    REFUSALS_PER_S = 10, /* … and then so many a second; metrics count them all */
};

static struct rate refusals = RATE_INIT(REFUSALS_BURST, REFUSALS_PER_S);

/* What stands in fields for as long as a line is written. */
struct texts {
    char path[PATH_LOGGED_MAX];
    char method[16];
    char forwarded_for[FORWARDED_LOGGED_MAX];
    char trace[TRACE_SIZE + 1];
    char trace_id[TRACE_ID_SIZE + 1];
    char span_id[SPAN_ID_SIZE + 1];
};

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

/* W3C Trace Context: "00-<32 hex>-<16 hex>-<2 hex>", the ids not all zero. A later version may have
 * more behind that, after a '-'; ff is none. */
static bool traceparent_ok(const char *text)
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (!text || strlen(text) < TRACE_SIZE || strncmp(text, "ff", 2) == 0 ||
        (text[TRACE_SIZE] && (text[TRACE_SIZE] != '-' || strncmp(text, "00", 2) == 0))) {
        return false;
    }
    for (size_t i = 0; i < TRACE_SIZE; i++) {
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

/* Refusals come as fast as clients can send, and so do connections that never bring a whole header
 * section: a sample of them says enough. Admin calls are no sample: each is somebody's act. */
static bool worth_a_line(const struct exchange *x, int status, uint64_t *ret_unlogged)
{
    bool refusal = status == 429 || status == 503;
    bool unheard = !x->method_name[0];
    *ret_unlogged = 0;
    return (!refusal && !unheard) || x->listener == LISTENER_ADMIN ||
           rate_take(&refusals, ret_unlogged);
}

/* The lines of X-Forwarded-For as one list, where the peer is trusted. */
static bool take_forwarded(const struct exchange *x, char *out, size_t size)
{
    const struct request_headers *headers = &x->headers;
    if (headers->n_forwarded == 0 || !proxies_trust(x->server->proxies, x->remote)) {
        return false;
    }
    size_t used = 0;
    for (size_t i = 0; i < headers->n_forwarded && used < size; i++) {
        int wrote = snprintf(out + used, size - used, "%s%s", i ? ", " : "",
                             headers->forwarded_for[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    for (char *at = out; *at; at++) {
        *at = *at < ' ' || *at > '~' ? '?' : *at;
    }
    return true;
}

static size_t add_work(const struct job *job, struct log_field *fields)
{
    fields[0] = LOG_U("texts", job->request.n);
    fields[1] = LOG_U("tokens", job->total_tokens);
    fields[2] = LOG_D("tokenize_ms", ms(job->tokenize_ns));
    fields[3] = LOG_D("queue_ms", ms(job->queue_ns));
    fields[4] = LOG_D("encode_ms", ms(job->encode_ns));
    return 5;
}

static size_t add_trace(const struct exchange *x, struct texts *texts, struct log_field *fields)
{
    const char *trace = x->headers.traceparent;
    if (!traceparent_ok(trace)) {
        return 0;
    }
    (void)snprintf(texts->trace, sizeof texts->trace, "%s", trace);
    (void)snprintf(texts->trace_id, sizeof texts->trace_id, "%s", trace + 3);
    (void)snprintf(texts->span_id, sizeof texts->span_id, "%s", trace + 3 + TRACE_ID_SIZE + 1);
    fields[0] = LOG_S("traceparent", texts->trace);
    fields[1] = LOG_S("trace_id", texts->trace_id);
    fields[2] = LOG_S("span_id", texts->span_id);
    return 3;
}

void accesslog_write(const struct exchange *x, int status, bool complete)
{
    bool probe = x->route && x->route->flags & ROUTE_PROBE;
    bool admin = x->route && x->route->flags & ROUTE_ADMIN_TOKEN && x->key_id[0];
    enum log_level level = probe ? LOG_DEBUG : LOG_INFO;
    uint64_t unlogged;
    if (!log_enabled(level) || !worth_a_line(x, status, &unlogged)) {
        return;
    }
    struct texts texts;
    struct log_field fields[FIELDS_MAX];
    size_t n = 0;
    sanitize(x->path, texts.path, sizeof texts.path);
    sanitize(x->method_name, texts.method, sizeof texts.method);
    fields[n++] = LOG_S("method", texts.method);
    fields[n++] = LOG_S("path", texts.path);
    fields[n++] = LOG_S("route", x->path_route ? metrics_route_name(x->label) : NULL);
    fields[n++] = LOG_U("status", (uint64_t)status);
    fields[n++] = LOG_D("duration_ms", ms(clock_now_ns() - x->arrived_ns));
    fields[n++] = LOG_U("bytes_in", x->received);
    fields[n++] = LOG_U("bytes_out", x->queued ? x->reply_size : 0);
    fields[n++] = LOG_S("remote", x->remote);
    if (take_forwarded(x, texts.forwarded_for, sizeof texts.forwarded_for)) {
        fields[n++] = LOG_S("forwarded_for", texts.forwarded_for);
    }
    fields[n++] = LOG_S("request_id", x->request_id);
    if (x->problem != PROBLEM_NONE) {
        fields[n++] = LOG_S("code", problem_row(x->problem)->code);
    }
    if (unlogged) {
        fields[n++] = LOG_U("refusals_not_logged_before", unlogged);
    }
    if (x->queued && !complete) {
        fields[n++] = LOG_B("aborted", true);
    }
    if (x->key_id[0]) {
        fields[n++] = LOG_S("key", x->key_id);
    }
    n += x->job ? add_work(x->job, &fields[n]) : 0;
    n += add_trace(x, &texts, &fields[n]);
    fields[n] = (struct log_field){.key = NULL};
    (admin ? log_fields_kept : log_fields)(level, "request", fields);
}
