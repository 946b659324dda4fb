/* The four matrices of a BERT-base layer, one core: our linear beside oneDNN's matmul with weights
 * that it packed itself and the same epilogue. Prints one JSON object a line.
 *
 * Both get warm weights and write fp32. oneDNN gets its source already rounded (bf16) or quantized
 * (int8, one scale for the whole tensor), which is less than ours does: it rounds and quantizes
 * inside the call. The ratio counts that against us. */
#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/linear.h"
#include "model/encoder/operand.h"

enum { SAMPLES = 7, SAMPLE_MS = 12, INT8_WIDE = 7 };

struct shape {
    const char *name;
    size_t in;
    size_t out;
    enum finish finish;
    size_t group; /* int8: as the encoder has it */
};

static const struct shape shapes[] = {
    {"qkv 768x2304, bias", 768, 2304, FINISH_BIAS, 128},
    {"attention_out 768x768, bias, residual", 768, 768, FINISH_ADD, 64},
    {"ffn_in 768x3072, bias, erf-GELU", 768, 3072, FINISH_GELU, 128},
    {"ffn_out 3072x768, bias, residual", 3072, 768, FINISH_ADD, 128},
};
static const size_t row_counts[] = {8, 32, 128, 512};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_ROWS = sizeof row_counts / sizeof *row_counts };

/* What both multiply. */
struct data {
    const struct shape *shape;
    enum precision precision;
    size_t rows;
    float *x;        /* [rows,in] */
    float *weight;   /* [out,in] */
    float *bias;     /* [out] */
    float *residual; /* [rows,out] */
    float *out;      /* [rows,out] */
};

static void require(bool fine, const char *what)
{
    if (!fine) {
        (void)fprintf(stderr, "bench_onednn: %s\n", what);
        exit(1);
    }
}

static void ok(dnnl_status_t status)
{
    require(status == dnnl_success, "oneDNN refused");
}

/* Numbers in -1 … 1 of roughly the spread that hidden states have. */
static float *random_floats(size_t n)
{
    static uint32_t state = 1;
    float *out = pages_alloc(n * sizeof *out);
    require(out != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (float)(int32_t)state / 2147483648.0f;
    }
    return out;
}

/* Ours. */

struct ours {
    struct linear linear;
    void *memory;
    size_t memory_bytes;
    void *packed; /* x */
    size_t packed_bytes;
    void *scratch;
    size_t scratch_bytes;
};

static void ours_make(const struct data *data, struct ours *ours)
{
    const struct shape *shape = data->shape;
    const struct kernels *ops = dispatch_kernels(cpu_detect());
    const struct tile_kernel *kernel = dispatch_tile(cpu_detect(), data->precision);
    size_t wide = data->precision == PRECISION_INT8 ? INT8_WIDE : 0;
    struct region region = {.base = NULL};
    const struct linear_shape layout = {
        .in = shape->in, .out = shape->out, .wide = wide, .group = shape->group};
    linear_layout(&ours->linear, ops, kernel, &layout, &region);
    ours->memory_bytes = region.used;
    ours->memory = pages_alloc(ours->memory_bytes);
    ours->packed_bytes = operand_bytes(&ours->linear, data->rows);
    ours->packed = pages_alloc(ours->packed_bytes);
    ours->scratch_bytes = linear_scratch_bytes(&ours->linear, NULL);
    ours->scratch = pages_alloc(ours->scratch_bytes);
    float *packing = malloc((linear_pack_floats(&ours->linear) + 1) * sizeof *packing);
    require(ours->memory && ours->packed && ours->scratch && packing, "out of memory");
    region = (struct region){.base = ours->memory};
    linear_layout(&ours->linear, ops, kernel, &layout, &region);
    if (wide) {
        linear_choose_wide(&ours->linear, data->x);
    }
    struct tensor weight = tensor_of_floats(data->weight, shape->out, shape->in);
    struct tensor bias = tensor_of_floats(data->bias, 1, shape->out);
    const struct linear_part part = {.weight = &weight, .bias = &bias};
    for (size_t panel = 0; panel < ours->linear.panels; panel++) {
        linear_pack(&ours->linear, &part, 1, panel, packing);
    }
    free(packing);
}

