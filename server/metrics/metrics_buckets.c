/* The buckets of every histogram of the scrape. */
#include "base/clock.h"
#include "server/metrics/metrics_parts.h"

/* From 1 ms to 10 s each bound is at most 1.25 times the one before it, so that a quantile read
 * from the buckets is at most that far from the true one. */
const struct buckets metrics_duration_buckets = {
    .scale = 1e-9,
    .n = 67,
    .bound =
        {
            100 * NS_PER_US,      200 * NS_PER_US,      300 * NS_PER_US,       400 * NS_PER_US,
            500 * NS_PER_US,      650 * NS_PER_US,      800 * NS_PER_US,       1000 * NS_PER_US,
            1200 * NS_PER_US,     1450 * NS_PER_US,     1750 * NS_PER_US,      2100 * NS_PER_US,
            2500 * NS_PER_US,     3000 * NS_PER_US,     3600 * NS_PER_US,      4300 * NS_PER_US,
            5200 * NS_PER_US,     6200 * NS_PER_US,     7500 * NS_PER_US,      9000 * NS_PER_US,
            10000 * NS_PER_US,    12000 * NS_PER_US,    14500 * NS_PER_US,     17500 * NS_PER_US,
            21000 * NS_PER_US,    25000 * NS_PER_US,    30000 * NS_PER_US,     36000 * NS_PER_US,
            43000 * NS_PER_US,    52000 * NS_PER_US,    62000 * NS_PER_US,     75000 * NS_PER_US,
            90000 * NS_PER_US,    100000 * NS_PER_US,   120000 * NS_PER_US,    145000 * NS_PER_US,
            175000 * NS_PER_US,   210000 * NS_PER_US,   250000 * NS_PER_US,    300000 * NS_PER_US,
            360000 * NS_PER_US,   430000 * NS_PER_US,   520000 * NS_PER_US,    620000 * NS_PER_US,
            750000 * NS_PER_US,   900000 * NS_PER_US,   1000000 * NS_PER_US,   1200000 * NS_PER_US,
            1450000 * NS_PER_US,  1750000 * NS_PER_US,  2100000 * NS_PER_US,   2500000 * NS_PER_US,
            3000000 * NS_PER_US,  3600000 * NS_PER_US,  4300000 * NS_PER_US,   5200000 * NS_PER_US,
            6200000 * NS_PER_US,  7500000 * NS_PER_US,  9000000 * NS_PER_US,   10000000 * NS_PER_US,
            12000000 * NS_PER_US, 15000000 * NS_PER_US, 20000000 * NS_PER_US,  30000000 * NS_PER_US,
            45000000 * NS_PER_US, 60000000 * NS_PER_US, 120000000 * NS_PER_US,
        },
};
const struct buckets metrics_stage_buckets = {
    .scale = 1e-9,
    .n = 21,
    .bound = {10 * NS_PER_US,  25 * NS_PER_US,   50 * NS_PER_US,   100 * NS_PER_US, 250 * NS_PER_US,
              500 * NS_PER_US, 1 * NS_PER_MS,    2500 * NS_PER_US, 5 * NS_PER_MS,   10 * NS_PER_MS,
              25 * NS_PER_MS,  50 * NS_PER_MS,   100 * NS_PER_MS,  250 * NS_PER_MS, 500 * NS_PER_MS,
              1 * NS_PER_S,    2500 * NS_PER_MS, 5 * NS_PER_S,     10 * NS_PER_S,   30 * NS_PER_S,
              60 * NS_PER_S},
};
const struct buckets metrics_token_buckets = {
    .scale = 1,
    .n = 13,
    .bound = {4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384},
};
const struct buckets metrics_text_buckets = {
    .scale = 1,
    .n = 12,
    .bound = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048},
};
const struct buckets metrics_confidence_buckets = {
    .scale = 1e-6,
    .n = 12,
    .bound = {100000, 200000, 300000, 400000, 500000, 600000, 700000, 800000, 900000, 950000,
              990000, 1000000},
};
