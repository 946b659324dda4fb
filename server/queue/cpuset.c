#include "server/queue/cpuset.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"

enum { PATH_ROOM = 4096 };

/* Reads the first line of root/path into line without its newline. */
static bool read_line(const char *root, const char *path, char *line, size_t size)
{
    char full[PATH_ROOM];
    int length = snprintf(full, sizeof full, "%s%s", root, path);
    if (length < 0 || (size_t)length >= sizeof full) {
        return false;
    }
    FILE *file = fopen(full, "re");
    if (!file) {
        return false;
    }
    bool read = fgets(line, (int)size, file) != NULL;
    (void)fclose(file);
    if (read) {
        line[strcspn(line, "\n")] = '\0';
    }
    return read;
}

static bool read_number(const char *text, char **ret_end, double *ret_value)
{
    double value = strtod(text, ret_end);
    if (*ret_end == text || value <= 0) {
        return false;
    }
    *ret_value = value;
    return true;
}

/* cpu.max of version 2: "max 100000" or "250000 100000". */
static double quota_v2(const char *root, const char *folder)
{
    char path[PATH_ROOM];
    char line[128];
    int length = snprintf(path, sizeof path, "%s/cpu.max", folder);
    double quota;
    double period;
    char *end;
    if (length < 0 || (size_t)length >= sizeof path || !read_line(root, path, line, sizeof line) ||
        !read_number(line, &end, &quota) || !read_number(end, &end, &period)) {
        return 0;
    }
    return quota / period;
}

/* cpu.cfs_quota_us (-1: none) and cpu.cfs_period_us of version 1. */
static double quota_v1(const char *root, const char *folder)
{
    char path[PATH_ROOM];
    char line[128];
    double value[2];
    static const char *const names[2] = {"cpu.cfs_quota_us", "cpu.cfs_period_us"};
    for (int i = 0; i < 2; i++) {
        char *end;
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (length < 0 || (size_t)length >= sizeof path ||
            !read_line(root, path, line, sizeof line) || !read_number(line, &end, &value[i])) {
            return 0;
        }
    }
    return value[0] / value[1];
}

/* The least quota from mount/group up to mount: a parent's limit binds its children too. In a
 * container the group may be the host's path, which does not exist here; the mount itself then is
 * the container's group. */
static double least_quota(const char *root, const char *mount, const char *group,
                          double (*quota)(const char *root, const char *folder))
{
    char folder[PATH_ROOM];
    int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof folder) {
        return 0;
    }
    double least = 0;
    size_t mount_size = strlen(mount);
    for (;;) {
        double here = quota(root, folder);
        if (here > 0 && (least <= 0 || here < least)) {
            least = here;
        }
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < mount_size) {
            return least;
        }
        *slash = '\0';
    }
}

/* True if the comma-separated list of controllers names "cpu". */
static bool has_cpu(const char *list, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t end = at;
        while (end < size && list[end] != ',') {
            end++;
        }
        if (end - at == 3 && memcmp(list + at, "cpu", 3) == 0) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "0::/group" for version 2, "4:cpu,cpuacct:/group" for version 1. */
static double cgroup_quota(const char *root)
{
    char path[PATH_ROOM];
    int length = snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
    if (!file) {
        return 0;
    }
    double least = 0;
    char line[PATH_ROOM];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) {
            continue;
        }
        names++;
        size_t names_size = (size_t)(group - names);
        group++;
        double here = 0;
        if (names_size == 0) {
            here = least_quota(root, "/sys/fs/cgroup", group, quota_v2);
        } else if (has_cpu(names, names_size)) {
            here = least_quota(root, "/sys/fs/cgroup/cpu,cpuacct", group, quota_v1);
            here = here > 0 ? here : least_quota(root, "/sys/fs/cgroup/cpu", group, quota_v1);
        }
        if (here > 0 && (least <= 0 || here < least)) {
            least = here;
        }
    }
    (void)fclose(file);
    return least;
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
    ret_set->quota = cgroup_quota(root);
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
