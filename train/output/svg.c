#include "train/output/svg.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

enum { HEIGHT = 240, LEFT = 58, RIGHT = 14, TOP = 14, BOTTOM = 34, TICKS = 5 };
enum { LABEL_SHOWN = 14, CELL_MAX = 64, CELL_MIN = 14, MATRIX_LEFT = 118, MATRIX_TOP = 30 };

bool svg_append_text(struct buf *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        switch (*at) {
        case '&':
            buf_append_str(out, "&amp;");
            break;
        case '<':
            buf_append_str(out, "&lt;");
            break;
        case '>':
            buf_append_str(out, "&gt;");
            break;
        case '"':
            buf_append_str(out, "&quot;");
            break;
        default:
            buf_append_char(out, *at);
        }
    }
    return !buf_failed(out);
}

struct frame {
    double x0, x1, y0, y1;
    int width;
};

static double place_x(const struct frame *frame, double x)
{
    return LEFT + (x - frame->x0) / (frame->x1 - frame->x0) * (frame->width - LEFT - RIGHT);
}

static double place_y(const struct frame *frame, double y)
{
    return HEIGHT - BOTTOM - (y - frame->y0) / (frame->y1 - frame->y0) * (HEIGHT - TOP - BOTTOM);
}

static struct frame find_frame(const struct svg_axes *axes, const struct svg_line *lines, size_t n)
{
    struct frame frame = {INFINITY, -INFINITY, INFINITY, -INFINITY, (int)axes->width};
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < lines[i].n; j++) {
            if (!isfinite(lines[i].y[j])) {
                continue;
            }
            frame.x0 = fmin(frame.x0, lines[i].x[j]);
            frame.x1 = fmax(frame.x1, lines[i].x[j]);
            frame.y0 = fmin(frame.y0, lines[i].y[j]);
            frame.y1 = fmax(frame.y1, lines[i].y[j]);
        }
    }
    if (!(frame.x0 <= frame.x1)) {
        frame = (struct frame){0, 1, 0, 1, (int)axes->width};
    }
    frame.y0 = axes->floor ? 0 : frame.y0;
    frame.y1 = axes->ceiling ? 1 : frame.y1;
    frame.x1 = frame.x1 > frame.x0 ? frame.x1 : frame.x0 + 1;
    frame.y1 = frame.y1 > frame.y0 ? frame.y1 : frame.y0 + 1;
    return frame;
}

static void append_axes(struct buf *out, const struct frame *frame, const char *x_title)
{
    for (int i = 0; i < TICKS; i++) {
        double share = (double)i / (TICKS - 1);
        double y = frame->y0 + share * (frame->y1 - frame->y0);
        /* x counts steps or epochs. */
        double x = round(frame->x0 + share * (frame->x1 - frame->x0));
        if (x > frame->x1) {
            continue;
        }
        double at = place_y(frame, y);
        buf_printf(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at, frame->width - RIGHT);
        buf_printf(out, "<text x=\"%d\" y=\"%.1f\" class=\"end\">%.3g</text>", LEFT - 8, at + 4, y);
        buf_printf(out, "<text x=\"%.1f\" y=\"%d\" class=\"mid\">%.0f</text>", place_x(frame, x),
                   HEIGHT - BOTTOM + 16, x);
    }
    buf_printf(out, "<text x=\"%d\" y=\"%d\" class=\"mid\">", (LEFT + frame->width - RIGHT) / 2,
               HEIGHT - 4);
    svg_append_text(out, x_title);
    buf_append_str(out, "</text>");
}

static void append_line(struct buf *out, const struct frame *frame, const struct svg_line *line)
{
    buf_printf(out, "<path class=\"line %s\" d=\"", line->class);
    bool down = false;
    for (size_t j = 0; j < line->n; j++) {
        if (!isfinite(line->y[j])) {
            down = false;
            continue;
        }
        buf_printf(out, "%c%.1f %.1f", down ? 'L' : 'M', place_x(frame, line->x[j]),
                   place_y(frame, line->y[j]));
        down = true;
    }
    buf_append_str(out, "\"/>");
    for (size_t j = 0; line->dots && j < line->n; j++) {
        if (isfinite(line->y[j])) {
            buf_printf(out,
                       "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>%s: "
                       "%.4g</title></circle>",
                       line->class, place_x(frame, line->x[j]), place_y(frame, line->y[j]),
                       line->name, line->y[j]);
        }
    }
}

