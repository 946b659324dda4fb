/* Unigram: the split whose words have the greatest sum of scores (Viterbi over the trie), unknown
 * characters in a row being one token.
 * Source: Kudo 2018, "Subword Regularization"; reference: the tie-breaking of
 * huggingface/tokenizers' encode_optimized: of equal sums the one found first, so the word that
 * begins earlier, stays. */
#include "base/size.h"
#include "base/utf8.h"
#include "model/text/subword/subword.h"

/* The best way to a place in the text. */
struct best {
    double score;
    uint32_t from; /* where its last word begins */
    int32_t id;    /* of that word; UNREACHED where there is none */
};

enum { UNREACHED = -1 };

static void offer(struct best *best, double score, size_t from, int32_t id)
{
    if (best->id == UNREACHED || score > best->score) {
        *best = (struct best){score, (uint32_t)from, id};
    }
}

/* Fills best[1 … size], the place 0 being reached with score 0. */
static void find_best(const struct subword *subword, const char *text, size_t size,
                      struct best *best)
{
    best[0] = (struct best){.id = 0};
    for (size_t i = 1; i <= size; i++) {
        best[i].id = UNREACHED;
    }
    for (size_t from = 0; from < size;) {
        size_t next = from;
        (void)utf8_next(text, size, &next);
        double score = best[from].score;
        bool single = false;
        uint32_t node = 0;
        for (size_t at = from; at < size; at++) {
            node = trie_child(&subword->trie, node, (uint8_t)text[at]);
            if (node == 0) {
                break;
            }
            int32_t id = subword->trie.ids[node];
            if (id != TRIE_NONE) {
                offer(&best[at + 1], score + subword->scores[id], from, id);
                single = single || at + 1 == next;
            }
        }
        if (!single) {
            offer(&best[next], score + subword->unk_score, from, subword->unk);
        }
        from = next;
    }
}

/* An unknown stretch: the word of its text where there is one, its bytes, or unk. */
static bool put_unknown(const struct subword *subword, const char *text, size_t from, size_t to,
                        struct subword_scratch *scratch)
{
    int32_t word = words_find(&subword->words, text + from, to - from);
    if (word != WORDS_NONE) {
        return subword_put(scratch, word, from, to);
    }
    bool bytes = subword->byte_fallback;
    for (size_t i = from; i < to && bytes; i++) {
        bytes = subword->bytes[(unsigned char)text[i]] != WORDS_NONE;
    }
    if (!bytes) {
        return subword_put(scratch, subword->unk, from, to);
    }
    for (size_t i = from; i < to; i++) {
        if (!subword_put(scratch, subword->bytes[(unsigned char)text[i]], from, to)) {
            return false;
        }
    }
    return true;
}

bool unigram_split(const struct subword *subword, const char *text, size_t size,
                   struct subword_scratch *scratch)
{
    struct best *best = subword_scratch_memory(scratch, (size + 1) * sizeof *best);
    if (!best) {
        return false;
    }
    find_best(subword, text, size, best);
    /* From the end back, turning the links round: from[i] becomes where the word at i ends. */
    size_t to = size;
    size_t behind = size;
    while (to > 0) {
        size_t from = best[to].from;
        best[to].from = (uint32_t)behind;
        behind = to;
        to = from;
    }
    size_t from = 0;
    for (to = behind; from < size && scratch->n < scratch->wanted;) {
        size_t next = best[to].from;
        int32_t id = best[to].id;
        while (id == subword->unk && to < size && best[next].id == subword->unk) {
            to = next;
            next = best[to].from;
        }
        bool put = id == subword->unk ? put_unknown(subword, text, from, to, scratch)
                                      : subword_put(scratch, id, from, to);
        if (!put) {
            return false;
        }
        from = to;
        to = next;
    }
    return true;
}
