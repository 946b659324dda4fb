#include "model/encoder/attention.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/pages.h"

enum { FLOATS_A_LINE = 16 };

/* One (text, head): where its matrices are, and this member's scratch. W(k): words of k inputs. */
struct attend {
    const struct kernels *ops;
    const struct tile_kernel *tile;
    size_t n;           /* tokens */
    size_t width;       /* D */
    const float *query; /* [n,D], rows 3H apart, as keys and values */
    const float *key;
    const float *value;
    size_t ld;  /* 3H */
    float *out; /* [n,D], rows out_ld apart */
    size_t out_ld;
    /* scratch */
    uint32_t *keys;   /* [key panels][W(D)][columns] */
    uint32_t *values; /* [value panels][W(n)][columns] */
    float *scores;    /* [rows_max][key panels · columns] */
    uint32_t *packed; /* [max(W(n), W(D))][rows_max], and slack */
    float *sums;      /* [rows_max][panels · columns] */
    /* The query rows of what this member attends to next, fetched with their keys and values while
     * this is computed: they lie 3H apart, where no CPU foresees them. */
    const float *next;
    size_t next_n;
};

static size_t words_of(const struct tile_kernel *tile, size_t inputs)
{
    return size_div_up(inputs, tile->word_inputs);
}

static void attend_take(struct attend *attend, const struct tile_kernel *tile, size_t n,
                        size_t width, struct region *region)
{
    size_t padded = size_round_up(n, tile->columns);
    size_t value_columns = size_round_up(width, tile->columns);
    size_t words = size_max(words_of(tile, n), words_of(tile, width));
    attend->tile = tile;
    attend->keys = region_take(region, padded * words_of(tile, width), sizeof(uint32_t));
    attend->values = region_take(region, value_columns * words_of(tile, n), sizeof(uint32_t));
    attend->scores = region_take(region, padded * tile->rows_max, sizeof(float));
    attend->packed = region_take(region, words * tile->rows_max + tile->pack_max, sizeof(uint32_t));
    attend->sums = region_take(region, (size_t)tile->rows_max * tile->panels * tile->columns,
                               sizeof(float));
}

const struct tile_kernel *attention_tile(enum isa isa, enum precision precision)
{
    const struct tile_kernel *bf16 = dispatch_tile(isa, PRECISION_BF16);
    bool rounds = precision == PRECISION_BF16 && bf16 && bf16->pack_pairs;
    return rounds ? bf16 : dispatch_kernels(isa)->f32;
}

size_t attention_scratch_bytes(const struct tile_kernel *tile, size_t n, size_t head_width)
{
    struct attend attend;
    struct region region = {.base = NULL};
    attend_take(&attend, tile, n, head_width, &region);
    return region.used;
}

/* Query rows, or rows of weights: the left side. */
static void pack_rows(const struct tile_kernel *tile, const float *x, size_t ld, size_t rows,
                      size_t in, uint32_t *out)
{
    const struct pack_args args = {
        .x = x, .ld = ld, .rows = rows, .in = in, .stride = rows, .words = out};
    tile->pack_rows(&args);
}

static void pack_keys(const struct attend *attend)
{
    const struct tile_kernel *tile = attend->tile;
    size_t padded = size_round_up(attend->n, tile->columns);
    for (size_t first = 0; first < padded; first += tile->pack_max) {
        size_t panel = first / tile->columns;
        size_t rows = first < attend->n ? size_min(attend->n - first, tile->pack_max) : 0;
        const struct pack_args args = {
            .x = rows > 0 ? attend->key + first * attend->ld : attend->key,
            .ld = attend->ld,
            .rows = rows,
            .in = attend->width,
            .stride = tile->columns,
            .words = attend->keys + panel * words_of(tile, attend->width) * tile->columns +
                     first % tile->columns,
        };
        tile->pack_columns(&args);
    }
}

static void pack_values(const struct attend *attend)
{
    const struct tile_kernel *tile = attend->tile;
    size_t columns = tile->columns;
    uint32_t *out = attend->values;
    for (size_t first = 0; first < attend->width; first += columns) {
        size_t used = size_min(columns, attend->width - first);
        if (tile->pack_pairs) {
            tile->pack_pairs(attend->value + first, attend->ld, attend->n, used, out);
            out += words_of(tile, attend->n) * columns;
            continue;
        }
        for (size_t t = 0; t < attend->n; t++, out += columns) {
            memcpy(out, attend->value + t * attend->ld + first, used * sizeof *out);
            memset(out + used, 0, (columns - used) * sizeof *out);
        }
    }
}

