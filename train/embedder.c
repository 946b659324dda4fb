#include "train/embedder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "train/crew.h"

/* Large enough for full speed, small enough for the last batches to even out. */
enum { BATCH_TOKENS = 1024, BATCH_TEXTS = 256 };

/* An example and its length. */
struct place {
    size_t index, tokens;
};

struct slot {
    struct workspace *workspace;
    struct batch batch;
    float *rows; /* [BATCH_TEXTS,H] */
};

struct run {
    const struct encoder *encoder;
    const struct dataset *dataset;
    const struct embedder_progress *progress;
    enum pooling pooling;
    float *out;
    struct place *order; /* longest first */
    struct slot *slots;  /* one a thread */
    pthread_mutex_t lock;
    size_t next, done; /* under lock */
};

static int longest_first(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;
    if (x->tokens != y->tokens) {
        return x->tokens < y->tokens ? 1 : -1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Fills the slot's batch with the next examples; returns where they begin in the order. */
static size_t take_batch(struct run *run, struct slot *slot)
{
    const struct dataset *dataset = run->dataset;
    batch_clear(&slot->batch);
    pthread_mutex_lock(&run->lock);
    size_t first = run->next;
    while (run->next < dataset->n) {
        const struct place *place = &run->order[run->next];
        if (!batch_add(&slot->batch, dataset->ids + dataset->starts[place->index], place->tokens)) {
            break;
        }
        run->next++;
    }
    pthread_mutex_unlock(&run->lock);
    return first;
}

static void run_main(void *context, struct part part)
{
    struct run *run = context;
    struct slot *slot = &run->slots[part.member];
    size_t h = encoder_config(run->encoder)->hidden;
    struct team alone;
    team_init(&alone, 1);
    for (;;) {
        size_t first = take_batch(run, slot);
        if (slot->batch.n == 0) {
            return;
        }
        encoder_forward(run->encoder, slot->workspace, &slot->batch, run->pooling, &alone, 0,
                        &(struct outputs){.pooled = slot->rows});
        for (size_t i = 0; i < slot->batch.n; i++) {
            memcpy(run->out + run->order[first + i].index * h, slot->rows + i * h,
                   h * sizeof(float));
        }
        pthread_mutex_lock(&run->lock);
        run->done += slot->batch.n;
        if (run->progress && run->progress->on_done) {
            run->progress->on_done(run->progress->context, run->done, run->dataset->n);
        }
        pthread_mutex_unlock(&run->lock);
    }
}

static enum err_code prepare(struct run *run, unsigned threads, struct err *err)
{
    const struct dataset *dataset = run->dataset;
    size_t h = encoder_config(run->encoder)->hidden;
    size_t tokens = size_max(BATCH_TOKENS, dataset->longest);
    run->order = calloc(dataset->n, sizeof *run->order);
    run->slots = calloc(threads, sizeof *run->slots);
    if (!run->order || !run->slots) {
        return err_nomem(err, dataset->n * sizeof *run->order);
    }
    for (size_t i = 0; i < dataset->n; i++) {
        run->order[i] = (struct place){i, dataset_length(dataset, i)};
    }
    qsort(run->order, dataset->n, sizeof *run->order, longest_first);
    for (unsigned i = 0; i < threads; i++) {
        struct slot *slot = &run->slots[i];
        enum err_code code = workspace_create(run->encoder, BATCH_TEXTS, tokens, 1,
                                              &slot->workspace, err);
        if (code != ERR_OK) {
            return code;
        }
        slot->rows = calloc((size_t)BATCH_TEXTS * h, sizeof(float));
        if (!slot->rows || !batch_init(&slot->batch, BATCH_TEXTS, tokens)) {
            return err_nomem(err, BATCH_TEXTS * h * sizeof(float));
        }
    }
    return ERR_OK;
}

enum err_code embedder_run(const struct encoder *encoder, const struct dataset *dataset,
                           enum pooling pooling, unsigned threads,
                           const struct embedder_progress *progress, float *out, struct err *err)
{
    struct run run = {
        .encoder = encoder,
        .dataset = dataset,
        .progress = progress,
        .pooling = pooling,
    };
    struct crew *crew = NULL;
    run.out = out;
    pthread_mutex_init(&run.lock, NULL);
    enum err_code code = prepare(&run, threads, err);
    if (code == ERR_OK) {
        code = crew_create(threads, &crew, err);
    }
    if (code == ERR_OK) {
        crew_run(crew, run_main, &run);
    }
    crew_destroy(crew);
    for (unsigned i = 0; run.slots && i < threads; i++) {
        workspace_destroy(run.slots[i].workspace);
        batch_done(&run.slots[i].batch);
        free(run.slots[i].rows);
    }
    free(run.slots);
    free(run.order);
    pthread_mutex_destroy(&run.lock);
    return code;
}
