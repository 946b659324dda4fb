/* The scrape's text. */
#include "server/metrics/metrics.h"

#include <math.h>
#include <pthread.h>

#include "base/clock.h"
#include "tests/support/testing.h"

static struct metrics_now now;

static struct buf scrape(const struct metrics *metrics)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    metrics_write(metrics, &now, &text);
    assert_false(buf_failed(&text));
    return text;
}

/* The text holds that whole line. */
static void expect_line(const struct buf *text, const char *line)
{
    char whole[512];
    (void)snprintf(whole, sizeof whole, "\n%s\n", line);
    if (!strstr(text->data, whole)) {
        fail_msg("no line %s", line);
    }
}

static void test_every_family_from_the_first_scrape(void **state)
{
    (void)state;
    static const char *const families[] = {
        "orthrus_requests_total counter",
        "orthrus_request_duration_seconds histogram",
        "orthrus_tokenize_seconds histogram",
        "orthrus_queue_seconds histogram",
        "orthrus_encode_seconds histogram",
        "orthrus_batch_tokens histogram",
        "orthrus_batch_texts histogram",
        "orthrus_queue_tokens gauge",
        "orthrus_queue_requests gauge",
        "orthrus_texts_truncated_total counter",
        "orthrus_predictions_total counter",
        "orthrus_prediction_confidence histogram",
        "orthrus_heads_info gauge",
        "orthrus_heads_swaps_total counter",
        "orthrus_build_info gauge",
        "orthrus_model_info gauge",
        "orthrus_connections gauge",
        "orthrus_connections_limit gauge",
        "orthrus_admin_connections gauge",
        "orthrus_admin_connections_limit gauge",
        "orthrus_queue_tokens_limit gauge",
        "orthrus_queue_requests_limit gauge",
        "process_cpu_seconds_total counter",
        "process_resident_memory_bytes gauge",
        "process_virtual_memory_bytes gauge",
        "process_open_fds gauge",
        "process_max_fds gauge",
        "process_threads gauge",
        "process_start_time_seconds gauge",
    };
    struct metrics *metrics = metrics_create("1.2.3", "abc");
    struct buf text = scrape(metrics);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "# TYPE %s", families[i]);
        expect_line(&text, line);
    }
    expect_line(&text, "orthrus_build_info{version=\"1.2.3\",revision=\"abc\"} 1");
    expect_line(&text, "orthrus_requests_total{route=\"/embed\",code=\"200\"} 0");
    expect_line(&text, "orthrus_heads_swaps_total{result=\"refused\"} 0");
    expect_line(&text, "orthrus_prediction_confidence_count{head=\"sentiment\"} 0");
    expect_line(&text, "orthrus_queue_tokens 0");
    expect_line(&text, "orthrus_model_info{encoder=\"\",precision=\"\",isa=\"\"} 0");
    assert_int_equal(text.data[text.size - 1], '\n');
    buf_done(&text);
    metrics_destroy(metrics);
}

static void test_counts_and_buckets(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    metrics_request(metrics, ROUTE_EMBED, 200, 2 * NS_PER_MS);
    metrics_request(metrics, ROUTE_EMBED, 200, 2500 * NS_PER_US); /* a bound is in its bucket */
    metrics_request(metrics, ROUTE_CLASSIFY, 429, 90 * NS_PER_S);
    metrics_request(metrics, ROUTE_CLASSIFY, 499, 90 * NS_PER_S);
    metrics_request(metrics, ROUTE_OTHER, 418, 1);
    metrics_request(metrics, ROUTE_LIVEZ, 200, 1); /* a probe is no prediction */
    metrics_request(metrics, ROUTE_TOKENIZE, 200, 1);
    metrics_request(metrics, ROUTE_DECODE, 200, 1);
    metrics_batch(metrics, 256, 13);
    metrics_truncated(metrics, 3);
    metrics_swap(metrics, METRICS_SWAP_BUSY);
    struct buf text = scrape(metrics);
    expect_line(&text, "orthrus_requests_total{route=\"/embed\",code=\"200\"} 2");
    expect_line(&text, "orthrus_requests_total{route=\"/classify\",code=\"429\"} 1");
    expect_line(&text, "orthrus_requests_total{route=\"other\",code=\"other\"} 1");
    expect_line(&text, "orthrus_requests_total{route=\"/classify\",code=\"499\"} 1");
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"0.00175\"} 0");
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"0.0021\"} 1");
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"0.0025\"} 2");
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"+Inf\"} 2");
    expect_line(&text, "orthrus_request_duration_seconds_sum 0.0045");
    expect_line(&text, "orthrus_request_duration_seconds_count 2");
    expect_line(&text, "orthrus_batch_tokens_bucket{le=\"128\"} 0");
    expect_line(&text, "orthrus_batch_tokens_bucket{le=\"256\"} 1");
    expect_line(&text, "orthrus_batch_texts_sum 13");
    expect_line(&text, "orthrus_texts_truncated_total 3");
    expect_line(&text, "orthrus_heads_swaps_total{result=\"busy\"} 1");
    buf_done(&text);
    metrics_destroy(metrics);
}

