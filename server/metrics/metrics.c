#include "server/metrics/metrics.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "server/metrics/metrics_parts.h"

static const char *const route_names[ROUTE_COUNT] = {
    [ROUTE_EMBED] = "/embed",
    [ROUTE_CLASSIFY] = "/classify",
    [ROUTE_SENTIMENT] = "/sentiment",
    [ROUTE_PREDICT] = "/predict",
    [ROUTE_ANALYZE] = "/analyze",
    [ROUTE_OPENAI] = "/v1/embeddings",
    [ROUTE_HEADS] = "/heads/{name}",
    [ROUTE_RERANK] = "/rerank",
    [ROUTE_SIMILARITY] = "/similarity",
    [ROUTE_EMBED_ALL] = "/embed_all",
    [ROUTE_DECODE] = "/decode",
    [ROUTE_HEADS_LIST] = "/heads",
    [ROUTE_TOKENIZE] = "/tokenize",
    [ROUTE_MODELS] = "/v1/models",
    [ROUTE_HEALTH] = "/health",
    [ROUTE_LIVEZ] = "/livez",
    [ROUTE_READYZ] = "/readyz",
    [ROUTE_INFO] = "/info",
    [ROUTE_METRICS] = "/metrics",
    [ROUTE_OPENAPI] = "/openapi.yaml",
    [ROUTE_DOCS] = "/docs",
    [ROUTE_CONSOLE] = "/",
    [ROUTE_ASSETS] = "/assets",
    [ROUTE_ADMIN] = "/admin/heads",
    [ROUTE_OTHER] = "other",
};

static const int statuses[METRICS_STATUS_COUNT] = {
    200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412,
    413, 415, 417, 422, 424, 429, 431, 499, 500, 503, 504, 0,
};

static const char *const swap_names[METRICS_SWAP_COUNT] = {
    [METRICS_SWAP_OK] = "ok",
    [METRICS_SWAP_DRY_RUN] = "dry_run",
    [METRICS_SWAP_REFUSED] = "refused",
    [METRICS_SWAP_OTHER_ENCODER] = "other_encoder",
    [METRICS_SWAP_BUSY] = "busy",
    [METRICS_SWAP_MANAGED] = "managed",
    [METRICS_SWAP_PRECONDITION] = "precondition",
    [METRICS_SWAP_UNKNOWN] = "unknown",
    [METRICS_SWAP_FAILED] = "failed",
};

/* Whose series are there from the first scrape. */
static const char *const first_heads[] = {"classifier", "sentiment"};

const char *metrics_route_name(enum metrics_route route)
{
    CHECK((unsigned)route < ROUTE_COUNT);
    return route_names[route];
}

const char *metrics_swap_name(enum metrics_swap result)
{
    CHECK((unsigned)result < METRICS_SWAP_COUNT);
    return swap_names[result];
}

int metrics_status(unsigned column)
{
    CHECK(column < METRICS_STATUS_COUNT);
    return statuses[column];
}

/* Whose answers are predictions: the route's time is a prediction's. */
static bool predicts(enum metrics_route route)
{
    return route < ROUTE_DECODE;
}

