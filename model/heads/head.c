/* One head's arithmetic; model/heads/heads.c makes the sets. */
#include <math.h>

#include "model/heads/heads.h"

/* Partial sums kept side by side: a block of a constant length becomes vector code, and the order
 * of the additions is the same for every row. */
enum { LANES = 16 };

static float dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (size_t lane = 0; i < n; i++, lane++) {
        lanes[lane] += a[i] * b[i];
    }
    for (size_t width = LANES / 2; width; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] += lanes[lane + width];
        }
    }
    return lanes[0];
}

void head_logits(const struct head *head, const float *embeddings, size_t n, size_t hidden,
                 float *logits)
{
    for (size_t i = 0; i < n; i++) {
        const float *embedding = embeddings + i * hidden;
        for (size_t k = 0; k < head->classes; k++) {
            logits[i * head->classes + k] = dot(head->weight + k * hidden, embedding, hidden) +
                                            head->bias[k];
        }
    }
}

void head_softmax(float *logits, size_t classes)
{
    float max = logits[0];
    for (size_t k = 1; k < classes; k++) {
        max = logits[k] > max ? logits[k] : max;
    }
    float sum = 0;
    for (size_t k = 0; k < classes; k++) {
        logits[k] = expf(logits[k] - max);
        sum += logits[k];
    }
    for (size_t k = 0; k < classes; k++) {
        logits[k] /= sum;
    }
}

const char *head_name(enum head_kind kind)
{
    static const char *const names[HEAD_COUNT] = {
        [HEAD_CLASSIFIER] = "classifier",
        [HEAD_SENTIMENT] = "sentiment",
    };
    return names[kind];
}
