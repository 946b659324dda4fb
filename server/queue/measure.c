#include "server/queue/measure.h"

#include <pthread.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"

/* Tokens of the passes that are tried; those behind the second only where they will not take longer
 * than PASS_MS: longer batches make newcomers wait more than they gain. */
const size_t measure_sizes[MEASURE_SIZES] = {16, 64, 128, 256, 512, 1024};
enum { PASS_MS = 50, MEASURE_MS = 80, ROUNDS_MAX = 4 };
/* Texts of a usual length. */
enum { TEXT_TOKENS = 32, TEXTS_MAX = 1024 / TEXT_TOKENS };
/* A batch is large enough where its tokens are that near to the best speed. Smaller ones pay for
 * the weights' way from memory, larger ones only make newcomers wait. */
#define ENOUGH 0.95

struct probe {
    const struct model *model;
    size_t layer; /* that runs next */
    pthread_t thread;
    bool done;
    double pass_s[MEASURE_SIZES]; /* the best, the others were disturbed; 0: not tried */
};

static bool fill(struct batch *batch, size_t tokens, const struct config *config)
{
    int32_t ids[TEXT_TOKENS];
    size_t most = size_min(TEXT_TOKENS, config->positions);
    batch_clear(batch);
    for (size_t i = 0; batch->total < tokens && batch->n < TEXTS_MAX; i++) {
        size_t n = size_min(most, tokens - batch->total);
        for (size_t j = 0; j < n; j++) {
            /* Rows all over the embedding table, as real text has them. */
            ids[j] = (int32_t)((i * 7919 + j * 104729 + 1) % config->vocab);
        }
        if (!batch_add(batch, ids, n)) {
            return false;
        }
    }
    return true;
}

/* What a pass of the size takes; false when it does not fit. Layers are all alike: one is run, the
 * others are reckoned. The next time it is the next one, so that its weights come from where a
 * whole pass finds them. */
static bool try_size(struct probe *probe, size_t index, struct workspace *workspace,
                     struct batch *batch)
{
    const struct config *config = &probe->model->config;
    if (!fill(batch, measure_sizes[index], config)) {
        return false;
    }
    struct observer observer = {.now_ns = clock_now_ns};
    workspace_observe(workspace, &observer);
    uint64_t begin_ns = clock_now_ns();
    encoder_forward_layer(probe->model->encoder, workspace, batch, probe->layer);
    uint64_t run_ns = clock_now_ns() - begin_ns + 1;
    workspace_observe(workspace, NULL);
    probe->layer = (probe->layer + 1) % config->layers;
    double embed_ns = (double)observer.phase_ns[PHASE_EMBED];
    double layers_ns = ((double)run_ns - embed_ns) * (double)config->layers;
    double pass_s = (embed_ns + layers_ns) / (double)NS_PER_S;
    double *best = &probe->pass_s[index];
    *best = *best <= 0 || pass_s < *best ? pass_s : *best;
    return true;
}

/* Tries all sizes in turn, again as long as another round fits into the time: a start is not held
 * up for a second opinion that a large model gives slowly. */
static void run(struct probe *probe, struct workspace *workspace, struct batch *batch)
{
    /* The smallest comes twice: the first time brings in the workspace's pages. */
    static const size_t order[] = {0, 1, 0, 2, 3, 4, 5};
    uint64_t begin_ns = clock_now_ns();
    uint64_t round_ns = 0; /* of the last one */
    uint64_t now_ns = begin_ns;
    for (size_t n = 0; n < ROUNDS_MAX && now_ns - begin_ns + round_ns < MEASURE_MS * NS_PER_MS;
         n++) {
        uint64_t round_begin_ns = now_ns;
        for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
            size_t size = order[i];
            bool longer = size > 1 && probe->pass_s[size - 1] * 2 > (double)PASS_MS / 1000;
            if (longer || !try_size(probe, size, workspace, batch)) {
                break;
            }
        }
        now_ns = clock_now_ns();
        round_ns = now_ns - round_begin_ns;
    }
    probe->done = probe->pass_s[1] > 0;
}

static void *probe_main(void *argument)
{
    struct probe *probe = argument;
    struct workspace *workspace = NULL;
    struct batch batch = {0};
    size_t most = measure_sizes[MEASURE_SIZES - 1];
    if (batch_init(&batch, TEXTS_MAX, most) &&
        workspace_create(probe->model->encoder, TEXTS_MAX, most, &workspace, NULL) == ERR_OK) {
        run(probe, workspace, &batch);
    }
    workspace_destroy(workspace);
    batch_done(&batch);
    return NULL;
}

struct measured measure_result(const double pass_s[MEASURE_SIZES], unsigned threads)
{
    struct measured measured = {0};
    double best = 0;
    for (size_t i = 1; i < MEASURE_SIZES && pass_s[i] > 0; i++) {
        double rate = (double)measure_sizes[i] / pass_s[i];
        best = rate > best ? rate : best;
    }
    for (size_t i = MEASURE_SIZES - 1; i >= 1; i--) {
        double rate = pass_s[i] > 0 ? (double)measure_sizes[i] / pass_s[i] : 0;
        if (rate >= best * ENOUGH) {
            measured.batch_tokens = measure_sizes[i];
            measured.tokens_per_s = rate * threads;
        }
    }
    /* Two points on a line: tokens + pass_tokens in a token's time each. */
    double small = (double)measure_sizes[0];
    double large = (double)measure_sizes[1];
    double ratio = pass_s[0] / pass_s[1];
    double fixed = ratio < 1 ? (large * ratio - small) / (1 - ratio) : large;
    measured.pass_tokens = fixed < 0 ? 0 : fixed < large ? fixed : large;
    return measured;
}

/* Runs the probes at once, the first one here; false when one of them failed. */
static bool run_probes(struct probe *probes, unsigned threads)
{
    unsigned started = 1;
    while (started < threads &&
           pthread_create(&probes[started].thread, NULL, probe_main, &probes[started]) == 0) {
        started++;
    }
    bool all = started == threads;
    (void)probe_main(&probes[0]);
    for (unsigned i = 1; i < started; i++) {
        (void)pthread_join(probes[i].thread, NULL);
    }
    for (unsigned i = 0; i < threads; i++) {
        all = all && probes[i].done;
    }
    return all;
}

enum err_code measure_speed(const struct model *model, unsigned threads,
                            struct measured *ret_measured, struct err *err)
{
    CHECK(threads >= 1);
    struct probe *probes = calloc(threads, sizeof *probes);
    if (!probes) {
        return err_nomem(err, threads * sizeof *probes);
    }
    for (unsigned i = 0; i < threads; i++) {
        probes[i] = (struct probe){.model = model};
    }
    bool measured = run_probes(probes, threads);
    double mean_s[MEASURE_SIZES] = {0}; /* of all threads, where all tried the size */
    for (size_t i = 0; i < MEASURE_SIZES && measured; i++) {
        bool tried = true;
        double rates = 0;
        for (unsigned j = 0; j < threads && tried; j++) {
            tried = probes[j].pass_s[i] > 0;
            rates += tried ? 1 / probes[j].pass_s[i] : 0;
        }
        mean_s[i] = tried ? threads / rates : 0;
    }
    free(probes);
    if (!measured) {
        return err_set(err, ERR_NOMEM, "no memory or thread to measure the encoder with");
    }
    *ret_measured = measure_result(mean_s, threads);
    return ERR_OK;
}
