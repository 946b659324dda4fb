#include "model/encoder/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/operand.h"

enum {
    /* A chunk of packed rows, which is multiplied with one panel after the other, should stay in
     * the L2 cache beside panels: half of it, of as much as one core may take for its own. */
    L2_MOST = 4 << 20,
    ALIGN = PAGES_ALIGN,
};

static bool quantizes(const struct tile_kernel *kernel)
{
    return kernel->precision == PRECISION_INT8;
}

/* 32-bit words that a column takes: its inputs, wide ones, two numbers for each group. */
static size_t column_words(const struct linear *linear)
{
    return linear->words + linear->wide + 2 * linear->groups;
}

/* keep: all inputs but the first n of wide_columns. */
static void note_keep(struct linear *linear, size_t n)
{
    if (!linear->keep) {
        return;
    }
    memset(linear->keep, 0, size_div_up(linear->in, 16) * sizeof *linear->keep);
    for (size_t k = 0; k < linear->in; k++) {
        linear->keep[k / 16] |= (uint16_t)(1u << k % 16);
    }
    for (size_t w = 0; w < n; w++) {
        size_t k = linear->wide_columns[w];
        linear->keep[k / 16] &= (uint16_t) ~(1u << k % 16);
    }
}

void linear_layout(struct linear *linear, const struct kernels *ops,
                   const struct tile_kernel *kernel, const struct linear_shape *shape,
                   struct region *region)
{
    size_t in = shape->in;
    size_t out = shape->out;
    *linear = (struct linear){.ops = ops, .kernel = kernel, .in = in, .out = out};
    if (!kernel) {
        linear->panels = size_div_up(out, LINEAR_BLAS_COLUMNS);
        linear->weight = region_take(region, out * in, sizeof(float));
    } else {
        linear->words = size_round_up(size_div_up(in, kernel->word_inputs), kernel->word_unit);
        linear->wide = shape->wide;
        if (quantizes(kernel)) {
            CHECK(shape->group >= INT8_UNIT && shape->group <= INT8_GROUP_MAX &&
                  (shape->group & (shape->group - 1)) == 0);
            linear->group = shape->group;
            linear->groups = size_div_up(in, shape->group);
        }
        linear->panels = size_div_up(out, kernel->columns);
        linear->panel_bytes = size_round_up(
            column_words(linear) * kernel->columns * sizeof(uint32_t), ALIGN);
        linear->weight = region_take(region, linear->panels, linear->panel_bytes);
        linear->wide_columns = region_take(region, shape->wide, sizeof(uint32_t));
        linear->keep = quantizes(kernel)
                           ? region_take(region, size_div_up(in, 16), sizeof(uint16_t))
                           : NULL;
        note_keep(linear, 0);
        size_t l2 = shape->l2 > 0 ? size_min(shape->l2, L2_MOST) : CPU_L2_DEFAULT;
        linear->chunk = size_max(l2 / 2 / operand_bytes(linear, kernel->rows_max), 1);
    }
    linear->bias = region_take(region, out, sizeof(float));
}

