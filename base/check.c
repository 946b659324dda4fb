#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *function, const char *condition)
{
    (void)fprintf(stderr, "%s:%d: %s: internal check failed: %s\n", file, line, function,
                  condition);
    abort();
}
