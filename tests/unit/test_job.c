/* A job's way through a whole engine on the tiny model: body in, answer out. */
#include "server/queue/job.h"

#include <math.h>
#include <pthread.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/jval.h"
#include "server/answer/answer.h"
#include "server/queue/engine.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

static struct settings settings = {
    .model_dir = TINY,
    .precision = "fp32",
    .threads = 2,
    .max_queue_requests = 512,
    .max_client_batch = 64,
    .version = "test",
};

struct fixture {
    struct metrics *metrics;
    struct engine *engine;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    jval_global_init();
    fixture->metrics = metrics_create("test", NULL);
    struct err err = ERR_INIT;
    if (engine_create(&settings, &answers, fixture->metrics, &fixture->engine, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    engine_destroy(fixture->engine);
    metrics_destroy(fixture->metrics);
    free(fixture);
    return 0;
}

static void on_done(struct job *job)
{
    atomic_store((atomic_bool *)job->context, true);
}

static struct job *make_job(enum api_kind kind, const char *body, atomic_bool *ended)
{
    struct job *job = job_create();
    CHECK(job);
    job->kind = kind;
    (void)snprintf(job->head, sizeof job->head, "%s",
                   kind == API_SENTIMENT ? "sentiment" : "classifier");
    job->body = body;
    job->body_size = strlen(body);
    job->arrived_ns = clock_now_ns();
    job->deadline_ns = job->arrived_ns + 60 * NS_PER_S;
    job->done = on_done;
    job->context = ended;
    atomic_store(ended, false);
    return job;
}

static void wait_for(const atomic_bool *ended)
{
    for (int i = 0; i < 60000 && !atomic_load(ended); i++) {
        (void)usleep(500);
    }
    CHECK(atomic_load(ended));
}

/* Runs a small body as an I/O thread does. */
static struct job *run_head(struct fixture *fixture, enum api_kind kind, const char *body,
                            const char *head, bool raw)
{
    atomic_bool ended;
    struct job *job = make_job(kind, body, &ended);
    (void)snprintf(job->head, sizeof job->head, "%s", head);
    job->raw = raw;
    if (answer_prepare(job, fixture->engine) && kind != API_TOKENIZE &&
        engine_admit(fixture->engine, job)) {
        engine_enqueue(fixture->engine, job);
        wait_for(&ended);
    }
    return job;
}

static struct job *run(struct fixture *fixture, enum api_kind kind, const char *body)
{
    return run_head(fixture, kind, body, kind == API_SENTIMENT ? "sentiment" : "classifier", false);
}

static struct jval *parse(const struct job *job)
{
    if (job->problem.kind != PROBLEM_NONE) {
        fail_msg("%s", job->problem.text);
    }
    struct jval *value = NULL;
    struct err err = ERR_INIT;
    if (jval_parse(job->response.data, job->response.size, &value, &err) != ERR_OK) {
        fail_msg("%s: %s", err.text, job->response.data);
    }
    return value;
}

static double number_at(const struct jval *array, size_t index)
{
    double number = NAN;
    assert_true(jval_double(jval_at(array, index), &number));
    return number;
}

static double norm_of(const struct jval *row)
{
    double sum = 0;
    for (size_t i = 0; i < jval_array_size(row); i++) {
        sum += number_at(row, i) * number_at(row, i);
    }
    return sqrt(sum);
}

static void test_embed(void **state)
{
    struct fixture *fixture = *state;
    size_t hidden = fixture->engine->model->config.hidden;
    struct job *job = run(fixture, API_EMBED, "{\"inputs\":[\"hello world\",\"\"]}");
    struct jval *value = parse(job);
    assert_int_equal(jval_array_size(value), 2);
    assert_int_equal(jval_array_size(jval_at(value, 0)), hidden);
    assert_true(fabs(norm_of(jval_at(value, 0)) - 1) < 1e-5);
    assert_string_equal(job->heads_id, "");
    assert_int_equal(job->starts[2] - job->starts[1], 2); /* "" is [CLS][SEP] */
    jval_free(value);
    job_destroy(job);

    job = run(fixture, API_EMBED, "{\"inputs\":\"hello world\",\"normalize\":false}");
    value = parse(job);
    assert_int_equal(jval_array_size(value), 1);
    double plain = number_at(jval_at(value, 0), 0);
    double norm = norm_of(jval_at(value, 0));
    assert_true(fabs(norm - 1) > 1e-3);
    jval_free(value);
    job_destroy(job);

    job = run(fixture, API_EMBED, "{\"inputs\":\"hello world\",\"dimensions\":8}");
    value = parse(job);
    assert_int_equal(jval_array_size(jval_at(value, 0)), 8);
    assert_true(fabs(norm_of(jval_at(value, 0)) - 1) < 1e-5); /* cut, then normalized */
    assert_true(plain * number_at(jval_at(value, 0), 0) > 0);
    jval_free(value);
    job_destroy(job);

    job = run_head(fixture, API_EMBED, "{\"inputs\":[\"a\",\"b\",\"c\"],\"normalize\":false}",
                   "classifier", true);
    assert_int_equal(job->response.size, 3 * hidden * sizeof(float));
    assert_int_equal(job->raw_rows, 3);
    assert_int_equal(job->raw_width, hidden);
    job_destroy(job);
}

static void test_heads_see_the_plain_vector(void **state)
{
    struct fixture *fixture = *state;
    /* Two jobs, one normalized: the scores are the same. */
    struct job *plain = run(fixture, API_ANALYZE,
                            "{\"inputs\":[\"hello world\"],\"normalize\":false}");
    struct job *normalized = run(fixture, API_ANALYZE, "{\"inputs\":[\"hello world\"]}");
    struct jval *values[2] = {parse(plain), parse(normalized)};
    double scores[2];
    for (int i = 0; i < 2; i++) {
        const struct jval *text = jval_at(jval_get(values[i], "results"), 0);
        assert_true(jval_double(jval_get(jval_get(text, "classify"), "score"), &scores[i]));
        assert_non_null(jval_get(text, "sentiment"));
    }
    assert_true(scores[0] == scores[1]);
    assert_memory_equal(plain->heads_id, "v1-", 3);
    for (int i = 0; i < 2; i++) {
        jval_free(values[i]);
    }
    job_destroy(plain);
    job_destroy(normalized);
}

static void test_scores(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        enum api_kind kind;
        size_t classes;
    } routes[] = {{API_CLASSIFY, 6}, {API_SENTIMENT, 3}, {API_PREDICT, 6}};
    for (size_t i = 0; i < 3; i++) {
        struct job *job = run(fixture, routes[i].kind, "{\"inputs\":\"hello\"}");
        struct jval *value = parse(job);
        assert_int_equal(jval_array_size(value), routes[i].classes);
        double sum = 0;
        double last = 1;
        for (size_t k = 0; k < routes[i].classes; k++) {
            double score = 0;
            assert_true(jval_double(jval_get(jval_at(value, k), "score"), &score));
            assert_true(score <= last);
            last = score;
            sum += score;
        }
        assert_true(fabs(sum - 1) < 1e-5);
        assert_memory_equal(job->heads_id, "v1-", 3);
        jval_free(value);
        job_destroy(job);
    }
    struct job *job = run_head(fixture, API_PREDICT, "{\"inputs\":\"hello\",\"raw_scores\":true}",
                               "sentiment", false);
    struct jval *value = parse(job);
    assert_int_equal(jval_array_size(value), 3);
    jval_free(value);
    job_destroy(job);
}

static void test_openai(void **state)
{
    struct fixture *fixture = *state;
    struct job *job = run(fixture, API_OPENAI, "{\"input\":[[2,5,6,3]],\"model\":\"x\"}");
    struct jval *value = parse(job);
    const struct jval *row = jval_get(jval_at(jval_get(value, "data"), 0), "embedding");
    assert_true(fabs(norm_of(row) - 1) < 1e-5);
    assert_int_equal(job->total_tokens, 4); /* ids are used as given */
    jval_free(value);
    job_destroy(job);
}

static void test_tokenize_needs_no_scheduler(void **state)
{
    struct fixture *fixture = *state;
    struct buf body;
    buf_init(&body, 1 << 16);
    assert_true(buf_append_str(&body, "{\"inputs\":[\"a\",\""));
    for (int i = 0; i < 500; i++) {
        assert_true(buf_append_str(&body, "a "));
    }
    assert_true(buf_append_str(&body, "\"]}"));
    struct job *job = run(fixture, API_TOKENIZE, body.data);
    struct jval *value = parse(job);
    assert_int_equal(jval_array_size(jval_at(value, 0)), 3);
    const struct jval *tokens = jval_at(value, 1);
    assert_int_equal(jval_array_size(tokens), 502); /* not cut */
    bool special = false;
    assert_true(jval_bool(jval_get(jval_at(tokens, 501), "special"), &special));
    assert_true(special);
    assert_true(jval_is_null(jval_get(jval_at(tokens, 0), "start")));
    jval_free(value);
    job_destroy(job);
    buf_done(&body);
}

static void test_long_texts(void **state)
{
    struct fixture *fixture = *state;
    char text[2048];
    size_t at = 0;
    for (int i = 0; i < 300; i++) {
        text[at++] = 'a';
        text[at++] = ' ';
    }
    text[at] = '\0';
    char body[4096];
    (void)snprintf(body, sizeof body, "{\"inputs\":[\"a\",\"%s\"]}", text);
    struct job *job = run(fixture, API_EMBED, body);
    assert_int_equal(job->problem.kind, PROBLEM_NONE);
    assert_int_equal(job->n_truncated, 1);
    assert_int_equal(job->starts[2] - job->starts[1], fixture->engine->max_length);
    job_destroy(job);

    (void)snprintf(body, sizeof body, "{\"inputs\":[\"a\",\"%s\"],\"truncate\":false}", text);
    job = run(fixture, API_EMBED, body);
    assert_int_equal(job->problem.kind, PROBLEM_TOO_LONG);
    assert_string_equal(job->problem.param, "inputs[1]");
    job_destroy(job);
}

static void test_bad_bodies_end_before_the_queue(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *body;
        enum problem_kind kind;
    } cases[] = {
        {"nonsense", PROBLEM_NOT_JSON},
        {"{\"inputs\":[]}", PROBLEM_EMPTY_INPUTS},
        {"{\"inputs\":5}", PROBLEM_FIELD_TYPE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job *job = run(fixture, API_EMBED, cases[i].body);
        assert_int_equal(job->problem.kind, cases[i].kind);
        job_destroy(job);
        atomic_bool ended;
        job = make_job(API_EMBED, cases[i].body, &ended);
        engine_submit_large(fixture->engine, job);
        wait_for(&ended);
        assert_int_equal(job->problem.kind, cases[i].kind);
        job_destroy(job);
    }
}

static void test_large_bodies(void **state)
{
    struct fixture *fixture = *state;
    struct buf body;
    buf_init(&body, 1 << 20);
    assert_true(buf_append_str(&body, "{\"inputs\":["));
    for (int i = 0; i < 64; i++) {
        assert_true(buf_printf(&body, "%s\"text number %d\"", i ? "," : "", i));
    }
    assert_true(buf_append_str(&body, "]}"));
    static const enum api_kind kinds[] = {API_EMBED, API_CLASSIFY, API_TOKENIZE};
    for (size_t i = 0; i < 3; i++) {
        atomic_bool ended;
        struct job *job = make_job(kinds[i], body.data, &ended);
        engine_submit_large(fixture->engine, job);
        wait_for(&ended);
        struct jval *value = parse(job);
        assert_int_equal(jval_array_size(value), 64);
        jval_free(value);
        job_destroy(job);
    }
    buf_done(&body);
}

struct caller {
    struct fixture *fixture;
    char body[64];
    char expected[4096];
    pthread_t thread;
};

static void *call_often(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < 30; i++) {
        atomic_bool ended;
        struct job *job = make_job(API_CLASSIFY, caller->body, &ended);
        CHECK(answer_prepare(job, caller->fixture->engine));
        CHECK(engine_admit(caller->fixture->engine, job));
        engine_enqueue(caller->fixture->engine, job);
        wait_for(&ended);
        CHECK(job->problem.kind == PROBLEM_NONE);
        /* Labels in the same order; the last digits may differ on OpenBLAS. */
        CHECK(strncmp(job->response.data, caller->expected, 24) == 0);
        job_destroy(job);
    }
    return NULL;
}

