#include "server/metrics/process_stats.h"

#include <dirent.h>
#include <stddef.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

/* Seconds since 1970 when the machine started, from /proc/stat's "btime N". */
static double boot_seconds(void)
{
    FILE *file = fopen("/proc/stat", "re");
    if (!file) {
        return 0;
    }
    char line[4096];
    uint64_t boot = 0;
    while (boot == 0 && fgets(line, sizeof line, file)) {
        if (strncmp(line, "btime ", 6) == 0) {
            boot = strtoull(line + 6, NULL, 10);
        }
    }
    (void)fclose(file);
    return (double)boot;
}

/* Fields of proc(5)'s /proc/self/stat, counted from 1. */
enum {
    FIELD_FIRST = 4, /* the first number */
    FIELD_USER = 14,
    FIELD_SYSTEM = 15,
    FIELD_THREADS = 20,
    FIELD_START = 22,
    FIELD_VIRTUAL = 23,
    FIELD_PAGES = 24,
};

static void read_stat(struct process_stats *stats)
{
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) {
        return;
    }
    char line[2048];
    size_t size = fread(line, 1, sizeof line - 1, file);
    (void)fclose(file);
    line[size] = '\0';
    /* The name in field 2 may hold spaces and parentheses; field 3 is a letter. */
    const char *at = strrchr(line, ')');
    if (!at || strlen(at) < 4) {
        return;
    }
    at += 3;
    uint64_t field[FIELD_PAGES + 1] = {0};
    for (int i = FIELD_FIRST; i <= FIELD_PAGES; i++) {
        char *end;
        field[i] = strtoull(at, &end, 10); /* the negative ones are not used */
        at = end;
    }
    double ticks = (double)sysconf(_SC_CLK_TCK);
    stats->cpu_seconds = (double)(field[FIELD_USER] + field[FIELD_SYSTEM]) / ticks;
    stats->threads = field[FIELD_THREADS];
    stats->start_seconds = boot_seconds() + (double)field[FIELD_START] / ticks;
    stats->virtual_bytes = field[FIELD_VIRTUAL];
    stats->resident_bytes = field[FIELD_PAGES] * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) {
        return 0;
    }
    uint64_t n = 0;
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        n += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return n ? n - 1 : 0; /* without the one that reads the folder */
}

struct process_stats process_stats_read(void)
{
    struct process_stats stats = {0};
    read_stat(&stats);
    stats.open_fds = count_fds();
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        stats.max_fds = limit.rlim_cur;
    }
    return stats;
}
