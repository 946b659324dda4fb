/* base/buf and base/arena: growth, ceilings, sticky failure. */
#include "base/arena.h"
#include "base/buf.h"

#include <stdalign.h>

#include "tests/support/testing.h"

static void test_appends(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1000);
    assert_true(buf_append(&buf, "ab\0c", 4));
    assert_true(buf_append_str(&buf, "def"));
    assert_true(buf_append_char(&buf, '!'));
    assert_true(buf_printf(&buf, "%d-%s", 42, "x"));
    assert_true(buf_append(&buf, NULL, 0));
    assert_int_equal(buf.size, 12);
    assert_memory_equal(buf.data, "ab\0cdef!42-x", 13); /* the NUL behind too */
    buf_done(&buf);
    assert_int_equal(buf.size, 0);
    assert_true(buf_append_str(&buf, "again"));
    buf_done(&buf);
    buf_done(NULL);
}

static void test_ceiling(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 4);
    assert_true(buf_append_str(&buf, "abcd"));
    assert_false(buf_append_char(&buf, 'e'));
    assert_true(buf_failed(&buf));
    assert_false(buf_append(&buf, NULL, 0)); /* sticky */
    assert_int_equal(buf.size, 4);
    assert_memory_equal(buf.data, "abcd", 5);
    buf_clear(&buf);
    assert_false(buf_failed(&buf));
    assert_true(buf_append_str(&buf, "wxyz"));
    buf_clear(&buf);
    assert_false(buf_printf(&buf, "%s", "five!"));
    assert_true(buf_failed(&buf));
    buf_clear(&buf);
    assert_null(buf_reserve(&buf, SIZE_MAX));
    buf_done(&buf);
}

/* The last step is to the ceiling: up to it memory moves a few times, not with each piece. */
static void test_growth_near_the_ceiling(void **state)
{
    (void)state;
    enum { CEILING = 1000000 };
    struct buf buf;
    buf_init(&buf, CEILING);
    size_t moves = 0;
    for (size_t i = 0; i < CEILING; i++) {
        size_t room = buf.room;
        assert_true(buf_append_char(&buf, 'a'));
        moves += buf.room != room;
        assert_true(buf.room <= 2 * buf.size + 256);
    }
    assert_false(buf_append_char(&buf, 'a'));
    assert_int_equal(buf.room, CEILING + 1);
    assert_true(moves < 20);
    buf_done(&buf);
}

/* Memory stays within twice what was appended, whatever the ceiling. */
static void test_growth(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < 100000; i++) {
        assert_true(buf_append_char(&buf, (char)('a' + i % 26)));
        assert_true(buf.room <= 2 * buf.size + 256);
    }
    assert_int_equal(buf.size, 100000);
    assert_int_equal(buf.data[99999], 'a' + 99999 % 26);
    size_t size;
    char *stolen = buf_steal(&buf, &size);
    assert_int_equal(size, 100000);
    assert_int_equal(stolen[size], 0);
    assert_null(buf.data);
    free(stolen);
    stolen = buf_steal(&buf, &size);
    assert_non_null(stolen);
    assert_int_equal(size, 0);
    assert_string_equal(stolen, "");
    free(stolen);
}

static void test_reserve(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 100);
    char *at = buf_reserve(&buf, 10);
    assert_non_null(at);
    memset(at, 'x', 5);
    buf_added(&buf, 5);
    assert_string_equal(buf.data, "xxxxx");
    assert_int_equal(buf.size, 5);
    buf_done(&buf);
}

static void test_arena(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    unsigned char *pieces[200];
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = arena_alloc(&arena, i * 7);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        memset(pieces[i], (int)i, i * 7);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i * 7; k++) {
            assert_int_equal(pieces[i][k], i);
        }
    }
    char *copy = arena_memdup(&arena, "a\0b", 3);
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(arena_memdup(&arena, NULL, 0), "");
    unsigned *zeros = arena_calloc(&arena, 1000, sizeof *zeros);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(zeros[i], 0);
    }
    arena_done(&arena);
    assert_non_null(arena_alloc(&arena, 16)); /* usable again */
    arena_done(&arena);
    arena_done(NULL);
}

static void test_arena_ceiling(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 10000);
    assert_null(arena_alloc(&arena, 10001));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_null(arena_memdup(&arena, "", SIZE_MAX));
    size_t given = 0;
    while (arena_alloc(&arena, 16)) {
        given += 16;
        assert_true(given <= 10000);
    }
    assert_true(given > 9900);
    assert_true(arena.total <= 10000);
    arena_done(&arena);
    struct arena none = {0};
    arena_done(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends),       cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_growth),        cmocka_unit_test(test_growth_near_the_ceiling),
        cmocka_unit_test(test_reserve),       cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
