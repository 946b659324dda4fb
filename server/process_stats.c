#include "server/process_stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stddef.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

/* Seconds since 1970 when the machine started, from /proc/stat's btime. */
static double boot_seconds(void)
{
    FILE *file = fopen("/proc/stat", "re");
    if (!file) {
        return 0;
    }
    char line[4096];
    uint64_t boot = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "btime %" SCNu64, &boot) == 1) {
            break;
        }
    }
    (void)fclose(file);
    return (double)boot;
}

/* Fields 14, 15 (CPU ticks), 20 (threads), 22 (start), 23 (virtual bytes) and 24 (resident pages)
 * of proc(5)'s /proc/self/stat; the name in field 2 may hold spaces and parentheses. */
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
    const char *rest = strrchr(line, ')');
    uint64_t user;
    uint64_t system;
    uint64_t start;
    uint64_t pages;
    if (!rest ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
               " %*d %*d %*d %*d %" SCNu64 " %*d %" SCNu64 " %" SCNu64 " %" SCNu64,
               &user, &system, &stats->threads, &start, &stats->virtual_bytes, &pages) != 6) {
        return;
    }
    double ticks = (double)sysconf(_SC_CLK_TCK);
    stats->cpu_seconds = (double)(user + system) / ticks;
    stats->start_seconds = boot_seconds() + (double)start / ticks;
    stats->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
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
