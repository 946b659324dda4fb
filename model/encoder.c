#include "model/encoder.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/dispatch.h"
#include "model/encoder_private.h"

enum {
    LINEARS = 4,      /* matrices of a layer */
    ROWS_A_JOB = 512, /* of the embedding tables */
    THREADS_MAX = 64,
};

static void norm_layout(struct norm *norm, size_t hidden, struct region *region)
{
    norm->gamma = region_take(region, hidden, sizeof(float));
    norm->beta = region_take(region, hidden, sizeof(float));
}

/* Sizes and places of everything; run once to measure, once to take. */
static void encoder_layout(struct encoder *encoder, struct region *region)
{
    const struct config *config = &encoder->config;
    const struct kernels *ops = encoder->ops;
    const struct tile_kernel *tile = dispatch_tile(encoder->isa, encoder->precision);
    size_t hidden = config->hidden;
    encoder->word = region_take(region, config->vocab * hidden, sizeof(float));
    encoder->position = region_take(region, config->positions * hidden, sizeof(float));
    norm_layout(&encoder->embeddings_norm, hidden, region);
    for (size_t l = 0; l < config->layers; l++) {
        struct layer *layer = &encoder->layers[l];
        linear_layout(&layer->qkv, ops, tile, hidden, 3 * hidden, 0, region);
        linear_layout(&layer->attention_out, ops, tile, hidden, hidden, 0, region);
        norm_layout(&layer->attention_norm, hidden, region);
        linear_layout(&layer->ffn_in, ops, tile, hidden, config->intermediate, 0, region);
        linear_layout(&layer->ffn_out, ops, tile, config->intermediate, hidden, 0, region);
        norm_layout(&layer->ffn_norm, hidden, region);
    }
}

/* The work of loading, cut into numbered jobs that threads take one by one. */
struct packing {
    struct encoder *encoder;
    const struct checkpoint *checkpoint;
    size_t scratch_floats; /* for each thread */
    size_t jobs;
    atomic_size_t next;
    atomic_bool out_of_memory;
};

static size_t table_jobs(size_t rows)
{
    return size_div_up(rows, ROWS_A_JOB);
}

static void pack_words(const struct packing *packing, size_t job)
{
    const struct config *config = &packing->encoder->config;
    size_t from = job * ROWS_A_JOB;
    size_t rows = size_min(config->vocab - from, ROWS_A_JOB);
    tensor_to_f32(packing->checkpoint->word, from * config->hidden, rows * config->hidden,
                  packing->encoder->word + from * config->hidden);
}

/* Every token is of type 0, so that type's vector joins the positions' here, once. */
static void pack_positions(const struct packing *packing)
{
    struct encoder *encoder = packing->encoder;
    size_t hidden = encoder->config.hidden;
    size_t positions = encoder->config.positions;
    float type[CONFIG_HIDDEN_MAX];
    tensor_to_f32(packing->checkpoint->type, 0, hidden, type);
    tensor_to_f32(packing->checkpoint->position, 0, positions * hidden, encoder->position);
    for (size_t p = 0; p < positions; p++) {
        for (size_t i = 0; i < hidden; i++) {
            encoder->position[p * hidden + i] += type[i];
        }
    }
}

static void pack_norm(struct norm *norm, const struct tensor *gamma, const struct tensor *beta)
{
    tensor_to_f32(gamma, 0, gamma->count, norm->gamma);
    tensor_to_f32(beta, 0, beta->count, norm->beta);
}

static void pack_norms(const struct packing *packing)
{
    struct encoder *encoder = packing->encoder;
    const struct checkpoint *checkpoint = packing->checkpoint;
    pack_norm(&encoder->embeddings_norm, checkpoint->embeddings_ln_w, checkpoint->embeddings_ln_b);
    for (size_t l = 0; l < encoder->config.layers; l++) {
        const struct layer_tensors *tensors = &checkpoint->layers[l];
        pack_norm(&encoder->layers[l].attention_norm, tensors->attention_ln_w,
                  tensors->attention_ln_b);
        pack_norm(&encoder->layers[l].ffn_norm, tensors->ffn_ln_w, tensors->ffn_ln_b);
    }
}

struct source {
    struct linear *linear;
    struct linear_part parts[3];
    size_t n_parts;
};

static void layer_sources(struct layer *layer, const struct layer_tensors *tensors,
                          struct source ret_sources[LINEARS])
{
    ret_sources[0] = (struct source){&layer->qkv,
                                     {{tensors->query_w, tensors->query_b},
                                      {tensors->key_w, tensors->key_b},
                                      {tensors->value_w, tensors->value_b}},
                                     3};
    ret_sources[1] = (struct source){
        &layer->attention_out, {{tensors->attention_out_w, tensors->attention_out_b}}, 1};
    ret_sources[2] = (struct source){&layer->ffn_in, {{tensors->ffn_in_w, tensors->ffn_in_b}}, 1};
    ret_sources[3] = (struct source){
        &layer->ffn_out, {{tensors->ffn_out_w, tensors->ffn_out_b}}, 1};
}

static size_t layer_jobs(const struct layer *layer)
{
    return layer->qkv.panels + layer->attention_out.panels + layer->ffn_in.panels +
           layer->ffn_out.panels;
}

static void pack_layer(const struct packing *packing, size_t l, size_t job, float *scratch)
{
    struct source sources[LINEARS];
    layer_sources(&packing->encoder->layers[l], &packing->checkpoint->layers[l], sources);
    size_t i = 0;
    while (job >= sources[i].linear->panels) {
        job -= sources[i++].linear->panels;
    }
    linear_pack(sources[i].linear, sources[i].parts, sources[i].n_parts, job, scratch);
}

