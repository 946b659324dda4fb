/* Allocations that fail on demand. Linked with --wrap for each function that gives memory, so that
 * every allocation of the project's own code passes here. Idea: jansson's test_chaos. */
#ifndef ORTHRUS_TESTS_FAULT_CHAOS_H
#define ORTHRUS_TESTS_FAULT_CHAOS_H

#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on fails, once; 0 for none. */
void chaos_fail_at(size_t n);
/* True if it has come to that. */
bool chaos_failed(void);

#endif
