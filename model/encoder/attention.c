#include "model/encoder/attention.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/encoder/pages.h"

/* One (text, head): where its matrices are, and this member's scratch. */
struct attend {
    const struct kernels *ops;
    size_t n;           /* tokens */
    size_t width;       /* D */
    const float *query; /* [n,D], rows 3H apart, as keys and values */
    const float *key;
    const float *value;
    size_t ld;  /* 3H */
    float *out; /* [n,D], rows out_ld apart */
    size_t out_ld;
    /* scratch */
    float *keys;   /* [key panels][D][columns] */
    float *values; /* [value panels][n][columns] */
    float *scores; /* [rows_max][key panels · columns] */
    float *packed; /* [max(n, D)][rows_max], and slack */
    float *tile;   /* [rows_max][panels · columns] */
};

static void attend_take(struct attend *attend, const struct kernels *ops, size_t n, size_t width,
                        struct region *region)
{
    const struct tile_kernel *kernel = ops->f32;
    size_t padded = size_round_up(n, kernel->columns);
    size_t value_columns = size_round_up(width, kernel->columns);
    attend->keys = region_take(region, padded * width, sizeof(float));
    attend->values = region_take(region, value_columns * n, sizeof(float));
    attend->scores = region_take(region, padded * kernel->rows_max, sizeof(float));
    attend->packed = region_take(region, size_max(n, width) * kernel->rows_max + kernel->pack_max,
                                 sizeof(float));
    attend->tile = region_take(region, (size_t)kernel->rows_max * kernel->panels * kernel->columns,
                               sizeof(float));
}

size_t attention_scratch_bytes(const struct kernels *ops, size_t n, size_t head_width)
{
    struct attend attend;
    struct region region = {.base = NULL};
    attend_take(&attend, ops, n, head_width, &region);
    return region.used;
}

/* Query rows, or rows of weights: the left side. */
static void pack_rows(const struct tile_kernel *kernel, const float *x, size_t ld, size_t rows,
                      size_t in, float *out)
{
    const struct pack_args args = {
        .x = x, .ld = ld, .rows = rows, .in = in, .stride = rows, .words = (uint32_t *)out};
    kernel->pack_rows(&args);
}

static void pack_keys(const struct attend *attend)
{
    const struct tile_kernel *kernel = attend->ops->f32;
    size_t padded = size_round_up(attend->n, kernel->columns);
    for (size_t first = 0; first < padded; first += kernel->pack_max) {
        size_t panel = first / kernel->columns;
        size_t rows = first < attend->n ? size_min(attend->n - first, kernel->pack_max) : 0;
        float *words = attend->keys + panel * attend->width * kernel->columns +
                       first % kernel->columns;
        const struct pack_args args = {
            .x = rows > 0 ? attend->key + first * attend->ld : attend->key,
            .ld = attend->ld,
            .rows = rows,
            .in = attend->width,
            .stride = kernel->columns,
            .words = (uint32_t *)words,
        };
        kernel->pack_columns(&args);
    }
}

static void pack_values(const struct attend *attend)
{
    size_t columns = attend->ops->f32->columns;
    float *out = attend->values;
    for (size_t first = 0; first < attend->width; first += columns) {
        size_t used = size_min(columns, attend->width - first);
        for (size_t t = 0; t < attend->n; t++, out += columns) {
            memcpy(out, attend->value + t * attend->ld + first, used * sizeof *out);
            memset(out + used, 0, (columns - used) * sizeof *out);
        }
    }
}

static void multiply(const struct tile_kernel *kernel, size_t rows, size_t words, const float *a,
                     const float *b, size_t panels, float *tile, size_t ld)
{
    const struct multiply_args args = {
        .rows = rows,
        .words = words,
        .a = a,
        .b = b,
        .panels = panels,
        .panel_bytes = words * kernel->columns * sizeof *b,
        .next = b,
        .tile = tile,
        .ld = ld,
    };
    kernel->multiply(&args);
}

