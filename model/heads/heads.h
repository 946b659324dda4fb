/* The task heads: embeddings → logits → probabilities. Both heads are one immutable,
 * reference-counted set: validated whole, then published, acquired once per batch.
 * nn.Linear: logits = W·x + b (PyTorch); softmax for the scores. */
#ifndef ORTHRUS_MODEL_HEADS_H
#define ORTHRUS_MODEL_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "model/files/config.h"
#include "model/files/safetensors.h"

enum head_kind { HEAD_CLASSIFIER, HEAD_SENTIMENT, HEAD_COUNT };

enum { HEADS_CLASSES_MAX = 1024, HEADS_LABEL_MAX = 256, HEADS_FILE_MAX = 256 * 1024 * 1024 };

struct head {
    size_t classes;      /* K ≥ 2; 0 when the head is absent */
    const float *weight; /* [K,H] */
    const float *bias;   /* [K] */
    char **labels;       /* [K], UTF-8, distinct, not empty */
};

/* Snapshot lifetime: freed with the last reference. Immutable but for the count. */
struct heads {
    size_t hidden; /* H */
    struct head head[HEAD_COUNT];
    char sha256[SHA256_HEX_SIZE + 1]; /* of the set's whole file */
    char *file;                       /* that file's bytes, owned, as it can be downloaded */
    size_t file_size;
    struct heads_private *private_; /* reference count and storage */
};

/* What a heads file must fit. */
struct heads_fit {
    size_t hidden;
    const char *encoder_sha256; /* full hex digest; NULL: whatever encoder and pooling */
    enum pooling pooling;
};

/* Makes a set from the bytes of a heads file (copied) with one reference. Checks everything:
 * safetensors rules, exact names and shapes, K ≥ 2 and as many labels, finite values, and
 * encoder.sha256 and pooling in the metadata where present (ERR_CONFLICT when they name another).
 * Tensors other than the heads' are refused when strict, ignored when not (a whole multi-task
 * checkpoint). base, where not NULL, gives the head that the file lacks; the merged set's file and
 * sha256 are then of a file written anew. A file with no head at all is ERR_NOT_FOUND.
 * Errors name label, tensor, expected and found. */
CHECK_RESULT enum err_code heads_create(const void *data, size_t size, const char *label,
                                        const struct heads_fit *fit, bool strict,
                                        const struct heads *base, struct heads **ret_heads,
                                        struct err *err);
/* heads_create over a file's bytes. */
CHECK_RESULT enum err_code heads_load(const char *path, const struct heads_fit *fit, bool strict,
                                      struct heads **ret_heads, struct err *err);

/* Thread-safe. heads_acquire returns its argument; heads_release frees with the last one; NULL is
 * fine for both. */
struct heads *heads_acquire(struct heads *heads);
void heads_release(struct heads *heads);

static inline bool heads_has(const struct heads *heads, enum head_kind kind)
{
    return heads && heads->head[kind].classes != 0;
}

/* logits [N,K] from embeddings [N,H] (plain pooled vectors, not normalized). Each row depends on
 * its own embedding alone, to the last bit. */
void head_logits(const struct head *head, const float *embeddings, size_t n, size_t hidden,
                 float *logits);

/* In place over one row: numerically stable softmax in fp32. */
void head_softmax(float *logits, size_t classes);

/* "classifier", "sentiment". */
const char *head_name(enum head_kind kind);

#endif
