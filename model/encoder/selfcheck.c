#include "model/encoder/selfcheck.h"

#include "model/encoder/linear.h"
#include "model/encoder/operand.h"

/* One row alone; and for every kernel more than one tile of rows, of columns and (AMX) one slice of
 * inputs, none of them whole. */
static const struct trial {
    size_t rows;  /* T */
    size_t in;    /* K */
    size_t out;   /* N */
    size_t group; /* of int8 */
} trials[] = {{1, 45, 5, INT8_UNIT}, {37, 323, 37, 2 * (size_t)INT8_UNIT}};

/* Inputs 11, 40, … are eight times as large as the others; int8 keeps them out of its groups. */
enum { WIDE_FIRST = 11, WIDE_EVERY = 29, WIDE_FACTOR = 8 };

/* One trial's memory. */
struct bench {
    struct linear linear;
    float *x;      /* [T,K] */
    float *weight; /* [N,K] */
    float *bias;   /* [N] */
    float *wide;   /* [K] 1 for a wide input, else 0 */
    float *out;    /* [T,N] */
    float *pack;
    void *packed; /* x */
    void *scratch;
};

static bool is_wide(size_t k)
{
    return k % WIDE_EVERY == WIDE_FIRST;
}

static void lay_out(struct bench *bench, const struct kernels *ops,
                    const struct tile_kernel *kernel, const struct trial *trial,
                    struct region *region)
{
    size_t wide = 0;
    for (size_t k = 0; kernel->precision == PRECISION_INT8 && k < trial->in; k++) {
        wide += is_wide(k);
    }
    const struct linear_shape shape = {
        .in = trial->in, .out = trial->out, .wide = wide, .group = trial->group};
    linear_layout(&bench->linear, ops, kernel, &shape, region);
    bench->x = region_take(region, trial->rows * trial->in, sizeof(float));
    bench->weight = region_take(region, trial->out * trial->in, sizeof(float));
    bench->bias = region_take(region, trial->out, sizeof(float));
    bench->wide = region_take(region, trial->in, sizeof(float));
    bench->out = region_take(region, trial->rows * trial->out, sizeof(float));
    bench->pack = region_take(region, linear_pack_floats(&bench->linear), sizeof(float));
    bench->packed = region_take(region, operand_bytes(&bench->linear, trial->rows), 1);
    bench->scratch = region_take(region, linear_scratch_bytes(&bench->linear, NULL), 1);
}

/* Inputs, and weights: so many steps of int8, with its zero and its centre aside. */
enum { LEAST = -100, X_STEPS = 254, WEIGHT_STEPS = 253 };

/* The kth of whole numbers from LEAST on, the same everywhere: the first two of a group are the
 * range's ends, the others uniform in it. */
static float whole(size_t k, uint32_t steps, uint32_t *state)
{
    if (k % INT8_UNIT < 2) {
        return (float)(LEAST + (int)(k % INT8_UNIT * steps));
    }
    *state = *state * 1664525u + 1013904223u;
    return (float)(LEAST + (int)((*state >> 16) % (steps + 1)));
}

/* Whole numbers of 8 bits times a power of two for each row and column: bf16 holds them, and every
 * sum fits fp32 in whatever order it is made. A group's ranges are as many as int8's steps, so its
 * scales are powers of two and what it multiplies are the numbers. */
static void fill(struct bench *bench, const struct trial *trial)
{
    uint32_t state = 1;
    for (size_t r = 0; r < trial->rows; r++) {
        float scale = 1.0f / (float)(1u << r % 3);
        for (size_t k = 0; k < trial->in; k++) {
            float value = whole(k, X_STEPS, &state);
            bench->x[r * trial->in + k] = scale * (is_wide(k) ? WIDE_FACTOR * value : value);
        }
    }
    for (size_t n = 0; n < trial->out; n++) {
        float scale = 1.0f / (float)(1u << n % 4);
        for (size_t k = 0; k < trial->in; k++) {
            bench->weight[n * trial->in + k] = scale * whole(k, WEIGHT_STEPS, &state);
        }
        bench->bias[n] = (float)(n % 5) - 2.0f;
    }
    for (size_t k = 0; k < trial->in; k++) {
        bench->wide[k] = is_wide(k);
    }
}

static void multiply(struct bench *bench, const struct trial *trial)
{
    struct linear *linear = &bench->linear;
    const struct tensor weight = tensor_of_floats(bench->weight, trial->out, trial->in);
    const struct tensor bias = tensor_of_floats(bench->bias, 1, trial->out);
    const struct linear_part part = {&weight, &bias};
    if (linear->wide > 0) {
        linear_choose_wide(linear, bench->wide);
    }
    for (size_t panel = 0; panel < linear->panels; panel++) {
        linear_pack(linear, &part, 1, panel, bench->pack);
    }
    const struct operand x = operand_of(linear, trial->rows, bench->packed);
    operand_pack_all(&x, bench->x, trial->in);
    const struct linear_call call = {
        .x = &x, .finish = FINISH_BIAS, .out = bench->out, .out_ld = trial->out};
    struct team team;
    team_init(&team, 1);
    linear_run(linear, &call, &team, 0, bench->scratch);
}

static enum err_code compare(const struct bench *bench, const struct trial *trial, struct err *err)
{
    for (size_t r = 0; r < trial->rows; r++) {
        for (size_t n = 0; n < trial->out; n++) {
            const float *x = bench->x + r * trial->in;
            const float *weight = bench->weight + n * trial->in;
            double sum = (double)bench->bias[n];
            for (size_t k = 0; k < trial->in; k++) {
                sum += (double)x[k] * (double)weight[k];
            }
            double found = (double)bench->out[r * trial->out + n];
            if (!(found == sum)) {
                return err_set(err, ERR_MISMATCH,
                               "%s computes wrongly on this machine: row %zu, column %zu of a "
                               "[%zu,%zu] product is %g instead of %g",
                               bench->linear.kernel->name, r, n, trial->rows, trial->out, found,
                               sum);
            }
        }
    }
    return ERR_OK;
}

static enum err_code run_trial(const struct kernels *ops, const struct tile_kernel *kernel,
                               const struct trial *trial, struct err *err)
{
    struct bench bench;
    struct region region = {.base = NULL};
    lay_out(&bench, ops, kernel, trial, &region);
    size_t bytes = region.used;
    void *memory = pages_alloc(bytes);
    if (!memory) {
        return err_nomem(err, bytes);
    }
    region = (struct region){.base = memory};
    lay_out(&bench, ops, kernel, trial, &region);
    fill(&bench, trial);
    multiply(&bench, trial);
    enum err_code code = compare(&bench, trial, err);
    pages_free(memory, bytes);
    return code;
}

enum err_code selfcheck_tile(const struct kernels *ops, const struct tile_kernel *kernel,
                             struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t t = 0; t < sizeof trials / sizeof *trials && code == ERR_OK; t++) {
        code = run_trial(ops, kernel, &trials[t], err);
    }
    return code;
}
