#include "cli/suggest.h"

#include <stdbool.h>
#include <string.h>

#include "base/size.h"

enum { WORD_MAX = 64 };

static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= m; j++) {
        last[j] = j;
        before[j] = 0;
    }
    for (size_t i = 1; i <= n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = size_min(change, size_min(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = size_min(row[j], before[j - 2] + 1);
            }
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[m];
}

void suggest(struct suggestion *suggestion, const char *word, size_t size, const char *candidate)
{
    size_t length = strlen(candidate);
    if (size < 2 || size > WORD_MAX || length > WORD_MAX) {
        return;
    }
    size_t d = distance(word, size, candidate, length);
    bool begins = size < length && memcmp(word, candidate, size) == 0;
    if ((begins || d <= size_max(size / 3, 1)) && (!suggestion->best || d < suggestion->distance)) {
        *suggestion = (struct suggestion){candidate, d};
    }
}
