#include "model/bulk/bulk.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/bulk/cut.h"
#include "model/files/safetensors.h"

/* Windows on their way: one computed, one written, one filled; more where many threads would
 * otherwise wait for the last batches of one. */
enum { SLOTS_MIN = 3, THREADS_PER_SLOT = 8 };

struct bulk_window {
    struct bulk *bulk;
    size_t slot;
    uint64_t first; /* number of its first text in the stream */
    size_t n;
    size_t truncated;
    int32_t *ids;                          /* all texts side by side, owned */
    size_t room;                           /* of ids */
    size_t starts[BULK_WINDOW_TEXTS + 1];  /* into ids */
    size_t order[BULK_WINDOW_TEXTS];       /* texts, longest first */
    size_t batches[BULK_WINDOW_TEXTS + 1]; /* where each begins in order */
    size_t n_batches;
    float *rows; /* [BULK_WINDOW_TEXTS,H], owned */
    /* Under the engine's lock. */
    size_t next, left; /* batch to take; batches not done */
    size_t bad;        /* smallest text whose vector is not finite, SIZE_MAX: none */
};

struct worker {
    struct bulk *bulk;
    pthread_t thread;
    struct workspace *workspace;
    struct batch batch;
    struct observer observer;
    float *out;   /* [BULK_BATCH_TEXTS,pooled] */
    float *first; /* [BULK_BATCH_TEXTS,H], NULL: nobody asks */
    double flops;
};

struct bulk {
    struct bulk_options options;
    size_t pooled; /* of a pooled vector */
    size_t first;  /* of what stands behind it: H, or 0 */
    size_t skip;   /* first tokens of a text that pooling leaves out */
    struct tokens tokens;
    size_t slots;
    struct bulk_window *windows; /* [slots], owned; a ring: text windows in order */
    struct worker *workers;      /* [threads], owned */
    unsigned started;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* Under lock. */
    size_t oldest, on_way; /* the ring's windows that were submitted and not yet taken */
    uint64_t done_texts;
    bool stop;
    struct bulk_counts counts;
};

/* ---- a thread ---- */

/* The next batch of the oldest window that has one; waits for it. False: the engine stops. */
static bool take_batch(struct bulk *bulk, struct bulk_window **ret_window, size_t *ret_number)
{
    for (;;) {
        if (bulk->stop) {
            return false;
        }
        for (size_t i = 0; i < bulk->on_way; i++) {
            struct bulk_window *window = &bulk->windows[(bulk->oldest + i) % bulk->slots];
            if (window->next < window->n_batches) {
                *ret_window = window;
                *ret_number = window->next++;
                return true;
            }
        }
        (void)pthread_cond_wait(&bulk->work, &bulk->lock);
    }
}

/* Computes a batch; returns its smallest text without a finite vector, or SIZE_MAX. */
static size_t encode_batch(struct worker *worker, struct bulk_window *window, size_t number)
{
    const struct bulk_options *options = &worker->bulk->options;
    size_t pooled = worker->bulk->pooled;
    size_t first = worker->bulk->first;
    size_t from = window->batches[number];
    size_t to = window->batches[number + 1];
    size_t bad = SIZE_MAX;
    batch_clear(&worker->batch);
    for (size_t i = from; i < to; i++) {
        size_t text = window->order[i];
        size_t length = window->starts[text + 1] - window->starts[text];
        const struct batch_text added = {
            .ids = window->ids + window->starts[text], .n = length, .skip = worker->bulk->skip};
        CHECK(batch_add_text(&worker->batch, &added));
        worker->flops += encoder_flops(options->encoder, length);
    }
    struct team team;
    team_init(&team, 1);
    encoder_forward(options->encoder, worker->workspace, &worker->batch, options->pooling, &team,
                    &(struct outputs){.pooled = worker->out, .cls = worker->first});
    for (size_t i = from; i < to; i++) {
        float *row = window->rows + window->order[i] * (pooled + first);
        memcpy(row, worker->out + (i - from) * pooled, pooled * sizeof *row);
        if (worker->first) {
            memcpy(row + pooled, worker->first + (i - from) * first, first * sizeof *row);
        }
        if (floats_first_nonfinite(row, pooled + first) < pooled + first) {
            bad = size_min(bad, window->order[i]);
        }
    }
    return bad;
}

