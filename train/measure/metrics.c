#include "train/measure/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jval.h"
#include "train/data/dataset.h"

enum err_code tally_init(struct tally *tally, enum head_type type, size_t classes, struct err *err)
{
    size_t cells = type == HEAD_SOFTMAX   ? classes * classes
                   : type == HEAD_SIGMOID ? classes * 4
                                          : 0;
    size_t *confusion = calloc(cells + 1, sizeof *confusion);
    if (!confusion) {
        return err_nomem(err, cells * sizeof *confusion);
    }
    *tally = (struct tally){
        .type = type, .classes = classes, .cells = cells, .confusion = confusion};
    return ERR_OK;
}

void tally_done(struct tally *tally)
{
    if (tally) {
        free(tally->confusion);
        *tally = (struct tally){0};
    }
}

void tally_clear(struct tally *tally)
{
    memset(tally->confusion, 0, tally->cells * sizeof *tally->confusion);
    tally->loss_sum = tally->error_sum = 0;
    tally->labelled = tally->exact = 0;
}

void tally_copy(struct tally *to, const struct tally *from)
{
    memcpy(to->confusion, from->confusion, from->cells * sizeof *to->confusion);
    to->loss_sum = from->loss_sum;
    to->error_sum = from->error_sum;
    to->labelled = from->labelled;
    to->exact = from->exact;
}

void tally_text(struct tally *tally, const float *logits, int32_t label, const float *targets,
                bool identity, double loss)
{
    size_t classes = tally->classes;
    tally->loss_sum += loss;
    tally->labelled++;
    if (tally->type == HEAD_SOFTMAX) {
        tally->confusion[(size_t)label * classes + head_best(logits, classes)]++;
    } else if (tally->type == HEAD_SCORE) {
        double logit = (double)logits[0];
        double score = identity ? logit : 1 / (1 + exp(-logit));
        tally->error_sum += fabs(score - (double)targets[0]);
    } else {
        bool exact = true;
        for (size_t k = 0; k < classes; k++) {
            size_t there = targets[k] > 0.5f;
            size_t predicted = logits[k] > 0;
            tally->confusion[k * 4 + there * 2 + predicted]++;
            exact = exact && there == predicted;
        }
        tally->exact += exact;
    }
}

void tally_add(struct tally *tally, const int32_t *labels, const int32_t *predicted, size_t n,
               double loss_sum)
{
    for (size_t i = 0; i < n; i++) {
        if (labels[i] != LABEL_NONE) {
            tally->confusion[(size_t)labels[i] * tally->classes + (size_t)predicted[i]]++;
            tally->labelled++;
        }
    }
    tally->loss_sum += loss_sum;
}

static double ratio(size_t part, size_t whole)
{
    return whole == 0 ? 0 : (double)part / (double)whole;
}

/* Labels and predictions of one class, and how many of them agree. */
static void marginals(const struct tally *tally, size_t class, size_t *ret_labels,
                      size_t *ret_predictions, size_t *ret_right)
{
    if (tally->type == HEAD_SIGMOID) {
        const size_t *cell = tally->confusion + class * 4;
        *ret_labels = cell[2] + cell[3];
        *ret_predictions = cell[1] + cell[3];
        *ret_right = cell[3];
        return;
    }
    *ret_labels = 0;
    *ret_predictions = 0;
    *ret_right = tally->confusion[class * tally->classes + class];
    for (size_t i = 0; i < tally->classes; i++) {
        *ret_labels += tally->confusion[class * tally->classes + i];
        *ret_predictions += tally->confusion[i * tally->classes + class];
    }
}

struct tally_class tally_class(const struct tally *tally, size_t class)
{
    size_t labels, predictions, right;
    marginals(tally, class, &labels, &predictions, &right);
    return (struct tally_class){
        .precision = ratio(right, predictions),
        .recall = ratio(right, labels),
        .f1 = ratio(2 * right, labels + predictions),
        .support = labels,
    };
}

struct tally_score tally_score(const struct tally *tally)
{
    struct tally_score score = {.labelled = tally->labelled};
    if (tally->labelled == 0) {
        return score;
    }
    score.loss = tally->loss_sum / (double)tally->labelled;
    if (tally->type == HEAD_SCORE) {
        score.error = tally->error_sum / (double)tally->labelled;
        return score;
    }
    size_t all_right = 0;
    size_t occurring = 0;
    for (size_t k = 0; k < tally->classes; k++) {
        size_t labels, predictions, right;
        marginals(tally, k, &labels, &predictions, &right);
        all_right += right;
        occurring += labels + predictions > 0;
        score.macro_f1 += tally_class(tally, k).f1;
    }
    score.accuracy = ratio(tally->type == HEAD_SIGMOID ? tally->exact : all_right, tally->labelled);
    score.macro_f1 = occurring > 0 ? score.macro_f1 / (double)occurring : 0;
    return score;
}

bool tally_append_json(const struct tally *tally, const struct label_set *labels, struct buf *out)
{
    struct tally_score score = tally_score(tally);
    if (tally->type == HEAD_SCORE) {
        return buf_printf(out, "{\"loss\": %.9g, \"mean_absolute_error\": %.9g, \"labelled\": %zu}",
                          score.loss, score.error, score.labelled);
    }
    buf_printf(out,
               "{\"loss\": %.9g, \"accuracy\": %.9g, \"macro_f1\": %.9g, \"labelled\": %zu, "
               "\"classes\": [",
               score.loss, score.accuracy, score.macro_f1, score.labelled);
    for (size_t k = 0; k < tally->classes; k++) {
        struct tally_class class = tally_class(tally, k);
        buf_append_str(out, k == 0 ? "{\"label\": " : ", {\"label\": ");
        jval_append_string(out, labels->at[k], strlen(labels->at[k]));
        buf_printf(out, ", \"precision\": %.9g, \"recall\": %.9g, \"f1\": %.9g, \"support\": %zu}",
                   class.precision, class.recall, class.f1, class.support);
    }
    if (tally->type == HEAD_SIGMOID) {
        return buf_append_str(out, "]}");
    }
    buf_append_str(out, "], \"confusion\": [");
    for (size_t k = 0; k < tally->classes; k++) {
        buf_append_str(out, k == 0 ? "[" : ", [");
        for (size_t i = 0; i < tally->classes; i++) {
            buf_printf(out, "%s%zu", i == 0 ? "" : ", ", tally->confusion[k * tally->classes + i]);
        }
        buf_append_char(out, ']');
    }
    return buf_append_str(out, "]}");
}
