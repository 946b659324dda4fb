/* How well a head does. Softmax: loss, accuracy, macro-F1, and precision, recall and F1 per class,
 * out of a confusion matrix. Sigmoid: the same per label, accuracy counts texts with every label
 * right. Score: mean absolute error. Reference: scikit-learn's metrics with zero_division=0; the
 * macro mean is over the classes that occur among labels or predictions. */
#ifndef ORTHRUS_TRAIN_METRICS_H
#define ORTHRUS_TRAIN_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "train/data/tasks.h"

/* One head over one split, counted up. */
struct tally {
    enum head_type type;
    size_t classes;    /* K; 0: no head */
    size_t cells;      /* of confusion */
    size_t *confusion; /* softmax [K,K]: label, prediction; sigmoid [K,2,2]: label k is there, is
                          predicted; owned */
    double loss_sum;   /* over labelled texts, whatever their weights */
    double error_sum;  /* score: |prediction - target| */
    size_t exact;      /* sigmoid: texts with every label right */
    size_t labelled;
};

struct tally_class {
    double precision, recall, f1;
    size_t support;
};

struct tally_score {
    double loss, accuracy, macro_f1; /* 0 where nothing is labelled, or the kind has none */
    double error;                    /* mean absolute, of score heads */
    size_t labelled;
};

CHECK_RESULT enum err_code tally_init(struct tally *tally, enum head_type type, size_t classes,
                                      struct err *err);
/* NULL and zeroed structs are fine. */
void tally_done(struct tally *tally);
void tally_clear(struct tally *tally);
/* from has the same kind and classes. */
void tally_copy(struct tally *to, const struct tally *from);

/* One labelled text: its logits [K], and its class, or targets [K] (sigmoid, score). identity: the
 * score is the logit itself. */
void tally_text(struct tally *tally, const float *logits, int32_t label, const float *targets,
                bool identity, double loss);
/* Softmax: counts n predictions; those without a label are passed over. */
void tally_add(struct tally *tally, const int32_t *labels, const int32_t *predicted, size_t n,
               double loss_sum);

struct tally_score tally_score(const struct tally *tally);
struct tally_class tally_class(const struct tally *tally, size_t class);

/* Appends {"loss", "accuracy", "macro_f1", "labelled", "classes": [{"label", "precision",
 * "recall", "f1", "support"}], "confusion": [[…]]}; sigmoid heads without confusion, score heads
 * {"loss", "mean_absolute_error", "labelled"}. False when the buffer is full. */
bool tally_append_json(const struct tally *tally, const struct label_set *labels, struct buf *out);

#endif