static void add(atomic_uint_fast64_t *counter, uint64_t value)
{
    (void)atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static void observe(struct histogram *histogram, uint64_t value)
{
    const struct buckets *buckets = histogram->buckets;
    unsigned at = 0;
    for (unsigned end = buckets->n; at < end;) {
        unsigned middle = at + (end - at) / 2;
        if (value > buckets->bound[middle]) {
            at = middle + 1;
        } else {
            end = middle;
        }
    }
    add(&histogram->count[at], 1);
    add(&histogram->sum, value);
}

/* The head's own series; NULL where the table or memory is full. */
static struct confidence *confidence_of(struct metrics *metrics, const char *head)
{
    struct confidence *found = NULL;
    unsigned i = 0;
    for (; i < METRICS_HEADS_MAX; i++) {
        found = atomic_load_explicit(&metrics->confidence[i], memory_order_acquire);
        if (!found || strcmp(found->head, head) == 0) {
            break;
        }
    }
    if (found || i == METRICS_HEADS_MAX) {
        return found;
    }
    struct confidence *made = calloc(1, sizeof *made);
    if (!made || !(made->head = strdup(head))) {
        free(made);
        return NULL;
    }
    made->histogram.buckets = &metrics_confidence_buckets;
    struct confidence *none = NULL;
    if (atomic_compare_exchange_strong(&metrics->confidence[i], &none, made)) {
        return made;
    }
    /* Somebody else was first in this place: perhaps with the same head. */
    free(made->head);
    free(made);
    return confidence_of(metrics, head);
}

struct metrics *metrics_create(const char *version, const char *revision)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics) {
        return NULL;
    }
    if (pthread_mutex_init(&metrics->series_lock, NULL) != 0) {
        free(metrics);
        return NULL;
    }
    (void)snprintf(metrics->version, sizeof metrics->version, "%s", version);
    (void)snprintf(metrics->revision, sizeof metrics->revision, "%s", revision ? revision : "");
    metrics->duration.buckets = &metrics_duration_buckets;
    metrics->tokenize.buckets = &metrics_stage_buckets;
    metrics->queue.buckets = &metrics_stage_buckets;
    metrics->prepare.buckets = &metrics_stage_buckets;
    metrics->encode.buckets = &metrics_stage_buckets;
    metrics->batch_tokens.buckets = &metrics_token_buckets;
    metrics->batch_texts.buckets = &metrics_text_buckets;
    for (unsigned i = 0; i < sizeof first_heads / sizeof *first_heads; i++) {
        (void)confidence_of(metrics, first_heads[i]);
    }
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    if (!metrics) {
        return;
    }
    for (unsigned i = 0; i < METRICS_HEADS_MAX; i++) {
        struct confidence *confidence = atomic_load(&metrics->confidence[i]);
        if (confidence) {
            free(confidence->head);
            free(confidence);
        }
    }
    for (unsigned i = 0; i < METRICS_SERIES_SLOTS; i++) {
        struct prediction_series *series = atomic_load(&metrics->series[i]);
        if (series) {
            free(series->head);
            free(series->label);
            free(series);
        }
    }
    (void)pthread_mutex_destroy(&metrics->series_lock);
    free(metrics);
}

void metrics_request(struct metrics *metrics, enum metrics_route route, int status,
                     uint64_t duration_ns)
{
    CHECK((unsigned)route < ROUTE_COUNT);
    unsigned column = 0;
    while (column < METRICS_STATUS_COUNT - 1 && statuses[column] != status) {
        column++;
    }
    add(&metrics->requests[route][column], 1);
    /* A refusal is fast and a client that left is not served: neither says how long work takes. */
    if (predicts(route) && status >= 200 && status < 300) {
        observe(&metrics->duration, duration_ns);
    }
}

void metrics_gauge_add(struct metrics *metrics, enum metrics_gauge gauge, int64_t change)
{
    CHECK((unsigned)gauge < METRICS_GAUGE_COUNT);
    add(&metrics->gauge[gauge], (uint64_t)change);
}

void metrics_gauge_set(struct metrics *metrics, enum metrics_gauge gauge, uint64_t value)
{
    CHECK((unsigned)gauge < METRICS_GAUGE_COUNT);
    atomic_store_explicit(&metrics->gauge[gauge], value, memory_order_relaxed);
}

void metrics_gauge_limit(struct metrics *metrics, enum metrics_gauge gauge, uint64_t limit)
{
    CHECK((unsigned)gauge < METRICS_GAUGE_COUNT);
    atomic_store_explicit(&metrics->limit[gauge], limit, memory_order_relaxed);
}

void metrics_prepare(struct metrics *metrics, uint64_t wait_ns)
{
    observe(&metrics->prepare, wait_ns);
}

void metrics_stages(struct metrics *metrics, uint64_t tokenize_ns, uint64_t queue_ns,
                    uint64_t encode_ns)
{
    observe(&metrics->tokenize, tokenize_ns);
    if (encode_ns) {
        observe(&metrics->queue, queue_ns);
        observe(&metrics->encode, encode_ns);
    }
}

