#include "server/queue/cpuset.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "server/queue/cgroup.h"

/* cpu.max of version 2: "max 100000" or "250000 100000". */
static double quota_v2(const char *root, const char *folder)
{
    char line[CGROUP_LINE_MAX];
    double quota;
    double period;
    char *end;
    if (!cgroup_line(root, folder, "cpu.max", line) || !cgroup_number(line, &end, &quota) ||
        !cgroup_number(end, &end, &period)) {
        return 0;
    }
    return quota / period;
}

/* cpu.cfs_quota_us (-1: none) and cpu.cfs_period_us of version 1. */
static double quota_v1(const char *root, const char *folder)
{
    char line[CGROUP_LINE_MAX];
    double value[2];
    static const char *const names[2] = {"cpu.cfs_quota_us", "cpu.cfs_period_us"};
    for (int i = 0; i < 2; i++) {
        char *end;
        if (!cgroup_line(root, folder, names[i], line) || !cgroup_number(line, &end, &value[i])) {
            return 0;
        }
    }
    return value[0] / value[1];
}

void cpuset_read(const char *root, struct cpuset *ret_set)
{
    *ret_set = (struct cpuset){0};
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE && ret_set->n < CPUSET_MAX; cpu++) {
            if (CPU_ISSET(cpu, &allowed)) {
                ret_set->cpu[ret_set->n++] = cpu;
            }
        }
    }
    if (ret_set->n == 0) { /* more CPUs than a cpu_set_t holds: take them as 0, 1, 2, … */
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        ret_set->n = online < 1 ? 1 : online > CPUSET_MAX ? CPUSET_MAX : (unsigned)online;
        for (unsigned i = 0; i < ret_set->n; i++) {
            ret_set->cpu[i] = i;
        }
    }
    long machine = sysconf(_SC_NPROCESSORS_ONLN);
    ret_set->machine = machine > (long)ret_set->n ? (unsigned)machine : ret_set->n;
    static const struct cgroup_limit quota = {
        .controller = "cpu", .mounts = {"cpu,cpuacct", "cpu"}, .v1 = quota_v1, .v2 = quota_v2};
    ret_set->quota = cgroup_least(root, &quota);
}

unsigned cpuset_threads(const struct cpuset *set)
{
    unsigned threads = set->n;
    if (set->quota > 0 && set->quota < threads) {
        threads = (unsigned)set->quota;
    }
    return threads ? threads : 1;
}

bool cpuset_exclusive(const struct cpuset *set, unsigned threads)
{
    return threads == set->n && set->n < set->machine;
}

bool cpuset_pin(const struct cpuset *set, unsigned index)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(set->cpu[index % set->n], &one);
    return pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0;
}
