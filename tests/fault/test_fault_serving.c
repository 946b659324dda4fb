/* Serving and swapping with every allocation failing in turn: a request ends with an answer or with
 * `internal`, a swap with success or without a change, and nothing leaks. */
#include "base/clock.h"
#include "base/jval.h"
#include "base/log.h"
#include "model/files/safetensors.h"
#include "server/answer/answer.h"
#include "server/heads/shadow.h"
#include "server/queue/engine.h"
#include "server/queue/job.h"
#include "tests/fault/chaos.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { ATTEMPTS_MAX = 10000, FILE_MAX = 1 << 20, HIDDEN = 32 };

static struct settings settings = {
    .model_dir = TINY,
    .precision = "fp32",
    .threads = 1,
    .max_queue_requests = 512,
    .max_client_batch = 64,
    .version = "test",
};
static struct metrics *metrics;
static struct engine *engine;
static struct scratch scratch;

static int setup(void **state)
{
    (void)state;
    log_setup(LOG_ERROR, LOG_TEXT);
    scratch_make(&scratch);
    settings.state_dir = scratch.dir;
    metrics = metrics_create("test", NULL);
    struct err err = ERR_INIT;
    if (engine_create(&settings, &answers, metrics, &engine, &err) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_destroy(engine);
    metrics_destroy(metrics);
    scratch_remove(&scratch);
    return 0;
}

static void on_done(struct job *job)
{
    atomic_store((atomic_bool *)job->context, true);
}

/* The request from body to answer; on the worker too an allocation may be the one. */
static enum problem_kind serve(enum api_kind kind, const char *head, const char *body,
                               struct buf *out)
{
    struct job *job = job_create();
    if (!job) {
        return PROBLEM_INTERNAL;
    }
    atomic_bool ended = false;
    job->kind = kind;
    (void)snprintf(job->head, sizeof job->head, "%s", head);
    job->body = body;
    job->body_size = strlen(body);
    job->deadline_ns = clock_now_ns() + 60 * NS_PER_S;
    job->done = on_done;
    job->context = &ended;
    if (answer_prepare(job, engine) && kind != API_TOKENIZE && kind != API_DECODE &&
        engine_admit(engine, job)) {
        engine_enqueue(engine, job);
        while (!atomic_load(&ended)) {
            (void)usleep(200);
        }
    }
    enum problem_kind problem = job->problem.kind;
    assert_true(problem != PROBLEM_NONE || job->response.size > 0);
    if (out) {
        buf_clear(out);
        assert_true(buf_append(out, job->response.data, job->response.size));
    }
    job_destroy(job);
    return problem;
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *body;
    } requests[] = {
        {API_EMBED, "{\"inputs\":[\"hello world\",\"caf\\u00e9\"],\"dimensions\":4}"},
        {API_CLASSIFY, "{\"inputs\":[\"hello\",\"world\",\"hello\"],\"top_k\":2}"},
        {API_ANALYZE, "{\"inputs\":\"hello\"}"},
        {API_OPENAI, "{\"input\":[[2,5,3]],\"model\":\"x\",\"encoding_format\":\"base64\"}"},
        {API_TOKENIZE, "{\"inputs\":[\"hello\",\"world\"]}"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        for (size_t n = 1; n < ATTEMPTS_MAX; n++) {
            chaos_fail_at(n);
            enum problem_kind problem = serve(requests[i].kind, "classifier", requests[i].body,
                                              NULL);
            bool failed = chaos_failed();
            chaos_fail_at(0);
            if (problem != PROBLEM_NONE && !(failed && problem == PROBLEM_INTERNAL)) {
                fail_msg("request %zu, allocation %zu: problem %d", i, n, (int)problem);
            }
            if (!failed) {
                print_message("request %zu: %zu allocations\n", i, n - 1);
                break;
            }
        }
    }
}

static uint64_t active_version(void)
{
    struct heads_version version;
    headstore_acquire(engine->headstore, &version);
    heads_version_release(&version);
    return version.version;
}

static void test_swaps(void **state)
{
    (void)state;
    size_t hidden = engine->model->config.hidden;
    for (size_t n = 1; n < ATTEMPTS_MAX; n++) {
        struct buf file = heads_file_make(hidden, n % 2 ? 6 : 0, 3, (float)n, NULL);
        uint64_t before = active_version();
        struct heads_version now = {0};
        struct heads_version previous = {0};
        struct err err = ERR_INIT;
        chaos_fail_at(n);
        enum swap_result result = headstore_put(engine->headstore, file.data, file.size, NULL,
                                                false, "ops", &now, &previous, &err);
        bool failed = chaos_failed();
        chaos_fail_at(0);
        heads_version_release(&now);
        heads_version_release(&previous);
        buf_done(&file);
        if (result == SWAP_OK ? active_version() != before + 1
                              : !failed || result != SWAP_FAILED || active_version() != before) {
            fail_msg("allocation %zu: result %d: %s", n, (int)result, err.text);
        }
        if (!failed) {
            print_message("put: %zu allocations\n", n - 1);
            return;
        }
    }
    fail_msg("no end after %d allocations", ATTEMPTS_MAX);
}

/* Heads of every kind, each number the same. */
static struct buf named_heads(float value)
{
    float numbers[8 * HIDDEN];
    for (size_t i = 0; i < 8 * HIDDEN; i++) {
        numbers[i] = (float)(i % 7) * 0.1F + value;
    }
    const struct tensor_source tensors[] = {
        {"mood.weight", 2, {3, 4}, numbers},
        {"mood.bias", 1, {3}, numbers},
        {"mood.dense.weight", 2, {4, HIDDEN}, numbers},
        {"mood.dense.bias", 1, {4}, numbers},
        {"rank.weight", 2, {1, HIDDEN}, numbers},
        {"rank.bias", 1, {1}, numbers},
        {"tags.weight", 2, {3, HIDDEN}, numbers},
        {"tags.bias", 1, {3}, numbers},
        {"topics.weight", 2, {4, HIDDEN}, numbers},
        {"topics.bias", 1, {4}, numbers},
    };
    const struct metadata_source metadata[] = {
        {"mood.labels", "[\"a\",\"b\",\"c\"]"},
        {"mood.activation", "gelu"},
        {"mood.temperature", "2.5"},
        {"mood.thresholds", "[1,1,1]"},
        {"rank.labels", "[\"score\"]"},
        {"rank.kind", "score"},
        {"rank.input", "cls"},
        {"tags.labels", "[\"O\",\"B-X\",\"I-X\"]"},
        {"tags.kind", "tokens"},
        {"topics.labels", "[\"p\",\"q\",\"r\",\"s\"]"},
        {"topics.kind", "sigmoid"},
        {"topics.thresholds", "[0.9,0.9,0.9,0.1]"},
        {"note", "kept"},
    };
    struct buf out;
    buf_init(&out, FILE_MAX);
    assert_int_equal(safetensors_write(tensors, sizeof tensors / sizeof *tensors, metadata,
                                       sizeof metadata / sizeof *metadata, &out, NULL),
                     ERR_OK);
    return out;
}

enum change { PUT, ROLLBACK, REMOVE, STAGE, PROMOTE, DROP, REPORT };

static enum swap_result make(enum change change, const struct buf *file, const char *if_match,
                             struct err *err)
{
    struct heads_version now = {0};
    struct heads_version before = {0};
    struct headstore *store = engine->headstore;
    enum swap_result result = SWAP_OK;
    struct buf report;
    switch (change) {
    case PUT:
        result = headstore_put(store, file->data, file->size, if_match, false, "ops", &now, &before,
                               err);
        break;
    case ROLLBACK:
        result = headstore_rollback(store, 0, if_match, false, "ops", &now, &before, err);
        break;
    case REMOVE:
        result = headstore_remove(store, "topics", if_match, false, "ops", &now, &before, err);
        break;
    case STAGE:
        result = shadow_stage(store, file->data, file->size, if_match, false, "ops", &now, &before,
                              err);
        break;
    case PROMOTE:
        result = shadow_promote(store, if_match, false, "ops", &now, &before, err);
        break;
    case DROP:
        result = shadow_drop(store, if_match, false, "ops", &now, err);
        break;
    case REPORT:
        buf_init(&report, FILE_MAX);
        if (!shadow_report(store, &report)) {
            result = SWAP_NO_SHADOW;
        } else if (buf_failed(&report)) {
            result = SWAP_FAILED;
        }
        buf_done(&report);
        break;
    }
    heads_version_release(&now);
    heads_version_release(&before);
    return result;
}

static void must(enum change change, const struct buf *file)
{
    struct err err = ERR_INIT;
    if (make(change, file, NULL, &err) != SWAP_OK) {
        fail_msg("change %d: %s", (int)change, err.text);
    }
}

/* Every kind of request beside heads of every kind and a staged set. Each place that has not failed
 * in another one fails once; the next answer is the same to the byte. */
static void test_every_kind(void **state)
{
    (void)state;
    static char windows[2000];
    int used = snprintf(windows, sizeof windows, "{\"long\":\"windows\",\"inputs\":[\"b\",\"");
    for (int i = 0; i < 200; i++) {
        used += snprintf(windows + used, sizeof windows - (size_t)used, "the end ");
    }
    (void)snprintf(windows + used, sizeof windows - (size_t)used, "\"]}");
    static const struct {
        enum api_kind kind;
        const char *head, *body;
    } requests[] = {
        {API_EMBED, "", "{\"inputs\":[[2,5,3],\"a\"],\"normalize\":false}"},
        {API_EMBED, "", windows},
        {API_OPENAI, "", "{\"input\":[\"a\",\"b\"],\"dimensions\":8}"},
        {API_CLASSIFY, "classifier", "{\"inputs\":\"the end of it\",\"explain\":true}"},
        {API_CLASSIFY, "classifier", windows},
        {API_SENTIMENT, "sentiment", "{\"inputs\":\"a\",\"raw_scores\":true}"},
        {API_HEAD, "mood", "{\"inputs\":[\"a\",\"b\"],\"abstain\":true,\"explain\":true}"},
        {API_HEAD, "topics", "{\"inputs\":\"a\",\"abstain\":true}"},
        {API_HEAD, "topics", windows},
        {API_HEAD, "rank", "{\"inputs\":\"a\"}"},
        {API_HEAD, "tags", "{\"inputs\":\"the end of it\",\"aggregation_strategy\":\"none\"}"},
        {API_HEAD, "tags",
         "{\"inputs\":\"the END of it\",\"parameters\":{\"aggregation_strategy\":\"average\","
         "\"ignore_labels\":[\"X\"]}}"},
        {API_HEAD, "tags", windows},
        {API_PREDICT, "mood", "{\"inputs\":[[\"a\"],[\"b\",\"c\"]]}"},
        {API_RERANK, "rank",
         "{\"query\":\"a\",\"texts\":[\"b\",\"c\",\"d\"],\"return_text\":true}"},
        {API_SIMILARITY, "",
         "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\",\"c\"]}}"},
        {API_EMBED_ALL, "", "{\"inputs\":[\"a\",\"the end\"]}"},
        {API_ANALYZE, "",
         "{\"inputs\":\"a\",\"tasks\":[\"embed\",\"topics\",\"tags\",\"sentiment\",\"rank\"]}"},
        {API_ANALYZE, "", windows},
        {API_TOKENIZE, "", "{\"inputs\":[\"hello\",\"caf\\u00e9\"],\"add_special_tokens\":false}"},
        {API_DECODE, "", "{\"ids\":[[2,5,3],[6]]}"},
    };
    struct buf whole;
    struct buf answer;
    buf_init(&whole, FILE_MAX);
    buf_init(&answer, FILE_MAX);
    struct buf file = named_heads(0.0F);
    struct buf staged = named_heads(-1.0F);
    must(PUT, &file);
    must(STAGE, &staged);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        enum api_kind kind = requests[i].kind;
        const char *head = requests[i].head;
        const char *body = requests[i].body;
        assert_int_equal(serve(kind, head, body, &whole), PROBLEM_NONE);
        size_t failures = 0;
        for (bool failed = true; failed; failures++) {
            chaos_fail_new();
            enum problem_kind problem = serve(kind, head, body, NULL);
            failed = chaos_failed();
            chaos_fail_at(0);
            if (problem != PROBLEM_NONE && !(failed && problem == PROBLEM_INTERNAL)) {
                fail_msg("request %zu, place %zu: problem %d", i, failures, (int)problem);
            }
            assert_int_equal(serve(kind, head, body, &answer), PROBLEM_NONE);
            assert_int_equal(answer.size, whole.size);
            assert_memory_equal(answer.data, whole.data, whole.size);
        }
        print_message("request %zu: %zu places that had not failed before\n", i, failures - 1);
    }
    must(DROP, NULL);
    buf_done(&staged);
    buf_done(&file);
    buf_done(&answer);
    buf_done(&whole);
}

