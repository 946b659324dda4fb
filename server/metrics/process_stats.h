/* What the kernel knows about this process, for the process_* metrics. */
#ifndef ORTHRUS_SERVER_PROCESS_STATS_H
#define ORTHRUS_SERVER_PROCESS_STATS_H

#include <stdint.h>

/* Whatever can't be read is 0. */
struct process_stats {
    double cpu_seconds; /* user and system */
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t open_fds;
    uint64_t max_fds;
    uint64_t threads;
    double start_seconds; /* since 1970 */
};

struct process_stats process_stats_read(void);

#endif
