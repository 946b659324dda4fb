#include "cli/bulk.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/command.h"

struct bulk_worker {
    struct workspace *workspace;
    struct batch batch;
    struct observer observer;
    float *out; /* [max_texts,H] of one batch */
    uint64_t encode_ns, tokens;
    double flops;
};

/* One bulk_embed call, shared by its threads. */
struct run {
    struct bulk *bulk;
    int32_t *ids;    /* packed, in the texts' order */
    size_t *starts;  /* [n+1] */
    size_t *order;   /* [n] text numbers, longest first */
    size_t *batches; /* [n_batches+1] positions in order */
    size_t n_batches;
    float *out;
    atomic_size_t next; /* batch to take */
};

struct thread_arg {
    struct run *run;
    struct bulk_worker *worker;
    pthread_t thread;
    bool started;
};

static void encode_batch(struct run *run, struct bulk_worker *worker, size_t number)
{
    const struct model *model = run->bulk->model;
    size_t hidden = model->config.hidden;
    size_t from = run->batches[number];
    size_t to = run->batches[number + 1];
    batch_clear(&worker->batch);
    for (size_t i = from; i < to; i++) {
        size_t text = run->order[i];
        size_t length = run->starts[text + 1] - run->starts[text];
        CHECK(batch_add(&worker->batch, run->ids + run->starts[text], length));
        worker->flops += encoder_flops(model->encoder, length);
    }
    struct team team;
    team_init(&team, 1);
    uint64_t start = clock_now_ns();
    encoder_forward(model->encoder, worker->workspace, &worker->batch, model->config.pooling, &team,
                    0, &(struct outputs){.pooled = worker->out});
    worker->encode_ns += clock_now_ns() - start;
    worker->tokens += worker->batch.total;
    for (size_t i = from; i < to; i++) {
        memcpy(run->out + run->order[i] * hidden, worker->out + (i - from) * hidden,
               hidden * sizeof(float));
    }
}

static void *thread_main(void *context)
{
    struct thread_arg *arg = context;
    for (;;) {
        size_t number = atomic_fetch_add(&arg->run->next, 1);
        if (number >= arg->run->n_batches) {
            return NULL;
        }
        encode_batch(arg->run, arg->worker, number);
    }
}

static enum err_code tokenize_all(struct run *run, const struct line *texts, size_t n,
                                  struct err *err)
{
    const struct bulk *bulk = run->bulk;
    const struct encode_options options = {.max_length = bulk->max_length,
                                           .add_special_tokens = true};
    struct tokens tokens = {0};
    enum err_code code = ERR_OK;
    run->starts[0] = 0;
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        code = tokenizer_encode(bulk->model->tokenizer, texts[i].text, texts[i].size, &options,
                                &tokens, err);
        if (code == ERR_OK) {
            memcpy(run->ids + run->starts[i], tokens.ids, tokens.n * sizeof *tokens.ids);
            run->starts[i + 1] = run->starts[i] + tokens.n;
        }
    }
    tokens_done(&tokens);
    return code;
}

static int longer_first(const void *a, const void *b, void *context)
{
    const size_t *starts = context;
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    size_t length_x = starts[x + 1] - starts[x];
    size_t length_y = starts[y + 1] - starts[y];
    if (length_x != length_y) {
        return length_x < length_y ? 1 : -1;
    }
    return x < y ? -1 : x > y;
}

/* Sorted by length so that the threads end together; cut by the token budget. */
static void cut_batches(struct run *run, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        run->order[i] = i;
    }
    qsort_r(run->order, n, sizeof *run->order, longer_first, run->starts);
    size_t tokens = 0;
    run->n_batches = 0;
    run->batches[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = run->starts[run->order[i] + 1] - run->starts[run->order[i]];
        if (tokens && tokens + length > run->bulk->batch_tokens) {
            run->batches[++run->n_batches] = i;
            tokens = 0;
        }
        tokens += length;
    }
    run->batches[++run->n_batches] = n;
}

static void run_threads(struct run *run)
{
    struct bulk *bulk = run->bulk;
    struct thread_arg *args = calloc(bulk->threads, sizeof *args);
    struct thread_arg single = {.run = run, .worker = &bulk->workers[0]};
    for (unsigned i = 1; args && i < bulk->threads; i++) {
        args[i] = (struct thread_arg){.run = run, .worker = &bulk->workers[i]};
        /* Where a thread can't be had, the others do its work. */
        args[i].started = pthread_create(&args[i].thread, NULL, thread_main, &args[i]) == 0;
    }
    (void)thread_main(&single);
    for (unsigned i = 1; args && i < bulk->threads; i++) {
        if (args[i].started) {
            (void)pthread_join(args[i].thread, NULL);
        }
    }
    free(args);
}

