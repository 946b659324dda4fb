/* Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2):
 * one number by which a head's logits are divided so that its scores are as sure as they are right,
 * chosen by the negative log-likelihood of held-out texts; and how well they are. */
#ifndef ORTHRUS_TRAIN_TEMPERATURE_H
#define ORTHRUS_TRAIN_TEMPERATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/heads/heads.h"

enum { TEMPERATURE_BINS = 10 };

/* Held-out answers of a softmax or sigmoid head; borrowed. */
struct judged {
    enum head_type type;
    size_t n, classes;
    const float *logits;   /* [n,K] before temperature */
    const int32_t *labels; /* [n]; below 0: no label */
    const float *targets;  /* [n,K] of sigmoid heads */
};

/* The temperature from 0.05 to 20 with the smallest loss; 1 where nothing is labelled. */
double temperature_fit(const struct judged *judged);

/* One bin of a reliability diagram. */
struct reliability_bin {
    size_t n;
    double confidence, accuracy; /* means */
};
struct reliability {
    size_t n;     /* scores: one a text for softmax, one a label for sigmoid */
    double nll;   /* mean */
    double ece;   /* expected calibration error, bins of equal mass (Nguyen & O'Connor 2015) */
    double brier; /* mean Σ (score - truth)² */
    struct reliability_bin bins[TEMPERATURE_BINS];
};
/* Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code reliability_measure(const struct judged *judged, double temperature,
                                               struct reliability *ret_reliability,
                                               struct err *err);

#endif
