/* Plain C for every architecture; the other instruction sets are tested against the same formulas
 * in double precision. */
#include <math.h>
#include <string.h>

#include "model/kernels/kernels.h"

enum { ROWS = 4, COLUMNS = 16, PACK = 4 };

static void pack_rows(const struct pack_args *args)
{
    for (size_t k = 0; k < args->in; k++) {
        uint32_t *words = args->words + k * args->stride;
        for (size_t r = 0; r < PACK; r++) {
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
    .group = 1,
    .rows_max = ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = COLUMNS,
    .pack_max = PACK,
    .pack_rows = pack_rows,
    .pack_columns = pack_rows,
    .multiply = multiply,
};

static float gelu_one(float x)
{
    const float sqrt_half = 0.70710678118654752f;
    /* Below, erf rounds to -1; and -inf·0 would be NaN. */
    return x < -6.0f ? -0.0f : 0.5f * x * (1.0f + erff(x * sqrt_half));
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = gelu_one(x[i]);
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
        } else if (args->finish == FINISH_ADD) {
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
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        float below = row[i] - largest;
        row[i] = expf(below < -87.0f ? -87.0f : below); /* NaN stays */
        sum += row[i];
    }
    for (size_t i = 0; i < n; i++) {
        row[i] /= sum;
    }
}

static void layernorm(const float *x, size_t rows, size_t width, const float *gamma,
                      const float *beta, float eps, float *out)
{
    for (size_t r = 0; r < rows; r++, x += width, out += width) {
        float sum = 0.0f;
        for (size_t i = 0; i < width; i++) {
            sum += x[i];
        }
        float mean = sum / (float)width;
        float squares = 0.0f;
        for (size_t i = 0; i < width; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        float inverse = 1.0f / sqrtf(squares / (float)width + eps);
        for (size_t i = 0; i < width; i++) {
            out[i] = (x[i] - mean) * inverse * gamma[i] + beta[i];
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
