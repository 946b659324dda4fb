#include "server/queue/cgroup.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 4096 };

bool cgroup_line(const char *root, const char *folder, const char *file, char line[CGROUP_LINE_MAX])
{
    char path[PATH_ROOM];
    int length = snprintf(path, sizeof path, "%s%s/%s", root, folder, file);
    if (length < 0 || (size_t)length >= sizeof path) {
        return false;
    }
    FILE *stream = fopen(path, "re");
    if (!stream) {
        return false;
    }
    bool read = fgets(line, CGROUP_LINE_MAX, stream) != NULL;
    (void)fclose(stream);
    if (read) {
        line[strcspn(line, "\n")] = '\0';
    }
    return read;
}

bool cgroup_number(const char *text, char **ret_end, double *ret_value)
{
    double value = strtod(text, ret_end);
    if (*ret_end == text || !(value > 0)) {
        return false;
    }
    *ret_value = value;
    return true;
}

static double lesser(double a, double b)
{
    return a > 0 && (b <= 0 || a < b) ? a : b;
}

/* From mount/group up to mount. In a container the group may be the host's path, which does not
 * exist here; the mount itself then is the container's group. */
static double least_below(const char *root, const char *mount, const char *group,
                          double (*read)(const char *root, const char *folder))
{
    char folder[PATH_ROOM];
    int length = snprintf(folder, sizeof folder, "/sys/fs/cgroup%s%s%s", *mount ? "/" : "", mount,
                          group);
    if (length < 0 || (size_t)length >= sizeof folder) {
        return 0;
    }
    size_t mount_size = (size_t)length - strlen(group);
    double least = 0;
    for (;;) {
        least = lesser(read(root, folder), least);
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < mount_size) {
            return least;
        }
        *slash = '\0';
    }
}

/* True if the comma-separated list of controllers names this one. */
static bool lists(const char *list, size_t size, const char *controller)
{
    for (size_t at = 0; at < size;) {
        size_t end = at;
        while (end < size && list[end] != ',') {
            end++;
        }
        if (end - at == strlen(controller) && memcmp(list + at, controller, end - at) == 0) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

/* Of one line of /proc/self/cgroup: "0::/group" for version 2, "4:cpu,cpuacct:/group" for 1. */
static double least_of_line(const char *root, const char *line, const struct cgroup_limit *limit)
{
    const char *names = strchr(line, ':');
    const char *group = names ? strchr(names + 1, ':') : NULL;
    if (!group) {
        return 0;
    }
    names++;
    size_t names_size = (size_t)(group - names);
    group++;
    if (names_size == 0) {
        return least_below(root, "", group, limit->v2);
    }
    double least = 0;
    if (lists(names, names_size, limit->controller)) {
        for (size_t i = 0; i < CGROUP_MOUNTS && limit->mounts[i] && least <= 0; i++) {
            least = least_below(root, limit->mounts[i], group, limit->v1);
        }
    }
    return least;
}

double cgroup_least(const char *root, const struct cgroup_limit *limit)
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
        least = lesser(least_of_line(root, line, limit), least);
    }
    (void)fclose(file);
    return least;
}
