/* The daemon's metrics, in Prometheus' text format (exposition format 0.0.4). Counters and
 * histograms are atomics, so that hot paths never take a lock; the scrape reads them. All families
 * are there from the first scrape. Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_METRICS_H
#define ORTHRUS_SERVER_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct metrics;

/* Routes as label values; "other" for what no route matched. Those that predict stand first, before
 * ROUTE_DECODE: their answers alone are in orthrus_request_duration_seconds. */
enum metrics_route {
    ROUTE_EMBED,
    ROUTE_CLASSIFY,
    ROUTE_SENTIMENT,
    ROUTE_PREDICT,
    ROUTE_ANALYZE,
    ROUTE_OPENAI,
    ROUTE_HEADS,
    ROUTE_RERANK,
    ROUTE_SIMILARITY,
    ROUTE_EMBED_ALL,
    ROUTE_DECODE,
    ROUTE_TOKENIZE,
    ROUTE_MODELS,
    ROUTE_HEADS_LIST,
    ROUTE_HEALTH,
    ROUTE_LIVEZ,
    ROUTE_READYZ,
    ROUTE_INFO,
    ROUTE_METRICS,
    ROUTE_OPENAPI,
    ROUTE_DOCS,
    ROUTE_CONSOLE,
    ROUTE_ASSETS,
    ROUTE_ADMIN,
    ROUTE_OTHER,
    ROUTE_COUNT,
};
/* "/embed", "/v1/embeddings", …, "other". */
const char *metrics_route_name(enum metrics_route route);

/* What goes up and down; each that has a limit is printed with <name>_limit beside it. */
enum metrics_gauge {
    METRICS_QUEUE_TOKENS,
    METRICS_QUEUE_REQUESTS,
    METRICS_CONNECTIONS,       /* of the main listener */
    METRICS_ADMIN_CONNECTIONS, /* of the admin listener */
    METRICS_CLIENT_BYTES,      /* of --max-client-bytes */
    METRICS_CACHE_BYTES,       /* of --cache-mib */
    METRICS_GAUGE_COUNT,
};

/* version and revision of the program; revision may be NULL. */
struct metrics *metrics_create(const char *version, const char *revision);
void metrics_destroy(struct metrics *metrics);

/* An answered request. Its time counts where it was a prediction and the answer a success. */
void metrics_request(struct metrics *metrics, enum metrics_route route, int status,
                     uint64_t duration_ns);
void metrics_gauge_add(struct metrics *metrics, enum metrics_gauge gauge, int64_t change);
void metrics_gauge_set(struct metrics *metrics, enum metrics_gauge gauge, uint64_t value);
/* 0: none. */
void metrics_gauge_limit(struct metrics *metrics, enum metrics_gauge gauge, uint64_t limit);
/* Stages of a request that was answered; encode_ns 0: nothing was computed for it. */
void metrics_stages(struct metrics *metrics, uint64_t tokenize_ns, uint64_t queue_ns,
                    uint64_t encode_ns);
/* Texts by what the cache did for them: found there, computed, waited for with another request. */
enum metrics_cache { METRICS_CACHE_HIT, METRICS_CACHE_MISS, METRICS_CACHE_JOINED, METRICS_CACHES };
void metrics_cache(struct metrics *metrics, enum metrics_cache what, size_t texts);
/* What the cache holds, and how many texts have left it. */
void metrics_cache_holds(struct metrics *metrics, size_t bytes, uint64_t evictions);
/* How long a large body waited for a preparing thread. */
void metrics_prepare(struct metrics *metrics, uint64_t wait_ns);
void metrics_batch(struct metrics *metrics, size_t tokens, size_t texts);
void metrics_truncated(struct metrics *metrics, size_t texts);
/* One prediction of a head: the best label's index and its probability. Labels are of `heads`; an
 * unseen label becomes a new series (bounded; the rest counts as "other"). */
void metrics_prediction(struct metrics *metrics, const char *head, const char *label,
                        double confidence);
/* A text that a staged head saw beside the active one; a text that a head gave no label. */
void metrics_shadow(struct metrics *metrics, const char *head, bool agrees);
void metrics_abstained(struct metrics *metrics, const char *head);
enum { METRICS_LABELS_MAX = 64 }; /* of one head; callers count the rest as "other" */
/* Makes a label's series appear with 0 before its first prediction. */
void metrics_declare(struct metrics *metrics, const char *head, const char *label);

/* How an attempt to change the heads ended. */
enum metrics_swap {
    METRICS_SWAP_OK,
    METRICS_SWAP_DRY_RUN,
    METRICS_SWAP_REFUSED,       /* the file is not valid or does not fit */
    METRICS_SWAP_OTHER_ENCODER, /* made for another encoder or pooling */
    METRICS_SWAP_BUSY,
    METRICS_SWAP_MANAGED,
    METRICS_SWAP_PRECONDITION,
    METRICS_SWAP_UNKNOWN, /* no such version */
    METRICS_SWAP_FAILED,  /* could not be persisted */
    METRICS_SWAP_COUNT,
};
/* "ok", "refused", …; constant. */
const char *metrics_swap_name(enum metrics_swap result);
void metrics_swap(struct metrics *metrics, enum metrics_swap result);

/* What serves at the moment of a scrape. Strings may be NULL while nothing does; borrowed. */
struct metrics_now {
    const char *encoder, *precision, *isa;
    uint64_t heads_version; /* 0: none */
    const char *heads_sha256;
};

/* The whole scrape. */
void metrics_write(const struct metrics *metrics, const struct metrics_now *now, struct buf *out);

#endif
