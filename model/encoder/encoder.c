#include "model/encoder/encoder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/blas.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/encoder_private.h"

enum {
    LINEARS = 4,      /* matrices of a layer */
    ROWS_A_JOB = 512, /* of the embedding tables */
    THREADS_MAX = 64,
};

/* int8: inputs that share a scale. A group costs as much as 12 inputs of it, so groups are as
 * coarse as accuracy allows; the attention's output has the fewest products to gain on. A narrow
 * model averages fewer roundings, two thirds of them in its feed-forward matrices
 * (docs/BENCHMARKS.md has the errors). */
static const size_t int8_group[MATRIX_COUNT] = {
    [MATRIX_QKV] = 128,
    [MATRIX_ATTENTION_OUT] = 64,
    [MATRIX_FFN_IN] = 128,
    [MATRIX_FFN_OUT] = 128,
};
static const size_t int8_group_narrow[MATRIX_COUNT] = {
    [MATRIX_QKV] = 64,
    [MATRIX_ATTENTION_OUT] = 32,
    [MATRIX_FFN_IN] = 32,
    [MATRIX_FFN_OUT] = 32,
};

/* int8: inputs that stay in fp32; one costs as much as four others. Fewer keep what is promised
 * where attention is rounded to bf16, by measurement: which near ties change their label is luck.
 */
enum { INT8_WIDE = 12, INT8_WIDE_ROUNDED = 7 };

static void norm_layout(struct norm *norm, size_t hidden, struct region *region)
{
    norm->gamma = region_take(region, hidden, sizeof(float));
    norm->beta = region_take(region, hidden, sizeof(float));
}

static void layer_layout(const struct encoder *encoder, struct layer *layer, struct region *region)
{
    const struct config *config = &encoder->config;
    const struct tile_kernel *tile = dispatch_tile(encoder->isa, encoder->precision);
    bool int8 = encoder->precision == PRECISION_INT8;
    const size_t *groups = config->hidden <= ENCODER_NARROW ? int8_group_narrow : int8_group;
    bool rounded = encoder->attention->precision == PRECISION_BF16;
    size_t wide = !int8 ? 0 : rounded ? INT8_WIDE_ROUNDED : INT8_WIDE;
    const size_t in[MATRIX_COUNT] = {config->hidden, config->hidden, config->hidden,
                                     config->intermediate};
    const size_t out[MATRIX_COUNT] = {3 * config->hidden, config->hidden, config->intermediate,
                                      config->hidden};
    for (enum matrix m = 0; m < MATRIX_COUNT; m++) {
        const struct linear_shape shape = {
            .in = in[m],
            .out = out[m],
            .wide = size_min(wide, in[m] / 4),
            .group = groups[m],
            .l2 = encoder->l2,
        };
        linear_layout(&layer->linear[m], encoder->ops, tile, &shape, region);
    }
    norm_layout(&layer->attention_norm, config->hidden, region);
    norm_layout(&layer->ffn_norm, config->hidden, region);
}

/* Sizes and places of everything; run once to measure, once to take. */
static void encoder_layout(struct encoder *encoder, struct region *region)
{
    const struct config *config = &encoder->config;
    encoder->word = region_take(region, config->vocab * config->hidden, sizeof(float));
    encoder->position = region_take(region, config->position_rows * config->hidden, sizeof(float));
    encoder->type = region_take(region, config->types * config->hidden, sizeof(float));
    norm_layout(&encoder->embeddings_norm, config->hidden, region);
    for (size_t l = 0; l < config->layers; l++) {
        layer_layout(encoder, &encoder->layers[l], region);
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

/* rows[i] += by × add[i % width] */
static void add_rows(float *rows, size_t n, size_t width, const float *add, float by)
{
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < width; i++) {
            rows[r * width + i] += by * add[i];
        }
    }
}

/* Almost every token is of type 0, so that type's vector joins the positions' here, once; the other
 * types keep what they have more. */
