#include "server/queue/measure.h"

#include <pthread.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"

/* Texts of a usual length. The first batch is small and touches every weight; where it was quick,
 * full ones follow. */
enum { TEXT_TOKENS = 32, TEXTS_FIRST = 2, TEXTS_MAX = 8, QUICK_MS = 40 };
/* The measurement ends with the first batch that ends behind this. */
enum { MEASURE_MS = 150 };

/* A batch as long as this uses the whole of a core: its rows hide the weights' way from memory
 * (2 bytes of a bf16 weight feed 2 FLOP a row; a core does some 30 FLOP in the time of a byte, so
 * from 256 rows on the weights cost less than a tenth). */
enum { BATCH_TOKENS_MIN = 256, BATCH_TOKENS_MAX = 16384 };
/* Longer batches gain nothing and make newcomers wait: stop at this much of a thread's time. */
#define BATCH_S 0.1

struct probe {
    const struct model *model;
    enum pooling pooling;
    pthread_t thread;
    double tokens_per_s; /* result; 0: failed */
};

static bool fill(struct batch *batch, size_t texts, size_t text_tokens, size_t vocab)
{
    int32_t ids[TEXT_TOKENS];
    for (size_t i = 0; i < texts; i++) {
        for (size_t j = 0; j < text_tokens; j++) {
            /* Rows all over the embedding table, as real text has them. */
            ids[j] = (int32_t)((i * 7919 + j * 104729 + 1) % vocab);
        }
        if (!batch_add(batch, ids, text_tokens)) {
            return false;
        }
    }
    return true;
}

/* Encodes batches until the time is over; keeps the best pass, the others were disturbed. */
static void run(struct probe *probe, struct workspace *workspace, struct batch *batch, float *out)
{
    const struct config *config = &probe->model->config;
    size_t text_tokens = size_min(TEXT_TOKENS, config->positions);
    struct team team;
    team_init(&team, 1);
    uint64_t begin_ns = clock_now_ns();
    uint64_t last_ns = begin_ns;
    size_t texts = TEXTS_FIRST;
    do {
        batch_clear(batch);
        if (!fill(batch, texts, text_tokens, config->vocab)) {
            return;
        }
        encoder_forward(probe->model->encoder, workspace, batch, probe->pooling, &team, 0,
                        &(struct outputs){.pooled = out});
        uint64_t now_ns = clock_now_ns();
        double rate = (double)batch->total * (double)NS_PER_S / (double)(now_ns - last_ns + 1);
        probe->tokens_per_s = rate > probe->tokens_per_s ? rate : probe->tokens_per_s;
        texts = now_ns - last_ns < QUICK_MS * NS_PER_MS ? TEXTS_MAX : texts;
        last_ns = now_ns;
    } while (last_ns - begin_ns < MEASURE_MS * NS_PER_MS);
}

static void *probe_main(void *argument)
{
    struct probe *probe = argument;
    struct workspace *workspace = NULL;
    struct batch batch = {0};
    float *out = calloc(TEXTS_MAX * probe->model->config.hidden, sizeof *out);
    if (out && batch_init(&batch, TEXTS_MAX, TEXTS_MAX * TEXT_TOKENS) &&
        workspace_create(probe->model->encoder, TEXTS_MAX, TEXTS_MAX * TEXT_TOKENS, 1, &workspace,
                         NULL) == ERR_OK) {
        run(probe, workspace, &batch, out);
    }
    workspace_destroy(workspace);
    batch_done(&batch);
    free(out);
    return NULL;
}

/* Runs the probes at once; false when one of them failed. */
static bool run_probes(struct probe *probes, unsigned threads, double *ret_sum)
{
    unsigned started = 0;
    while (started < threads &&
           pthread_create(&probes[started].thread, NULL, probe_main, &probes[started]) == 0) {
        started++;
    }
    double sum = 0;
    bool all = started == threads;
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(probes[i].thread, NULL);
        all = all && probes[i].tokens_per_s > 0;
        sum += probes[i].tokens_per_s;
    }
    *ret_sum = sum;
    return all;
}

enum err_code measure_tokens_per_s(const struct model *model, enum pooling pooling,
                                   unsigned threads, double *ret_tokens_per_s, struct err *err)
{
    CHECK(threads >= 1);
    struct probe *probes = calloc(threads, sizeof *probes);
    if (!probes) {
        return err_nomem(err, threads * sizeof *probes);
    }
    for (unsigned i = 0; i < threads; i++) {
        probes[i] = (struct probe){.model = model, .pooling = pooling};
    }
    double sum = 0;
    bool measured = run_probes(probes, threads, &sum);
    free(probes);
    if (!measured) {
        return err_set(err, ERR_NOMEM, "no memory or thread to measure the encoder with");
    }
    *ret_tokens_per_s = sum;
    return ERR_OK;
}

size_t measure_batch_tokens(double thread_tokens_per_s, size_t longest)
{
    double tokens = thread_tokens_per_s * BATCH_S;
    size_t budget = tokens < BATCH_TOKENS_MIN   ? BATCH_TOKENS_MIN
                    : tokens > BATCH_TOKENS_MAX ? BATCH_TOKENS_MAX
                                                : (size_t)tokens;
    return size_max(budget, longest);
}
