/* How a window's texts are cut into batches. */
#include "model/bulk/cut.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testing.h"

enum { TEXTS = 1024, THREADS_MAX = 64 };

static size_t starts[TEXTS + 1];
static size_t order[TEXTS];
static size_t batches[TEXTS + 1];

/* n texts of 5 to 44 tokens. */
static void make_texts(size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        starts[i + 1] = starts[i] + 5 + (seed >> 16) % 40;
    }
}

static size_t batch_tokens(size_t batch)
{
    size_t tokens = 0;
    for (size_t i = batches[batch]; i < batches[batch + 1]; i++) {
        tokens += starts[order[i] + 1] - starts[order[i]];
    }
    return tokens;
}

/* Tokens of the thread that ends last, where each takes the next batch when it is done with one. */
static size_t longest_thread(size_t n_batches, unsigned threads)
{
    size_t done[THREADS_MAX] = {0};
    size_t longest = 0;
    for (size_t batch = 0; batch < n_batches; batch++) {
        unsigned first = 0;
        for (unsigned thread = 1; thread < threads; thread++) {
            first = done[thread] < done[first] ? thread : first;
        }
        done[first] += batch_tokens(batch);
        longest = done[first] > longest ? done[first] : longest;
    }
    return longest;
}

static void test_every_text_once_longest_first(void **state)
{
    (void)state;
    struct cut cut = {.batch_tokens = 1024, .batch_texts = 256, .threads = 2};
    for (size_t n = 1; n <= TEXTS; n += 31) {
        cut.last = n % 2;
        bool seen[TEXTS] = {false};
        make_texts(n, (uint32_t)n);
        size_t n_batches = cut_batches(&cut, starts, n, order, batches);
        assert_int_equal(batches[0], 0);
        assert_int_equal(batches[n_batches], n);
        for (size_t i = 0; i < n; i++) {
            assert_false(seen[order[i]]);
            seen[order[i]] = true;
        }
        for (size_t i = 1; i < n; i++) {
            size_t before = starts[order[i - 1] + 1] - starts[order[i - 1]];
            size_t length = starts[order[i] + 1] - starts[order[i]];
            assert_true(before > length || (before == length && order[i - 1] < order[i]));
        }
        for (size_t batch = 0; batch < n_batches; batch++) {
            assert_true(batch_tokens(batch) <= cut.batch_tokens);
            assert_true(batches[batch + 1] > batches[batch]);
        }
    }
}

static void test_a_text_beyond_the_budget_is_a_batch(void **state)
{
    (void)state;
    const struct cut cut = {.batch_tokens = 100, .batch_texts = 2, .threads = 1, .last = true};
    const size_t three[] = {0, 300, 310, 320, 330};
    assert_int_equal(cut_batches(&cut, three, 4, order, batches), 3);
    assert_int_equal(batches[1], 1);
    assert_int_equal(batches[2], 3); /* two texts are the most */
}

/* 512 sentences on two threads are 13 batches of 1,024 tokens: one thread would wait for the
 * other's last. */
static void test_threads_end_together(void **state)
{
    (void)state;
    static const unsigned threads[] = {1, 2, 3, 4, 8, 16};
    for (size_t n = 128; n <= TEXTS; n += 128) {
        make_texts(n, (uint32_t)n);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            const struct cut cut = {
                .batch_tokens = 1024, .batch_texts = 256, .threads = threads[t], .last = true};
            size_t n_batches = cut_batches(&cut, starts, n, order, batches);
            size_t even = starts[n] / threads[t];
            assert_true(longest_thread(n_batches, threads[t]) <= even + even / 100 + 64);
        }
    }
}

/* Where more follows, batches are whole: nobody waits. */
static void test_only_the_last_window_ends(void **state)
{
    (void)state;
    const struct cut cut = {.batch_tokens = 1024, .batch_texts = 256, .threads = 2};
    make_texts(TEXTS, 1);
    size_t n_batches = cut_batches(&cut, starts, TEXTS, order, batches);
    for (size_t batch = 0; batch + 1 < n_batches; batch++) {
        assert_true(batch_tokens(batch) > cut.batch_tokens - 45);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_text_once_longest_first),
        cmocka_unit_test(test_a_text_beyond_the_budget_is_a_batch),
        cmocka_unit_test(test_threads_end_together),
        cmocka_unit_test(test_only_the_last_window_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