/* Every change of heads: made, or nothing has changed and it can be made. */
static void test_every_change(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum change before[2], change;
        size_t n_before;
    } changes[] = {
        {"put", {PUT}, PUT, 0},         {"rollback", {PUT}, ROLLBACK, 1},
        {"remove", {PUT}, REMOVE, 1},   {"stage", {PUT}, STAGE, 0},
        {"restage", {STAGE}, STAGE, 1}, {"promote", {PUT, STAGE}, PROMOTE, 2},
        {"drop", {STAGE}, DROP, 1},     {"report", {STAGE}, REPORT, 1},
    };
    float value = 2.0F;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        size_t failures = 0;
        for (bool failed = true; failed; failures++) {
            struct buf files[3];
            for (size_t k = 0; k < 3; k++) {
                files[k] = named_heads(value++);
            }
            for (size_t k = 0; k < changes[i].n_before; k++) {
                must(changes[i].before[k], &files[k]);
            }
            struct heads_version before;
            struct heads_version after;
            headstore_acquire(engine->headstore, &before);
            struct err err = ERR_INIT;
            chaos_fail_new();
            enum swap_result result = make(changes[i].change, &files[2], "*", &err);
            failed = chaos_failed();
            chaos_fail_at(0);
            headstore_acquire(engine->headstore, &after);
            if (result != SWAP_OK) {
                if (!failed || result != SWAP_FAILED || after.version != before.version) {
                    fail_msg("%s, place %zu: result %d: %s", changes[i].name, failures, (int)result,
                             err.text);
                }
                must(changes[i].change, &files[2]);
            }
            heads_version_release(&before);
            heads_version_release(&after);
            assert_int_equal(serve(API_HEAD, "mood", "{\"inputs\":\"a\"}", NULL), PROBLEM_NONE);
            for (size_t k = 0; k < 3; k++) {
                buf_done(&files[k]);
            }
        }
        print_message("%s: %zu places that had not failed before\n", changes[i].name, failures - 1);
    }
}

