#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/check.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    CHECK(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void clock_format_wall(uint64_t wall_ns, char *out, size_t size)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    CHECK(gmtime_r(&seconds, &tm));
    char date[32];
    CHECK(strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm) > 0);
    (void)snprintf(out, size, "%s.%03uZ", date, (unsigned)(wall_ns / NS_PER_MS % 1000));
}
