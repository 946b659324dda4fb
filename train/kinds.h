/* The two heads that the trainer knows, by number. */
#ifndef ORTHRUS_TRAIN_KINDS_H
#define ORTHRUS_TRAIN_KINDS_H

#include "model/heads/heads.h"

enum head_kind { HEAD_CLASSIFIER, HEAD_SENTIMENT, HEAD_COUNT };

/* "classifier", "sentiment". */
static inline const char *head_name(enum head_kind kind)
{
    static const char *const names[HEAD_COUNT] = {
        [HEAD_CLASSIFIER] = "classifier",
        [HEAD_SENTIMENT] = "sentiment",
    };
    return names[kind];
}

/* "classifier.labels", "sentiment.labels": metadata of a heads file. */
static inline const char *kinds_labels_key(enum head_kind kind)
{
    static const char *const keys[HEAD_COUNT] = {
        [HEAD_CLASSIFIER] = "classifier.labels",
        [HEAD_SENTIMENT] = "sentiment.labels",
    };
    return keys[kind];
}

static inline bool heads_has(const struct heads *heads, enum head_kind kind)
{
    return heads_find(heads, head_name(kind)) != NULL;
}

/* The head of that kind; one of 0 classes where the set has none. */
static inline const struct head *kinds_head(const struct heads *heads, enum head_kind kind)
{
    static const struct head absent;
    const struct head *head = heads_find(heads, head_name(kind));
    return head ? head : &absent;
}

/* ERR_UNSUPPORTED where one of the two is more than a linear softmax on the pooled vector. */
static inline enum err_code kinds_check(const struct heads *heads, const char *path,
                                        struct err *err)
{
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        const struct head *head = kinds_head(heads, kind);
        if (head->classes &&
            (head->inner || head->type != HEAD_SOFTMAX || head->input != HEAD_INPUT_POOLED)) {
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: %s: a linear softmax head on the pooled vector is allowed here",
                           path, head_name(kind));
        }
    }
    return ERR_OK;
}

#endif