/* What a start makes behind the model: queue, workers, cache, metrics, a watched folder, threads.
 * It serves or says why not. */
static void start_places(const struct settings *others, const char *what)
{
    size_t failures = 0;
    for (bool failed = true; failed; failures++) {
        struct err err = ERR_INIT;
        struct engine *made = NULL;
        struct metrics *counters = NULL;
        enum err_code code = ERR_NOMEM;
        chaos_fail_new();
        counters = metrics_create("test", NULL);
        if (counters) {
            code = engine_create(others, &answers, counters, &made, &err);
        }
        failed = chaos_failed();
        chaos_fail_at(0);
        bool no_room = code == ERR_NOMEM || code == ERR_IO;
        if (code != ERR_OK && (!failed || !no_room || (counters && !err.text[0]))) {
            fail_msg("%s, place %zu: %s: %s", what, failures, err_name(code), err.text);
        }
        if (code == ERR_OK) {
            engine_destroy(made);
        }
        metrics_destroy(counters);
    }
    print_message("%s: %zu places that had not failed before\n", what, failures - 1);
}

static void test_start(void **state)
{
    (void)state;
    char path[600];
    struct settings others = settings;
    (void)snprintf(path, sizeof path, "%s", scratch_path(&scratch, "start"));
    others.cache_mib = 1;
    others.threads = 2;
    chaos_count_threads();
    assert_int_equal(mkdir(path, 0700), 0);
    struct buf file = named_heads(3.0F);
    scratch_write(&scratch, "start/a.safetensors", file.data, file.size);
    scratch_write(&scratch, "start/b.safetensors", "no heads", 8);
    buf_done(&file);
    /* One call of both, so that the second fails where the first did not come. */
    for (int i = 0; i < 2; i++) {
        others.state_dir = i == 0 ? path : NULL;
        others.heads_dir = i == 0 ? NULL : path;
        start_places(&others, i == 0 ? "a start with a state folder" : "on a watched folder");
    }
}

int main(void)
{
    /* jansson's own allocations are left alone here: its lexer ignores some failures. */
    const struct CMUnitTest kinds[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_every_change),
    };
    const struct CMUnitTest start[] = {cmocka_unit_test(test_start)};
    int failed = cmocka_run_group_tests(kinds, setup, teardown);
    failed += cmocka_run_group_tests(start, setup, teardown);
    settings.cache_mib = 1;
    failed += cmocka_run_group_tests(kinds, setup, teardown);
    settings.cache_mib = 0;
    jval_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_swaps),
    };
    /* With a cache again: its entries, its followers, and what is shared of a request. */
    const struct CMUnitTest cached[] = {cmocka_unit_test(test_requests)};
    failed += cmocka_run_group_tests(tests, setup, teardown);
    settings.cache_mib = 1;
    return failed + cmocka_run_group_tests(cached, setup, teardown);
}
