#include "server/queue/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "model/encoder/choice.h"
#include "server/queue/cpuset.h"
#include "server/queue/flights.h"
#include "server/queue/measure.h"
#include "server/queue/prepare.h"
#include "server/queue/scheduler.h"
#include "server/queue/worker.h"

/* Threads for large bodies, and how many of these may wait: their memory is the connections'. */
enum { PREPARE_THREADS = 3, PREPARE_JOBS_MAX = 256 };
/* The shortest text is [CLS][SEP], but clients may send single ids; rows for every token would be
 * room that nobody uses. */
enum { BATCH_TEXTS_MAX = 1024 };
/* Requests with more texts look them up in the cache on a preparing thread. */
enum { ADMIT_INLINE_TEXTS = 16 };
/* A team member with less work than this waits longer at the barriers than it computes: some
 * hundred barriers of a microsecond against a hundred GFLOP/s. */
#define MEMBER_FLOPS 16e6
/* Of one preparing thread that counts, writes out or decodes tokens. */
#define TOKENIZE_TOKENS_PER_S 1e6

static enum err_code choose_isa(struct engine *engine, struct encoder_options *options,
                                struct err *err)
{
    const struct settings *settings = engine->settings;
    const struct machine machine = machine_here(clock_now_ns);
    struct choice choice;
    enum err_code code = choice_make(&machine, settings->isa ? settings->isa : "auto",
                                     settings->precision ? settings->precision : "auto", &choice,
                                     err);
    if (code != ERR_OK) {
        return code;
    }
    engine->isa_warning = choice.warning;
    options->isa = choice.isa;
    options->precision = choice.precision;
    options->attention = choice.attention;
    return ERR_OK;
}

/* What requests are checked against. */
static enum err_code fill_limits(struct engine *engine, struct err *err)
{
    const struct settings *settings = engine->settings;
    const struct config *config = &engine->model->config;
    const struct config_lists *lists = config->lists;
    engine->prompt_names = calloc(lists->n_prompts + 1, sizeof *engine->prompt_names);
    if (!engine->prompt_names) {
        return err_nomem(err, lists->n_prompts * sizeof *engine->prompt_names);
    }
    for (size_t i = 0; i < lists->n_prompts; i++) {
        engine->prompt_names[i] = lists->prompts[i].name;
        engine->longest_prompt = size_max(engine->longest_prompt, strlen(lists->prompts[i].text));
    }
    engine->limits = (struct api_limits){
        .prompt_names = engine->prompt_names,
        .n_prompts = lists->n_prompts,
        .client_batch = settings->max_client_batch,
        .hidden = vector_out(engine->model->vector),
        .max_length = engine->max_length,
        .vocab = config->vocab,
    };
    return ERR_OK;
}

static enum err_code choose_lengths(struct engine *engine, struct err *err)
{
    const struct settings *settings = engine->settings;
    const struct config *config = &engine->model->config;
    engine->pooling = config->pooling;
    if (settings->pooling) {
        enum err_code code = settings_pooling(settings->pooling, &engine->pooling, err);
        if (code == ERR_OK && pooling_count(config->pooling) != 1) {
            code = err_set(err, ERR_USAGE, "--pooling: this folder pools in %zu ways side by side",
                           pooling_count(config->pooling));
        }
        if (code != ERR_OK) {
            return code;
        }
    }
    engine->max_length = settings->max_length ? settings->max_length : config->max_length;
    if (engine->max_length < 2 || engine->max_length > config->positions) {
        return err_set(err, ERR_USAGE, "--max-length %zu: 2 to %zu are allowed for this model",
                       engine->max_length, config->positions);
    }
    engine->model_name = settings->served_model_name ? settings->served_model_name
                                                     : engine->model->name;
    (void)snprintf(engine->encoder_id, sizeof engine->encoder_id, "%.12s-%s",
                   engine->model->encoder_sha256,
                   precision_name(encoder_precision(engine->model->encoder)));
    enum err_code code = space_make(engine->model, engine->pooling, engine->max_length,
                                    &engine->space, err);
    return code == ERR_OK ? fill_limits(engine, err) : code;
}

static enum err_code choose_budgets(struct engine *engine, struct err *err)
{
    size_t asked = engine->settings->max_batch_tokens;
    enum err_code code = measure_speed(engine->model, engine->threads, &engine->measured, err);
    engine->max_batch_tokens = asked ? asked : engine->measured.batch_tokens;
    return code;
}

static void finish_job(struct job *job, void *context)
{
    const struct engine *engine = context;
    engine->answers->finish(job, engine);
    job_drop_vectors(job);
    if (!job_hold(job, 0)) {
        buf_done(&job->response); /* larger than was foreseen */
    }
}

