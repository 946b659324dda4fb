#include "train/run/split.h"

#include <math.h>
#include <stdlib.h>

#include "base/size.h"
#include "train/network/dropout.h"

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The first `held` of a seeded permutation. */
static void choose_any(const size_t *order, size_t held, unsigned char *is_held)
{
    for (size_t i = 0; i < held; i++) {
        is_held[order[i]] = 1;
    }
}

/* Whole groups in the order in which the permutation meets them, until `held` is reached. */
static enum err_code choose_groups(const struct dataset *dataset, const size_t *order, size_t held,
                                   unsigned char *is_held, struct err *err)
{
    size_t n = dataset->n;
    uint64_t *groups = calloc(n, sizeof *groups);
    size_t *sizes = calloc(n, sizeof *sizes);
    unsigned char *taken = calloc(n, 1);
    if (!groups || !sizes || !taken) {
        free(groups);
        free(sizes);
        free(taken);
        return err_nomem(err, n * sizeof *groups);
    }
    for (size_t i = 0; i < n; i++) {
        groups[i] = dataset->groups[i];
    }
    qsort(groups, n, sizeof *groups, by_hash);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++) {
        distinct += i == 0 || groups[i] != groups[distinct - 1];
        groups[distinct - 1] = groups[i];
        sizes[distinct - 1]++;
    }
    size_t got = 0;
    for (size_t i = 0; i < n && got < held; i++) {
        const uint64_t *found = bsearch(&dataset->groups[order[i]], groups, distinct,
                                        sizeof *groups, by_hash);
        size_t group = (size_t)(found - groups);
        got += taken[group] ? 0 : sizes[group];
        taken[group] = 1;
    }
    for (size_t i = 0; i < n; i++) {
        const uint64_t *found = bsearch(&dataset->groups[i], groups, distinct, sizeof *groups,
                                        by_hash);
        is_held[i] = taken[found - groups];
    }
    free(groups);
    free(sizes);
    free(taken);
    return ERR_OK;
}

/* Each class gives its share, those with the largest remainders one more. */
static void choose_classes(const struct dataset *dataset, int task, double share,
                           const size_t *order, size_t held, unsigned char *is_held)
{
    size_t counts[HEADS_CLASSES_MAX + 1] = {0};
    size_t quota[HEADS_CLASSES_MAX + 1] = {0};
    const int32_t *labels = dataset->labels[task];
    for (size_t i = 0; i < dataset->n; i++) {
        counts[labels[i] + 1]++;
    }
    size_t given = 0;
    for (size_t k = 0; k <= HEADS_CLASSES_MAX; k++) {
        quota[k] = (size_t)floor((double)counts[k] * share);
        given += quota[k];
    }
    for (; given < held; given++) {
        size_t best = 0;
        double most = -1;
        for (size_t k = 0; k <= HEADS_CLASSES_MAX; k++) {
            double remainder = (double)counts[k] * share - (double)quota[k];
            if (quota[k] < counts[k] && remainder > most) {
                most = remainder;
                best = k;
            }
        }
        quota[best]++;
    }
    for (size_t i = 0; i < dataset->n; i++) {
        size_t k = (size_t)((ptrdiff_t)labels[order[i]] + 1); /* -1: none */
        if (quota[k] > 0) {
            quota[k]--;
            is_held[order[i]] = 1;
        }
    }
}

enum err_code split_choose(const struct dataset *dataset, const struct split_options *options,
                           const char *path, unsigned char *ret_held, struct err *err)
{
    size_t n = dataset->n;
    size_t held = (size_t)llround((double)n * options->share);
    enum err_code code = ERR_OK;
    if (options->share > 0) {
        held = size_max(held, 1);
    }
    size_t *order = calloc(n, sizeof *order);
    if (!order) {
        return err_nomem(err, n * sizeof *order);
    }
    random_order(options->seed, STREAM_SPLIT, n, order);
    if (held < n && options->grouped && held > 0) {
        code = choose_groups(dataset, order, held, ret_held, err);
    } else if (held < n && options->stratify >= 0) {
        choose_classes(dataset, options->stratify, options->share, order, held, ret_held);
    } else if (held < n) {
        choose_any(order, held, ret_held);
    }
    free(order);
    size_t left = 0;
    for (size_t i = 0; held < n && i < n; i++) {
        left += !ret_held[i];
    }
    if (code == ERR_OK && left == 0) {
        code = err_set(err, ERR_INVALID, "%s: %zu examples%s are too few to split off %g", path, n,
                       options->grouped ? " in their groups" : "", options->share);
    }
    return code;
}

enum err_code split_duplicates(const struct dataset *a, const size_t *index_a, size_t n_a,
                               const struct dataset *b, const size_t *index_b, size_t n_b,
                               size_t *ret_n, struct err *err)
{
    uint64_t *texts = calloc(n_a + 1, sizeof *texts);
    if (!texts) {
        return err_nomem(err, n_a * sizeof *texts);
    }
    for (size_t i = 0; i < n_a; i++) {
        texts[i] = a->texts[index_a[i]];
    }
    qsort(texts, n_a, sizeof *texts, by_hash);
    *ret_n = 0;
    for (size_t i = 0; i < n_b; i++) {
        *ret_n += bsearch(&b->texts[index_b[i]], texts, n_a, sizeof *texts, by_hash) != NULL;
    }
    free(texts);
    return ERR_OK;
}
