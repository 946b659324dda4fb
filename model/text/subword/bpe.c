/* Byte-pair encoding: the neighbours whose merge has the lowest rank become one, the left ones
 * first, until no pair has a merge; a heap finds them.
 * Source: Sennrich et al. 2016; reference: huggingface/tokenizers' merge_word and merge_all. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/text/subword/subword.h"

/* --- Merges ----------------------------------------------------------------------------------- */

enum { MERGE_SLOTS_MIN = 1024 };

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t slot_of(const struct subword *subword, uint64_t pair)
{
    uint64_t mixed = pair * 0x9e3779b97f4a7c15u;
    size_t slot = (mixed >> 32) & (subword->merge_slots - 1);
    while (subword->merges[slot].pair != UINT64_MAX && subword->merges[slot].pair != pair) {
        slot = (slot + 1) & (subword->merge_slots - 1);
    }
    return slot;
}

static bool grow_merges(struct subword *subword)
{
    if (subword->merge_slots && subword->n_merges < subword->merge_slots / 2) {
        return true;
    }
    struct bpe_merge *old = subword->merges;
    size_t old_slots = subword->merge_slots;
    size_t slots = size_max(2 * old_slots, MERGE_SLOTS_MIN);
    struct bpe_merge *merges = malloc(slots * sizeof *merges);
    if (!merges) {
        return false;
    }
    for (size_t i = 0; i < slots; i++) {
        merges[i].pair = UINT64_MAX;
    }
    subword->merges = merges;
    subword->merge_slots = slots;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i].pair != UINT64_MAX) {
            merges[slot_of(subword, old[i].pair)] = old[i];
        }
    }
    free(old);
    return true;
}

enum err_code bpe_add_merge(struct subword *subword, int32_t left, int32_t right, int32_t id,
                            struct err *err)
{
    if (!grow_merges(subword)) {
        return err_nomem(err, 2 * subword->merge_slots * sizeof *subword->merges);
    }
    if (subword->n_merges == subword->results_room) {
        size_t room = 2 * subword->results_room + MERGE_SLOTS_MIN;
        int32_t *results = realloc(subword->results, room * sizeof *results);
        subword->results = results ? results : subword->results;
        uint64_t *pairs = results ? realloc(subword->pairs, room * sizeof *pairs) : NULL;
        if (!pairs) {
            return err_nomem(err, room * sizeof *pairs);
        }
        subword->pairs = pairs;
        subword->results_room = room;
    }
    uint64_t pair = pair_of(left, right);
    subword->merges[slot_of(subword, pair)] = (struct bpe_merge){pair, (uint32_t)subword->n_merges};
    subword->pairs[subword->n_merges] = pair;
    subword->results[subword->n_merges++] = id;
    return ERR_OK;
}

static const struct bpe_merge *find_merge(const struct subword *subword, int32_t left,
                                          int32_t right)
{
    if (subword->merge_slots == 0) {
        return NULL;
    }
    const struct bpe_merge *merge = &subword->merges[slot_of(subword, pair_of(left, right))];
    return merge->pair == UINT64_MAX ? NULL : merge;
}

/* --- Symbols ---------------------------------------------------------------------------------- */

enum { NOBODY = -1 };

struct symbol {
    int32_t id;
    int32_t before, behind; /* neighbours, or NOBODY */
    uint32_t size;          /* bytes it stands for; 0 once it is part of another one */
};

/* A merge that may be done: the symbol at the place with the one behind it. */
struct chance {
    uint32_t rank;
    uint32_t place;
};

/* One piece's work, in the scratch memory. */
struct work {
    const struct subword *subword;
    struct symbol *symbols;
    size_t n;
    struct chance *heap; /* least rank, then least place first */
    size_t heap_size;
};

static void add_symbol(struct work *work, int32_t id, size_t size)
{
    size_t place = work->n++;
    work->symbols[place] = (struct symbol){
        .id = id,
        .before = (int32_t)place - 1,
        .behind = NOBODY,
        .size = (uint32_t)size,
    };
    if (place) {
        work->symbols[place - 1].behind = (int32_t)place;
    }
}

static bool comes_before(const struct chance *a, const struct chance *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->place < b->place);
}

static void sift_down(struct work *work, size_t at)
{
    struct chance chance = work->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= work->heap_size) {
            break;
        }
        if (child + 1 < work->heap_size &&
            comes_before(&work->heap[child + 1], &work->heap[child])) {
            child++;
        }
        if (!comes_before(&work->heap[child], &chance)) {
            break;
        }
        work->heap[at] = work->heap[child];
        at = child;
    }
    work->heap[at] = chance;
}