/* Under lock: what the thread did since the last time. */
static void add_up(struct bulk *bulk, struct worker *worker, uint64_t encode_ns)
{
    bulk->counts.tokens += worker->batch.total;
    bulk->counts.encode_ns += encode_ns;
    bulk->counts.flops += worker->flops;
    worker->flops = 0;
    for (size_t p = 0; p < PHASE_COUNT; p++) {
        bulk->counts.phase_ns[p] += worker->observer.phase_ns[p];
        worker->observer.phase_ns[p] = 0;
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct bulk *bulk = worker->bulk;
    uint64_t (*now_ns)(void) = bulk->options.now_ns;
    struct bulk_window *window;
    size_t number;
    (void)pthread_mutex_lock(&bulk->lock);
    while (take_batch(bulk, &window, &number)) {
        (void)pthread_mutex_unlock(&bulk->lock);
        uint64_t start = now_ns ? now_ns() : 0;
        size_t bad = encode_batch(worker, window, number);
        uint64_t encode_ns = now_ns ? now_ns() - start : 0;
        (void)pthread_mutex_lock(&bulk->lock);
        add_up(bulk, worker, encode_ns);
        bulk->done_texts += worker->batch.n;
        window->bad = size_min(window->bad, bad);
        window->left--;
        (void)pthread_cond_signal(&bulk->done);
    }
    (void)pthread_mutex_unlock(&bulk->lock);
    return NULL;
}

/* ---- making and ending ---- */

static enum err_code start_worker(struct bulk *bulk, struct worker *worker, struct err *err)
{
    size_t tokens = size_max(bulk->options.batch_tokens, bulk->options.max_length);
    worker->bulk = bulk;
    worker->observer.now_ns = bulk->options.now_ns;
    worker->out = calloc((size_t)BULK_BATCH_TEXTS * bulk->pooled, sizeof *worker->out);
    worker->first = bulk->first
                        ? calloc((size_t)BULK_BATCH_TEXTS * bulk->first, sizeof *worker->first)
                        : NULL;
    if (!worker->out || (bulk->first && !worker->first) ||
        !batch_init(&worker->batch, BULK_BATCH_TEXTS, tokens)) {
        return err_nomem(err, BULK_BATCH_TEXTS * bulk->pooled * sizeof *worker->out);
    }
    enum err_code code = workspace_create(bulk->options.encoder, BULK_BATCH_TEXTS, tokens,
                                          &worker->workspace, err);
    if (code != ERR_OK) {
        return code;
    }
    if (worker->observer.now_ns) {
        workspace_observe(worker->workspace, &worker->observer);
    }
    if (pthread_create(&worker->thread, NULL, worker_main, worker) == 0) {
        bulk->started++;
    } else if (bulk->started == 0) {
        return err_set(err, ERR_IO, "no thread could be started");
    }
    return ERR_OK;
}

static enum err_code make_parts(struct bulk *bulk, struct err *err)
{
    size_t row_bytes = (size_t)BULK_WINDOW_TEXTS *
                       size_max(bulk->options.row_floats, bulk->pooled + bulk->first) *
                       sizeof(float);
    bulk->windows = calloc(bulk->slots, sizeof *bulk->windows);
    bulk->workers = calloc(bulk->options.threads, sizeof *bulk->workers);
    if (!bulk->windows || !bulk->workers) {
        return err_nomem(err, bulk->slots * sizeof *bulk->windows);
    }
    for (size_t i = 0; i < bulk->slots; i++) {
        bulk->windows[i] = (struct bulk_window){.bulk = bulk, .slot = i};
        bulk->windows[i].rows = malloc(row_bytes);
        if (!bulk->windows[i].rows) {
            return err_nomem(err, row_bytes);
        }
    }
    enum err_code code = ERR_OK;
    for (unsigned i = 0; code == ERR_OK && i < bulk->options.threads; i++) {
        /* Threads stand in a row without a gap: where one can't be had, none behind it is tried. */
        if (bulk->started == i) {
            code = start_worker(bulk, &bulk->workers[i], err);
        }
    }
    return code;
}

enum err_code bulk_create(const struct bulk_options *options, struct bulk **ret_bulk,
                          struct err *err)
{
    CHECK(options->threads >= 1 && options->max_length >= 1);
    struct bulk *bulk = calloc(1, sizeof *bulk);
    if (!bulk) {
        return err_nomem(err, sizeof *bulk);
    }
    bulk->options = *options;
    if (bulk->options.batch_tokens == 0) {
        bulk->options.batch_tokens = BULK_BATCH_TOKENS;
    }
    size_t hidden = encoder_config(options->encoder)->hidden;
    bulk->pooled = pooling_count(options->pooling) * hidden;
    bulk->first = options->first ? hidden : 0;
    bulk->slots = SLOTS_MIN + options->threads / THREADS_PER_SLOT;
    (void)pthread_mutex_init(&bulk->lock, NULL);
    (void)pthread_cond_init(&bulk->work, NULL);
    (void)pthread_cond_init(&bulk->done, NULL);
    enum err_code code = make_parts(bulk, err);
    if (code != ERR_OK) {
        bulk_destroy(bulk);
        return code;
    }
    *ret_bulk = bulk;
    return ERR_OK;
}

void bulk_destroy(struct bulk *bulk)
{
    if (!bulk) {
        return;
    }
    (void)pthread_mutex_lock(&bulk->lock);
    bulk->stop = true;
    (void)pthread_cond_broadcast(&bulk->work);
    (void)pthread_mutex_unlock(&bulk->lock);
    for (unsigned i = 0; i < bulk->started; i++) {
        (void)pthread_join(bulk->workers[i].thread, NULL);
    }
    for (unsigned i = 0; bulk->workers && i < bulk->options.threads; i++) {
        workspace_destroy(bulk->workers[i].workspace);
        batch_done(&bulk->workers[i].batch);
        free(bulk->workers[i].out);
        free(bulk->workers[i].first);
    }
    for (size_t i = 0; bulk->windows && i < bulk->slots; i++) {
        free(bulk->windows[i].ids);
        free(bulk->windows[i].rows);
    }
    tokens_done(&bulk->tokens);
    free(bulk->workers);
    free(bulk->windows);
    (void)pthread_cond_destroy(&bulk->done);
    (void)pthread_cond_destroy(&bulk->work);
    (void)pthread_mutex_destroy(&bulk->lock);
    free(bulk);
}

void bulk_counts(struct bulk *bulk, struct bulk_counts *ret_counts)
{
    (void)pthread_mutex_lock(&bulk->lock);
    *ret_counts = bulk->counts;
    (void)pthread_mutex_unlock(&bulk->lock);
}

void bulk_leave_out(struct bulk *bulk, size_t tokens)
{
    bulk->skip = tokens;
}

size_t bulk_slots(const struct bulk *bulk)
{
    return bulk->slots;
}

/* ---- a window ---- */

size_t bulk_window_room(const struct bulk_window *window)
{
    return BULK_WINDOW_TEXTS - window->n;
}

size_t bulk_window_n(const struct bulk_window *window)
{
    return window->n;
}

size_t bulk_window_truncated(const struct bulk_window *window)
{
    return window->truncated;
}

size_t bulk_window_slot(const struct bulk_window *window)
{
    return window->slot;
}

enum err_code bulk_add(struct bulk_window *window, const int32_t *ids, size_t n, struct err *err)
{
    CHECK(window->n < BULK_WINDOW_TEXTS && n >= 1 && n <= window->bulk->options.max_length);
    size_t used = window->starts[window->n];
    if (n > window->room - used) {
        size_t room = window->room + size_max(n, window->room / 2 + 4096);
        int32_t *more = realloc(window->ids, room * sizeof *more);
        if (!more) {
            return err_nomem(err, room * sizeof *more);
        }
        window->ids = more;
        window->room = room;
    }
    memcpy(window->ids + used, ids, n * sizeof *ids);
    window->starts[++window->n] = used + n;
    return ERR_OK;
}

enum err_code bulk_add_text(struct bulk_window *window, const struct tokenizer *tokenizer,
                            const char *text, size_t size, struct err *err)
{
    struct tokens *tokens = &window->bulk->tokens;
    const struct encode_options options = {.max_length = window->bulk->options.max_length,
                                           .add_special_tokens = true};
    enum err_code code = tokenizer_encode(tokenizer, text, size, &options, tokens, err);
    if (code != ERR_OK) {
        return code;
    }
    if (tokens->n == 0) {
        return err_set(err, ERR_INVALID, "a text without any token");
    }
    code = bulk_add(window, tokens->ids, tokens->n, err);
    window->truncated += code == ERR_OK && tokens->truncated;
    return code;
}

static void clear_window(struct bulk_window *window, uint64_t first)
{
    window->first = first;
    window->n = 0;
    window->starts[0] = 0;
    window->truncated = 0;
    window->bad = SIZE_MAX;
}

/* ---- a stream ---- */

static void submit(struct bulk *bulk, struct bulk_window *window, bool last)
{
    const struct cut cut = {
        .batch_tokens = bulk->options.batch_tokens,
        .batch_texts = BULK_BATCH_TEXTS,
        .threads = bulk->options.threads,
        .last = last,
    };
    window->n_batches = cut_batches(&cut, window->starts, window->n, window->order,
                                    window->batches);
    (void)pthread_mutex_lock(&bulk->lock);
    window->next = 0;
    window->left = window->n_batches;
    bulk->on_way++;
    (void)pthread_cond_broadcast(&bulk->work);
    (void)pthread_mutex_unlock(&bulk->lock);
}

/* Waits until the oldest window is computed; tells the stream of every batch. */
static struct bulk_window *await(struct bulk *bulk, const struct bulk_stream *stream)
{
    (void)pthread_mutex_lock(&bulk->lock);
    struct bulk_window *window = &bulk->windows[bulk->oldest];
    while (window->left > 0) {
        (void)pthread_cond_wait(&bulk->done, &bulk->lock);
        uint64_t done = bulk->done_texts;
        if (stream->on_done) {
            (void)pthread_mutex_unlock(&bulk->lock);
            stream->on_done(stream->context, done);
            (void)pthread_mutex_lock(&bulk->lock);
        }
    }
    bulk->oldest = (bulk->oldest + 1) % bulk->slots;
    bulk->on_way--;
    (void)pthread_mutex_unlock(&bulk->lock);
    return window;
}

/* Batches that no thread has taken are not computed any more. */
static void cancel(struct bulk *bulk)
{
    (void)pthread_mutex_lock(&bulk->lock);
    for (size_t i = 0; i < bulk->on_way; i++) {
        struct bulk_window *window = &bulk->windows[(bulk->oldest + i) % bulk->slots];
        window->left -= window->n_batches - window->next;
        window->next = window->n_batches;
    }
    (void)pthread_mutex_unlock(&bulk->lock);
}

static enum err_code hand_over(const struct bulk_stream *stream, struct bulk_window *window,
                               struct err *err)
{
    if (window->bad != SIZE_MAX) {
        return err_set(err, ERR_INVALID,
                       "text %zu: its vector is not finite (weights or precision overflow)",
                       window->first + window->bad + 1);
    }
    return stream->take(stream->context, window, window->rows, err);
}

enum err_code bulk_run(struct bulk *bulk, const struct bulk_stream *stream, struct err *err)
{
    enum err_code code = ERR_OK;
    bool end = false;
    uint64_t texts = 0;
    size_t on_way = 0;
    bulk->done_texts = 0;
    while (code == ERR_OK && (!end || on_way > 0)) {
        bool filled = false;
        if (!end && on_way < bulk->slots) {
            struct bulk_window *window = &bulk->windows[(bulk->oldest + on_way) % bulk->slots];
            clear_window(window, texts);
            code = stream->fill(stream->context, window, on_way == 0, &end, err);
            filled = code == ERR_OK && window->n > 0;
            if (filled) {
                texts += window->n;
                submit(bulk, window, end);
                on_way++;
            }
        }
        if (code == ERR_OK && !filled && on_way > 0) {
            struct bulk_window *window = await(bulk, stream);
            on_way--;
            code = hand_over(stream, window, err);
        }
    }
    static const struct bulk_stream deaf;
    cancel(bulk);
    for (; on_way > 0; on_way--) {
        (void)await(bulk, &deaf);
    }
    return code;
}