bool svg_chart(struct buf *out, const struct svg_axes *axes, const struct svg_line *lines, size_t n)
{
    struct frame frame = find_frame(axes, lines, n);
    buf_append_str(out, "<figure><figcaption><b>");
    svg_append_text(out, axes->title);
    buf_append_str(out, "</b>");
    for (size_t i = 0; n > 1 && i < n; i++) {
        buf_printf(out, "<span class=\"key %s\">%s</span>", lines[i].class, lines[i].name);
    }
    buf_printf(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"",
               frame.width, HEIGHT);
    svg_append_text(out, axes->title);
    buf_append_str(out, "\">");
    append_axes(out, &frame, axes->x_title);
    for (size_t i = 0; i < n; i++) {
        append_line(out, &frame, &lines[i]);
    }
    return buf_append_str(out, "</svg></figure>\n");
}

/* At most LABEL_SHOWN characters of a label, whole ones. */
static void append_label(struct buf *out, const char *label)
{
    char shown[LABEL_SHOWN * 4 + 4];
    size_t size = strlen(label);
    size_t at = 0;
    for (size_t i = 0; i < LABEL_SHOWN && at < size; i++) {
        (void)utf8_next(label, size, &at);
    }
    memcpy(shown, label, at);
    shown[at] = '\0';
    svg_append_text(out, shown);
    buf_append_str(out, at < size ? "…" : "");
}

static void append_cell(struct buf *out, size_t count, size_t row_sum, size_t x, size_t y,
                        size_t cell)
{
    double share = row_sum > 0 ? (double)count / (double)row_sum : 0;
    buf_printf(out,
               "<rect class=\"cell\" x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"%zu\" rx=\"3\" "
               "fill-opacity=\"%.3f\"><title>%zu (%.1f %%)</title></rect>",
               x, y, cell - 2, cell - 2, 0.06 + 0.94 * share, count, 100 * share);
    if (cell >= 28) {
        buf_printf(out, "<text x=\"%zu\" y=\"%zu\" class=\"mid%s\">%zu</text>", x + cell / 2 - 1,
                   y + cell / 2 + 3, share > 0.5 ? " over" : "", count);
    }
}

bool svg_confusion(struct buf *out, const struct tally *tally, const struct label_set *labels)
{
    size_t k = tally->classes;
    size_t cell = size_min(CELL_MAX, size_max(CELL_MIN, 420 / k));
    size_t side = k * cell;
    buf_printf(out, "<svg class=\"matrix\" viewBox=\"0 0 %zu %zu\" style=\"max-width:%zupx\">",
               MATRIX_LEFT + side + 8, MATRIX_TOP + side + 78, MATRIX_LEFT + side + 8);
    buf_printf(out, "<text x=\"%zu\" y=\"16\" class=\"mid soft\">predicted →</text>",
               MATRIX_LEFT + side / 2);
    buf_append_str(out, "<text x=\"0\" y=\"16\" class=\"soft\">label ↓</text>");
    for (size_t i = 0; i < k; i++) {
        size_t row_sum = 0;
        for (size_t j = 0; j < k; j++) {
            row_sum += tally->confusion[i * k + j];
        }
        buf_printf(out, "<text x=\"%d\" y=\"%zu\" class=\"end\">", MATRIX_LEFT - 8,
                   MATRIX_TOP + i * cell + cell / 2 + 4);
        append_label(out, labels->at[i]);
        buf_printf(out, "</text><text class=\"end\" transform=\"translate(%zu %zu) rotate(-40)\">",
                   MATRIX_LEFT + i * cell + cell / 2 + 4, MATRIX_TOP + side + 14);
        append_label(out, labels->at[i]);
        buf_append_str(out, "</text>");
        for (size_t j = 0; j < k; j++) {
            append_cell(out, tally->confusion[i * k + j], row_sum, MATRIX_LEFT + j * cell,
                        MATRIX_TOP + i * cell, cell);
        }
    }
    return buf_append_str(out, "</svg>");
}
