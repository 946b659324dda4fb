/* The log's own thread: a reader that stops reading stops nobody, what is lost is told, kept lines
 * are not lost. stderr is a pipe here. */
#include "base/log_writer.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/support/testing.h"

enum { ORDINARY = 60000, KEPT = 20000, THREADS = 4 };

static int saved_stderr;
static int pipe_ends[2];

static int redirect(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    log_setup(LOG_INFO, LOG_JSON);
    assert_int_equal(pipe(pipe_ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0 && dup2(pipe_ends[1], STDERR_FILENO) >= 0);
    assert_int_equal(close(pipe_ends[1]), 0);
    assert_int_equal(log_writer_start(&err), ERR_OK);
    return 0;
}

static int restore(void **state)
{
    (void)state;
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    (void)close(pipe_ends[0]);
    return close(saved_stderr);
}

/* What came out of the pipe. */
struct reading {
    size_t lines, ordinary, kept;
    uint64_t told, to_be_told;
    bool in_order, ended;
};

static void *read_all(void *argument)
{
    struct reading *reading = argument;
    FILE *file = fdopen(dup(pipe_ends[0]), "r");
    assert_non_null(file);
    char line[LOG_LINE_MAX + 16];
    unsigned long last = 0;
    reading->in_order = true;
    while (fgets(line, sizeof line, file)) {
        reading->lines++;
        const char *n = strstr(line, "\"n\":");
        unsigned long number = n ? strtoul(n + 4, NULL, 10) : 0;
        reading->ordinary += strstr(line, "\"message\":\"ordinary\"") != NULL;
        if (strstr(line, "\"message\":\"kept\"")) {
            reading->in_order = reading->in_order && number == last + 1;
            last = number;
            reading->kept++;
        }
        const char *told = strstr(line, "\"lines\":");
        reading->told += told ? strtoul(told + 8, NULL, 10) : 0;
        reading->ended = reading->ended || strstr(line, "\"message\":\"end\"");
        if (reading->ended && reading->told >= reading->to_be_told) {
            break;
        }
    }
    (void)fclose(file);
    return NULL;
}

static void *log_many(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ORDINARY / THREADS; i++) {
        LOG(LOG_INFO, "ordinary", LOG_U("n", i));
    }
    return NULL;
}

/* Nothing reads while more is logged than pipe and ring hold. */
static void test_a_stalled_reader(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint64_t dropped = log_writer_dropped();
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
    }
    for (unsigned i = 1; i <= KEPT; i++) {
        LOG_KEPT(LOG_INFO, "kept", LOG_U("n", i));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    dropped = log_writer_dropped() - dropped;
    assert_true(dropped > 0 && dropped <= ORDINARY);
    LOG_KEPT(LOG_INFO, "end");
    struct reading reading = {.to_be_told = dropped};
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_all, &reading), 0);
    assert_int_equal(pthread_join(reader, NULL), 0);
    log_writer_stop(5000);
    assert_int_equal(reading.kept, KEPT);
    assert_true(reading.in_order);
    assert_int_equal(reading.ordinary, ORDINARY - dropped);
    assert_int_equal(reading.told, dropped);
}

/* All lines of a reader who is only slow at the end arrive. */
static void test_the_end_writes_what_waits(void **state)
{
    (void)state;
    struct reading reading = {0};
    pthread_t reader;
    for (unsigned i = 1; i <= 3000; i++) {
        LOG_KEPT(LOG_INFO, "kept", LOG_U("n", i));
    }
    LOG(LOG_INFO, "end");
    assert_int_equal(pthread_create(&reader, NULL, read_all, &reading), 0);
    log_writer_stop(10000);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(reading.kept, 3000);
    assert_true(reading.in_order);
}

static void test_the_end_does_not_wait_for_nobody(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 3000; i++) {
        LOG_KEPT(LOG_INFO, "kept", LOG_U("n", i));
    }
    uint64_t begin_ns = clock_now_ns();
    uint64_t dropped = log_writer_dropped();
    log_writer_stop(200);
    assert_true(clock_now_ns() - begin_ns < 30 * NS_PER_S);
    assert_true(log_writer_dropped() > dropped);
}

static void test_a_closed_reader(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)close(pipe_ends[0]);
    uint64_t dropped = log_writer_dropped();
    LOG(LOG_INFO, "ordinary");
    LOG_KEPT(LOG_INFO, "kept");
    log_writer_stop(5000);
    assert_int_equal(log_writer_dropped() - dropped, 2);
    LOG(LOG_INFO, "written by its own thread");
    pipe_ends[0] = -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stalled_reader, redirect, restore),
        cmocka_unit_test_setup_teardown(test_the_end_writes_what_waits, redirect, restore),
        cmocka_unit_test_setup_teardown(test_the_end_does_not_wait_for_nobody, redirect, restore),
        cmocka_unit_test_setup_teardown(test_a_closed_reader, redirect, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