static void ours_run(const struct data *data, struct ours *ours)
{
    const struct operand x = operand_of(&ours->linear, data->rows, ours->packed);
    operand_pack_all(&x, data->x, data->shape->in);
    const struct linear_call call = {.x = &x,
                                     .finish = data->shape->finish,
                                     .residual = data->residual,
                                     .residual_ld = data->shape->out,
                                     .out = data->out,
                                     .out_ld = data->shape->out};
    struct team team;
    team_init(&team, 1);
    linear_run(&ours->linear, &call, &team, 0, ours->scratch);
}

/* oneDNN's. */

enum { ARGS_MAX = 5 };

struct theirs {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[ARGS_MAX];
    int n_args;
};

static dnnl_memory_desc_t describe(size_t rows, size_t columns, dnnl_data_type_t type,
                                   dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t out;
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    ok(dnnl_memory_desc_init_by_tag(&out, 2, dims, type, tag));
    return out;
}

/* data of desc's layout; NULL makes memory of oneDNN's own. */
static dnnl_memory_t memory_of(const struct theirs *theirs, const dnnl_memory_desc_t *desc,
                               void *data)
{
    dnnl_memory_t out;
    ok(dnnl_memory_create(&out, desc, theirs->engine, data ? data : DNNL_MEMORY_ALLOCATE));
    return out;
}

static void add_arg(struct theirs *theirs, int arg, dnnl_memory_t value)
{
    theirs->args[theirs->n_args++] = (dnnl_exec_arg_t){arg, value};
}

/* from, in its layout → new memory in the layout (and type) of desc. */
static dnnl_memory_t reorder(const struct theirs *theirs, const dnnl_memory_desc_t *from_desc,
                             float *from, const dnnl_memory_desc_t *desc, float scale)
{
    dnnl_primitive_attr_t attr;
    ok(dnnl_primitive_attr_create(&attr));
    ok(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &scale));
    dnnl_primitive_desc_t pd;
    ok(dnnl_reorder_primitive_desc_create(&pd, from_desc, theirs->engine, desc, theirs->engine,
                                          attr));
    dnnl_primitive_t primitive;
    ok(dnnl_primitive_create(&primitive, pd));
    dnnl_memory_t source = memory_of(theirs, from_desc, from);
    dnnl_memory_t out = memory_of(theirs, desc, NULL);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, out}};
    ok(dnnl_primitive_execute(primitive, theirs->stream, 2, args));
    ok(dnnl_stream_wait(theirs->stream));
    dnnl_memory_destroy(source);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return out;
}

/* The epilogue as oneDNN fuses it: GELU, or the residual added; for int8 a scale a column. */
static dnnl_primitive_attr_t epilogue(const struct data *data, const dnnl_memory_desc_t *out)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    ok(dnnl_primitive_attr_create(&attr));
    ok(dnnl_post_ops_create(&ops));
    if (data->shape->finish == FINISH_GELU) {
        ok(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_gelu_erf, 0, 0));
    } else if (data->shape->finish == FINISH_ADD) {
        ok(dnnl_post_ops_append_binary(ops, dnnl_binary_add, out));
    }
    ok(dnnl_primitive_attr_set_post_ops(attr, ops));
    dnnl_post_ops_destroy(ops);
    if (data->precision == PRECISION_INT8) {
        float *scales = malloc(data->shape->out * sizeof *scales);
        require(scales != NULL, "out of memory");
        for (size_t i = 0; i < data->shape->out; i++) {
            scales[i] = 1e-4f;
        }
        ok(dnnl_primitive_attr_set_output_scales(attr, (dnnl_dim_t)data->shape->out, 1 << 1,
                                                 scales));
        free(scales);
    }
    return attr;
}

