#include "cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"

enum { BAR_MAX = 30, BAR_MIN = 5, COLUMNS_DEFAULT = 80, LINE_MAX_BYTES = 512 };
#define TERMINAL_NS (100 * NS_PER_MS)
#define PIPED_NS    (30 * NS_PER_S)

void progress_start(struct progress *progress, const char *what, const char *unit, uint64_t total)
{
    const char *term = getenv("TERM");
    uint64_t now = clock_now_ns();
    *progress = (struct progress){
        .what = what,
        .unit = unit,
        .total = total,
        .start_ns = now,
        .terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0,
    };
    progress->drawn_ns = progress->terminal ? 0 : now;
}

static void format_seconds(double seconds, char *out, size_t size)
{
    unsigned long whole = seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 999999999ul;
    if (whole >= 3600) {
        (void)snprintf(out, size, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        (void)snprintf(out, size, "%lu:%02lu", whole / 60, whole % 60);
    }
}

/* Characters that fit into one line without wrapping. */
static size_t columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return COLUMNS_DEFAULT - 1;
    }
    return (size_t)size.ws_col - 1;
}

/* What is said without the bar: "12 % 3456/28000 sentences, 120/s, 3:20 left". */
static void describe(const struct progress *progress, uint64_t done, bool last, char *out,
                     size_t size)
{
    double seconds = (double)(clock_now_ns() - progress->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    char time_text[32];
    char rate_text[32];
    (void)snprintf(rate_text, sizeof rate_text, rate < 10 ? "%.1f" : "%.0f", rate);
    if (!progress->total || done > progress->total) {
        format_seconds(seconds, time_text, sizeof time_text);
        (void)snprintf(out, size, "%llu %s, %s/s, %s", (unsigned long long)done, progress->unit,
                       rate_text, time_text);
        return;
    }
    double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
    format_seconds(last ? seconds : left, time_text, sizeof time_text);
    (void)snprintf(out, size, "%.0f %% %llu/%llu %s, %s/s, %s %s",
                   (double)done / (double)progress->total * 100, (unsigned long long)done,
                   (unsigned long long)progress->total, progress->unit, rate_text, time_text,
                   last ? "took" : "left");
}

static void draw(const struct progress *progress, uint64_t done, bool last)
{
    char text[LINE_MAX_BYTES];
    char line[3 * LINE_MAX_BYTES];
    size_t width = size_min(columns(), sizeof line - 1);
    describe(progress, done, last, text, sizeof text);
    size_t used = strlen(progress->what) + strlen(text) + 4; /* blanks and brackets */
    if (progress->total && done <= progress->total && used + BAR_MIN <= width) {
        char bar[BAR_MAX + 1];
        size_t room = size_min(BAR_MAX, width - used);
        memset(bar, '.', room);
        memset(bar, '#', (size_t)((double)done / (double)progress->total * (double)room));
        bar[room] = '\0';
        (void)snprintf(line, sizeof line, "%.64s [%s] %s", progress->what, bar, text);
    } else {
        (void)snprintf(line, sizeof line, "%.64s %s", progress->what, text);
    }
    line[width] = '\0';
    (void)fprintf(stderr, "\r\033[K%s", line);
}

void progress_update(struct progress *progress, uint64_t done)
{
    uint64_t now = clock_now_ns();
    if (progress->terminal && now - progress->drawn_ns > TERMINAL_NS) {
        progress->drawn_ns = now;
        draw(progress, done, false);
    } else if (!progress->terminal && now - progress->drawn_ns > PIPED_NS) {
        char text[LINE_MAX_BYTES];
        progress->drawn_ns = now;
        describe(progress, done, false, text, sizeof text);
        (void)fprintf(stderr, "%s: %s\n", progress->what, text);
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