/* Jobs in order: the word table's, positions, norms, then the layers' panels. */
static void pack_job(const struct packing *packing, size_t job, float *scratch)
{
    const struct config *config = &packing->encoder->config;
    size_t words = table_jobs(config->vocab);
    if (job < words) {
        pack_words(packing, job);
    } else if (job == words) {
        pack_positions(packing);
    } else if (job == words + 1) {
        pack_norms(packing);
    } else {
        size_t each = layer_jobs(&packing->encoder->layers[0]);
        size_t panel = job - words - 2;
        pack_layer(packing, panel / each, panel % each, scratch);
    }
}

static void *pack_thread(void *argument)
{
    struct packing *packing = argument;
    float *scratch = pages_alloc(packing->scratch_floats * sizeof(float));
    if (!scratch) {
        atomic_store(&packing->out_of_memory, true);
        return NULL;
    }
    for (;;) {
        size_t job = atomic_fetch_add_explicit(&packing->next, 1, memory_order_relaxed);
        if (job >= packing->jobs) {
            break;
        }
        pack_job(packing, job, scratch);
    }
    pages_free(scratch, packing->scratch_floats * sizeof(float));
    return NULL;
}

/* Packs on up to `threads` threads, the caller's among them; a thread that can't be started is one
 * helper less. */
static enum err_code pack_all(struct encoder *encoder, const struct checkpoint *checkpoint,
                              unsigned threads, struct err *err)
{
    const struct layer *layer = &encoder->layers[0];
    struct packing packing = {.encoder = encoder, .checkpoint = checkpoint};
    packing.scratch_floats = size_max(linear_pack_floats(&layer->qkv),
                                      linear_pack_floats(&layer->ffn_out));
    packing.jobs = table_jobs(encoder->config.vocab) + 2 +
                   encoder->config.layers * layer_jobs(layer);
    pthread_t helpers[THREADS_MAX];
    unsigned n = 0;
    while (n + 1 < threads && n < THREADS_MAX &&
           pthread_create(&helpers[n], NULL, pack_thread, &packing) == 0) {
        n++;
    }
    pack_thread(&packing);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(helpers[i], NULL);
    }
    if (atomic_load(&packing.out_of_memory)) {
        return err_nomem(err, packing.scratch_floats * sizeof(float));
    }
    return ERR_OK;
}

static enum err_code check_options(const struct encoder_options *options, struct err *err)
{
    if (!cpu_has(options->isa)) {
        return err_set(err, ERR_UNSUPPORTED, "this machine can't run %s code; its best is %s",
                       isa_name(options->isa), isa_name(cpu_detect()));
    }
    if (options->precision != PRECISION_FP32 && !dispatch_tile(options->isa, options->precision)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "precision %s: the instruction set %s can't multiply it",
                       precision_name(options->precision), isa_name(options->isa));
    }
    return ERR_OK;
}

static enum err_code encoder_allocate(struct encoder *encoder, struct err *err)
{
    size_t layers = encoder->config.layers;
    encoder->layers = calloc(layers, sizeof *encoder->layers);
    if (!encoder->layers) {
        return err_nomem(err, layers * sizeof *encoder->layers);
    }
    struct region region = {.base = NULL};
    encoder_layout(encoder, &region);
    encoder->memory_bytes = region.used;
    encoder->memory = pages_alloc(encoder->memory_bytes);
    if (!encoder->memory) {
        return err_nomem(err, encoder->memory_bytes);
    }
    region = (struct region){.base = encoder->memory};
    encoder_layout(encoder, &region);
    return ERR_OK;
}

enum err_code encoder_create(const struct checkpoint *checkpoint,
                             const struct encoder_options *options, struct encoder **ret_encoder,
                             struct err *err)
{
    enum err_code code = check_options(options, err);
    if (code != ERR_OK) {
        return code;
    }
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) {
        return err_nomem(err, sizeof *encoder);
    }
    encoder->config = checkpoint->config;
    encoder->precision = options->precision;
    encoder->isa = options->isa;
    encoder->ops = dispatch_kernels(options->isa);
    blas_single_thread();
    code = encoder_allocate(encoder, err);
    if (code == ERR_OK) {
        code = pack_all(encoder, checkpoint, options->threads, err);
    }
    if (code != ERR_OK) {
        encoder_destroy(encoder);
        return code;
    }
    *ret_encoder = encoder;
    return ERR_OK;
}

void encoder_destroy(struct encoder *encoder)
{
    if (!encoder) {
        return;
    }
    pages_free(encoder->memory, encoder->memory_bytes);
    free(encoder->layers);
    free(encoder);
}

const struct config *encoder_config(const struct encoder *encoder)
{
    return &encoder->config;
}

enum precision encoder_precision(const struct encoder *encoder)
{
    return encoder->precision;
}

enum isa encoder_isa(const struct encoder *encoder)
{
    return encoder->isa;
}

double encoder_flops(const struct encoder *encoder, size_t n)
{
    double tokens = (double)n;
    double hidden = (double)encoder->config.hidden;
    double inner = (double)encoder->config.intermediate;
    double linears = 2.0 * tokens * hidden * (4.0 * hidden + 2.0 * inner);
    double attention = 4.0 * tokens * tokens * hidden;
    return (double)encoder->config.layers * (linears + attention);
}

size_t encoder_bytes(const struct encoder *encoder)
{
    return encoder->memory_bytes;
}
