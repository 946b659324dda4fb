/* How a piece of text becomes ids: WordPiece, Unigram and byte-pair encoding, one interface.
 * Reference: huggingface/tokenizers, models. */
#ifndef ORTHRUS_MODEL_SUBWORD_H
#define ORTHRUS_MODEL_SUBWORD_H

#include <stdbool.h>

#include "base/err.h"
#include "model/text/subword/trie.h"
#include "model/text/subword/words.h"

enum subword_kind { SUBWORD_WORDPIECE, SUBWORD_UNIGRAM, SUBWORD_BPE };

enum { SUBWORD_AFFIX_MAX = 64, SUBWORD_BYTES = 256 };

/* A merge of two ids. */
struct bpe_merge {
    uint64_t pair; /* left << 32 | right; UINT64_MAX in an empty slot */
    uint32_t rank;
};

/* Process lifetime, immutable once subword_ready was called. Zero-initialize. */
struct subword {
    enum subword_kind kind;
    struct words words;
    struct trie trie;               /* WordPiece's and Unigram's words */
    int32_t unk;                    /* WORDS_NONE without */
    char prefix[SUBWORD_AFFIX_MAX]; /* continuing_subword_prefix */
    size_t prefix_size;
    bool byte_fallback;
    int32_t bytes[SUBWORD_BYTES]; /* ids of <0x00> … <0xFF>, WORDS_NONE where missing */
    /* WordPiece */
    size_t max_chars;    /* of a piece; a longer one is unknown */
    uint32_t continuing; /* node behind the prefix, 0 where no word begins so */
    bool continues;      /* there may be words behind the prefix */
    /* Unigram */
    double *scores; /* [words.ids], owned */
    double unk_score;
    /* BPE */
    struct bpe_merge *merges; /* hash table, owned */
    size_t merge_slots;
    int32_t *results; /* [n_merges] what the two of a rank become, owned */
    uint64_t *pairs;  /* [n_merges] the two, owned */
    size_t n_merges, results_room;
    char suffix[SUBWORD_AFFIX_MAX]; /* end_of_word_suffix */
    size_t suffix_size;
    bool fuse_unk;
    bool ignore_merges;
};

/* Builds what look-ups need, once the fields are set. Errors: ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code subword_ready(struct subword *subword, struct err *err);
/* Zeroed structs are fine. */
void subword_done(struct subword *subword);

/* A token within a piece, in bytes of it. With BPE the bounds may lie outside: the reference
 * counts a byte for each token of its byte fallback. */
struct subword_token {
    int32_t id;
    uint32_t from, to;
};

/* Scratch of one thread; zero-initialize. */
struct subword_scratch {
    struct subword_token *tokens; /* the result, [n] */
    size_t n, room;
    size_t wanted; /* no more tokens than so many need to be given */
    void *memory;  /* what the kinds need, grown */
    size_t memory_size;
};

void subword_scratch_done(struct subword_scratch *scratch);
/* size bytes that stay until the next call; NULL without memory. */
void *subword_scratch_memory(struct subword_scratch *scratch, size_t size);
/* Appends a token; false without memory. */
bool subword_put(struct subword_scratch *scratch, int32_t id, size_t from, size_t to);

/* Splits size > 0 bytes of UTF-8 into scratch->tokens. Time: WordPiece and Unigram linear in size
 * times the longest word, BPE n log n. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code subword_split(const struct subword *subword, const char *text,
                                         size_t size, struct subword_scratch *scratch,
                                         struct err *err);

/* The kinds, for subword.c alone. */
bool wordpiece_split(const struct subword *subword, const char *text, size_t size,
                     struct subword_scratch *scratch);
bool unigram_split(const struct subword *subword, const char *text, size_t size,
                   struct subword_scratch *scratch);
bool bpe_split(const struct subword *subword, const char *text, size_t size,
               struct subword_scratch *scratch);

/* Adds a merge to the table, in the order of ranks; the last of equal pairs counts. Errors:
 * ERR_NOMEM. */
CHECK_RESULT enum err_code bpe_add_merge(struct subword *subword, int32_t left, int32_t right,
                                         int32_t id, struct err *err);

#endif
