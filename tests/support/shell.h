/* A shell command of a test's own making. */
#ifndef ORTHRUS_TESTS_SUPPORT_SHELL_H
#define ORTHRUS_TESTS_SUPPORT_SHELL_H

#include "tests/support/testing.h"

/* The exit status of the command. */
static inline int shell(const char *format, ...) PRINTF_LIKE(1, 2);
static inline int shell(const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_true(length > 0 && (size_t)length < sizeof command);
    return system(command);
}

#endif
