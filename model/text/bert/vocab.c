#include "model/text/bert/vocab.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "model/text/bert/text.h"

/* A longer line can't be looked up: no word to find is longer than TEXT_WORD_BYTES and "##". */
enum { WORD_MAX = TEXT_WORD_BYTES + 2 };

/* Nodes are in order of breadth, so the children of node i are first[i] … first[i+1]-1, sorted by
 * label. A node stands for the labels on the way from node 0. */
struct trie {
    uint32_t *first; /* [nodes + 1] */
    int32_t *ids;    /* [nodes], VOCAB_NONE where no word ends */
    uint8_t *labels; /* [nodes], the byte that leads to the node */
    size_t nodes;
};

struct vocab {
    char *data;      /* the file, NULs behind the words; owned */
    uint32_t *words; /* [count], begin of each word in data */
    size_t count;
    struct trie trie;
    /* Node that a first byte leads to, 0 where none: most look-ups end within three steps. */
    uint32_t roots[2][256];
};

/* --- Lines ------------------------------------------------------------------------------------ */

static bool is_white_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Size of a line without the white space at its end. */
static size_t trimmed(const char *line, size_t size)
{
    while (size) {
        size_t at = size - 1;
        while (at && ((unsigned char)line[at] & 0xc0) == 0x80) {
            at--;
        }
        size_t behind = at;
        if (!is_white_space(utf8_next(line, size, &behind))) {
            break;
        }
        size = at;
    }
    return size;
}

static size_t count_lines(const char *data, size_t size)
{
    size_t lines = size && data[size - 1] != '\n';
    for (const char *p = data; (p = memchr(p, '\n', (size_t)(data + size - p))); p++) {
        lines++;
    }
    return lines;
}

static enum err_code split_lines(struct vocab *vocab, size_t size, const char *label,
                                 struct err *err)
{
    vocab->count = count_lines(vocab->data, size);
    if (vocab->count > VOCAB_WORDS_MAX) {
        (void)err_set(err, ERR_LIMIT, "%s: %zu words, at most %d are allowed", label, vocab->count,
                      VOCAB_WORDS_MAX);
        return ERR_LIMIT;
    }
    vocab->words = calloc(vocab->count + 1, sizeof *vocab->words);
    if (!vocab->words) {
        (void)err_nomem(err, vocab->count * sizeof *vocab->words);
        return ERR_NOMEM;
    }
    size_t at = 0;
    for (size_t i = 0; i < vocab->count; i++) {
        char *line = vocab->data + at;
        char *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        if (!utf8_valid(line, length) || memchr(line, '\0', length)) {
            (void)err_set(err, ERR_INVALID, "%s: line %zu: %s", label, i + 1,
                          utf8_valid(line, length) ? "holds a NUL" : "not UTF-8");
            return ERR_INVALID;
        }
        line[trimmed(line, length)] = '\0';
        vocab->words[i] = (uint32_t)at;
        at += length + 1;
    }
    return ERR_OK;
}

/* --- Trie ------------------------------------------------------------------------------------- */

/* Words to put in, sorted by bytes. */
struct sorted {
    uint32_t *ids; /* [count] */
    size_t count;
};

/* What is left to do at a node: words from … to-1 of the sorted ones pass through it. */
struct span {
    uint32_t from, to;
};

static int compare_words(const void *left, const void *right, void *context)
{
    const struct vocab *vocab = context;
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    int order = strcmp(vocab->data + vocab->words[a], vocab->data + vocab->words[b]);
    return order ? order : a < b ? -1 : a > b;
}

/* The ids of the words that can be looked up at all, in malloc'ed memory; NULL without memory. */
static uint32_t *sort_words(struct vocab *vocab, size_t *ret_count)
{
    uint32_t *ids = malloc((vocab->count + 1) * sizeof *ids);
    if (!ids) {
        return NULL;
    }
    size_t count = 0;
    for (size_t i = 0; i < vocab->count; i++) {
        const char *word = vocab->data + vocab->words[i];
        if (*word && strnlen(word, WORD_MAX + 1) <= WORD_MAX) {
            ids[count++] = (uint32_t)i;
        }
    }
    qsort_r(ids, count, sizeof *ids, compare_words, vocab);
    *ret_count = count;
    return ids;
}

static size_t count_nodes(const struct vocab *vocab, const struct sorted *sorted)
{
    size_t nodes = 1;
    const char *before = "";
    for (size_t i = 0; i < sorted->count; i++) {
        const char *word = vocab->data + vocab->words[sorted->ids[i]];
        size_t common = 0;
        while (word[common] && word[common] == before[common]) {
            common++;
        }
        nodes += strlen(word + common);
        before = word;
    }
    return nodes;
}

