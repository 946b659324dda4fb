/* Charts as inline SVG for the report: lines over a grid, a confusion matrix. Colours are CSS
 * classes of the page. Private to train/. */
#ifndef ORTHRUS_TRAIN_SVG_H
#define ORTHRUS_TRAIN_SVG_H

#include "base/buf.h"
#include "train/measure/metrics.h"

struct svg_line {
    const char *name;
    const char *class; /* of the page's stylesheet: "c1" … "c4", "raw" */
    const double *x, *y;
    size_t n;
    bool dots; /* mark each point */
};

struct svg_axes {
    const char *title, *x_title;
    unsigned width; /* of the drawing; its type is as large as the page's where it isn't scaled */
    bool floor;     /* y from 0 */
    bool ceiling;   /* y to 1 */
};

/* A chart of lines with axes from their extremes. False when the buffer is full. */
bool svg_chart(struct buf *out, const struct svg_axes *axes, const struct svg_line *lines,
               size_t n);

/* Rows are labels, columns predictions; each cell's shade is its share of the row. */
bool svg_confusion(struct buf *out, const struct tally *tally, const struct label_set *labels);

/* Text with &, <, > and quotes escaped. */
bool svg_append_text(struct buf *out, const char *text);

#endif