static void multiply(const struct tile_kernel *tile, size_t rows, size_t words, const uint32_t *a,
                     const uint32_t *b, size_t panels, float *out, size_t ld)
{
    const struct multiply_args args = {
        .rows = rows,
        .words = words,
        .a = a,
        .b = b,
        .panels = panels,
        .panel_bytes = words * tile->columns * sizeof *b,
        .next = b,
        .tile = out,
        .ld = ld,
    };
    tile->multiply(&args);
}

/* Rows from … to of what comes next. */
static void fetch_next(const struct attend *attend, size_t from, size_t to)
{
    size_t part = attend->ld / 3; /* from a query to its key, from there to its value */
    for (size_t row = from; row < to && row < attend->next_n; row++) {
        for (size_t c = 0; c < attend->width; c += FLOATS_A_LINE) {
            const float *query = attend->next + row * attend->ld + c;
            __builtin_prefetch(query, 0, 2);
            __builtin_prefetch(query + part, 0, 2);
            __builtin_prefetch(query + 2 * part, 0, 2);
        }
    }
}

/* Query rows from … to: scores, softmax, weighted values. */
static void attend_rows(const struct attend *attend, size_t from, size_t to)
{
    const struct tile_kernel *tile = attend->tile;
    size_t columns = tile->columns;
    size_t tile_columns = tile->panels * columns;
    size_t rows = to - from;
    size_t padded = size_round_up(attend->n, columns);
    size_t key_words = words_of(tile, attend->width);
    size_t value_words = words_of(tile, attend->n);
    float scale = 1.0f / sqrtf((float)attend->width);

    fetch_next(attend, from, to);
    pack_rows(tile, attend->query + from * attend->ld, attend->ld, rows, attend->width,
              attend->packed);
    for (size_t first = 0; first < padded; first += tile_columns) {
        multiply(tile, rows, key_words, attend->packed, attend->keys + first * key_words,
                 size_min(padded - first, tile_columns) / columns, attend->scores + first, padded);
    }
    for (size_t r = 0; r < rows; r++) {
        attend->ops->softmax(attend->scores + r * padded, attend->n, scale);
    }
    pack_rows(tile, attend->scores, padded, rows, attend->n, attend->packed);
    for (size_t first = 0; first < attend->width; first += tile_columns) {
        float *out = attend->out + from * attend->out_ld + first;
        const uint32_t *values = attend->values + first * value_words;
        size_t used = size_min(tile_columns, attend->width - first);
        size_t panels = size_div_up(used, columns);
        if (used == panels * columns) {
            multiply(tile, rows, value_words, attend->packed, values, panels, out, attend->out_ld);
            continue;
        }
        multiply(tile, rows, value_words, attend->packed, values, panels, attend->sums,
                 tile_columns);
        for (size_t r = 0; r < rows; r++) {
            memcpy(out + r * attend->out_ld, attend->sums + r * tile_columns, used * sizeof *out);
        }
    }
}

static size_t text_tokens(const struct attention_call *call, size_t text)
{
    return call->batch->starts[text + 1] - call->batch->starts[text];
}

static const float *queries_of(const struct attention_call *call, size_t head, size_t text)
{
    size_t hidden = call->heads * call->head_width;
    return call->qkv + call->batch->starts[text] * 3 * hidden + head * call->head_width;
}

/* Row blocks from … to of one head of one text; more: the member goes on behind it. */
static void attend_text(const struct attention_call *call, size_t head, size_t text, size_t from,
                        size_t to, bool more, void *scratch)
{
    size_t hidden = call->heads * call->head_width;
    size_t start = call->batch->starts[text];
    const float *first = queries_of(call, head, text);
    struct attend attend = {
        .ops = call->ops,
        .n = text_tokens(call, text),
        .width = call->head_width,
        .query = first,
        .key = first + hidden,
        .value = first + 2 * hidden,
        .ld = 3 * hidden,
        .out = call->out + start * hidden + head * call->head_width,
        .out_ld = hidden,
    };
    if (more) {
        bool last = text + 1 == call->batch->n;
        size_t next_text = last ? 0 : text + 1;
        attend.next = queries_of(call, last ? head + 1 : head, next_text);
        attend.next_n = text_tokens(call, next_text);
    }
    struct region region = {.base = scratch};
    attend_take(&attend, call->tile, attend.n, call->head_width, &region);
    pack_keys(&attend);
    pack_values(&attend);
    size_t blocks = size_div_up(attend.n, call->tile->rows_max);
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
    return size_div_up(text_tokens(call, text), call->tile->rows_max);
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
                            size_min(to, end) - first, end < to, scratch);
            }
            first = end;
        }
    }
}