static void pack_positions(const struct packing *packing)
{
    struct encoder *encoder = packing->encoder;
    const struct config *config = &encoder->config;
    const struct checkpoint *checkpoint = packing->checkpoint;
    size_t hidden = config->hidden;
    tensor_to_f32(checkpoint->position, 0, config->position_rows * hidden, encoder->position);
    if (!checkpoint->type) {
        memset(encoder->type, 0, hidden * sizeof *encoder->type);
        return;
    }
    float first[CONFIG_HIDDEN_MAX];
    tensor_to_f32(checkpoint->type, 0, hidden, first);
    tensor_to_f32(checkpoint->type, 0, config->types * hidden, encoder->type);
    add_rows(encoder->position, config->position_rows, hidden, first, 1.0f);
    add_rows(encoder->type, config->types, hidden, first, -1.0f);
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

/* The tensors that stand below each other in a matrix; returns how many. */
static size_t matrix_parts(const struct layer_tensors *tensors, enum matrix matrix,
                           struct linear_part ret_parts[3])
{
    switch (matrix) {
    case MATRIX_QKV:
        ret_parts[0] = (struct linear_part){tensors->query_w, tensors->query_b};
        ret_parts[1] = (struct linear_part){tensors->key_w, tensors->key_b};
        ret_parts[2] = (struct linear_part){tensors->value_w, tensors->value_b};
        return 3;
    case MATRIX_ATTENTION_OUT:
        ret_parts[0] = (struct linear_part){tensors->attention_out_w, tensors->attention_out_b};
        return 1;
    case MATRIX_FFN_IN:
        ret_parts[0] = (struct linear_part){tensors->ffn_in_w, tensors->ffn_in_b};
        return 1;
    case MATRIX_FFN_OUT:
        ret_parts[0] = (struct linear_part){tensors->ffn_out_w, tensors->ffn_out_b};
        return 1;
    case MATRIX_COUNT:
        break;
    }
    return 0;
}

static size_t layer_jobs(const struct layer *layer)
{
    size_t jobs = 0;
    for (enum matrix m = 0; m < MATRIX_COUNT; m++) {
        jobs += layer->linear[m].panels;
    }
    return jobs;
}

static void pack_layer(const struct packing *packing, size_t l, size_t job, float *scratch)
{
    struct layer *layer = &packing->encoder->layers[l];
    struct linear_part parts[3];
    enum matrix m = 0;
    while (job >= layer->linear[m].panels) {
        job -= layer->linear[m++].panels;
    }
    size_t n_parts = matrix_parts(&packing->checkpoint->layers[l], m, parts);
    linear_pack(&layer->linear[m], parts, n_parts, job, scratch);
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

/* What a call of pack packs. */
enum pack_what { PACK_ALL, PACK_MATRICES };

/* Packs on up to `threads` threads, the caller's among them; a thread that can't be started is one
 * helper less. */
static enum err_code pack(struct encoder *encoder, const struct checkpoint *checkpoint,
                          enum pack_what what, unsigned threads, struct err *err)
{
    const struct layer *layer = &encoder->layers[0];
    struct packing packing = {.encoder = encoder, .checkpoint = checkpoint};
    size_t others = table_jobs(encoder->config.vocab) + 2;
    packing.next = what == PACK_ALL ? 0 : others;
    packing.jobs = others + encoder->config.layers * layer_jobs(layer);
    for (enum matrix m = 0; m < MATRIX_COUNT; m++) {
        packing.scratch_floats = size_max(packing.scratch_floats,
                                          linear_pack_floats(&layer->linear[m]));
    }
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
    encoder->config.lists = NULL; /* the checkpoint's */
    encoder->precision = options->precision;
    encoder->isa = options->isa;
    encoder->l2 = cpu_l2_bytes();
    encoder->ops = dispatch_kernels(options->isa);
    encoder->attention = attention_tile(options->isa, options->attention);
    if (!dispatch_tile(options->isa, options->precision)) {
        code = blas_open(err);
    }
    if (code == ERR_OK) {
        code = encoder_allocate(encoder, err);
    }
    if (code == ERR_OK) {
        code = pack(encoder, checkpoint, PACK_ALL, options->threads, err);
    }
    if (code == ERR_OK && encoder->precision == PRECISION_INT8) {
        code = encoder_calibrate(encoder, options->threads, err);
        if (code == ERR_OK) {
            code = pack(encoder, checkpoint, PACK_MATRICES, options->threads, err);
        }
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

enum precision encoder_attention(const struct encoder *encoder)
{
    return encoder->attention->precision;
}

size_t encoder_bytes(const struct encoder *encoder)
{
    return encoder->memory_bytes;
}
