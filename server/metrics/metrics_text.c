/* The scrape: Prometheus' text exposition format 0.0.4. */
#include <inttypes.h>

#include "base/log_writer.h"
#include "server/metrics/metrics.h"
#include "server/metrics/metrics_parts.h"
#include "server/metrics/process_stats.h"

static uint64_t load(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    (void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void append_value(struct buf *out, const char *value)
{
    (void)buf_append_char(out, '"');
    for (const char *at = value; *at; at++) {
        if (*at == '\n') {
            (void)buf_append_str(out, "\\n");
            continue;
        }
        if (*at == '"' || *at == '\\') {
            (void)buf_append_char(out, '\\');
        }
        (void)buf_append_char(out, *at);
    }
    (void)buf_append_char(out, '"');
}

/* label is "" or `head="classifier"`. Buckets are cumulative in the text; the count is their sum,
 * so that the two agree although observations go on meanwhile. */
static void append_histogram(struct buf *out, const char *name, const char *label,
                             const struct histogram *histogram)
{
    const struct buckets *buckets = histogram->buckets;
    const char *comma = *label ? "," : "";
    uint64_t below = 0;
    for (unsigned i = 0; i < buckets->n; i++) {
        below += load(&histogram->count[i]);
        (void)buf_printf(out, "%s_bucket{%s%sle=\"%.10g\"} %" PRIu64 "\n", name, label, comma,
                         (double)buckets->bound[i] * buckets->scale, below);
    }
    below += load(&histogram->count[buckets->n]);
    (void)buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, label, comma, below);
    const char *open = *label ? "{" : "";
    const char *close = *label ? "}" : "";
    (void)buf_printf(out, "%s_sum%s%s%s %.10g\n", name, open, label, close,
                     (double)load(&histogram->sum) * buckets->scale);
    (void)buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, label, close, below);
}

static void append_histogram_family(struct buf *out, const char *name, const char *help,
                                    const struct histogram *histogram)
{
    family(out, name, "histogram", help);
    append_histogram(out, name, "", histogram);
}

static void append_number(struct buf *out, const char *name, const char *type, const char *help,
                          double value)
{
    family(out, name, type, help);
    (void)buf_printf(out, "%s %.15g\n", name, value);
}

static void append_requests(const struct metrics *metrics, struct buf *out)
{
    const char *name = "orthrus_requests_total";
    family(out, name, "counter", "Requests answered, by route and HTTP status.");
    for (unsigned route = 0; route < ROUTE_COUNT; route++) {
        for (unsigned column = 0; column < METRICS_STATUS_COUNT; column++) {
            uint64_t count = load(&metrics->requests[route][column]);
            int status = metrics_status(column);
            if (count == 0 && status != 200) {
                continue;
            }
            (void)buf_printf(out, "%s{route=\"%s\",code=\"", name,
                             metrics_route_name((enum metrics_route)route));
            if (status) {
                (void)buf_printf(out, "%d\"} %" PRIu64 "\n", status, count);
            } else {
                (void)buf_printf(out, "other\"} %" PRIu64 "\n", count);
            }
        }
    }
}

static void append_predictions(const struct metrics *metrics, struct buf *out)
{
    const char *name = "orthrus_predictions_total";
    family(out, name, "counter", "Texts predicted, by head and best label.");
    for (unsigned i = 0; i < METRICS_SERIES_SLOTS; i++) {
        const struct prediction_series *series = atomic_load_explicit(&metrics->series[i],
                                                                      memory_order_acquire);
        if (!series) {
            continue;
        }
        (void)buf_printf(out, "%s{head=", name);
        append_value(out, series->head);
        (void)buf_append_str(out, ",label=");
        append_value(out, series->label);
        (void)buf_printf(out, "} %" PRIu64 "\n", load(&series->count));
    }
    uint64_t other = load(&metrics->series_other);
    if (other) {
        (void)buf_printf(out, "%s{head=\"other\",label=\"other\"} %" PRIu64 "\n", name, other);
    }
    name = "orthrus_prediction_confidence";
    family(out, name, "histogram", "Probability of the best label.");
    for (unsigned i = 0; i < METRICS_HEADS_MAX; i++) {
        const struct confidence *confidence = atomic_load_explicit(&metrics->confidence[i],
                                                                   memory_order_acquire);
        if (confidence) {
            char label[128]; /* a head's name is short and needs no escapes */
            (void)snprintf(label, sizeof label, "head=\"%s\"", confidence->head);
            append_histogram(out, name, label, &confidence->histogram);
        }
    }
}

