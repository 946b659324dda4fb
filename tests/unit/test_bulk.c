/* The bulk engine: vectors in order and the same whatever the windows, at any number of threads;
 * errors and the end of a stream leave nothing on its way. */
#include "model/bulk/bulk.h"
#include "model/files/checkpoint.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { TEXTS = 3000, WIDTH = 32, LONGEST = 20 };

struct fixture {
    struct checkpoint *checkpoint;
    struct encoder *encoder;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct err err = ERR_INIT;
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    assert_int_equal(checkpoint_open(TINY, 1, &fixture.checkpoint, &err), ERR_OK);
    assert_int_equal(encoder_create(fixture.checkpoint, &options, &fixture.encoder, &err), ERR_OK);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    encoder_destroy(fixture->encoder);
    checkpoint_close(fixture->checkpoint);
    return 0;
}

/* Text i: [CLS], some words that i decides, [SEP]. */
static size_t make_text(size_t i, int32_t ids[LONGEST])
{
    size_t n = 2 + i % (LONGEST - 2);
    for (size_t k = 0; k < n; k++) {
        ids[k] = k == 0 ? 2 : k == n - 1 ? 3 : (int32_t)(10 + (i * 7 + k * 13) % 400);
    }
    return n;
}

struct feed {
    size_t total, given, taken, at_once;
    size_t fail_at; /* fill fails behind so many texts; SIZE_MAX: never */
    float *rows;    /* [total,H] */
    uint64_t told;
};

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct feed *feed = context;
    /* A window is awaited only where nothing is on its way any more. */
    assert_true(!wait || feed->taken == feed->given);
    for (size_t k = 0; k < feed->at_once && feed->given < feed->total; k++) {
        int32_t ids[LONGEST];
        size_t n = make_text(feed->given, ids);
        if (feed->given == feed->fail_at) {
            return err_set(err, ERR_IO, "the source broke");
        }
        if (bulk_window_room(window) == 0) {
            break;
        }
        assert_int_equal(bulk_add(window, ids, n, err), ERR_OK);
        feed->given++;
    }
    *ret_end = feed->given == feed->total;
    return ERR_OK;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    struct feed *feed = context;
    (void)err;
    memcpy(feed->rows + feed->taken * WIDTH, rows, bulk_window_n(window) * WIDTH * sizeof *rows);
    feed->taken += bulk_window_n(window);
    return ERR_OK;
}

static void on_done(void *context, uint64_t done)
{
    struct feed *feed = context;
    assert_true(done >= feed->told && done <= feed->total);
    feed->told = done;
}

static enum err_code run(const struct fixture *fixture, unsigned threads, struct feed *feed,
                         struct err *err)
{
    const struct bulk_options options = {.encoder = fixture->encoder,
                                         .pooling = POOLING_MEAN,
                                         .threads = threads,
                                         .max_length = LONGEST,
                                         .batch_tokens = 200};
    const struct bulk_stream stream = {
        .context = feed, .fill = fill, .take = take, .on_done = on_done};
    struct bulk *bulk;
    feed->rows = calloc(feed->total + 1, WIDTH * sizeof *feed->rows);
    assert_non_null(feed->rows);
    assert_int_equal(bulk_create(&options, &bulk, err), ERR_OK);
    enum err_code code = bulk_run(bulk, &stream, err);
    /* The engine is good for another stream, whatever became of the last. */
    struct feed next = {.total = 5, .at_once = 2, .fail_at = SIZE_MAX};
    next.rows = feed->rows;
    float *kept = malloc(feed->total * WIDTH * sizeof *kept + 1);
    assert_non_null(kept);
    memcpy(kept, feed->rows, feed->total * WIDTH * sizeof *kept);
    const struct bulk_stream again = {.context = &next, .fill = fill, .take = take};
    if (feed->total >= 5) {
        struct err second = ERR_INIT;
        assert_int_equal(bulk_run(bulk, &again, &second), ERR_OK);
        assert_int_equal(next.taken, 5);
    }
    memcpy(feed->rows, kept, feed->total * WIDTH * sizeof *kept);
    free(kept);
    bulk_destroy(bulk);
    return code;
}

static void test_order_and_bits(void **state)
{
    const struct fixture *fixture = *state;
    struct err err = ERR_INIT;
    struct feed first = {.total = TEXTS, .at_once = SIZE_MAX, .fail_at = SIZE_MAX};
    assert_int_equal(run(fixture, 1, &first, &err), ERR_OK);
    assert_int_equal(first.taken, TEXTS);
    assert_int_equal(first.told, TEXTS);
    static const size_t at_once[] = {1, 37, 1024, SIZE_MAX};
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        struct feed feed = {.total = TEXTS, .at_once = at_once[i], .fail_at = SIZE_MAX};
        assert_int_equal(run(fixture, 3, &feed, &err), ERR_OK);
        if (encoder_isa(fixture->encoder) != ISA_GENERIC) {
            assert_memory_equal(feed.rows, first.rows, TEXTS * WIDTH * sizeof(float));
        }
        free(feed.rows);
    }
    free(first.rows);
}

static void test_ends(void **state)
{
    const struct fixture *fixture = *state;
    struct err err = ERR_INIT;
    struct feed nothing = {.at_once = 1, .fail_at = SIZE_MAX};
    assert_int_equal(run(fixture, 2, &nothing, &err), ERR_OK);
    assert_int_equal(nothing.taken, 0);
    free(nothing.rows);
    static const size_t fail_at[] = {0, 1, 1500, 2999};
    for (size_t i = 0; i < sizeof fail_at / sizeof *fail_at; i++) {
        struct feed feed = {.total = TEXTS, .at_once = 100, .fail_at = fail_at[i]};
        err = ERR_INIT;
        expect_error(&err, run(fixture, 3, &feed, &err), ERR_IO, WORDS("broke"));
        assert_true(feed.taken <= fail_at[i]);
        free(feed.rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_bits),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
