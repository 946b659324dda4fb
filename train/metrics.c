#include "train/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/jval.h"
#include "train/loss.h"

enum err_code tally_init(struct tally *tally, size_t classes, struct err *err)
{
    size_t *confusion = calloc(classes * classes + 1, sizeof *confusion);
    if (!confusion) {
        return err_nomem(err, classes * classes * sizeof *confusion);
    }
    *tally = (struct tally){.classes = classes, .confusion = confusion};
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
    memset(tally->confusion, 0, tally->classes * tally->classes * sizeof *tally->confusion);
    tally->loss_sum = 0;
    tally->labelled = 0;
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

/* Labels and predictions of one class. */
static void marginals(const struct tally *tally, size_t class, size_t *ret_labels,
                      size_t *ret_predictions)
{
    *ret_labels = 0;
    *ret_predictions = 0;
    for (size_t i = 0; i < tally->classes; i++) {
        *ret_labels += tally->confusion[class * tally->classes + i];
        *ret_predictions += tally->confusion[i * tally->classes + class];
    }
}

struct tally_class tally_class(const struct tally *tally, size_t class)
{
    size_t labels, predictions;
    marginals(tally, class, &labels, &predictions);
    size_t right = tally->confusion[class * tally->classes + class];
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
    size_t right = 0;
    size_t occurring = 0;
    for (size_t k = 0; k < tally->classes; k++) {
        size_t labels, predictions;
        marginals(tally, k, &labels, &predictions);
        right += tally->confusion[k * tally->classes + k];
        occurring += labels + predictions > 0;
        score.macro_f1 += tally_class(tally, k).f1;
    }
    score.loss = tally->loss_sum / (double)tally->labelled;
    score.accuracy = ratio(right, tally->labelled);
    score.macro_f1 /= (double)occurring;
    return score;
}

bool tally_append_json(const struct tally *tally, const struct label_set *labels, struct buf *out)
{
    struct tally_score score = tally_score(tally);
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