static void append_shadow(const struct metrics *metrics, struct buf *out)
{
    static const char *const agrees[] = {"false", "true"};
    const char *name = "orthrus_shadow_texts_total";
    family(out, name, "counter", "Texts that staged heads saw, by agreement with the active head.");
    for (unsigned i = 0; i < METRICS_HEADS_MAX; i++) {
        const struct confidence *own = atomic_load_explicit(&metrics->confidence[i],
                                                            memory_order_acquire);
        for (unsigned k = 0; own && k < 2; k++) {
            (void)buf_printf(out, "%s{head=\"%s\",agrees=\"%s\"} %" PRIu64 "\n", name, own->head,
                             agrees[k], load(&own->shadow[k]));
        }
    }
    name = "orthrus_abstained_total";
    family(out, name, "counter", "Texts that a head gave no label, below its thresholds.");
    for (unsigned i = 0; i < METRICS_HEADS_MAX; i++) {
        const struct confidence *own = atomic_load_explicit(&metrics->confidence[i],
                                                            memory_order_acquire);
        if (own) {
            (void)buf_printf(out, "%s{head=\"%s\"} %" PRIu64 "\n", name, own->head,
                             load(&own->abstained));
        }
    }
}

static void append_label(struct buf *out, const char *before, const char *name, const char *value)
{
    (void)buf_printf(out, "%s%s=", before, name);
    append_value(out, value ? value : "");
}

static void append_infos(const struct metrics *metrics, const struct metrics_now *now,
                         struct buf *out)
{
    const char *name = "orthrus_build_info";
    family(out, name, "gauge", "The program's version and the revision of its source.");
    append_label(out, "orthrus_build_info{", "version", metrics->version);
    append_label(out, ",", "revision", metrics->revision);
    (void)buf_append_str(out, "} 1\n");
    name = "orthrus_model_info";
    family(out, name, "gauge", "The encoder in service; 0 while it is being loaded.");
    append_label(out, "orthrus_model_info{", "encoder", now->encoder);
    append_label(out, ",", "precision", now->precision);
    append_label(out, ",", "isa", now->isa);
    (void)buf_printf(out, "} %d\n", now->encoder != NULL);
}

static void append_heads(const struct metrics *metrics, const struct metrics_now *now,
                         struct buf *out)
{
    const char *name = "orthrus_heads_info";
    family(out, name, "gauge", "The heads in service; version 0 while there are none.");
    (void)buf_printf(out, "%s{version=\"%" PRIu64 "\",sha256=\"%s\"} 1\n", name, now->heads_version,
                     now->heads_sha256 ? now->heads_sha256 : "");
    name = "orthrus_heads_swaps_total";
    family(out, name, "counter", "Attempts to change the heads, by result.");
    for (unsigned i = 0; i < METRICS_SWAP_COUNT; i++) {
        (void)buf_printf(out, "%s{result=\"%s\"} %" PRIu64 "\n", name,
                         metrics_swap_name((enum metrics_swap)i), load(&metrics->swaps[i]));
    }
}

static void append_process(struct buf *out)
{
    struct process_stats stats = process_stats_read();
    append_number(out, "process_cpu_seconds_total", "counter",
                  "Total user and system CPU time spent in seconds.", stats.cpu_seconds);
    append_number(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                  (double)stats.resident_bytes);
    append_number(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
                  (double)stats.virtual_bytes);
    append_number(out, "process_open_fds", "gauge", "Number of open file descriptors.",
                  (double)stats.open_fds);
    append_number(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
                  (double)stats.max_fds);
    append_number(out, "process_threads", "gauge", "Number of threads.", (double)stats.threads);
    append_number(out, "process_start_time_seconds", "gauge",
                  "Start time of the process since the Unix epoch in seconds.",
                  stats.start_seconds);
}

