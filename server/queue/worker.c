#include "server/queue/worker.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "server/queue/engine.h"
#include "server/queue/flights.h"

/* Compute threads are a little less urgent than those that answer probes and read requests. */
enum { COMPUTE_NICE = 5 };
enum { STALLED_AFTER_S = 30 };

/* One forward pass, as every member of its team needs it. */
struct pass {
    const struct encoder *encoder;
    struct workspace *workspace;
    struct batch batch;
    enum pooling pooling;
    float *out; /* [batch_texts,H] */
};

struct worker {
    struct workers *workers;
    unsigned index;
    pthread_t thread;
    bool started;
    const struct policy_batch *batch; /* the scheduler's */
    struct crew crew;
    struct pass pass;
    atomic_uint_fast64_t busy_since_ns; /* last progress; 0 while idle */
};

struct workers {
    struct workers_options options;
    struct cpuset pin;
    bool pinned;
    size_t hidden;
    unsigned n;
    struct worker worker[];
};

static void mark(struct worker *worker, uint64_t busy_since_ns)
{
    atomic_store_explicit(&worker->busy_since_ns, busy_since_ns, memory_order_relaxed);
}

static void lead_pass(struct pass *pass, struct team *team)
{
    encoder_forward(pass->encoder, pass->workspace, &pass->batch, pass->pooling, team,
                    &(struct outputs){.pooled = pass->out});
}

/* In another worker's pass, with this worker's scratch. */
static void assist(struct worker *worker, struct pass *pass, struct team *team, unsigned member)
{
    encoder_assist(pass->encoder, pass->workspace, &pass->batch, pass->pooling, team, member,
                   workspace_scratch(worker->pass.workspace),
                   &(struct outputs){.pooled = pass->out});
}

/* The texts of the cut batch, side by side. */
static void fill_batch(struct worker *worker)
{
    struct batch *batch = &worker->pass.batch;
    batch_clear(batch);
    for (size_t i = 0; i < worker->batch->n; i++) {
        const struct policy_text *text = &worker->batch->texts[i];
        const struct job *job = job_of(text->entry);
        size_t index = job_text(job, text->index);
        const size_t *starts = job->starts + index;
        const struct batch_text ids = {
            .ids = job->ids + starts[0],
            .types = job->types ? job->types + starts[0] : NULL,
            .n = starts[1] - starts[0],
            .skip = job->skips ? job->skips[index] : 0,
        };
        bool added = batch_add_text(batch, &ids);
        CHECK(added);
    }
}

/* Gives each text of the batch what was computed of it. Those who wait for one of them beside its
 * job are in *follows. */
static void scatter(const struct worker *worker, struct follow **follows)
{
    const struct engine *engine = worker->workers->options.engine;
    const struct batch *batch = &worker->pass.batch;
    const float *hidden = workspace_hidden(worker->pass.workspace);
    size_t width = worker->workers->hidden;
    for (size_t i = 0; i < worker->batch->n; i++) {
        const struct policy_text *text = &worker->batch->texts[i];
        const struct computed_text computed = {
            .pooled = worker->pass.out + i * width,
            .hidden = hidden + batch->starts[i] * engine->model->config.hidden,
            .n = batch->starts[i + 1] - batch->starts[i],
        };
        struct job *job = job_of(text->entry);
        if (engine->flights) {
            flights_computed(engine->flights, job, text->index, &computed, follows);
        } else {
            engine->answers->computed(job, text->index, &computed, engine);
        }
    }
}

static void lead(struct worker *worker)
{
    struct scheduler *scheduler = worker->workers->options.scheduler;
    struct flights *flights = worker->workers->options.engine->flights;
    struct follow *follows = NULL;
    fill_batch(worker);
    if (flights) {
        flights_cut(flights, worker->batch);
    }
    metrics_batch(worker->workers->options.metrics, worker->batch->tokens, worker->batch->n);
    scheduler_muster(scheduler, worker->index, &worker->crew, &worker->pass);
    lead_pass(&worker->pass, &worker->crew.team);
    mark(worker, clock_now_ns());
    scatter(worker, &follows);
    scheduler_complete(scheduler, worker->index);
    if (follows) {
        flights_deliver(flights, follows);
    }
    crew_wait(&worker->crew);
}

/* One small pass, so that the workspace's pages are there, on this thread's memory node, before the
 * first request. */
