#include "server/queue/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"

/* Entries begin at multiples of this, so that a place fits into 32 bits. */
enum { UNIT = 16 };
/* A key of a usual length, to guess how many texts there will be. */
enum { KEY_GUESS = 160 };
/* How many entries may move on in a row before one goes although it was found. */
enum { CHANCES = 8 };

/* [pooled] floats, [first] floats where it has them, [n] ids, [n] types follow. */
struct entry {
    uint64_t hash;
    uint32_t next;  /* of its chain: place + 1; 0: none */
    uint32_t units; /* its size */
    uint32_t n;
    uint32_t skip;
    uint8_t has_first;
    uint8_t found; /* since it came or moved */
    uint8_t dead;  /* in no chain; its room comes back in its turn */
};

struct cache {
    size_t pooled, first; /* floats */
    size_t own_bytes;     /* of this struct and the chains */
    size_t n_chains;      /* a power of two */
    uint32_t *chains;     /* [n_chains] place + 1 of the newest; 0: none */
    char *block;
    size_t room; /* units of the block */
    /* The oldest entry, and where the next one goes. wrapped: what is held is [head, end) and
     * [0, tail), else [head, tail). */
    size_t head, tail, end;
    bool wrapped;
    size_t texts;
    size_t used; /* units of entries, dead ones too */
    uint64_t evictions;
};

/* 64 × 64 → 128 bits, folded (as in wyhash). */
static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t cache_hash(const struct cache_key *key, uint64_t seed)
{
    const uint64_t odd = 0x9e3779b97f4a7c15ull;
    uint64_t hash = fold(seed ^ key->n, odd ^ key->skip);
    for (size_t i = 0; i < key->n; i++) {
        uint64_t token = (uint64_t)(uint32_t)key->ids[i] << 8 | (key->types ? key->types[i] : 0);
        hash = fold(hash ^ token, seed ^ odd);
        hash += token;
    }
    return fold(hash ^ odd, seed | 1);
}

static bool same_types(const uint8_t *a, const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((a ? a[i] : 0) != (b ? b[i] : 0)) {
            return false;
        }
    }
    return true;
}

bool cache_same(const struct cache_key *a, const struct cache_key *b)
{
    return a->hash == b->hash && a->n == b->n && a->skip == b->skip &&
           memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0 &&
           same_types(a->types, b->types, a->n);
}

static struct entry *entry_at(const struct cache *cache, size_t place)
{
    return (struct entry *)(void *)(cache->block + place * UNIT);
}

static float *entry_vectors(struct entry *entry)
{
    return (float *)(void *)((char *)entry + size_round_up(sizeof *entry, UNIT));
}

/* False where the size can't be held. */
static bool entry_units(const struct cache *cache, size_t n, bool has_first, size_t *ret_units)
{
    size_t vectors = (cache->pooled + (has_first ? cache->first : 0)) * sizeof(float);
    size_t bytes;
    if (n > UINT32_MAX || !size_mul(n, sizeof(int32_t) + sizeof(uint8_t), &bytes) ||
        !size_add(bytes, size_round_up(sizeof(struct entry), UNIT) + vectors, &bytes) ||
        bytes > cache->room * UNIT) {
        return false;
    }
    *ret_units = size_div_up(bytes, UNIT);
    return true;
}

static struct cache_key key_of(const struct cache *cache, struct entry *entry)
{
    const float *vectors = entry_vectors(entry);
    const int32_t *ids = (const int32_t *)(const void *)(vectors + cache->pooled +
                                                         (entry->has_first ? cache->first : 0));
    return (struct cache_key){.ids = ids,
                              .types = (const uint8_t *)(ids + entry->n),
                              .n = entry->n,
                              .skip = entry->skip,
                              .hash = entry->hash};
}

static uint32_t *chain_of(const struct cache *cache, uint64_t hash)
{
    return &cache->chains[hash & (cache->n_chains - 1)];
}

static struct entry *find(const struct cache *cache, const struct cache_key *key)
{
    for (uint32_t at = *chain_of(cache, key->hash); at;) {
        struct entry *entry = entry_at(cache, at - 1);
        if (entry->hash == key->hash) {
            const struct cache_key held = key_of(cache, entry);
            if (cache_same(&held, key)) {
                return entry;
            }
        }
        at = entry->next;
    }
    return NULL;
}

/* Where its chain says that the entry at `place` is. */
static uint32_t *link_to(const struct cache *cache, size_t place)
{
    uint32_t *link = chain_of(cache, entry_at(cache, place)->hash);
    while (*link != place + 1) {
        CHECK(*link);
        link = &entry_at(cache, *link - 1)->next;
    }
    return link;
}

static void unlink_entry(struct cache *cache, size_t place)
{
    struct entry *entry = entry_at(cache, place);
    *link_to(cache, place) = entry->next;
    entry->dead = 1;
    cache->texts--;
}

