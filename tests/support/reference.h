/* Plain double-precision references of the trainer's operators, for finite differences. */
#ifndef ORTHRUS_TESTS_SUPPORT_REFERENCE_H
#define ORTHRUS_TESTS_SUPPORT_REFERENCE_H

#include <math.h>

#include "tests/support/testing.h"

static inline void near(double found, double expected, double tolerance, const char *what, size_t i)
{
    if (!(fabs(found - expected) <= tolerance)) {
        fail_msg("%s[%zu]: %.9g, expected %.9g ± %.2g", what, i, found, expected, tolerance);
    }
}

static inline double gelu_reference(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2)));
}

/* Σ r · LayerNorm(x) in double. */
static inline double norm_reference(const double *x, const double *w, const double *b,
                                    const float *r, size_t n, double eps, double *out)
{
    double mean = 0;
    double variance = 0;
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        mean += x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double y = (x[i] - mean) / sqrt(variance + eps) * w[i] + b[i];
        if (out) {
            out[i] = y;
        }
        total += (double)r[i] * y;
    }
    return total;
}

static inline double softmax_reference(const double *x, const float *r, size_t n, double scale,
                                       double *out)
{
    double max = x[0];
    double sum = 0;
    double total = 0;
    for (size_t i = 1; i < n; i++) {
        max = fmax(max, x[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp(scale * (x[i] - max));
    }
    for (size_t i = 0; i < n; i++) {
        double p = exp(scale * (x[i] - max)) / sum;
        if (out) {
            out[i] = p;
        }
        total += (double)r[i] * p;
    }
    return total;
}

#endif
