/* Charts as inline SVG for the report: lines over a grid, a confusion matrix. Colours are CSS
 * classes of the page. Private to train/. */
#ifndef ORTHRUS_TRAIN_SVG_H
#define ORTHRUS_TRAIN_SVG_H

#include "base/buf.h"
#include "train/metrics.h"

struct svg_line {
    const char *name;
    const char *class; /* of the page's stylesheet: "c1" … "c4", "raw" */
    const double *x, *y;
    size_t n;
    bool dots; /* mark each point */
};

/* A chart of up to 8 lines with axes from their extremes (y from 0 where floor is set, to 1 where
 * ceiling is). False when the buffer is full. */
bool svg_chart(struct buf *out, const char *title, const char *x_title,
               const struct svg_line *lines, size_t n, bool floor, bool ceiling);

/* Rows are labels, columns predictions; each cell's shade is its share of the row. */
bool svg_confusion(struct buf *out, const struct tally *tally, const struct label_set *labels);

/* Text with &, <, > and quotes escaped. */
bool svg_append_text(struct buf *out, const char *text);

#endif
