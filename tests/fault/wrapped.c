/* Linked into orthrus_faulty with --wrap: every allocation of our own code, what we give to
 * jansson included, passes here and may fail, as control.h says. For builds with a sanitizer, which
 * no preloaded malloc goes before. */
#include <string.h>

#include "tests/fault/control.h"

static atomic_bool ended;

static void end(void)
{
    atomic_store(&ended, true);
}

/* What comes behind main is gcov's, which is linked in with us and does without no allocation. */
__attribute__((constructor)) static void begin(void)
{
    (void)atexit(end);
}

static bool fails(size_t bytes)
{
    return !atomic_load(&ended) && control_allocation_fails(bytes);
}

/* The linker turns each call of NAME into __wrap_NAME and gives the real one as __real_NAME. */
#define WRAP(result, name, failed, bytes, parameters, arguments)  \
    result __real_##name parameters;                              \
    result __wrap_##name parameters;                              \
    result __wrap_##name parameters                               \
    {                                                             \
        return fails(bytes) ? (failed) : __real_##name arguments; \
    }

WRAP(void *, malloc, NULL, size, (size_t size), (size))
WRAP(void *, calloc, NULL, count *size, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, NULL, size, (void *old, size_t size), (old, size))
WRAP(void *, aligned_alloc, NULL, size, (size_t alignment, size_t size), (alignment, size))
WRAP(char *, strdup, NULL, 0, (const char *text), (text))
WRAP(char *, strndup, NULL, size, (const char *text, size_t size), (text, size))
WRAP(char *, realpath, NULL, 0, (const char *path, char *resolved), (path, resolved))

/* Memory, not files: those fail in other ways. */
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fd < 0 && fails(size) ? MAP_FAILED
                                 : __real_mmap(at, size, protection, flags, fd, offset);
}
