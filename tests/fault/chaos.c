#include "tests/fault/chaos.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHAIN = 12, SKIPPED = 3, CHAINS = 1 << 16 };

static atomic_size_t countdown;
static atomic_bool failed, by_chain, counts_threads;
static _Atomic(uint64_t) chains[CHAINS]; /* that have failed, by hash; 0: free */

void chaos_fail_at(size_t n)
{
    atomic_store(&failed, false);
    atomic_store(&by_chain, false);
    atomic_store(&countdown, n);
}

void chaos_fail_new(void)
{
    chaos_fail_at(0);
    void *frames[CHAIN];
    (void)backtrace(frames, CHAIN); /* the first one allocates */
    atomic_store(&by_chain, true);
}

void chaos_count_threads(void)
{
    atomic_store(&counts_threads, true);
}

bool chaos_failed(void)
{
    return atomic_load(&failed);
}

/* True for a chain that is met for the first time. Ours are the innermost frames. */
__attribute__((noinline)) static bool is_new(void)
{
    void *frames[CHAIN] = {0};
    int n = backtrace(frames, CHAIN);
    uint64_t hash = 1469598103934665603U;
    for (int i = SKIPPED - 1; i < n; i++) {
        hash = (hash ^ (uintptr_t)frames[i]) * 1099511628211U;
    }
    hash |= 1;
    for (size_t at = hash >> 40;; at++) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&chains[at % CHAINS], &found, hash)) {
            return true;
        }
        if (found == hash) {
            return false;
        }
    }
}

static bool fails_now(void)
{
    if (atomic_load(&by_chain)) {
        bool expected = true;
        if (!is_new() || !atomic_compare_exchange_strong(&by_chain, &expected, false)) {
            return false;
        }
    } else {
        size_t left = atomic_load(&countdown);
        while (left && !atomic_compare_exchange_weak(&countdown, &left, left - 1)) {
        }
        if (left != 1) {
            return false;
        }
    }
    atomic_store(&failed, true);
    errno = ENOMEM;
    return true;
}

/* The linker turns each call of NAME into __wrap_NAME and gives the real one as __real_NAME. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
char *__real_realpath(const char *path, char *resolved);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
char *__wrap_realpath(const char *path, char *resolved);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    return fails_now() ? NULL : __real_strndup(text, size);
}

char *__wrap_realpath(const char *path, char *resolved)
{
    return fails_now() ? NULL : __real_realpath(path, resolved);
}

/* Memory, not files: those fail in other ways. */
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0 && fails_now()) {
        return MAP_FAILED;
    }
    return __real_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument)
{
    return atomic_load(&counts_threads) && fails_now()
               ? EAGAIN
               : __real_pthread_create(thread, attributes, run, argument);
}
