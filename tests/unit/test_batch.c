#include "model/encoder/batch.h"

#include "tests/support/testing.h"

static void test_packs_side_by_side(void **state)
{
    (void)state;
    struct batch batch;
    static const int32_t first[] = {1, 2, 3};
    static const int32_t second[] = {4};
    assert_true(batch_init(&batch, 3, 6));
    assert_int_equal(batch.n, 0);
    assert_int_equal(batch.total, 0);
    assert_true(batch_add(&batch, first, 3));
    assert_true(batch_add(&batch, second, 1));
    assert_int_equal(batch.n, 2);
    assert_int_equal(batch.total, 4);
    static const int32_t packed[] = {1, 2, 3, 4};
    static const size_t starts[] = {0, 3, 4};
    assert_memory_equal(batch.ids, packed, sizeof packed);
    assert_memory_equal(batch.starts, starts, sizeof starts);
    batch_done(&batch);
}

static void test_refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct batch batch;
    static const int32_t ids[4] = {7, 8, 9, 10};
    assert_true(batch_init(&batch, 2, 4));
    assert_false(batch_add(&batch, ids, 0));
    assert_false(batch_add(&batch, ids, SIZE_MAX));
    assert_true(batch_add(&batch, ids, 2));
    assert_false(batch_add(&batch, ids, 3));
    assert_int_equal(batch.n, 1);
    assert_int_equal(batch.total, 2);
    assert_true(batch_add(&batch, ids, 1));
    assert_false(batch_add(&batch, ids, 1)); /* a third text, though a token is free */
    assert_int_equal(batch.n, 2);
    batch_clear(&batch);
    assert_int_equal(batch.n, 0);
    assert_true(batch_add(&batch, ids, 4)); /* exactly full */
    assert_int_equal(batch.starts[1], 4);
    batch_done(&batch);
}

static void test_edges(void **state)
{
    (void)state;
    struct batch batch = {.n = 5};
    assert_false(batch_init(&batch, SIZE_MAX, 1));
    assert_int_equal(batch.n, 5);
    assert_true(batch_init(&batch, 0, 0));
    static const int32_t id = 1;
    assert_false(batch_add(&batch, &id, 1));
    assert_int_equal(batch.starts[0], 0);
    batch_done(&batch);
    batch_done(&batch);
    batch_done(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packs_side_by_side),
        cmocka_unit_test(test_refuses_what_does_not_fit),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