static void fill_trie(struct vocab *vocab, const struct sorted *sorted, struct span *spans)
{
    struct trie *trie = &vocab->trie;
    size_t made = 1;      /* nodes that have a place */
    size_t level_end = 1; /* nodes before it have `depth` labels */
    size_t depth = 0;
    trie->labels[0] = 0;
    spans[0] = (struct span){0, (uint32_t)sorted->count};
    for (size_t node = 0; node < trie->nodes; node++) {
        if (node == level_end) {
            level_end = made;
            depth++;
        }
        struct span span = spans[node];
        trie->first[node] = (uint32_t)made;
        trie->ids[node] = VOCAB_NONE;
        while (span.from < span.to) {
            uint32_t id = sorted->ids[span.from];
            uint8_t label = (uint8_t)vocab->data[vocab->words[id] + depth];
            if (label == 0) {
                trie->ids[node] = (int32_t)id;
                span.from++;
                continue;
            }
            uint32_t to = span.from;
            while (to < span.to &&
                   (uint8_t)vocab->data[vocab->words[sorted->ids[to]] + depth] == label) {
                to++;
            }
            trie->labels[made] = label;
            spans[made++] = (struct span){span.from, to};
            span.from = to;
        }
    }
    trie->first[trie->nodes] = (uint32_t)made;
}

static enum err_code build_trie(struct vocab *vocab, struct err *err)
{
    struct sorted sorted = {0};
    sorted.ids = sort_words(vocab, &sorted.count);
    if (!sorted.ids) {
        (void)err_nomem(err, vocab->count * sizeof *sorted.ids);
        return ERR_NOMEM;
    }
    struct trie *trie = &vocab->trie;
    trie->nodes = count_nodes(vocab, &sorted);
    trie->first = calloc(trie->nodes + 1, sizeof *trie->first);
    trie->ids = calloc(trie->nodes, sizeof *trie->ids);
    trie->labels = calloc(trie->nodes, sizeof *trie->labels);
    struct span *spans = calloc(trie->nodes, sizeof *spans);
    bool made = trie->first && trie->ids && trie->labels && spans;
    if (made) {
        fill_trie(vocab, &sorted, spans);
    } else {
        (void)err_nomem(err, trie->nodes * sizeof *spans);
    }
    free(spans);
    free(sorted.ids);
    return made ? ERR_OK : ERR_NOMEM;
}

/* The child of a node by a byte; 0, which is nobody's child, when there is none. */
static inline uint32_t child(const struct trie *trie, uint32_t node, uint8_t label)
{
    const uint8_t *labels = trie->labels + trie->first[node];
    size_t count = trie->first[node + 1] - trie->first[node];
    const uint8_t *found = memchr(labels, label, count);
    return found ? (uint32_t)(found - trie->labels) : 0;
}

static void fill_roots(struct vocab *vocab)
{
    uint32_t hash = child(&vocab->trie, 0, '#');
    uint32_t continuation = hash ? child(&vocab->trie, hash, '#') : 0;
    for (unsigned c = 0; c < 256; c++) {
        vocab->roots[VOCAB_BEGINS][c] = child(&vocab->trie, 0, (uint8_t)c);
        vocab->roots[VOCAB_CONTINUES][c] = continuation
                                               ? child(&vocab->trie, continuation, (uint8_t)c)
                                               : 0;
    }
}

/* --- Interface -------------------------------------------------------------------------------- */

enum err_code vocab_parse(char *data, size_t size, const char *label, struct vocab **ret_vocab,
                          struct err *err)
{
    struct vocab *vocab = calloc(1, sizeof *vocab);
    if (!vocab) {
        free(data);
        return err_nomem(err, sizeof *vocab);
    }
    vocab->data = data;
    enum err_code code = ERR_OK;
    if (size > VOCAB_FILE_MAX) {
        code = err_set(err, ERR_LIMIT, "%s: %zu bytes, at most %d are allowed", label, size,
                       VOCAB_FILE_MAX);
    }
    code = code == ERR_OK ? split_lines(vocab, size, label, err) : code;
    code = code == ERR_OK ? build_trie(vocab, err) : code;
    if (code != ERR_OK) {
        vocab_destroy(vocab);
        return code;
    }
    fill_roots(vocab);
    *ret_vocab = vocab;
    return ERR_OK;
}

enum err_code vocab_read(const char *path, struct vocab **ret_vocab, struct err *err)
{
    char *data;
    size_t size;
    enum err_code code = file_read(path, VOCAB_FILE_MAX, &data, &size, err);
    return code == ERR_OK ? vocab_parse(data, size, path, ret_vocab, err) : code;
}

void vocab_destroy(struct vocab *vocab)
{
    if (vocab) {
        free(vocab->trie.labels);
        free(vocab->trie.ids);
        free(vocab->trie.first);
        free(vocab->words);
        free(vocab->data);
        free(vocab);
    }
}

size_t vocab_size(const struct vocab *vocab)
{
    return vocab->count;
}

const char *vocab_word(const struct vocab *vocab, int32_t id)
{
    return vocab->data + vocab->words[id];
}

int32_t vocab_find(const struct vocab *vocab, const char *word)
{
    size_t size = strlen(word);
    size_t found_size = 0;
    int32_t id = vocab_longest(vocab, VOCAB_BEGINS, word, size, &found_size);
    return found_size == size ? id : VOCAB_NONE;
}

int32_t vocab_longest(const struct vocab *vocab, enum vocab_place place, const char *text,
                      size_t size, size_t *ret_size)
{
    const struct trie *trie = &vocab->trie;
    int32_t id = VOCAB_NONE;
    uint32_t node = size ? vocab->roots[place][(uint8_t)text[0]] : 0;
    for (size_t i = 1; node; i++) {
        if (trie->ids[node] != VOCAB_NONE) {
            id = trie->ids[node];
            *ret_size = i;
        }
        node = i < size ? child(trie, node, (uint8_t)text[i]) : 0;
    }
    return id;
}
