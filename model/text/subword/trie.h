/* A trie over the bytes of many words, for the longest or every word that a text begins with. */
#ifndef ORTHRUS_MODEL_TRIE_H
#define ORTHRUS_MODEL_TRIE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

enum { TRIE_NONE = -1 };

struct trie_word {
    const char *bytes; /* borrowed while the trie is built */
    uint32_t size;     /* > 0 */
    int32_t id;        /* of equal words the greatest id counts */
};

/* Nodes are in order of breadth, so the children of node i are first[i] … first[i+1]-1, sorted by
 * label. A node stands for the labels on the way from node 0. Process lifetime, immutable. */
struct trie {
    uint32_t *first; /* [nodes + 1] */
    int32_t *ids;    /* [nodes], TRIE_NONE where no word ends */
    uint8_t *labels; /* [nodes], the byte that leads to the node */
    size_t nodes;
    uint32_t roots[256]; /* node that a first byte leads to, 0 where none */
};

/* Sorts the words. Errors: ERR_LIMIT (2³² nodes), ERR_NOMEM. */
CHECK_RESULT enum err_code trie_init(struct trie *trie, struct trie_word *words, size_t n,
                                     struct err *err);
/* Zeroed structs are fine. */
void trie_done(struct trie *trie);

/* The child of a node by a byte; 0, which is nobody's child, when there is none. */
static inline uint32_t trie_child(const struct trie *trie, uint32_t node, uint8_t label)
{
    if (node == 0) {
        return trie->roots[label];
    }
    size_t count = trie->first[node + 1] - trie->first[node];
    if (count == 0) {
        return 0;
    }
    const uint8_t *labels = trie->labels + trie->first[node];
    const uint8_t *found = memchr(labels, label, count);
    return found ? (uint32_t)(found - trie->labels) : 0;
}

/* The longest word that text begins with, of those behind `node`: its id and size, or TRIE_NONE.
 * Linear in the word found. */
int32_t trie_longest(const struct trie *trie, uint32_t node, const char *text, size_t size,
                     size_t *ret_size);

#endif