static void test_many_get_what_one_gets(void **state)
{
    enum { CALLERS = 16 };
    struct fixture *fixture = *state;
    static struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i].fixture = fixture;
        (void)snprintf(callers[i].body, sizeof callers[i].body,
                       "{\"inputs\":\"sentence number %d of all\"}", i);
        struct job *job = run(fixture, API_CLASSIFY, callers[i].body);
        assert_int_equal(job->problem.kind, PROBLEM_NONE);
        (void)snprintf(callers[i].expected, sizeof callers[i].expected, "%s", job->response.data);
        job_destroy(job);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
    }
    assert_true(engine_alive(fixture->engine));
    struct queue_state queue = engine_queue(fixture->engine);
    assert_int_equal(queue.tokens + queue.requests, 0);
}

static void test_absent_heads(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    static const char *const files[] = {"config.json", "vocab.txt", "tokenizer_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < 4; i++) {
        char from[512];
        (void)snprintf(from, sizeof from, TINY "/%s", files[i]);
        scratch_copy(&scratch, from, files[i]);
    }
    struct settings bare = settings;
    bare.model_dir = scratch.dir;
    struct fixture fixture = {.metrics = metrics_create("test", NULL)};
    struct err err = ERR_INIT;
    assert_int_equal(engine_create(&bare, &answers, fixture.metrics, &fixture.engine, &err),
                     ERR_OK);
    struct job *job = run(&fixture, API_CLASSIFY, "{\"inputs\":\"a\"}");
    assert_int_equal(job->problem.kind, PROBLEM_HEAD_ABSENT);
    job_destroy(job);
    job = run(&fixture, API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"embed\",\"classify\"]}");
    assert_int_equal(job->problem.kind, PROBLEM_HEAD_ABSENT);
    job_destroy(job);
    /* No tasks named: those in service. */
    job = run(&fixture, API_ANALYZE, "{\"inputs\":\"a\"}");
    assert_int_equal(job->problem.kind, PROBLEM_NONE);
    job_destroy(job);
    job = run(&fixture, API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"embed\"]}");
    assert_int_equal(job->problem.kind, PROBLEM_NONE);
    assert_string_equal(job->heads_id, "");
    job_destroy(job);
    engine_destroy(fixture.engine);
    metrics_destroy(fixture.metrics);
    scratch_remove(&scratch);
}

static void test_wrong_settings(void **state)
{
    (void)state;
    struct settings wrong[4] = {settings, settings, settings, settings};
    wrong[0].state_dir = "a";
    wrong[0].heads_dir = "b";
    wrong[1].max_length = 100000;
    wrong[2].pooling = "max";
    wrong[3].precision = "fp8";
    static const char *const words[4] = {"--heads-dir", "--max-length", "--pooling", "--precision"};
    struct metrics *metrics = metrics_create("test", NULL);
    for (int i = 0; i < 4; i++) {
        struct engine *engine = NULL;
        struct err err = ERR_INIT;
        assert_int_not_equal(engine_create(&wrong[i], &answers, metrics, &engine, &err), ERR_OK);
        assert_null(engine);
        assert_non_null(strstr(err.text, words[i]));
    }
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_embed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heads_see_the_plain_vector, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scores, setup, teardown),
        cmocka_unit_test_setup_teardown(test_openai, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokenize_needs_no_scheduler, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_bodies_end_before_the_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_get_what_one_gets, setup, teardown),
        cmocka_unit_test(test_absent_heads),
        cmocka_unit_test(test_wrong_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
