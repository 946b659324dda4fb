/* What a mistyped word was probably meant to be. */
#ifndef ORTHRUS_CLI_SUGGEST_H
#define ORTHRUS_CLI_SUGGEST_H

#include <stddef.h>

/* The closest of the candidates so far: start with {0}, offer each, then look at best. */
struct suggestion {
    const char *best; /* NULL: none is near; borrowed */
    size_t distance;
};

/* Counts letters that are added, left out, changed or swapped with their neighbour (Damerau 1964,
 * restricted); at most a third of the word may differ, unless the candidate begins with it. */
void suggest(struct suggestion *suggestion, const char *word, size_t size, const char *candidate);

#endif
