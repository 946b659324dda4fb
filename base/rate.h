/* A token bucket: how often something may be done, and how often it was held back. For log lines
 * that a client can cause at will. Process lifetime; thread-safe. */
#ifndef ORTHRUS_BASE_RATE_H
#define ORTHRUS_BASE_RATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct rate {
    double burst, per_s;  /* at most so many at once, so many a second in the long run */
    pthread_mutex_t lock; /* of what follows */
    double level;
    uint64_t at_ns; /* 0: not yet used */
    uint64_t held_back;
};

#define RATE_INIT(at_once, a_second)                                               \
    {                                                                              \
        .burst = (at_once), .per_s = (a_second), .lock = PTHREAD_MUTEX_INITIALIZER \
    }

/* True when it may be done now; *ret_held_back is how often it was not since the last time. */
bool rate_take(struct rate *rate, uint64_t *ret_held_back);

#endif