static void add_up(struct bulk *bulk)
{
    for (unsigned i = 0; i < bulk->threads; i++) {
        struct bulk_worker *worker = &bulk->workers[i];
        bulk->encode_ns += worker->encode_ns;
        bulk->tokens += worker->tokens;
        bulk->flops += worker->flops;
        worker->encode_ns = worker->tokens = 0;
        worker->flops = 0;
        for (size_t p = 0; p < PHASE_COUNT; p++) {
            bulk->phase_ns[p] += worker->observer.phase_ns[p];
            worker->observer.phase_ns[p] = 0;
        }
    }
}

enum err_code bulk_embed(struct bulk *bulk, const struct line *texts, size_t n, float *out,
                         struct err *err)
{
    if (!n) {
        return ERR_OK;
    }
    struct run run = {.bulk = bulk, .out = out};
    run.ids = calloc(n * bulk->max_length, sizeof *run.ids);
    run.starts = calloc(n + 1, sizeof *run.starts);
    run.order = calloc(n, sizeof *run.order);
    run.batches = calloc(n + 1, sizeof *run.batches);
    enum err_code code;
    if (!run.ids || !run.starts || !run.order || !run.batches) {
        code = err_nomem(err, n * bulk->max_length * sizeof *run.ids);
    } else {
        code = tokenize_all(&run, texts, n, err);
    }
    if (code == ERR_OK) {
        cut_batches(&run, n);
        run_threads(&run);
        add_up(bulk);
    }
    free(run.ids);
    free(run.starts);
    free(run.order);
    free(run.batches);
    return code;
}

static enum err_code worker_init(const struct bulk *bulk, struct bulk_worker *worker,
                                 struct err *err)
{
    const struct config *config = &bulk->model->config;
    size_t max_tokens = size_max(bulk->batch_tokens, bulk->max_length);
    /* A text has two tokens at least: [CLS] and [SEP]. */
    size_t max_texts = max_tokens / 2 + 1;
    enum err_code code = workspace_create(bulk->model->encoder, max_texts, max_tokens, 1,
                                          &worker->workspace, err);
    if (code != ERR_OK) {
        return code;
    }
    worker->out = calloc(max_texts * config->hidden, sizeof *worker->out);
    if (!worker->out || !batch_init(&worker->batch, max_texts, max_tokens)) {
        return err_nomem(err, max_texts * config->hidden * sizeof *worker->out);
    }
    worker->observer.now_ns = clock_now_ns;
    workspace_observe(worker->workspace, &worker->observer);
    return ERR_OK;
}

static enum err_code load(const struct bulk_flags *flags, struct bulk *bulk, struct err *err)
{
    struct encoder_options options;
    unsigned threads = flags->threads ? flags->threads : command_default_threads();
    enum err_code code = command_choose(flags->isa, flags->precision, threads, &options, err);
    if (code != ERR_OK) {
        return code;
    }
    char *default_model = flags->model_dir ? NULL : command_default_model();
    const char *dir = flags->model_dir ? flags->model_dir : default_model;
    code = dir ? model_load(dir, &options, &bulk->model, err)
               : err_set(err, ERR_USAGE, "--model: no folder given and no home folder known");
    free(default_model);
    if (code != ERR_OK) {
        return code;
    }
    const struct config *config = &bulk->model->config;
    bulk->threads = options.threads;
    bulk->batch_tokens = flags->batch_tokens ? flags->batch_tokens : BULK_BATCH_TOKENS;
    bulk->max_length = flags->max_length ? flags->max_length : config->max_length;
    if (bulk->max_length > config->positions) {
        return err_set(err, ERR_USAGE, "--max-length: at most the model's %zu positions",
                       config->positions);
    }
    bulk->workers = calloc(bulk->threads, sizeof *bulk->workers);
    if (!bulk->workers) {
        return err_nomem(err, bulk->threads * sizeof *bulk->workers);
    }
    for (unsigned i = 0; i < bulk->threads && code == ERR_OK; i++) {
        code = worker_init(bulk, &bulk->workers[i], err);
    }
    return code;
}

enum err_code bulk_open(const struct bulk_flags *flags, struct bulk *ret_bulk, struct err *err)
{
    struct bulk bulk = {0};
    enum err_code code = load(flags, &bulk, err);
    if (code != ERR_OK) {
        bulk_close(&bulk);
        return code;
    }
    *ret_bulk = bulk;
    return ERR_OK;
}

void bulk_close(struct bulk *bulk)
{
    for (unsigned i = 0; bulk->workers && i < bulk->threads; i++) {
        workspace_destroy(bulk->workers[i].workspace);
        batch_done(&bulk->workers[i].batch);
        free(bulk->workers[i].out);
    }
    free(bulk->workers);
    model_destroy(bulk->model);
    *bulk = (struct bulk){0};
}
