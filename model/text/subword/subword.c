#include "model/text/subword/subword.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"

static enum err_code build_trie(struct subword *subword, struct err *err)
{
    const struct words *words = &subword->words;
    struct trie_word *list = calloc(words->ids + 1, sizeof *list);
    if (!list) {
        return err_nomem(err, words->ids * sizeof *list);
    }
    size_t n = 0;
    for (size_t id = 0; id < words->ids; id++) {
        struct word word = words_at(words, (int64_t)id);
        if (word.size) {
            list[n++] = (struct trie_word){word.bytes, word.size, (int32_t)id};
        }
    }
    enum err_code code = trie_init(&subword->trie, list, n, err);
    free(list);
    return code;
}

static void find_continuing(struct subword *subword)
{
    uint32_t node = 0;
    subword->continues = true;
    for (size_t i = 0; i < subword->prefix_size && subword->continues; i++) {
        node = trie_child(&subword->trie, node, (uint8_t)subword->prefix[i]);
        subword->continues = node != 0;
    }
    subword->continuing = node;
}

static void find_bytes(struct subword *subword)
{
    for (unsigned i = 0; i < SUBWORD_BYTES; i++) {
        char word[8];
        int size = snprintf(word, sizeof word, "<0x%02X>", i);
        subword->bytes[i] = words_find(&subword->words, word, (size_t)size);
    }
}

enum err_code subword_ready(struct subword *subword, struct err *err)
{
    enum err_code code = ERR_OK;
    find_bytes(subword);
    if (subword->kind != SUBWORD_BPE) {
        code = build_trie(subword, err);
    }
    if (code == ERR_OK && subword->kind == SUBWORD_WORDPIECE) {
        find_continuing(subword);
    }
    return code;
}

void subword_done(struct subword *subword)
{
    words_done(&subword->words);
    trie_done(&subword->trie);
    free(subword->scores);
    free(subword->merges);
    free(subword->results);
    free(subword->pairs);
    subword->pairs = NULL;
    subword->results = NULL;
    subword->scores = NULL;
    subword->merges = NULL;
}

void subword_scratch_done(struct subword_scratch *scratch)
{
    free(scratch->tokens);
    free(scratch->memory);
    *scratch = (struct subword_scratch){0};
}

void *subword_scratch_memory(struct subword_scratch *scratch, size_t size)
{
    if (size > scratch->memory_size) {
        size_t room = size + size / 4;
        free(scratch->memory);
        scratch->memory = malloc(room);
        scratch->memory_size = scratch->memory ? room : 0;
    }
    return scratch->memory;
}

bool subword_put(struct subword_scratch *scratch, int32_t id, size_t from, size_t to)
{
    if (scratch->n == scratch->room) {
        size_t room = 2 * scratch->room + 64;
        struct subword_token *grown = realloc(scratch->tokens, room * sizeof *grown);
        if (!grown) {
            return false;
        }
        scratch->tokens = grown;
        scratch->room = room;
    }
    scratch->tokens[scratch->n++] = (struct subword_token){id, (uint32_t)from, (uint32_t)to};
    return true;
}

enum err_code subword_split(const struct subword *subword, const char *text, size_t size,
                            struct subword_scratch *scratch, struct err *err)
{
    bool (*const split[])(const struct subword *, const char *, size_t,
                          struct subword_scratch *) = {
        [SUBWORD_WORDPIECE] = wordpiece_split,
        [SUBWORD_UNIGRAM] = unigram_split,
        [SUBWORD_BPE] = bpe_split,
    };
    scratch->n = 0;
    return split[subword->kind](subword, text, size, scratch) ? ERR_OK : err_nomem(err, size);
}
