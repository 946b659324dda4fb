#include "train/network/tape.h"

#include <stdlib.h>

#include "base/size.h"
#include "model/encoder/pages.h"

/* Far above any machine, far below a wrap. */
#define TAPE_BYTES_MAX ((size_t)1 << 46)

static float *floats(struct region *region, size_t rows, size_t width)
{
    return region_take(region, rows, width * sizeof(float));
}

static void carve_layer(struct region *region, const struct config *config,
                        const struct tape_size *size, struct layer_tape *layer)
{
    size_t t = size->tokens;
    size_t h = config->hidden;
    *layer = (struct layer_tape){
        .qkv = floats(region, t, 3 * h),
        .probs = floats(region, size->probs, 1),
        .context = floats(region, t, h),
        .sum1 = floats(region, t, h),
        .mid = floats(region, t, h),
        .ffn = floats(region, t, config->intermediate),
        .act = floats(region, t, config->intermediate),
        .sum2 = floats(region, t, h),
        .out = floats(region, t, h),
        .mean1 = floats(region, t, 1),
        .rstd1 = floats(region, t, 1),
        .mean2 = floats(region, t, 1),
        .rstd2 = floats(region, t, 1),
    };
}

static void carve(struct region *region, const struct config *config, size_t keep_from,
                  struct tape *tape)
{
    const struct tape_size *size = &tape->size;
    size_t t = size->tokens;
    size_t h = config->hidden;
    struct layer_tape slots[2] = {0};
    for (size_t i = 0; i < keep_from && i < 2; i++) {
        carve_layer(region, config, size, &slots[i]);
    }
    for (size_t i = 0; i < config->layers; i++) {
        if (i < keep_from) {
            tape->layers[i] = slots[i % 2];
        } else {
            carve_layer(region, config, size, &tape->layers[i]);
        }
    }
    tape->embeddings_sum = floats(region, t, h);
    tape->embeddings_mean = floats(region, t, 1);
    tape->embeddings_rstd = floats(region, t, 1);
    tape->embeddings = floats(region, t, h);
    tape->pooled = floats(region, size->texts, h);
    tape->dpooled = floats(region, size->texts, h);
    tape->dout = floats(region, t, h);
    tape->dsum = floats(region, t, h);
    tape->dproj = floats(region, t, h);
    tape->dctx = floats(region, t, h);
    tape->dqkv = floats(region, t, 3 * h);
    tape->dffn = floats(region, t, config->intermediate);
    for (unsigned i = 0; i < size->width; i++) {
        tape->scratch[i] = floats(region, 2 * size->longest, size->longest);
    }
}

enum err_code tape_create(const struct config *config, const struct tape_size *size,
                          size_t keep_from, struct tape **ret_tape, struct err *err)
{
    size_t per_token = (12 * config->hidden + 2 * config->intermediate) * (config->layers + 2);
    size_t bytes;
    size_t squares;
    if (!size_mul(size->tokens, per_token * sizeof(float), &bytes) ||
        !size_mul(size->probs, (config->layers + 2) * sizeof(float), &squares) ||
        bytes > TAPE_BYTES_MAX || squares > TAPE_BYTES_MAX) {
        return err_set(err, ERR_LIMIT, "a batch of %zu tokens is too large to train on",
                       size->tokens);
    }
    struct tape *tape = calloc(1, sizeof *tape);
    if (!tape) {
        return err_nomem(err, sizeof *tape);
    }
    tape->size = *size;
    tape->layers = calloc(config->layers, sizeof *tape->layers);
    tape->scratch = calloc(size->width, sizeof *tape->scratch);
    if (!tape->layers || !tape->scratch) {
        tape_destroy(tape);
        return err_nomem(err, config->layers * sizeof *tape->layers);
    }
    struct region region = {0};
    carve(&region, config, keep_from, tape);
    tape->block_bytes = region.used;
    tape->block = aligned_alloc(PAGES_ALIGN, size_round_up(region.used, PAGES_ALIGN));
    if (!tape->block) {
        tape_destroy(tape);
        return err_nomem(err, region.used);
    }
    region = (struct region){.base = tape->block};
    carve(&region, config, keep_from, tape);
    *ret_tape = tape;
    return ERR_OK;
}

void tape_destroy(struct tape *tape)
{
    if (tape) {
        free(tape->block);
        free(tape->layers);
        free(tape->scratch);
        free(tape);
    }
}
