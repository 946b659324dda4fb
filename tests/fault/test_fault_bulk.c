/* Lines of a file to vectors, as embed does it, with each place that allocates or starts a thread
 * failing in turn: the same vectors, or an error that says so; the next run is right. */
#include "base/reader.h"
#include "model/bulk/bulk.h"
#include "model/model.h"
#include "tests/fault/chaos.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { LINES = 600, HIDDEN = 32, ROW = 2 * HIDDEN, MAX_LENGTH = 16, PATH_SIZE = 600 };
enum { LONG_LINE = 300000 };

static struct model *model;
static struct scratch scratch;
static char path[PATH_SIZE];

struct feed {
    struct reader reader;
    size_t taken;
    unsigned char rows[LINES][ROW * sizeof(float)];
    char digest[SHA256_HEX_SIZE + 1];
};

static struct feed whole, got;

static uint64_t no_time(void)
{
    return 1;
}

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct feed *feed = context;
    enum err_code code = ERR_OK;
    *ret_end = false;
    while (code == ERR_OK && bulk_window_room(window) > 0) {
        enum reader_state state;
        struct line line;
        code = reader_next(&feed->reader, wait, &state, &line, err);
        if (code == ERR_OK && state != READER_LINE) {
            *ret_end = state == READER_END;
            break;
        }
        if (code == ERR_OK) {
            code = bulk_add_text(window, model->tokenizer, line.text, line.size, err);
        }
    }
    return code;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    struct feed *feed = context;
    (void)err;
    memcpy(feed->rows[feed->taken], rows, bulk_window_n(window) * sizeof feed->rows[0]);
    feed->taken += bulk_window_n(window);
    return ERR_OK;
}

static enum err_code run(struct feed *feed, struct err *err)
{
    const struct bulk_options options = {.encoder = model->encoder,
                                         .pooling = POOLING_MEAN,
                                         .first = true,
                                         .threads = 2,
                                         .max_length = MAX_LENGTH,
                                         .now_ns = no_time};
    const struct bulk_stream stream = {.context = feed, .fill = fill, .take = take};
    struct bulk *bulk = NULL;
    memset(feed, 0, sizeof *feed);
    enum err_code code = reader_open(path, &feed->reader, err);
    if (code == ERR_OK) {
        code = reader_digest(&feed->reader, err);
    }
    if (code == ERR_OK) {
        code = bulk_create(&options, &bulk, err);
    }
    if (code == ERR_OK) {
        code = bulk_run(bulk, &stream, err);
    }
    if (code == ERR_OK) {
        struct bulk_counts counts;
        bulk_counts(bulk, &counts);
        assert_true(counts.tokens > feed->taken);
        reader_digest_text(&feed->reader, feed->digest);
    }
    bulk_destroy(bulk);
    reader_close(&feed->reader);
    return code;
}

static void check_whole(const char *when, size_t place)
{
    if (got.taken != whole.taken || strcmp(got.digest, whole.digest) != 0 ||
        memcmp(got.rows, whole.rows, sizeof whole.rows) != 0) {
        fail_msg("%s %zu: other vectors", when, place);
    }
}

static void test_every_place(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    size_t failures = 0;
    assert_int_equal(run(&whole, &err), ERR_OK);
    assert_int_equal(whole.taken, LINES);
    for (bool failed = true; failed; failures += failed) {
        err = (struct err)ERR_INIT;
        chaos_fail_new();
        enum err_code code = run(&got, &err);
        failed = chaos_failed();
        chaos_fail_at(0);
        if (code == ERR_OK) {
            check_whole("place", failures);
        } else if (!failed || (code != ERR_NOMEM && code != ERR_IO) || !err.text[0]) {
            fail_msg("place %zu: %s: %s", failures, err_name(code), err.text);
        }
        assert_int_equal(run(&got, &err), ERR_OK);
        check_whole("after place", failures);
    }
    print_message("%zu places that had not failed before\n", failures);
    assert_true(failures > 10);
}

static int set_up(void **state)
{
    (void)state;
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct err err = ERR_INIT;
    scratch_make(&scratch);
    (void)snprintf(path, sizeof path, "%s", scratch_path(&scratch, "lines"));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < LINES - 1; i++) {
        (void)fprintf(file, "the end of it %d%s\n", i, i % 3 ? " and more of that" : "");
    }
    for (int i = 0; i < LONG_LINE; i++) {
        (void)fputc(i % 5 ? 'a' : ' ', file);
    }
    assert_int_equal(fclose(file), 0);
    return model_load(TINY, &options, &model, &err) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    model_destroy(model);
    scratch_remove(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_place)};
    chaos_count_threads();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