static void push(struct work *work, const struct bpe_merge *merge, size_t place)
{
    struct chance chance = {merge->rank, (uint32_t)place};
    size_t at = work->heap_size++;
    while (at > 0 && comes_before(&chance, &work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = chance;
}

static struct chance pop(struct work *work)
{
    struct chance first = work->heap[0];
    work->heap[0] = work->heap[--work->heap_size];
    if (work->heap_size) {
        sift_down(work, 0);
    }
    return first;
}

static void offer(struct work *work, int32_t place)
{
    const struct symbol *symbol = &work->symbols[place];
    if (symbol->behind != NOBODY) {
        const struct bpe_merge *merge = find_merge(work->subword, symbol->id,
                                                   work->symbols[symbol->behind].id);
        if (merge) {
            push(work, merge, (size_t)place);
        }
    }
}

/* A merge takes one chance and one symbol away and offers two more chances, so the heap never holds
 * more than twice the symbols. */
static void merge_all(struct work *work)
{
    work->heap_size = 0;
    for (size_t i = 0; i + 1 < work->n; i++) {
        offer(work, (int32_t)i);
    }
    while (work->heap_size) {
        struct chance chance = pop(work);
        struct symbol *left = &work->symbols[chance.place];
        if (left->size == 0 || left->behind == NOBODY) {
            continue;
        }
        struct symbol *right = &work->symbols[left->behind];
        const struct bpe_merge *merge = find_merge(work->subword, left->id, right->id);
        int32_t id = work->subword->results[chance.rank];
        if (!merge || work->subword->results[merge->rank] != id) {
            continue; /* one of the two has become another since */
        }
        left->id = id;
        left->size += right->size;
        left->behind = right->behind;
        right->size = 0;
        if (left->behind != NOBODY) {
            work->symbols[left->behind].before = (int32_t)chance.place;
        }
        if (left->before != NOBODY) {
            offer(work, left->before);
        }
        offer(work, (int32_t)chance.place);
    }
}

/* --- Characters ------------------------------------------------------------------------------- */

/* Characters without a word that wait to become one unknown token. */
struct unknown {
    bool waits;
    size_t size;
};

static void add_unknown(struct work *work, struct unknown *unknown)
{
    if (unknown->waits) {
        add_symbol(work, work->subword->unk, unknown->size);
    }
    *unknown = (struct unknown){0};
}

static bool add_bytes(struct work *work, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (work->subword->bytes[(unsigned char)bytes[i]] == WORDS_NONE) {
            return false;
        }
    }
    for (size_t i = 0; i < size; i++) {
        add_symbol(work, work->subword->bytes[(unsigned char)bytes[i]], 1);
    }
    return true;
}

/* A character with its prefix and suffix, as words have them; its own size is `size`. */
static void add_character(struct work *work, const char *dressed, size_t dressed_size, size_t size,
                          struct unknown *unknown)
{
    const struct subword *subword = work->subword;
    int32_t id = words_find(&subword->words, dressed, dressed_size);
    if (id != WORDS_NONE) {
        add_unknown(work, unknown);
        add_symbol(work, id, size);
    } else if (subword->byte_fallback && add_bytes(work, dressed, dressed_size)) {
        return; /* what waits goes on waiting: the reference's order */
    } else if (subword->unk != WORDS_NONE) {
        if (unknown->waits && !subword->fuse_unk) {
            add_unknown(work, unknown);
        }
        unknown->waits = true;
        unknown->size += size;
    }
}

static void add_characters(struct work *work, const char *text, size_t size)
{
    const struct subword *subword = work->subword;
    struct unknown unknown = {0};
    char dressed[2 * SUBWORD_AFFIX_MAX + 4];
    for (size_t at = 0; at < size;) {
        size_t begin = at;
        (void)utf8_next(text, size, &at);
        size_t used = 0;
        if (begin > 0) {
            memcpy(dressed, subword->prefix, subword->prefix_size);
            used = subword->prefix_size;
        }
        memcpy(dressed + used, text + begin, at - begin);
        used += at - begin;
        if (at == size) {
            memcpy(dressed + used, subword->suffix, subword->suffix_size);
            used += subword->suffix_size;
        }
        add_character(work, dressed, used, at - begin, &unknown);
    }
    add_unknown(work, &unknown);
}

bool bpe_split(const struct subword *subword, const char *text, size_t size,
               struct subword_scratch *scratch)
{
    if (subword->ignore_merges) {
        int32_t id = words_find(&subword->words, text, size);
        if (id != WORDS_NONE) {
            return subword_put(scratch, id, 0, size);
        }
    }
    /* A character gives at most one symbol a byte, prefix and suffix included. */
    size_t most = size + subword->suffix_size;
    if (subword->byte_fallback && subword->prefix_size) {
        most += utf8_length(text, size) * subword->prefix_size;
    }
    if (most > INT32_MAX) {
        return false;
    }
    size_t bytes = most * (sizeof(struct symbol) + 2 * sizeof(struct chance));
    struct work work = {.subword = subword, .symbols = subword_scratch_memory(scratch, bytes)};
    if (!work.symbols) {
        return false;
    }
    work.heap = (struct chance *)(work.symbols + most);
    add_characters(&work, text, size);
    merge_all(&work);
    size_t from = 0;
    for (size_t i = 0; i < work.n && scratch->n < scratch->wanted; i++) {
        const struct symbol *symbol = &work.symbols[i];
        if (symbol->size) {
            if (!subword_put(scratch, symbol->id, from, from + symbol->size)) {
                return false;
            }
            from += symbol->size;
        }
    }
    return true;
}
