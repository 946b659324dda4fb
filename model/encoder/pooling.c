#include "model/encoder/pooling.h"

#include <math.h>
#include <string.h>

#include "model/encoder/encoder.h"

/* The first row, then the others added in their order. */
static void sum_rows(const float *rows, size_t n, size_t ld, size_t width, float *out)
{
    memcpy(out, rows, width * sizeof *out);
    for (size_t t = 1; t < n; t++) {
        const float *row = rows + t * ld;
        for (size_t i = 0; i < width; i++) {
            out[i] += row[i];
        }
    }
}

static void divide(float *out, size_t width, float by)
{
    for (size_t i = 0; i < width; i++) {
        out[i] /= by;
    }
}

/* Row t weighs first + t. */
static void weighted_rows(const float *rows, size_t n, size_t ld, size_t width, size_t first,
                          float *out)
{
    float weights = 0;
    memset(out, 0, width * sizeof *out);
    for (size_t t = 0; t < n; t++) {
        const float *row = rows + t * ld;
        float weight = (float)(first + t);
        weights += weight;
        for (size_t i = 0; i < width; i++) {
            out[i] += row[i] * weight;
        }
    }
    divide(out, width, weights);
}

static void largest_rows(const float *rows, size_t n, size_t ld, size_t width, float *out)
{
    memcpy(out, rows, width * sizeof *out);
    for (size_t t = 1; t < n; t++) {
        const float *row = rows + t * ld;
        for (size_t i = 0; i < width; i++) {
            out[i] = row[i] > out[i] ? row[i] : out[i];
        }
    }
}

/* n rows of one text, ld apart, `skip` of its rows standing before them. */
static void pool_mode(const float *rows, size_t n, size_t ld, size_t skip, size_t width,
                      enum pooling mode, float *out)
{
    switch (mode) {
    case POOLING_MEAN:
        sum_rows(rows, n, ld, width, out);
        divide(out, width, (float)n);
        return;
    case POOLING_MEAN_SQRT:
        sum_rows(rows, n, ld, width, out);
        divide(out, width, sqrtf((float)n));
        return;
    case POOLING_WEIGHTEDMEAN:
        weighted_rows(rows, n, ld, width, skip + 1, out);
        return;
    case POOLING_MAX:
        largest_rows(rows, n, ld, width, out);
        return;
    case POOLING_CLS:
        memcpy(out, rows, width * sizeof *out);
        return;
    case POOLING_LASTTOKEN:
        memcpy(out, rows + (n - 1) * ld, width * sizeof *out);
        return;
    case POOLING_LIST_END:
        break;
    }
}

void pool_text(const float *hidden, const struct batch *batch, size_t width, enum pooling pooling,
               const struct pool_part *part, float *out)
{
    size_t text = part->text;
    size_t skip = batch->skips[text];
    size_t start = batch->starts[text] + skip;
    size_t n = batch->starts[text + 1] - start;
    size_t modes = pooling_count(pooling);
    for (size_t i = 0; i < modes; i++) {
        pool_mode(hidden + start * width + part->from, n, width, skip, part->to - part->from,
                  pooling_mode(pooling, i), out + (text * modes + i) * width + part->from);
    }
}

void embeddings_normalize(float *embeddings, size_t n, size_t hidden)
{
    for (size_t row = 0; row < n; row++, embeddings += hidden) {
        double squares = 0.0;
        for (size_t i = 0; i < hidden; i++) {
            squares += (double)embeddings[i] * (double)embeddings[i];
        }
        if (squares == 0.0) {
            continue;
        }
        double norm = sqrt(squares);
        for (size_t i = 0; i < hidden; i++) {
            embeddings[i] = (float)((double)embeddings[i] / norm);
        }
    }
}
