/* What a run tells at its end: report.json for programs, report.html for people (one file, inline
 * SVG, nothing from elsewhere). Private to train/. */
#ifndef ORTHRUS_TRAIN_REPORT_H
#define ORTHRUS_TRAIN_REPORT_H

#include "train/run/run.h"

/* Writes both files into the output folder, atomically. The loss curves come from train.jsonl, so
 * that a resumed run shows all of them. */
CHECK_RESULT enum err_code report_write(struct run *run, struct err *err);

/* One step of train.jsonl. */
struct report_step {
    double loss, lr, grad_norm;
};

/* Everything the page shows; the arrays are borrowed. */
struct report {
    const struct run *run;
    const struct report_step *steps; /* [n_steps] */
    size_t n_steps;
};

/* Appends the page. False when the buffer is full. */
bool report_html(const struct report *report, struct buf *out);

#endif
