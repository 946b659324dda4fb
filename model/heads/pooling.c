#include "model/heads/pooling.h"

#include <math.h>
#include <string.h>

#include "model/encoder/encoder.h"

static void mean_rows(const float *rows, size_t n, size_t width, float *out)
{
    memcpy(out, rows, width * sizeof *out);
    for (size_t t = 1; t < n; t++) {
        const float *row = rows + t * width;
        for (size_t i = 0; i < width; i++) {
            out[i] += row[i];
        }
    }
    float count = (float)n;
    for (size_t i = 0; i < width; i++) {
        out[i] /= count;
    }
}

void pool_texts(const float *hidden, const struct batch *batch, size_t width, enum pooling pooling,
                size_t from, size_t to, float *out)
{
    for (size_t text = from; text < to; text++) {
        size_t start = batch->starts[text];
        size_t n = pooling == POOLING_CLS ? 1 : batch->starts[text + 1] - start;
        mean_rows(hidden + start * width, n, width, out + text * width);
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
