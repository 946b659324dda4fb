#include "model/text/subword/trie.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/size.h"

static int compare_words(const void *left, const void *right)
{
    const struct trie_word *a = left;
    const struct trie_word *b = right;
    int order = memcmp(a->bytes, b->bytes, size_min(a->size, b->size));
    if (order == 0) {
        order = a->size < b->size ? -1 : a->size > b->size;
    }
    return order ? order : a->id < b->id ? -1 : a->id > b->id;
}

static size_t count_nodes(const struct trie_word *words, size_t n)
{
    size_t nodes = 1;
    struct trie_word before = {"", 0, 0};
    for (size_t i = 0; i < n; i++) {
        size_t most = size_min(words[i].size, before.size);
        size_t common = 0;
        while (common < most && words[i].bytes[common] == before.bytes[common]) {
            common++;
        }
        nodes += words[i].size - common;
        before = words[i];
    }
    return nodes;
}

/* What is left to do at a node: words from … to-1 of the sorted ones pass through it. */
struct span {
    uint32_t from, to;
};

static void fill(struct trie *trie, const struct trie_word *words, size_t n, struct span *spans)
{
    size_t made = 1;      /* nodes that have a place */
    size_t level_end = 1; /* nodes before it have `depth` labels */
    size_t depth = 0;
    trie->labels[0] = 0;
    spans[0] = (struct span){0, (uint32_t)n};
    for (size_t node = 0; node < trie->nodes; node++) {
        if (node == level_end) {
            level_end = made;
            depth++;
        }
        struct span span = spans[node];
        trie->first[node] = (uint32_t)made;
        trie->ids[node] = TRIE_NONE;
        while (span.from < span.to) {
            const struct trie_word *word = &words[span.from];
            if (word->size == depth) {
                trie->ids[node] = word->id;
                span.from++;
                continue;
            }
            uint8_t label = (uint8_t)word->bytes[depth];
            uint32_t to = span.from;
            while (to < span.to && (uint8_t)words[to].bytes[depth] == label) {
                to++;
            }
            trie->labels[made] = label;
            spans[made++] = (struct span){span.from, to};
            span.from = to;
        }
    }
    trie->first[trie->nodes] = (uint32_t)made;
    for (size_t i = trie->first[0]; i < trie->first[1]; i++) {
        trie->roots[trie->labels[i]] = (uint32_t)i;
    }
}

enum err_code trie_init(struct trie *trie, struct trie_word *words, size_t n, struct err *err)
{
    *trie = (struct trie){0};
    qsort(words, n, sizeof *words, compare_words);
    trie->nodes = count_nodes(words, n);
    if (trie->nodes >= UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "the vocabulary takes too many trie nodes");
    }
    trie->first = calloc(trie->nodes + 1, sizeof *trie->first);
    trie->ids = calloc(trie->nodes, sizeof *trie->ids);
    trie->labels = calloc(trie->nodes, sizeof *trie->labels);
    struct span *spans = calloc(trie->nodes, sizeof *spans);
    bool made = trie->first && trie->ids && trie->labels && spans;
    if (made) {
        fill(trie, words, n, spans);
    }
    free(spans);
    return made ? ERR_OK : err_nomem(err, trie->nodes * sizeof *spans);
}

void trie_done(struct trie *trie)
{
    free(trie->first);
    free(trie->ids);
    free(trie->labels);
    *trie = (struct trie){0};
}

int32_t trie_longest(const struct trie *trie, uint32_t node, const char *text, size_t size,
                     size_t *ret_size)
{
    int32_t id = TRIE_NONE;
    for (size_t i = 0; i < size; i++) {
        node = trie_child(trie, node, (uint8_t)text[i]);
        if (node == 0) {
            break;
        }
        if (trie->ids[node] != TRIE_NONE) {
            id = trie->ids[node];
            *ret_size = i + 1;
        }
    }
    return id;
}