static void give_computed(struct job *job, size_t text, const struct computed_text *vectors,
                          void *context)
{
    const struct engine *engine = context;
    engine->answers->computed(job, text, vectors, engine);
}

static void end_shared(struct job *job, void *context)
{
    const struct engine *engine = context;
    flights_entry_ended(engine->flights, job);
}

static void tick(void *context)
{
    const struct engine *engine = context;
    if (engine->flights) {
        flights_tick(engine->flights);
    }
}

static bool admit(struct engine *engine, struct job *job)
{
    return engine->flights ? flights_admit(engine->flights, job)
                           : scheduler_admit(engine->scheduler, job);
}

/* Admits and enqueues a job, or ends it. */
static void prepare_job(struct job *job, void *context)
{
    struct engine *engine = context;
    metrics_prepare(engine->metrics, job->prepare_ns);
    bool prepared = job->put_off || (engine->answers->prepare(job, engine) && job->texts > 0);
    job->put_off = false;
    if (prepared && admit(engine, job)) {
        engine_enqueue(engine, job);
    } else {
        job->done(job);
    }
}

static enum err_code start_flights(struct engine *engine, struct err *err)
{
    const struct vector *vector = engine->model->vector;
    const struct flights_options options = {
        .cache_bytes = engine->settings->cache_mib << 20,
        .pooled = vector_in(vector),
        .first = engine->model->config.hidden,
        .row_floats = vector_room(vector),
        .scheduler = engine->scheduler,
        .metrics = engine->metrics,
        .computed = give_computed,
        .finish = finish_job,
        .context = engine,
    };
    return options.cache_bytes ? flights_create(&options, &engine->flights, err) : ERR_OK;
}

static enum err_code start_threads(struct engine *engine, const struct cpuset *cpus,
                                   struct err *err)
{
    const struct settings *settings = engine->settings;
    const struct encoder *encoder = engine->model->encoder;
    size_t batch_texts = size_min(engine->max_batch_tokens, BATCH_TEXTS_MAX);
    const struct scheduler_options scheduling = {
        .policy =
            {
                .workers = engine->threads,
                .batch_tokens = engine->max_batch_tokens,
                .batch_texts = batch_texts,
                .max_wait_ns = settings->max_wait_us * NS_PER_US,
                .member_tokens = MEMBER_FLOPS / (encoder_flops(encoder, 32) / 32),
                .queue_tokens = settings->max_queue_tokens,
                .queue_requests = settings->max_queue_requests,
                .tokens_per_s = engine->measured.tokens_per_s,
                .pass_tokens = engine->measured.pass_tokens,
            },
        .row_floats = vector_room(engine->model->vector),
        .finish = finish_job,
        .ended = end_shared,
        .tick = tick,
        .context = engine,
    };
    enum err_code code = scheduler_create(&scheduling, &engine->scheduler, err);
    if (code != ERR_OK) {
        return code;
    }
    engine->max_queue_tokens = scheduler_bound(engine->scheduler);
    const struct workers_options working = {
        .n = engine->threads,
        .pin = cpuset_exclusive(cpus, engine->threads) ? cpus : NULL,
        .engine = engine,
        .model = engine->model,
        .pooling = engine->pooling,
        .batch_tokens = size_max(engine->max_batch_tokens, engine->max_length),
        .batch_texts = batch_texts,
        .scheduler = engine->scheduler,
        .metrics = engine->metrics,
    };
    code = start_flights(engine, err);
    if (code == ERR_OK) {
        code = workers_create(&working, &engine->workers, err);
    }
    if (code == ERR_OK) {
        code = prepare_create(PREPARE_THREADS, PREPARE_JOBS_MAX, prepare_job, engine,
                              &engine->prepare, err);
    }
    return code;
}

static enum err_code fill_engine(struct engine *engine, struct err *err)
{
    const struct settings *settings = engine->settings;
    struct cpuset cpus;
    cpuset_read("", &cpus);
    engine->threads = settings->threads ? settings->threads : cpuset_threads(&cpus);
    struct encoder_options options = {.threads = engine->threads};
    enum err_code code = settings_check(settings, err);
    if (code == ERR_OK) {
        code = choose_isa(engine, &options, err);
    }
    if (code == ERR_OK) {
        code = model_load(settings->model_dir, &options, &engine->model, err);
    }
    if (code == ERR_OK) {
        code = choose_lengths(engine, err);
    }
    if (code == ERR_OK) {
        code = headstore_create(settings, engine->model, engine->pooling, engine->threads,
                                engine->metrics, &engine->headstore, err);
    }
    if (code == ERR_OK) {
        code = choose_budgets(engine, err);
    }
    return code == ERR_OK ? start_threads(engine, &cpus, err) : code;
}