static void theirs_make(const struct data *data, struct theirs *theirs)
{
    static const dnnl_data_type_t sources[] = {dnnl_f32, dnnl_bf16, dnnl_u8};
    static const dnnl_data_type_t weights[] = {dnnl_f32, dnnl_bf16, dnnl_s8};
    const struct shape *shape = data->shape;
    *theirs = (struct theirs){0};
    ok(dnnl_engine_create(&theirs->engine, dnnl_cpu, 0));
    ok(dnnl_stream_create(&theirs->stream, theirs->engine, dnnl_stream_default_flags));
    float scale = data->precision == PRECISION_INT8 ? 127.0f : 1.0f;
    dnnl_memory_desc_t plain_x = describe(data->rows, shape->in, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t plain_weight = describe(shape->in, shape->out, dnnl_f32, dnnl_ba);
    dnnl_memory_desc_t x = describe(data->rows, shape->in, sources[data->precision], dnnl_ab);
    dnnl_memory_desc_t any = describe(shape->in, shape->out, weights[data->precision],
                                      dnnl_format_tag_any);
    dnnl_memory_desc_t bias = describe(1, shape->out, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t out = describe(data->rows, shape->out, dnnl_f32, dnnl_ab);
    dnnl_matmul_desc_t desc;
    ok(dnnl_matmul_desc_init(&desc, &x, &any, &bias, &out));
    dnnl_primitive_attr_t attr = epilogue(data, &out);
    dnnl_primitive_desc_t pd;
    ok(dnnl_primitive_desc_create(&pd, &desc, attr, theirs->engine, NULL));
    ok(dnnl_primitive_create(&theirs->primitive, pd));
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    add_arg(theirs, DNNL_ARG_SRC, reorder(theirs, &plain_x, data->x, &x, scale));
    add_arg(theirs, DNNL_ARG_WEIGHTS, reorder(theirs, &plain_weight, data->weight, packed, scale));
    add_arg(theirs, DNNL_ARG_BIAS, memory_of(theirs, &bias, data->bias));
    add_arg(theirs, DNNL_ARG_DST, memory_of(theirs, &out, data->out));
    if (shape->finish == FINISH_ADD) {
        add_arg(theirs, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                memory_of(theirs, &out, data->residual));
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
}

static void theirs_run(struct theirs *theirs)
{
    ok(dnnl_primitive_execute(theirs->primitive, theirs->stream, theirs->n_args, theirs->args));
    ok(dnnl_stream_wait(theirs->stream));
}

static void theirs_done(struct theirs *theirs)
{
    for (int i = 0; i < theirs->n_args; i++) {
        dnnl_memory_destroy(theirs->args[i].memory);
    }
    dnnl_primitive_destroy(theirs->primitive);
    dnnl_stream_destroy(theirs->stream);
    dnnl_engine_destroy(theirs->engine);
}

/* GFLOP/s of one sample of some milliseconds. */
static double sample(const struct data *data, struct ours *ours, struct theirs *theirs)
{
    uint64_t start = clock_now_ns();
    uint64_t now;
    size_t runs = 0;
    do {
        if (ours) {
            ours_run(data, ours);
        } else {
            theirs_run(theirs);
        }
        runs++;
        now = clock_now_ns();
    } while (now - start < SAMPLE_MS * NS_PER_MS);
    double flops = 2.0 * (double)data->rows * (double)data->shape->in * (double)data->shape->out;
    return flops * (double)runs / (double)(now - start);
}

static void compare(const struct data *data)
{
    struct ours ours = {0};
    struct theirs theirs;
    ours_make(data, &ours);
    theirs_make(data, &theirs);
    double best_ours = 0;
    double best_theirs = 0;
    for (int i = 0; i < SAMPLES; i++) { /* in turns: what disturbs one disturbs the other */
        double rate = sample(data, &ours, NULL);
        best_ours = rate > best_ours ? rate : best_ours;
        rate = sample(data, NULL, &theirs);
        best_theirs = rate > best_theirs ? rate : best_theirs;
    }
    printf("{\"name\":\"%s\",\"precision\":\"%s\",\"isa\":\"%s\",\"rows\":%zu,"
           "\"onednn_gflops\":%.1f,\"orthrus_gflops\":%.1f,\"ratio\":%.2f}\n",
           data->shape->name, precision_name(data->precision), isa_name(cpu_detect()), data->rows,
           best_theirs, best_ours, best_ours / best_theirs);
    (void)fflush(stdout);
    theirs_done(&theirs);
    pages_free(ours.scratch, ours.scratch_bytes);
    pages_free(ours.packed, ours.packed_bytes);
    pages_free(ours.memory, ours.memory_bytes);
}

int main(void)
{
    omp_set_num_threads(1);
    size_t widest = 3072;
    size_t most = row_counts[N_ROWS - 1];
    struct data data = {.x = random_floats(most * widest),
                        .weight = random_floats(768 * widest),
                        .bias = random_floats(widest),
                        .residual = random_floats(most * widest),
                        .out = random_floats(most * widest)};
    for (enum precision p = PRECISION_FP32; p <= PRECISION_INT8; p++) {
        if (!dispatch_tile(cpu_detect(), p)) {
            continue;
        }
        for (size_t s = 0; s < N_SHAPES; s++) {
            for (size_t r = 0; r < N_ROWS; r++) {
                data.precision = p;
                data.shape = &shapes[s];
                data.rows = row_counts[r];
                compare(&data);
            }
        }
    }
    return 0;
}