void metrics_cache(struct metrics *metrics, enum metrics_cache what, size_t texts)
{
    CHECK((unsigned)what < METRICS_CACHES);
    add(&metrics->cache[what], texts);
}

void metrics_cache_holds(struct metrics *metrics, size_t bytes, uint64_t evictions)
{
    metrics_gauge_set(metrics, METRICS_CACHE_BYTES, bytes);
    atomic_store_explicit(&metrics->cache_evictions, evictions, memory_order_relaxed);
}

void metrics_batch(struct metrics *metrics, size_t tokens, size_t texts)
{
    observe(&metrics->batch_tokens, tokens);
    observe(&metrics->batch_texts, texts);
}

void metrics_truncated(struct metrics *metrics, size_t texts)
{
    add(&metrics->truncated, texts);
}

void metrics_swap(struct metrics *metrics, enum metrics_swap result)
{
    CHECK((unsigned)result < METRICS_SWAP_COUNT);
    add(&metrics->swaps[result], 1);
}

/* FNV-1a over both names. */
static unsigned series_slot(const char *head, const char *label)
{
    uint32_t hash = 2166136261u;
    for (const char *at = head; *at; at++) {
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    }
    for (const char *at = label; *at; at++) {
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    }
    return hash % METRICS_SERIES_SLOTS;
}

/* The series of head and label from slot *at on, or NULL with *at an empty slot. The table is never
 * more than half full, so the walk ends. */
static struct prediction_series *series_find(struct metrics *metrics, const char *head,
                                             const char *label, unsigned *at)
{
    for (;;) {
        struct prediction_series *series = atomic_load_explicit(&metrics->series[*at],
                                                                memory_order_acquire);
        if (!series || (strcmp(series->label, label) == 0 && strcmp(series->head, head) == 0)) {
            return series;
        }
        *at = (*at + 1) % METRICS_SERIES_SLOTS;
    }
}

static struct prediction_series *series_new(const char *head, const char *label)
{
    struct prediction_series *series = calloc(1, sizeof *series);
    if (!series) {
        return NULL;
    }
    series->head = strdup(head);
    series->label = strdup(label);
    if (!series->head || !series->label) {
        free(series->head);
        free(series->label);
        free(series);
        return NULL;
    }
    return series;
}

/* The counter of head and label; the shared "other" when the table or memory is full. */
static atomic_uint_fast64_t *series_counter(struct metrics *metrics, const char *head,
                                            const char *label)
{
    unsigned at = series_slot(head, label);
    struct prediction_series *series = series_find(metrics, head, label, &at);
    if (!series) {
        (void)pthread_mutex_lock(&metrics->series_lock);
        series = series_find(metrics, head, label, &at);
        if (!series && metrics->n_series < METRICS_SERIES_MAX) {
            series = series_new(head, label);
            if (series) {
                metrics->n_series++;
                atomic_store_explicit(&metrics->series[at], series, memory_order_release);
            }
        }
        (void)pthread_mutex_unlock(&metrics->series_lock);
    }
    return series ? &series->count : &metrics->series_other;
}

void metrics_declare(struct metrics *metrics, const char *head, const char *label)
{
    (void)series_counter(metrics, head, label);
}

void metrics_prediction(struct metrics *metrics, const char *head, const char *label,
                        double confidence)
{
    add(series_counter(metrics, head, label), 1);
    struct confidence *own = confidence_of(metrics, head);
    if (own) {
        double bounded = confidence < 0 ? 0 : confidence > 1 ? 1 : confidence;
        observe(&own->histogram, (uint64_t)(bounded * 1e6));
    }
}

void metrics_shadow(struct metrics *metrics, const char *head, bool agrees)
{
    struct confidence *own = confidence_of(metrics, head);
    if (own) {
        add(&own->shadow[agrees], 1);
    }
}

void metrics_abstained(struct metrics *metrics, const char *head)
{
    struct confidence *own = confidence_of(metrics, head);
    if (own) {
        add(&own->abstained, 1);
    }
}