/* The gap between tail and head moves on by the oldest entry: it goes, or moves to the gap's other
 * end. */
static void pass_oldest(struct cache *cache, unsigned *chances)
{
    size_t place = cache->head;
    struct entry *entry = entry_at(cache, place);
    size_t units = entry->units;
    if (!entry->dead && entry->found && *chances > 0) {
        *link_to(cache, place) = (uint32_t)cache->tail + 1;
        entry->found = 0;
        memmove(entry_at(cache, cache->tail), entry, units * UNIT);
        cache->tail += units;
        --*chances;
    } else {
        if (!entry->dead) {
            unlink_entry(cache, place);
            cache->evictions++;
        }
        cache->used -= units;
    }
    cache->head += units;
    if (cache->head == cache->end) {
        cache->head = 0;
        cache->wrapped = false;
    }
}

/* Room at the tail. units is at most the whole room. */
static void make_room(struct cache *cache, size_t units)
{
    unsigned chances = CHANCES;
    for (;;) {
        if (cache->used == 0) {
            cache->head = 0;
            cache->tail = 0;
            cache->wrapped = false;
        }
        if (cache->wrapped ? cache->head - cache->tail >= units
                           : cache->room - cache->tail >= units) {
            return;
        }
        if (cache->wrapped) {
            pass_oldest(cache, &chances);
        } else {
            cache->end = cache->tail;
            cache->tail = 0;
            cache->wrapped = true;
        }
    }
}

enum err_code cache_create(size_t bytes, size_t pooled, size_t first, struct cache **ret_cache,
                           struct err *err)
{
    size_t guess = size_round_up(sizeof(struct entry), UNIT) + pooled * sizeof(float) + KEY_GUESS;
    size_t n_chains = 64;
    while (n_chains < bytes / guess) {
        n_chains *= 2;
    }
    struct cache *cache = calloc(1, sizeof *cache);
    if (!cache) {
        return err_nomem(err, sizeof *cache);
    }
    cache->pooled = pooled;
    cache->first = first;
    cache->n_chains = n_chains;
    cache->own_bytes = sizeof *cache + n_chains * sizeof *cache->chains;
    CHECK(bytes > cache->own_bytes && bytes / UNIT < UINT32_MAX);
    cache->room = (bytes - cache->own_bytes) / UNIT;
    cache->chains = calloc(n_chains, sizeof *cache->chains);
    cache->block = aligned_alloc(UNIT, cache->room * UNIT);
    if (!cache->chains || !cache->block) {
        cache_destroy(cache);
        return err_nomem(err, bytes);
    }
    *ret_cache = cache;
    return ERR_OK;
}

void cache_destroy(struct cache *cache)
{
    if (cache) {
        free(cache->chains);
        free(cache->block);
        free(cache);
    }
}

bool cache_get(struct cache *cache, const struct cache_key *key, float *ret_pooled,
               float *ret_first)
{
    struct entry *entry = find(cache, key);
    if (!entry || (ret_first && !entry->has_first)) {
        return false;
    }
    const float *vectors = entry_vectors(entry);
    entry->found = 1;
    memcpy(ret_pooled, vectors, cache->pooled * sizeof *vectors);
    if (ret_first) {
        memcpy(ret_first, vectors + cache->pooled, cache->first * sizeof *vectors);
    }
    return true;
}

void cache_put(struct cache *cache, const struct cache_key *key, const float *pooled,
               const float *first)
{
    struct entry *held = find(cache, key);
    size_t units;
    if ((held && (held->has_first || !first)) || key->skip > UINT32_MAX ||
        !entry_units(cache, key->n, first != NULL, &units)) {
        return;
    }
    if (held) {
        unlink_entry(cache, (size_t)((char *)held - cache->block) / UNIT);
    }
    make_room(cache, units);
    uint32_t *chain = chain_of(cache, key->hash);
    struct entry *entry = entry_at(cache, cache->tail);
    *entry = (struct entry){.hash = key->hash,
                            .next = *chain,
                            .units = (uint32_t)units,
                            .n = (uint32_t)key->n,
                            .skip = (uint32_t)key->skip,
                            .has_first = first != NULL};
    float *vectors = entry_vectors(entry);
    char *after = mempcpy(vectors, pooled, cache->pooled * sizeof *pooled);
    if (first) {
        after = mempcpy(after, first, cache->first * sizeof *first);
    }
    after = mempcpy(after, key->ids, key->n * sizeof *key->ids);
    if (key->types) {
        memcpy(after, key->types, key->n);
    } else {
        memset(after, 0, key->n);
    }
    *chain = (uint32_t)cache->tail + 1;
    cache->tail += units;
    cache->used += units;
    cache->texts++;
}

struct cache_state cache_state(const struct cache *cache)
{
    return (struct cache_state){.bytes = cache->own_bytes + cache->used * UNIT,
                                .texts = cache->texts,
                                .evictions = cache->evictions};
}
