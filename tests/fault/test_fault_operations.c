/* Every allocation of the log's thread, of the keys, of arrivals and of swaps that are kept on disk
 * fails once: the documented answer, and the next one is right. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/log_writer.h"
#include "model/model.h"
#include "server/exchange/auth.h"
#include "server/heads/headstore.h"
#include "server/http/arrivals.h"
#include "server/settings.h"
#include "tests/fault/chaos.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

#define TINY  ORTHRUS_TEST_DATA "/golden/tiny-bert"
#define TOKEN "0123456789-0123456789-0123456789-0123456789"

enum { ATTEMPTS_MAX = 1000 };

/* Without memory for its ring the log goes on as before; kept lines that find none are counted. */
static void test_log(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    int saved = dup(STDERR_FILENO);
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    log_setup(LOG_INFO, LOG_JSON);
    assert_true(saved >= 0 && dup2(pipe_ends[1], STDERR_FILENO) >= 0);
    chaos_fail_at(1);
    enum err_code code = log_writer_start(&err);
    LOG(LOG_INFO, "no line needs memory", LOG_S("text", "x"));
    chaos_fail_at(0);
    err = ERR_INIT;
    enum err_code again = log_writer_start(&err);
    uint64_t dropped = log_writer_dropped();
    /* Nobody reads: pipe and ring fill up, then each kept line takes memory. */
    for (int i = 0; i < 20000; i++) {
        LOG_KEPT(LOG_INFO, "kept", LOG_U("n", (uint64_t)i));
    }
    uint64_t before = log_writer_dropped();
    chaos_fail_at(1);
    LOG_KEPT(LOG_INFO, "kept", LOG_U("n", 20000));
    bool failed = chaos_failed();
    chaos_fail_at(0);
    uint64_t after = log_writer_dropped();
    log_writer_stop(10);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
    assert_int_equal(code, ERR_NOMEM);
    assert_int_equal(again, ERR_OK);
    assert_int_equal(before, dropped);
    assert_true(failed);
    assert_int_equal(after, dropped + 1);
}

static enum auth_result check(struct keyring *ring)
{
    char id[AUTH_ID_MAX + 1];
    return keyring_check(ring, "Bearer " TOKEN, "unix", id);
}

static void test_keys(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    scratch_text(&scratch, "tokens", "ops:" TOKEN "\n");
    char path[600];
    (void)snprintf(path, sizeof path, "%s", scratch_path(&scratch, "tokens"));
    struct keyring *ring = NULL;
    bool failed = true;
    for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
        struct err err = ERR_INIT;
        chaos_fail_at(n);
        enum err_code code = keyring_create(path, "token", &ring, &err);
        failed = chaos_failed();
        chaos_fail_at(0);
        assert_int_equal(code, failed ? ERR_NOMEM : ERR_OK);
    }
    failed = true;
    for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
        struct err err = ERR_INIT;
        size_t keys = 0;
        chaos_fail_at(n);
        enum err_code code = keyring_reload(ring, &keys, &err);
        failed = chaos_failed();
        chaos_fail_at(0);
        assert_int_equal(code, failed ? ERR_NOMEM : ERR_OK);
        assert_int_equal(check(ring), AUTH_OK); /* the old ones stay in force */
    }
    keyring_destroy(ring);
    scratch_remove(&scratch);
}

static void test_arrivals(void **state)
{
    (void)state;
    struct arrivals arrivals = {0};
    chaos_fail_at(1);
    assert_false(arrivals_add(&arrivals, 7, LISTENER_MAIN, 1));
    chaos_fail_at(0);
    assert_int_equal(arrivals_count(&arrivals, LISTENER_MAIN), 0);
    assert_true(arrivals_add(&arrivals, 7, LISTENER_MAIN, 1));
    assert_true(arrivals_add(&arrivals, 7, LISTENER_ADMIN, 2)); /* the first was given up */
    assert_int_equal(arrivals_count(&arrivals, LISTENER_MAIN), 0);
    assert_int_equal(arrivals_count(&arrivals, LISTENER_ADMIN), 1);
    arrivals_remove(&arrivals, 8);
    arrivals_done(&arrivals);
    assert_int_equal(arrivals_count(&arrivals, LISTENER_ADMIN), 0);
}

static struct headstore *open_store(const struct settings *settings, const struct model *model,
                                    struct metrics *metrics)
{
    struct headstore *store = NULL;
    struct err err = ERR_INIT;
    if (headstore_create(settings, model, POOLING_MEAN, 1, metrics, &store, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return store;
}

/* With --state-dir: what a PUT says is what memory and folder say afterwards. */
static void test_swaps_on_disk(void **state)
{
    (void)state;
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct err err = ERR_INIT;
    struct model *model = NULL;
    struct scratch scratch;
    struct metrics *metrics = metrics_create("test", NULL);
    log_setup(LOG_ERROR, LOG_TEXT);
    assert_int_equal(model_load(TINY, &options, &model, &err), ERR_OK);
    scratch_make(&scratch);
    char dir[600];
    (void)snprintf(dir, sizeof dir, "%s", scratch_path(&scratch, "state"));
    const struct settings settings = {.heads_path = TINY "/heads.safetensors", .state_dir = dir};
    struct headstore *store = open_store(&settings, model, metrics);
    uint64_t active = 1;
    bool failed = true;
    for (size_t n = 1; failed && n < ATTEMPTS_MAX; n++) {
        struct buf file = heads_file_make(model->config.hidden, 6, 3, (float)n, NULL);
        struct heads_version now = {0};
        struct heads_version previous = {0};
        struct err why = ERR_INIT;
        chaos_fail_at(n);
        enum swap_result result = headstore_put(store, file.data, file.size, NULL, false, "ops",
                                                &now, &previous, &why);
        failed = chaos_failed();
        chaos_fail_at(0);
        assert_true(result == SWAP_OK || (failed && result == SWAP_FAILED));
        active = result == SWAP_OK ? now.version : active;
        heads_version_release(&now);
        heads_version_release(&previous);
        buf_done(&file);
        /* Nothing is persisted at a start, so a folder with no PUT yet gives --heads again. */
        headstore_destroy(store);
        store = open_store(&settings, model, metrics);
        headstore_acquire(store, &now);
        assert_int_equal(now.version, active);
        heads_version_release(&now);
    }
    headstore_destroy(store);
    scratch_remove(&scratch);
    metrics_destroy(metrics);
    model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_arrivals),
        cmocka_unit_test(test_swaps_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
