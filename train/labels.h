/* The labels that each head learns: the known ones, a heads file's, or those that were named. */
#ifndef ORTHRUS_TRAIN_LABELS_H
#define ORTHRUS_TRAIN_LABELS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "train/kinds.h"

/* Lifetime of its arena. */
struct label_set {
    size_t n;  /* K */
    char **at; /* [K] */
};

/* --labels: "classifier=Ham,Spam" replaces that head's set; the known six and three otherwise.
 * heads, where not NULL, gives its own sets and must agree in number with words. Errors:
 * ERR_USAGE, ERR_MISMATCH, ERR_NOMEM. */
CHECK_RESULT enum err_code label_sets_make(const char *const *words, size_t n_words,
                                           const struct heads *heads, struct arena *arena,
                                           struct label_set ret_sets[HEAD_COUNT], struct err *err);

/* The index of a label, or -1. */
int32_t label_set_find(const struct label_set *set, const char *text, size_t size);
/* "Neutral, Positive, Negative" into out, cut where it doesn't fit. */
void label_set_text(const struct label_set *set, char *out, size_t size);

#endif
