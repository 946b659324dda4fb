/* CHECK(condition): our own invariants, in release builds too. Never for input: input gets an
 * error. A failed check prints where and what, then aborts, because going on with a broken
 * invariant would serve wrong answers. */
#ifndef ORTHRUS_BASE_CHECK_H
#define ORTHRUS_BASE_CHECK_H

#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #condition))

_Noreturn void check_failed(const char *file, int line, const char *function,
                            const char *condition);

#endif
