/* Time for server and command line; model/ has no clock. All values are nanoseconds of
 * CLOCK_MONOTONIC unless the name says wall. */
#ifndef ORTHRUS_BASE_CLOCK_H
#define ORTHRUS_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

uint64_t clock_now_ns(void);
/* CLOCK_REALTIME in ns since 1970. */
uint64_t clock_wall_ns(void);
/* Writes "2026-01-31T12:00:00.123Z" for a wall time; size ≥ 25. */
void clock_format_wall(uint64_t wall_ns, char *out, size_t size);

#endif
