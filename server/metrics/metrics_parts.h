/* What metrics.c counts and metrics_text.c prints. Private to the two. */
#ifndef ORTHRUS_SERVER_METRICS_PARTS_H
#define ORTHRUS_SERVER_METRICS_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "server/metrics/metrics.h"

enum { METRICS_BUCKETS_MAX = 72, METRICS_STATUS_COUNT = 24 };

/* Upper bounds of a histogram's buckets, in the unit of what is observed; constant. */
struct buckets {
    double scale; /* observed × scale is what is printed: 1e-9 makes seconds of nanoseconds */
    unsigned n;
    uint64_t bound[METRICS_BUCKETS_MAX]; /* [n] ascending */
};
extern const struct buckets metrics_duration_buckets;   /* ns; of whole requests */
extern const struct buckets metrics_stage_buckets;      /* ns; of their stages */
extern const struct buckets metrics_token_buckets;      /* tokens */
extern const struct buckets metrics_text_buckets;       /* texts */
extern const struct buckets metrics_confidence_buckets; /* parts per million */

struct histogram {
    const struct buckets *buckets;
    atomic_uint_fast64_t count[METRICS_BUCKETS_MAX + 1]; /* the last: above every bound */
    atomic_uint_fast64_t sum;
};

/* One orthrus_predictions_total{head,label}. */
struct prediction_series {
    char *head;  /* owned */
    char *label; /* owned */
    atomic_uint_fast64_t count;
};

/* Labels come from heads files, so their number is bounded. */
enum { METRICS_SERIES_MAX = 4096, METRICS_SERIES_SLOTS = 8192 };

/* One orthrus_prediction_confidence{head}; made under the lock, then constant but for its counts.
 */
struct confidence {
    char *head; /* owned */
    struct histogram histogram;
    atomic_uint_fast64_t shadow[2]; /* texts that a staged head saw: disagreeing, agreeing */
    atomic_uint_fast64_t abstained;
};
enum { METRICS_HEADS_MAX = 256 };

struct metrics {
    char version[64], revision[64];
    atomic_uint_fast64_t gauge[METRICS_GAUGE_COUNT], limit[METRICS_GAUGE_COUNT];
    atomic_uint_fast64_t requests[ROUTE_COUNT][METRICS_STATUS_COUNT];
    struct histogram duration, tokenize, queue, prepare, encode;
    struct histogram batch_tokens, batch_texts;
    atomic_uint_fast64_t truncated;
    atomic_uint_fast64_t cache[METRICS_CACHES], cache_evictions;
    atomic_uint_fast64_t swaps[METRICS_SWAP_COUNT];
    _Atomic(struct confidence *) confidence[METRICS_HEADS_MAX]; /* in the order of their making */
    /* Open addressing: a slot is written once, under the lock, and then never changes. */
    _Atomic(struct prediction_series *) series[METRICS_SERIES_SLOTS];
    atomic_uint_fast64_t series_other;
    unsigned n_series;
    pthread_mutex_t series_lock;
};

/* The HTTP status of a column of metrics->requests; 0 for the one that takes all others. */
int metrics_status(unsigned column);

#endif