static void warm_up(struct worker *worker)
{
    static const int32_t ids[] = {0, 0};
    struct team team;
    team_init(&team, 1);
    batch_clear(&worker->pass.batch);
    if (batch_add(&worker->pass.batch, ids, sizeof ids / sizeof ids[0])) {
        lead_pass(&worker->pass, &team);
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct workers *workers = worker->workers;
    (void)pthread_setname_np(pthread_self(), "compute");
    /* One of the two, and both only help: a container may forbid either. A thread that is pinned
     * and gives way to a neighbour on its CPU gets a quarter of it, while its team waits. */
    if (workers->pinned) {
        (void)cpuset_pin(&workers->pin, worker->index);
    } else {
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), COMPUTE_NICE);
    }
    warm_up(worker);
    for (;;) {
        struct crew *crew = NULL;
        unsigned member = 0;
        enum take take = scheduler_take(workers->options.scheduler, worker->index, &worker->batch,
                                        &crew, &member);
        if (take == TAKE_STOP) {
            return NULL;
        }
        mark(worker, clock_now_ns());
        if (take == TAKE_BATCH) {
            lead(worker);
        } else {
            assist(worker, crew->task, &crew->team, member);
            crew_leave(crew);
        }
        mark(worker, 0);
    }
}

static enum err_code init_worker(struct workers *workers, unsigned index, struct err *err)
{
    const struct workers_options *options = &workers->options;
    struct worker *worker = &workers->worker[index];
    worker->workers = workers;
    worker->index = index;
    worker->pass.encoder = options->model->encoder;
    worker->pass.pooling = options->pooling;
    enum err_code code = workspace_create(options->model->encoder, options->batch_texts,
                                          options->batch_tokens, &worker->pass.workspace, err);
    size_t floats;
    if (code == ERR_OK && size_mul(options->batch_texts, workers->hidden, &floats)) {
        worker->pass.out = calloc(floats, sizeof *worker->pass.out);
    }
    if (code == ERR_OK &&
        (!worker->pass.out ||
         !batch_init(&worker->pass.batch, options->batch_texts, options->batch_tokens))) {
        code = err_nomem(err, options->batch_tokens);
    }
    return code;
}

static void done_worker(struct worker *worker)
{
    workspace_destroy(worker->pass.workspace);
    batch_done(&worker->pass.batch);
    free(worker->pass.out);
}

enum err_code workers_create(const struct workers_options *options, struct workers **ret_workers,
                             struct err *err)
{
    size_t bytes = sizeof(struct workers) + options->n * sizeof(struct worker);
    struct workers *workers = calloc(1, bytes);
    if (!workers) {
        return err_nomem(err, bytes);
    }
    workers->options = *options;
    workers->options.pin = NULL;
    workers->pinned = options->pin != NULL;
    if (options->pin) {
        workers->pin = *options->pin;
    }
    workers->hidden = vector_in(options->model->vector);
    workers->n = options->n;
    enum err_code code = ERR_OK;
    for (unsigned i = 0; i < workers->n && code == ERR_OK; i++) {
        code = init_worker(workers, i, err);
    }
    for (unsigned i = 0; i < workers->n && code == ERR_OK; i++) {
        struct worker *worker = &workers->worker[i];
        int number = pthread_create(&worker->thread, NULL, worker_main, worker);
        worker->started = number == 0;
        if (number != 0) {
            code = err_set_errno(err, ERR_IO, number, "compute thread %u", i);
        }
    }
    if (code != ERR_OK) {
        scheduler_stop(options->scheduler);
        workers_destroy(workers);
        return code;
    }
    *ret_workers = workers;
    return ERR_OK;
}

void workers_destroy(struct workers *workers)
{
    if (!workers) {
        return;
    }
    for (unsigned i = 0; i < workers->n; i++) {
        if (workers->worker[i].started) {
            (void)pthread_join(workers->worker[i].thread, NULL);
        }
    }
    for (unsigned i = 0; i < workers->n; i++) {
        done_worker(&workers->worker[i]);
    }
    free(workers);
}

bool workers_alive(const struct workers *workers)
{
    uint64_t now_ns = clock_now_ns();
    for (unsigned i = 0; i < workers->n; i++) {
        uint64_t since_ns = atomic_load_explicit(&workers->worker[i].busy_since_ns,
                                                 memory_order_relaxed);
        if (since_ns && now_ns > since_ns && now_ns - since_ns > STALLED_AFTER_S * NS_PER_S) {
            return false;
        }
    }
    return true;
}