/* Query rows from … to: scores, softmax, weighted values. */
static void attend_rows(const struct attend *attend, size_t from, size_t to)
{
    const struct kernels *ops = attend->ops;
    const struct tile_kernel *kernel = ops->f32;
    size_t columns = kernel->columns;
    size_t tile_columns = kernel->panels * columns;
    size_t rows = to - from;
    size_t padded = size_round_up(attend->n, columns);
    float scale = 1.0f / sqrtf((float)attend->width);

    pack_rows(kernel, attend->query + from * attend->ld, attend->ld, rows, attend->width,
              attend->packed);
    for (size_t first = 0; first < padded; first += tile_columns) {
        multiply(kernel, rows, attend->width, attend->packed, attend->keys + first * attend->width,
                 size_min(padded - first, tile_columns) / columns, attend->scores + first, padded);
    }
    for (size_t r = 0; r < rows; r++) {
        ops->softmax(attend->scores + r * padded, attend->n, scale);
    }
    pack_rows(kernel, attend->scores, padded, rows, attend->n, attend->packed);
    for (size_t first = 0; first < attend->width; first += tile_columns) {
        float *out = attend->out + from * attend->out_ld + first;
        const float *values = attend->values + first * attend->n;
        size_t used = size_min(tile_columns, attend->width - first);
        size_t panels = size_div_up(used, columns);
        if (used == panels * columns) {
            multiply(kernel, rows, attend->n, attend->packed, values, panels, out, attend->out_ld);
            continue;
        }
        multiply(kernel, rows, attend->n, attend->packed, values, panels, attend->tile,
                 tile_columns);
        for (size_t r = 0; r < rows; r++) {
            memcpy(out + r * attend->out_ld, attend->tile + r * tile_columns, used * sizeof *out);
        }
    }
}

/* Row blocks from … to of one head of one text. */
static void attend_text(const struct attention_call *call, size_t head, size_t text, size_t from,
                        size_t to, void *scratch)
{
    size_t hidden = call->heads * call->head_width;
    size_t start = call->batch->starts[text];
    const float *first = call->qkv + start * 3 * hidden + head * call->head_width;
    struct attend attend = {
        .ops = call->ops,
        .n = call->batch->starts[text + 1] - start,
        .width = call->head_width,
        .query = first,
        .key = first + hidden,
        .value = first + 2 * hidden,
        .ld = 3 * hidden,
        .out = call->out + start * hidden + head * call->head_width,
        .out_ld = hidden,
    };
    struct region region = {.base = scratch};
    attend_take(&attend, call->ops, attend.n, call->head_width, &region);
    pack_keys(&attend);
    pack_values(&attend);
    size_t blocks = size_div_up(attend.n, call->ops->f32->rows_max);
    for (size_t block = from; block < to; block++) {
        attend_rows(&attend, attend.n * block / blocks, attend.n * (block + 1) / blocks);
    }
    if (call->written) {
        call->written(call->context, head, start + attend.n * from / blocks,
                      start + attend.n * to / blocks);
    }
}

static size_t text_blocks(const struct attention_call *call, size_t text)
{
    const size_t *starts = call->batch->starts;
    return size_div_up(starts[text + 1] - starts[text], call->ops->f32->rows_max);
}

void attention_run(const struct attention_call *call, const struct team *team, unsigned member,
                   void *scratch)
{
    size_t blocks = 0; /* of a head */
    for (size_t text = 0; text < call->batch->n; text++) {
        blocks += text_blocks(call, text);
    }
    size_t from;
    size_t to;
    team_share(team, member, call->heads * blocks, 1, &from, &to);
    for (size_t head = blocks ? from / blocks : 0; head * blocks < to; head++) {
        size_t first = head * blocks;
        for (size_t text = 0; text < call->batch->n && first < to; text++) {
            size_t end = first + text_blocks(call, text);
            if (end > from) {
                attend_text(call, head, text, size_max(from, first) - first,
                            size_min(to, end) - first, scratch);
            }
            first = end;
        }
    }
}
