/* cmocka with what it needs before it, and a few helpers that several test programs share. */
#ifndef ORTHRUS_TESTS_SUPPORT_TESTING_H
#define ORTHRUS_TESTS_SUPPORT_TESTING_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

/* Fails unless the code is as expected and the text holds every one of the words (NULL ends
 * them). */
static inline void expect_error(const struct err *err, enum err_code code, enum err_code expected,
                                const char *const *words)
{
    if (code != expected || err->code != expected) {
        fail_msg("expected %s, got %s: %s", err_name(expected), err_name(code), err->text);
    }
    for (size_t i = 0; words[i]; i++) {
        if (!strstr(err->text, words[i])) {
            fail_msg("\"%s\" is not in: %s", words[i], err->text);
        }
    }
}

/* The words as a list for expect_error. */
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A fresh folder under TMPDIR; removed with scratch_remove. */
struct scratch {
    char dir[256];
    char path[512]; /* scratch_path's result */
};

static inline void scratch_make(struct scratch *scratch)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(scratch->dir, sizeof scratch->dir, "%s/orthrus-test-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(scratch->dir));
}

static inline const char *scratch_path(struct scratch *scratch, const char *name)
{
    (void)snprintf(scratch->path, sizeof scratch->path, "%s/%s", scratch->dir, name);
    return scratch->path;
}

static inline void scratch_write(struct scratch *scratch, const char *name, const void *data,
                                 size_t size)
{
    FILE *file = fopen(scratch_path(scratch, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void scratch_text(struct scratch *scratch, const char *name, const char *text)
{
    scratch_write(scratch, name, text, strlen(text));
}

/* A file of tests/data under a name of ours. */
static inline void scratch_copy(struct scratch *scratch, const char *from, const char *name)
{
    char *data;
    size_t size;
    struct err err = ERR_INIT;
    assert_int_equal(file_read(from, (size_t)1 << 30, &data, &size, &err), ERR_OK);
    scratch_write(scratch, name, data, size);
    free(data);
}

static inline void scratch_mkdir(struct scratch *scratch, const char *name)
{
    assert_int_equal(mkdir(scratch_path(scratch, name), 0700), 0);
}

static inline void scratch_remove(struct scratch *scratch)
{
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", scratch->dir);
    assert_int_equal(system(command), 0);
}

#endif
