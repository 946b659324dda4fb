/* The cache of vectors: what is found is what was put, and the ceiling holds. */
#include "server/queue/cache.h"

#include "tests/support/testing.h"

enum { POOLED = 12, FIRST = 8, MIB = 1024 * 1024 };

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (random_state >> 33) % below;
}

static struct cache *make(size_t bytes)
{
    struct cache *cache = NULL;
    assert_int_equal(cache_create(bytes, POOLED, FIRST, &cache, NULL), ERR_OK);
    return cache;
}

/* The vectors of a text are told by its number and kind alone. */
static void fill(float *values, size_t n, uint64_t number, float step)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)number + step * (float)i;
    }
}

static void put(struct cache *cache, const struct cache_key *key, uint64_t number, bool first)
{
    float pooled[POOLED];
    float begins[FIRST];
    fill(pooled, POOLED, number, 0.25f);
    fill(begins, FIRST, number, 0.5f);
    cache_put(cache, key, pooled, first ? begins : NULL);
}

static bool get(struct cache *cache, const struct cache_key *key, uint64_t number, bool first)
{
    float pooled[POOLED];
    float begins[FIRST];
    float expected[POOLED > FIRST ? POOLED : FIRST];
    if (!cache_get(cache, key, pooled, first ? begins : NULL)) {
        return false;
    }
    fill(expected, POOLED, number, 0.25f);
    assert_memory_equal(pooled, expected, sizeof pooled);
    if (first) {
        fill(expected, FIRST, number, 0.5f);
        assert_memory_equal(begins, expected, sizeof begins);
    }
    return true;
}

static void test_the_whole_key(void **state)
{
    (void)state;
    struct cache *cache = make(MIB);
    static const int32_t ids[] = {1, 2, 3};
    static const int32_t others[] = {1, 2, 4};
    static const uint8_t types[] = {0, 0, 1};
    static const uint8_t none[] = {0, 0, 0};
    /* One hash for all: a hash alone must decide nothing. */
    const struct cache_key keys[] = {
        {.ids = ids, .n = 3, .hash = 7},
        {.ids = others, .n = 3, .hash = 7},
        {.ids = ids, .types = types, .n = 3, .hash = 7},
        {.ids = ids, .n = 2, .hash = 7},
        {.ids = ids, .n = 3, .skip = 1, .hash = 7},
    };
    enum { KEYS = sizeof keys / sizeof *keys };
    for (size_t i = 0; i < KEYS; i++) {
        assert_false(get(cache, &keys[i], i, false));
        put(cache, &keys[i], i, false);
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_true(get(cache, &keys[i], i, false));
        for (size_t k = 0; k < KEYS; k++) {
            assert_int_equal(cache_same(&keys[i], &keys[k]), i == k);
        }
    }
    struct cache_key plain = keys[0];
    plain.types = none;
    assert_true(get(cache, &plain, 0, false));
    assert_int_equal(cache_state(cache).texts, KEYS);
    assert_int_equal(cache_hash(&plain, 5), cache_hash(&keys[0], 5));
    for (size_t i = 1; i < KEYS; i++) {
        assert_true(cache_hash(&keys[0], 5) != cache_hash(&keys[i], 5));
    }
    assert_true(cache_hash(&plain, 5) != cache_hash(&plain, 6));
    cache_destroy(cache);
}

static void test_first_tokens(void **state)
{
    (void)state;
    struct cache *cache = make(MIB);
    static const int32_t ids[] = {5};
    const struct cache_key key = {.ids = ids, .n = 1, .hash = 1};
    put(cache, &key, 3, false);
    assert_true(get(cache, &key, 3, false));
    assert_false(get(cache, &key, 3, true)); /* it counts as not held */
    put(cache, &key, 3, true);
    assert_true(get(cache, &key, 3, true));
    put(cache, &key, 3, false); /* takes nothing away */
    assert_true(get(cache, &key, 3, true));
    assert_int_equal(cache_state(cache).texts, 1);
    cache_destroy(cache);
}

static void test_what_is_asked_for_stays(void **state)
{
    (void)state;
    struct cache *cache = make(MIB);
    static const int32_t loved[] = {1, 1};
    const struct cache_key key = {.ids = loved, .n = 2, .hash = 99};
    put(cache, &key, 9, false);
    for (int32_t i = 0; i < 100000; i++) {
        const struct cache_key other = {.ids = &i, .n = 1, .hash = (uint64_t)i * 2654435761u};
        put(cache, &other, 1, false);
        assert_true(i % 64 != 0 || get(cache, &key, 9, false));
    }
    assert_true(cache_state(cache).evictions > 80000);
    cache_destroy(cache);
}

static void test_too_large(void **state)
{
    (void)state;
    struct cache *cache = make(MIB);
    static int32_t ids[MIB / 4];
    const struct cache_key key = {.ids = ids, .n = MIB / 4, .hash = 3};
    put(cache, &key, 1, false);
    assert_int_equal(cache_state(cache).texts, 0);
    cache_destroy(cache);
}

/* Texts of all lengths, asked for and put as they come. What is found is right, the ceiling holds,
 * and what fits altogether is never lost. */
static void test_at_random(void **state)
{
    (void)state;
    enum { TEXTS = 6000, STEPS = 400000, LENGTH_MAX = 600 };
    static int32_t ids[TEXTS + LENGTH_MAX];
    size_t hits = 0;
    random_state = 1;
    for (size_t i = 0; i < TEXTS + LENGTH_MAX; i++) {
        ids[i] = (int32_t)i; /* no two texts are equal */
    }
    struct cache *cache = make(MIB);
    for (size_t step = 0; step < STEPS; step++) {
        uint64_t number = draw(4) ? draw(300) : draw(TEXTS);
        struct cache_key key = {.ids = ids + number,
                                .n = 1 + number * 7919 % (number % 50 ? 40 : LENGTH_MAX),
                                .skip = number % 3};
        key.hash = cache_hash(&key, 42) % 512; /* long chains */
        bool first = draw(8) == 0;
        if (get(cache, &key, number, first)) {
            hits++;
        } else {
            put(cache, &key, number, first);
            assert_true(get(cache, &key, number, first));
        }
        assert_true(cache_state(cache).bytes <= MIB);
    }
    assert_true(hits > STEPS / 2);
    assert_true(cache_state(cache).bytes > MIB * 9 / 10);
    cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_whole_key),
        cmocka_unit_test(test_first_tokens),
        cmocka_unit_test(test_what_is_asked_for_stays),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