/* A quantile read from the buckets is at most a quarter off, where requests spend their time. */
static void test_buckets_of_durations_are_fine(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    struct buf text = scrape(metrics);
    static const char key[] = "orthrus_request_duration_seconds_bucket{le=\"";
    double before = 0;
    unsigned n = 0;
    for (const char *at = strstr(text.data, key); at; at = strstr(at + 1, key)) {
        double bound = strtod(at + sizeof key - 1, NULL);
        if (before >= 0.001 && before < 10) {
            assert_true(bound / before <= 1.25);
            n++;
        }
        before = bound;
    }
    assert_true(n > 40);
    assert_true(isinf(before));
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"0.001\"} 0");
    expect_line(&text, "orthrus_request_duration_seconds_bucket{le=\"10\"} 0");
    expect_line(&text, "orthrus_tokenize_seconds_bucket{le=\"1e-05\"} 0");
    buf_done(&text);
    metrics_destroy(metrics);
}

static void test_gauges_and_their_limits(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    metrics_gauge_limit(metrics, METRICS_CONNECTIONS, 1000);
    metrics_gauge_add(metrics, METRICS_CONNECTIONS, 3);
    metrics_gauge_add(metrics, METRICS_CONNECTIONS, -1);
    metrics_gauge_set(metrics, METRICS_QUEUE_TOKENS, 70);
    now = (struct metrics_now){
        .encoder = "e", .precision = "p", .isa = "i", .heads_version = 7, .heads_sha256 = "h"};
    struct buf text = scrape(metrics);
    now = (struct metrics_now){0};
    expect_line(&text, "orthrus_connections 2");
    expect_line(&text, "orthrus_connections_limit 1000");
    expect_line(&text, "orthrus_queue_tokens 70");
    expect_line(&text, "orthrus_model_info{encoder=\"e\",precision=\"p\",isa=\"i\"} 1");
    expect_line(&text, "orthrus_heads_info{version=\"7\",sha256=\"h\"} 1");
    buf_done(&text);
    metrics_destroy(metrics);
}

static void test_predictions_by_label(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    metrics_declare(metrics, "sentiment", "Positive");
    metrics_prediction(metrics, "classifier", "Quote", 0.75);
    metrics_prediction(metrics, "classifier", "Quote", 1.0000001);
    metrics_prediction(metrics, "classifier", "a \"b\" \\ \n c", 0.25);
    struct buf text = scrape(metrics);
    expect_line(&text, "orthrus_predictions_total{head=\"sentiment\",label=\"Positive\"} 0");
    expect_line(&text, "orthrus_predictions_total{head=\"classifier\",label=\"Quote\"} 2");
    expect_line(&text, "orthrus_predictions_total{head=\"classifier\",label="
                       "\"a \\\"b\\\" \\\\ \\n c\"} 1");
    expect_line(&text, "orthrus_prediction_confidence_bucket{head=\"classifier\",le=\"0.3\"} 1");
    expect_line(&text, "orthrus_prediction_confidence_bucket{head=\"classifier\",le=\"1\"} 3");
    expect_line(&text, "orthrus_prediction_confidence_sum{head=\"classifier\"} 2");
    buf_done(&text);
    metrics_destroy(metrics);
}

static void test_labels_are_bounded(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    for (int i = 0; i < 6000; i++) {
        char label[32];
        (void)snprintf(label, sizeof label, "label %d", i);
        metrics_prediction(metrics, "classifier", label, 0.5);
    }
    struct buf text = scrape(metrics);
    expect_line(&text, "orthrus_predictions_total{head=\"classifier\",label=\"label 0\"} 1");
    expect_line(&text, "orthrus_predictions_total{head=\"other\",label=\"other\"} 1904");
    buf_done(&text);
    metrics_destroy(metrics);
}

enum { OBSERVERS = 4, OBSERVATIONS = 5000 };

static void *observe_many(void *argument)
{
    struct metrics *metrics = argument;
    for (int i = 0; i < OBSERVATIONS; i++) {
        char label[32];
        (void)snprintf(label, sizeof label, "label %d", i % 40);
        metrics_prediction(metrics, "sentiment", label, 0.5);
        metrics_stages(metrics, 1, 2, 3);
    }
    return NULL;
}

static void test_threads_and_scrapes(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create("1", NULL);
    pthread_t threads[OBSERVERS];
    for (int i = 0; i < OBSERVERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, observe_many, metrics), 0);
    }
    for (int i = 0; i < 20; i++) {
        struct buf text = scrape(metrics);
        buf_done(&text);
    }
    for (int i = 0; i < OBSERVERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    struct buf text = scrape(metrics);
    expect_line(&text, "orthrus_predictions_total{head=\"sentiment\",label=\"label 7\"} 500");
    expect_line(&text, "orthrus_encode_seconds_count 20000");
    buf_done(&text);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_from_the_first_scrape),
        cmocka_unit_test(test_counts_and_buckets),
        cmocka_unit_test(test_buckets_of_durations_are_fine),
        cmocka_unit_test(test_gauges_and_their_limits),
        cmocka_unit_test(test_predictions_by_label),
        cmocka_unit_test(test_labels_are_bounded),
        cmocka_unit_test(test_threads_and_scrapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