static void append_gauges(const struct metrics *metrics, struct buf *out)
{
    static const struct {
        const char *name, *help, *limit_help;
    } gauges[METRICS_GAUGE_COUNT] = {
        [METRICS_QUEUE_TOKENS] = {"orthrus_queue_tokens", "Tokens admitted and not yet in a batch.",
                                  "Tokens that may wait; over it requests are refused."},
        [METRICS_QUEUE_REQUESTS] = {"orthrus_queue_requests",
                                    "Requests admitted and not yet wholly in batches.",
                                    "Requests that may wait; over it they are refused."},
        [METRICS_CONNECTIONS] = {"orthrus_connections", "Open connections of the main listener.",
                                 "Connections of the main listener that are served."},
        [METRICS_ADMIN_CONNECTIONS] = {"orthrus_admin_connections",
                                       "Open connections of the admin listener.",
                                       "Connections of the admin listener that are served."},
        [METRICS_CLIENT_BYTES] = {"orthrus_client_bytes",
                                  "Memory held for clients: bodies, ids, vectors, answers.",
                                  "Memory that may be held for clients; over it requests are "
                                  "refused."},
        [METRICS_CACHE_BYTES] = {"orthrus_cache_bytes",
                                 "Memory of the cache in use: vectors, keys, tables.",
                                 "Memory that the cache may use (--cache-mib); 0: off."},
    };
    for (unsigned i = 0; i < METRICS_GAUGE_COUNT; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s_limit", gauges[i].name);
        append_number(out, gauges[i].name, "gauge", gauges[i].help,
                      (double)load(&metrics->gauge[i]));
        append_number(out, name, "gauge", gauges[i].limit_help, (double)load(&metrics->limit[i]));
    }
}

static void append_cache(const struct metrics *metrics, struct buf *out)
{
    static const struct {
        const char *name, *help;
    } counters[METRICS_CACHES] = {
        [METRICS_CACHE_HIT] = {"orthrus_cache_hits_total", "Texts whose vector the cache held."},
        [METRICS_CACHE_MISS] = {"orthrus_cache_misses_total",
                                "Texts that were computed although there is a cache."},
        [METRICS_CACHE_JOINED] = {"orthrus_cache_joined_total",
                                  "Texts that waited for an equal one that was being computed."},
    };
    for (unsigned i = 0; i < METRICS_CACHES; i++) {
        append_number(out, counters[i].name, "counter", counters[i].help,
                      (double)load(&metrics->cache[i]));
    }
    append_number(out, "orthrus_cache_evictions_total", "counter",
                  "Texts that left the cache to make room.",
                  (double)load(&metrics->cache_evictions));
}

void metrics_write(const struct metrics *metrics, const struct metrics_now *now, struct buf *out)
{
    append_requests(metrics, out);
    append_histogram_family(
        out, "orthrus_request_duration_seconds",
        "Time from a prediction request's arrival to its answer, where it was a success.",
        &metrics->duration);
    append_histogram_family(out, "orthrus_tokenize_seconds",
                            "Time to parse and tokenize a request.", &metrics->tokenize);
    append_histogram_family(out, "orthrus_prepare_wait_seconds",
                            "Time that a large body waited for a thread that tokenizes it.",
                            &metrics->prepare);
    append_histogram_family(out, "orthrus_queue_seconds",
                            "Time from admission to the first batch of a request.",
                            &metrics->queue);
    append_histogram_family(out, "orthrus_encode_seconds",
                            "Time from a request's first batch to the end of its last.",
                            &metrics->encode);
    append_histogram_family(out, "orthrus_batch_tokens", "Tokens of a batch.",
                            &metrics->batch_tokens);
    append_histogram_family(out, "orthrus_batch_texts", "Texts of a batch.", &metrics->batch_texts);
    append_gauges(metrics, out);
    append_number(out, "orthrus_texts_truncated_total", "counter",
                  "Texts cut to the model's length limit.", (double)load(&metrics->truncated));
    append_cache(metrics, out);
    append_number(out, "orthrus_log_lines_dropped_total", "counter",
                  "Log lines lost because stderr was not read fast enough.",
                  (double)log_writer_dropped());
    append_predictions(metrics, out);
    append_shadow(metrics, out);
    append_heads(metrics, now, out);
    append_infos(metrics, now, out);
    append_process(out);
}