enum err_code engine_create(const struct settings *settings, const struct engine_answers *answers,
                            struct metrics *metrics, struct engine **ret_engine, struct err *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return err_nomem(err, sizeof *engine);
    }
    engine->settings = settings;
    engine->answers = answers;
    engine->metrics = metrics;
    uint64_t begin_ns = clock_now_ns();
    enum err_code code = fill_engine(engine, err);
    if (code != ERR_OK) {
        engine_destroy(engine);
        return code;
    }
    const struct config *config = &engine->model->config;
    for (size_t i = 0; i < config->lists->n_warnings; i++) {
        LOG(LOG_WARN, "model folder", LOG_S("what", config->lists->warnings[i]));
    }
    if (engine->isa_warning.code != ERR_OK) {
        LOG(LOG_WARN, "another instruction set or precision would be better",
            LOG_S("why", engine->isa_warning.text));
    }
    LOG(LOG_INFO, "model loaded", LOG_S("model", engine->model_name),
        LOG_S("encoder", engine->encoder_id), LOG_S("embedding_space", engine->space.id),
        LOG_S("architecture", config->architecture->model_type),
        LOG_S("folder", folder_name(config->folder)),
        LOG_S("isa", isa_name(encoder_isa(engine->model->encoder))),
        LOG_S("attention", precision_name(encoder_attention(engine->model->encoder))),
        LOG_U("packed_bytes", encoder_bytes(engine->model->encoder)),
        LOG_U("threads", engine->threads), LOG_U("max_length", engine->max_length),
        LOG_S("pooling", pooling_name(engine->pooling, (char[POOLING_TEXT_SIZE]){0})),
        LOG_U("max_batch_tokens", engine->max_batch_tokens),
        LOG_U("max_queue_tokens", engine->max_queue_tokens),
        LOG_U("tokens_per_s", (uint64_t)engine->measured.tokens_per_s),
        LOG_D("pass_tokens", engine->measured.pass_tokens),
        LOG_U("ms", (clock_now_ns() - begin_ns) / NS_PER_MS));
    *ret_engine = engine;
    return ERR_OK;
}

void engine_destroy(struct engine *engine)
{
    if (!engine) {
        return;
    }
    prepare_destroy(engine->prepare);
    if (engine->scheduler) {
        scheduler_stop(engine->scheduler);
    }
    workers_destroy(engine->workers);
    scheduler_destroy(engine->scheduler);
    flights_destroy(engine->flights);
    headstore_destroy(engine->headstore);
    model_destroy(engine->model);
    free(engine->prompt_names);
    free(engine);
}

bool engine_admit(struct engine *engine, struct job *job)
{
    if (engine->flights && job->texts > ADMIT_INLINE_TEXTS && job->reads != JOB_READS_TOKENS) {
        job->put_off = true; /* so many vectors are copied and written on a preparing thread */
        return true;
    }
    return admit(engine, job);
}

bool engine_reserve(const struct engine *engine, struct job *job, size_t tokens)
{
    double share = engine->measured.tokens_per_s / TOKENIZE_TOKENS_PER_S;
    double worth = (double)tokens * (share < 1 ? share : 1);
    return scheduler_reserve(engine->scheduler, job, size_max((size_t)worth, 1));
}

void engine_release(const struct engine *engine, struct job *job)
{
    scheduler_release(engine->scheduler, job);
}

void engine_enqueue(struct engine *engine, struct job *job)
{
    if (job->put_off) {
        prepare_submit(engine->prepare, job);
    } else if (engine->flights) {
        flights_enqueue(engine->flights, job);
    } else {
        scheduler_enqueue(engine->scheduler, job);
    }
}

void engine_client(struct engine *engine, struct job *job, enum policy_client client)
{
    atomic_store(&job->client, (int)client);
    if (engine->flights) {
        flights_client(engine->flights, job, client);
    } else {
        scheduler_client(engine->scheduler, job, client);
    }
}

void engine_submit_large(struct engine *engine, struct job *job)
{
    prepare_submit(engine->prepare, job);
}

bool engine_full(const struct engine *engine, bool impatient)
{
    return impatient ? scheduler_crowded(engine->scheduler) : scheduler_full(engine->scheduler);
}

unsigned engine_retry_after_s(const struct engine *engine)
{
    return scheduler_retry_after_s(engine->scheduler);
}

bool engine_alive(const struct engine *engine)
{
    return workers_alive(engine->workers);
}

struct queue_state engine_queue(const struct engine *engine)
{
    struct queue_state state;
    scheduler_queue(engine->scheduler, &state.tokens, &state.requests);
    state.bound = scheduler_bound(engine->scheduler);
    return state;
}