static int by_index(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

void linear_choose_wide(struct linear *linear, const float *weight)
{
    uint32_t *chosen = linear->wide_columns; /* the greatest so far, in falling order */
    size_t n = 0;
    for (size_t k = 0; k < linear->in; k++) {
        if (n == linear->wide && (n == 0 || !(weight[k] > weight[chosen[n - 1]]))) {
            continue;
        }
        size_t at = n < linear->wide ? n++ : n - 1;
        for (; at > 0 && weight[k] > weight[chosen[at - 1]]; at--) {
            chosen[at] = chosen[at - 1];
        }
        chosen[at] = (uint32_t)k;
    }
    CHECK(n == linear->wide);
    if (n > 0) {
        qsort(chosen, n, sizeof *chosen, by_index);
    }
    note_keep(linear, n);
}

/* Columns of one pack job. */
static size_t panel_columns(const struct linear *linear)
{
    return linear->kernel ? linear->kernel->columns : LINEAR_BLAS_COLUMNS;
}

size_t linear_pack_floats(const struct linear *linear)
{
    return linear->kernel ? panel_columns(linear) * linear->in : 0;
}

/* Rows from … to of the stacked matrix [to-from,K]: where they stand in the file as fp32, else at
 * room. */
static const float *read_rows(const struct linear *linear, const struct linear_part *parts,
                              size_t n_parts, size_t from, size_t to, float *room)
{
    size_t each = linear->out / n_parts;
    if (from / each == (to - 1) / each) {
        return tensor_as_f32(parts[from / each].weight, from % each * linear->in,
                             (to - from) * linear->in, room);
    }
    for (size_t row = from; row < to; row++) {
        tensor_to_f32(parts[row / each].weight, row % each * linear->in, linear->in,
                      room + (row - from) * linear->in);
    }
    return room;
}

static void read_biases(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                        size_t from, size_t to)
{
    size_t each = linear->out / n_parts;
    for (size_t row = from; row < to; row++) {
        tensor_to_f32(parts[row / each].bias, row % each, 1, linear->bias + row);
    }
}

/* The wide inputs' weights → wide [wide][columns]. */
static void pack_wide_weights(const struct linear *linear, const float *rows, size_t n, float *wide)
{
    size_t columns = linear->kernel->columns;
    for (size_t w = 0; w < linear->wide; w++, wide += columns) {
        for (size_t c = 0; c < n; c++) {
            wide[c] = rows[c * linear->in + linear->wide_columns[w]];
        }
    }
}

/* n rows [n,K] → words, fp32 or bf16. */
static void interleave_weights(const struct linear *linear, const float *rows, size_t n,
                               uint32_t *words)
{
    const struct tile_kernel *kernel = linear->kernel;
    for (size_t first = 0; first < kernel->columns; first += kernel->pack_max) {
        const struct pack_args args = {
            .x = first < n ? rows + first * linear->in : rows,
            .ld = linear->in,
            .rows = first < n ? size_min(n - first, kernel->pack_max) : 0,
            .in = linear->in,
            .stride = kernel->columns,
            .words = words + first,
        };
        kernel->pack_columns(&args);
    }
}

/* n rows [n,K] → a panel of int8, as struct multiply_args says. */
static void quantize_weights(const struct linear *linear, const float *rows, size_t n, float *panel)
{
    size_t columns = linear->kernel->columns;
    uint32_t *pairs = (uint32_t *)(panel + linear->groups * columns);
    float *wide = (float *)(pairs + linear->groups * columns);
    const struct pack_args args = {
        .x = rows,
        .ld = linear->in,
        .rows = n,
        .in = linear->in,
        .stride = columns,
        .words = (uint32_t *)(wide + linear->wide * columns),
        .group = linear->group,
        .keep = linear->keep,
        .scales = panel,
        .pairs = pairs,
    };
    if (n < columns) {
        memset(panel, 0, linear->panel_bytes);
    }
    pack_wide_weights(linear, rows, n, wide);
    linear->kernel->pack_columns(&args);
}

void linear_pack(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                 size_t panel, float *scratch)
{
    const struct tile_kernel *kernel = linear->kernel;
    size_t columns = panel_columns(linear);
    size_t from = panel * columns;
    size_t to = size_min(from + columns, linear->out);
    CHECK(panel < linear->panels && linear->out % n_parts == 0);
    read_biases(linear, parts, n_parts, from, to);
    if (!kernel) {
        float *out = (float *)linear->weight + from * linear->in;
        const float *rows = read_rows(linear, parts, n_parts, from, to, out);
        if (rows != out) {
            memcpy(out, rows, (to - from) * linear->in * sizeof *out);
        }
        return;
    }
    const float *rows = read_rows(linear, parts, n_parts, from, to, scratch);
    unsigned char *out = linear->weight + panel * linear->panel_bytes;
    if (quantizes(kernel)) {
        quantize_weights(linear, rows, to - from, (float *)out);
    } else {
        interleave_weights(linear, rows, to - from, (uint32_t *)out);
    }
}
