/* Plain C for every architecture; the other instruction sets are tested against the same formulas
 * in double precision. */
#include <math.h>
#include <string.h>

#include "model/encoder/kernels/kernels.h"

enum { ROWS = 4, COLUMNS = 16, PACK = 4 };

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k++) {
        uint32_t *words = args->words + k * args->stride;
        for (size_t r = 0; r < PACK && r < args->stride; r++) {
            float value = r < args->rows ? args->x[r * args->ld + k] : 0.0f;
            memcpy(&words[r], &value, sizeof value);
        }
    }
}

static void multiply(const struct multiply_args *args)
{
    const float *a = args->a;
    const float *b = args->b;
    float sums[ROWS][COLUMNS] = {{0}};
    for (size_t k = 0; k < args->words; k++) {
        for (size_t r = 0; r < args->rows; r++) {
            for (size_t c = 0; c < COLUMNS; c++) {
                sums[r][c] += a[k * args->rows + r] * b[k * COLUMNS + c];
            }
        }
    }
    for (size_t r = 0; r < args->rows; r++) {
        memcpy(args->tile + r * args->ld, sums[r], sizeof sums[r]);
    }
}

const struct tile_kernel tile_generic_f32 = {
    .name = "generic fp32",
    .precision = PRECISION_FP32,
    .word_inputs = 1,
    .rows_max = ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = COLUMNS,
    .panels = 1,
    .pack_max = PACK,
    .pack_rows = pack_rows,
    .pack_columns = pack_rows,
    .multiply = multiply,
};

/* The same approximations as in vector_ops.h, in a form that compilers turn into vectors; libm's
 * erff and expf would take most of the time between the matrices. */
static inline float gelu_one(float x)
{
    float z = x < -5.6f ? -5.6f : x;
    z = z > 5.6f ? 5.6f : z;
    float t = z * z;
    float p = 2.233259621675643e-8f;
    p = p * t + 6.292369562288513e-6f;
    p = p * t + 1.6884059004951268e-4f;
    p = p * t + 4.676951095461845e-3f;
    p = p * t + 3.391759470105171e-2f;
    p = p * t + 3.989422619342804e-1f;
    float q = 1.180819708679337e-6f;
    q = q * t + 7.333037501666695e-5f;
    q = q * t + 1.885026111267507e-3f;
    q = q * t + 2.867177501320839e-2f;
    q = q * t + 2.5168514251708984e-1f;
    q = q * t + 1.0f;
    float erf_half = z * p / q;
    erf_half = erf_half < -0.5f ? -0.5f : erf_half;
    erf_half = erf_half > 0.5f ? 0.5f : erf_half;
    float bounded = x < -1e30f ? -1e30f : x; /* -inf·0 would be NaN */
    return bounded * (0.5f + erf_half);
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = gelu_one(x[i]);
    }
}

/* e^x for x ≤ 88; below -87 it is e^-87, NaN stays NaN. */
static inline float exp_one(float x)
{
    const float to_integer = 12582912.0f; /* 1.5·2^23: what is added to it is rounded to integers */
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504088896341f + to_integer;
    float n = shifted - to_integer;
    float r = x - n * 0.693359375f;
    r += n * 2.12194440054690583e-4f;
    float q = 1.381461275741458e-3f;
    q = q * r + 8.368710055947304e-3f;
    q = q * r + 4.166838899254799e-2f;
    q = q * r + 1.666652113199234e-1f;
    q = q * r + 4.999999403953552e-1f;
    float p = q * (r * r) + r + 1.0f;
    uint32_t bits; /* the low bits of shifted are n: moved up, they are the exponent of 2^n */
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* x·σ(v), as vector_ops.h's vector_gated. */
static inline float gated_one(float x, float v)
{
    float bounded = x < -1e30f ? -1e30f : x;
    return bounded / (1.0f + exp_one(v < -87.0f ? 87.0f : -v));
}

static inline float gelu_tanh_one(float x)
{
    float z = x > 100.0f ? 100.0f : x < -100.0f ? -100.0f : x;
    return gated_one(x, z * (z * z * 0.044715f + 1.0f) * 1.5957691216057308f);
}

static void activate(enum finish finish, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        switch (finish) {
        case FINISH_GELU_TANH:
            x[i] = gelu_tanh_one(x[i]);
            break;
        case FINISH_RELU:
            x[i] = x[i] < 0.0f ? 0.0f : x[i];
            break;
        case FINISH_SILU:
            x[i] = gated_one(x[i], x[i]);
            break;
        case FINISH_BIAS:
        case FINISH_GELU: /* gelu() */
        case FINISH_ADD:
            return;
        }
    }
}

static void finish(const struct finish_args *args)
{
    for (size_t r = 0; r < args->rows; r++) {
        const float *sums = args->sums + r * args->sums_ld;
        float *out = args->out + r * args->out_ld;
        for (size_t c = 0; c < args->columns; c++) {
            out[c] = sums[c] + args->bias[c];
        }
        if (args->finish == FINISH_GELU) {
            gelu(out, args->columns);
        } else if (args->finish != FINISH_ADD) {
            activate(args->finish, out, args->columns);
        } else {
            const float *residual = args->residual + r * args->residual_ld;
            for (size_t c = 0; c < args->columns; c++) {
                out[c] += residual[c];
            }
        }
    }
}

static void softmax(float *row, size_t n, float scale)
{
    float largest = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        row[i] *= scale;
        largest = row[i] > largest ? row[i] : largest;
    }
    for (size_t i = 0; i < n; i++) {
        row[i] = exp_one(row[i] - largest);
    }
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        sum += row[i];
    }
    for (size_t i = 0; i < n; i++) {
        row[i] /= sum;
    }
}

static void layernorm(const struct layernorm_args *args)
{
    const float *x = args->x;
    float *out = args->out;
    size_t width = args->width;
    for (size_t r = 0; r < args->rows; r++, x += width, out += width) {
        float sum = 0.0f;
        for (size_t i = 0; i < width; i++) {
            sum += x[i];
        }
        float mean = sum / (float)width;
        float squares = 0.0f;
        for (size_t i = 0; i < width; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        float inverse = 1.0f / sqrtf(squares / (float)width + args->eps);
        for (size_t i = args->from; i < args->to; i++) {
            out[i] = (x[i] - mean) * inverse * args->gamma[i] + args->beta[i];
        }
    }
}

const struct kernels kernels_generic = {
    .name = "generic",
    .f32 = &tile_generic_f32,
    .finish = finish,
    .gelu = gelu,
    .softmax = softmax,
    .layernorm = layernorm,
};
