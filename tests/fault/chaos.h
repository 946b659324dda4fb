/* Allocations that fail on demand. Linked with --wrap for each function that gives memory, so that
 * every allocation of the project's own code passes here. Idea: jansson's test_chaos. */
#ifndef ORTHRUS_TESTS_FAULT_CHAOS_H
#define ORTHRUS_TESTS_FAULT_CHAOS_H

#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on fails, once; 0 for none. */
void chaos_fail_at(size_t n);
/* The next allocation whose chain of callers has not failed so far in this process fails, once.
 * Every place in every way to it, however often each is come by: what a loop or a second scenario
 * repeats costs nothing. */
void chaos_fail_new(void);
/* From here on a thread counts as an allocation: pthread_create ends with EAGAIN, as it does where
 * there is no memory for a stack. */
void chaos_count_threads(void);
/* True if it has come to that. */
bool chaos_failed(void);

#endif
