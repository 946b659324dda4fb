/* What the cgroups of this process allow, version 1 and 2: the least of a limit over its group and
 * those above it, since a parent's limit binds its children too. root stands before /proc and /sys:
 * "" on a real machine, a folder in tests. Start-up only. */
#ifndef ORTHRUS_SERVER_CGROUP_H
#define ORTHRUS_SERVER_CGROUP_H

#include <stdbool.h>

enum { CGROUP_MOUNTS = 2, CGROUP_LINE_MAX = 128 };

struct cgroup_limit {
    const char *controller;            /* of version 1: "cpu" */
    const char *mounts[CGROUP_MOUNTS]; /* of version 1, below /sys/fs/cgroup; the first that says
                                          something is taken; NULL: none */
    /* The limit that one group's folder sets; 0: none. */
    double (*v1)(const char *root, const char *folder);
    double (*v2)(const char *root, const char *folder);
};

/* 0: no limit, or none that can be read. */
double cgroup_least(const char *root, const struct cgroup_limit *limit);

/* For v1 and v2: the first line of a group's file, without its newline. */
bool cgroup_line(const char *root, const char *folder, const char *file,
                 char line[CGROUP_LINE_MAX]);
/* A number above 0 at the beginning of text. */
bool cgroup_number(const char *text, char **ret_end, double *ret_value);

#endif
