/* How well a head does: loss, accuracy, macro-F1, and precision, recall and F1 per class, out of a
 * confusion matrix. Reference: scikit-learn's metrics with zero_division=0; the macro mean is over
 * the classes that occur among labels or predictions. */
#ifndef ORTHRUS_TRAIN_METRICS_H
#define ORTHRUS_TRAIN_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "train/labels.h"

/* One head over one split, counted up. */
struct tally {
    size_t classes;    /* K; 0: no head */
    size_t *confusion; /* [K,K]: label, prediction; owned */
    double loss_sum;   /* of cross-entropies */
    size_t labelled;
};

struct tally_class {
    double precision, recall, f1;
    size_t support;
};

struct tally_score {
    double loss, accuracy, macro_f1; /* 0 where nothing is labelled */
    size_t labelled;
};

CHECK_RESULT enum err_code tally_init(struct tally *tally, size_t classes, struct err *err);
/* NULL and zeroed structs are fine. */
void tally_done(struct tally *tally);
void tally_clear(struct tally *tally);
/* Counts n predictions; those without a label are passed over. */
void tally_add(struct tally *tally, const int32_t *labels, const int32_t *predicted, size_t n,
               double loss_sum);

struct tally_score tally_score(const struct tally *tally);
struct tally_class tally_class(const struct tally *tally, size_t class);

/* Appends {"loss", "accuracy", "macro_f1", "labelled", "classes": [{"label", "precision",
 * "recall", "f1", "support"}], "confusion": [[…]]}. False when the buffer is full. */
bool tally_append_json(const struct tally *tally, const struct label_set *labels, struct buf *out);

#endif
