/* Which CPUs this process may use: affinity, and the CPU quota of its cgroup (version 1 and 2). */
#ifndef ORTHRUS_SERVER_CPUSET_H
#define ORTHRUS_SERVER_CPUSET_H

#include <stdbool.h>

enum { CPUSET_MAX = 1024 };

/* Start-up only: made once, then constant. */
struct cpuset {
    unsigned n;               /* CPUs allowed by affinity, ≥ 1 */
    unsigned cpu[CPUSET_MAX]; /* [n] their numbers, ascending */
    unsigned machine;         /* CPUs of the machine, ≥ 1 */
    double quota;             /* CPUs' worth of time the cgroups allow; 0: no limit */
};

/* Reads affinity and cgroup files. root stands before /proc and /sys: "" on a real machine, a
 * folder in tests. What can't be read counts as no limit. */
void cpuset_read(const char *root, struct cpuset *ret_set);

/* Compute threads for the set: the CPUs allowed, at most the quota rounded down, at least 1. */
unsigned cpuset_threads(const struct cpuset *set);

/* True if that many threads fill the set and the set is not the whole machine: somebody has given
 * these CPUs to this process, so pinning keeps the threads apart. On a whole machine others run
 * too, and the kernel must be able to move a thread away from them. */
bool cpuset_exclusive(const struct cpuset *set, unsigned threads);

/* Binds the calling thread to one CPU of the set; false when the kernel refuses. */
bool cpuset_pin(const struct cpuset *set, unsigned index);

#endif
