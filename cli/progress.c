#include "cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_WIDTH = 30 };

void progress_start(struct progress *progress, const char *what, const char *unit, uint64_t total)
{
    const char *term = getenv("TERM");
    *progress = (struct progress){
        .what = what,
        .unit = unit,
        .total = total,
        .start_ns = clock_now_ns(),
        .terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0,
    };
}

static void format_seconds(double seconds, char *out, size_t size)
{
    unsigned whole = (unsigned)(seconds + 0.5);
    if (whole >= 3600) {
        (void)snprintf(out, size, "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        (void)snprintf(out, size, "%u:%02u", whole / 60, whole % 60);
    }
}

static void draw(const struct progress *progress, uint64_t done, bool last)
{
    double seconds = (double)(clock_now_ns() - progress->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    char time_text[32];
    if (!progress->total) {
        format_seconds(seconds, time_text, sizeof time_text);
        (void)fprintf(stderr, "\r\033[K%s %llu %s, %.0f/s, %s", progress->what,
                      (unsigned long long)done, progress->unit, rate, time_text);
        return;
    }
    double share = (double)done / (double)progress->total;
    double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
    format_seconds(last ? seconds : left, time_text, sizeof time_text);
    char bar[BAR_WIDTH + 1];
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)(share * BAR_WIDTH));
    bar[BAR_WIDTH] = '\0';
    (void)fprintf(stderr, "\r\033[K%s [%s] %3.0f %% %llu/%llu %s, %.0f/s, %s %s", progress->what,
                  bar, share * 100, (unsigned long long)done, (unsigned long long)progress->total,
                  progress->unit, rate, last ? "took" : "left", time_text);
}

void progress_update(struct progress *progress, uint64_t done)
{
    uint64_t now = clock_now_ns();
    if (progress->terminal && now - progress->drawn_ns > 100 * NS_PER_MS) {
        progress->drawn_ns = now;
        draw(progress, done, false);
    }
}

void progress_clear(struct progress *progress)
{
    if (progress->terminal && progress->drawn_ns) {
        (void)fputs("\r\033[K", stderr);
        progress->drawn_ns = 0;
    }
}

void progress_end(struct progress *progress, uint64_t done)
{
    if (progress->terminal) {
        draw(progress, done, true);
        (void)fputc('\n', stderr);
    }
}
