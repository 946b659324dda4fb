/* Which examples train and which are held back: at random, by groups, or class by class; and the
 * texts that stand on both sides. */
#ifndef ORTHRUS_TRAIN_SPLIT_H
#define ORTHRUS_TRAIN_SPLIT_H

#include "train/data/dataset.h"

struct split_options {
    double share; /* held back, 0 ≤ share < 1 */
    uint64_t seed;
    bool grouped; /* dataset->groups: a group is never divided */
    int stratify; /* the task whose classes are divided alike; -1: none */
};

/* ret_held [n]: 1 where the example is held back. Errors: ERR_INVALID where nothing would be left
 * to train on, ERR_NOMEM. */
CHECK_RESULT enum err_code split_choose(const struct dataset *dataset,
                                        const struct split_options *options, const char *path,
                                        unsigned char *ret_held, struct err *err);

/* How many of b's examples [n_b] have a text that one of a's [n_a] has. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code split_duplicates(const struct dataset *a, const size_t *index_a,
                                            size_t n_a, const struct dataset *b,
                                            const size_t *index_b, size_t n_b, size_t *ret_n,
                                            struct err *err);

#endif
