/* The heads: named pieces of data that turn what a pass leaves into logits, and logits into scores.
 * A set of them is one immutable, reference-counted object, validated whole before it is published.
 *
 * A head: input (the pooled vector, the first token's hidden state, or every token's) → optional
 * dense layer with an activation → linear → kind. nn.Linear: W·x + b (PyTorch). A file holds up to
 * HEADS_MAX of them as <name>.weight, <name>.bias, <name>.dense.weight, <name>.dense.bias, the rest
 * in its metadata (INTERFACE.md, section 8). */
#ifndef ORTHRUS_MODEL_HEADS_H
#define ORTHRUS_MODEL_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "model/files/config.h"
#include "model/files/safetensors.h"

enum {
    HEADS_MAX = 64,
    HEADS_NAME_MAX = 64,
    HEADS_CLASSES_MAX = 1024,
    HEADS_INNER_MAX = 8192,
    HEADS_LABEL_MAX = 256,
    HEADS_FILE_MAX = 256 * 1024 * 1024,
};

/* What becomes of a head's logits; <name>.kind in the metadata. */
enum head_type {
    HEAD_SOFTMAX, /* one label out of K; the default */
    HEAD_SIGMOID, /* each label by itself */
    HEAD_SCORE,   /* K = 1: one number */
    HEAD_TOKENS,  /* a softmax for every token */
    HEAD_TYPES,
};

/* What a head reads; <name>.input. */
enum head_input {
    HEAD_INPUT_POOLED, /* [P] the pooled vector in force, before Dense and Normalize */
    HEAD_INPUT_CLS,    /* [H] hidden state of the first token */
    HEAD_INPUT_TOKENS, /* [H] of each token; for HEAD_TOKENS alone */
    HEAD_INPUTS,
};

/* Behind a head's dense layer; <name>.activation. */
enum head_activation { HEAD_TANH, HEAD_RELU, HEAD_GELU, HEAD_ACTIVATIONS };

struct head {
    const char *name; /* [a-z][a-z0-9_-]{0,63} */
    enum head_type type;
    enum head_input input;
    enum head_activation activation;
    size_t width;              /* W of its input: P or H */
    size_t inner;              /* M of the dense layer; 0: there is none */
    size_t classes;            /* K ≥ 1; ≥ 2 for softmax and tokens */
    const float *dense_weight; /* [M,W] or NULL */
    const float *dense_bias;   /* [M] or NULL */
    const float *weight;       /* [K,M], or [K,W] without a dense layer */
    const float *bias;         /* [K] */
    char **labels;             /* [K], UTF-8, distinct, not empty */
    bool identity;             /* HEAD_SCORE: the score is the logit, not its sigmoid */
    float temperature;         /* logits are divided by it before they become scores; 1 */
    const float *thresholds;   /* [K] for abstaining, or NULL */
};

/* Snapshot lifetime: freed with the last reference. Immutable but for the count. */
struct heads {
    size_t n;                         /* 1 … HEADS_MAX */
    const struct head *list;          /* [n] by name in the order of bytes */
    char sha256[SHA256_HEX_SIZE + 1]; /* of the set's whole file */
    char *file;                       /* that file's bytes, owned, as it can be downloaded */
    size_t file_size;
    struct heads_private *private_; /* reference count and storage */
};

/* What a heads file must fit. */
struct heads_fit {
    size_t hidden;                /* H; 0: whatever width */
    size_t pooled;                /* P; 0: as hidden */
    const char *encoder_sha256;   /* full hex digest; NULL: whatever encoder and pooling */
    const char *tokenizer_sha256; /* full hex digest; NULL: whatever tokenizer */
    enum pooling pooling;
};

/* Makes a set from the bytes of a heads file (copied) with one reference. Checks everything:
 * safetensors rules, names, shapes, as many labels as classes, finite values, every piece of
 * metadata that describes a head, and encoder.sha256, encoder.tokenizer and pooling where present
 * (ERR_CONFLICT when they name another). Other tensors are refused when strict; when not (a whole
 * multi-task checkpoint of this project), classifier and sentiment alone are looked for. base,
 * where not NULL, gives the heads that the file lacks; the merged set's file and sha256 are then of
 * a file written anew. A file with no head at all is ERR_NOT_FOUND. Errors name label, tensor or
 * key, expected and found. */
CHECK_RESULT enum err_code heads_create(const void *data, size_t size, const char *label,
                                        const struct heads_fit *fit, bool strict,
                                        const struct heads *base, struct heads **ret_heads,
                                        struct err *err);
/* heads_create over a file's bytes. */
CHECK_RESULT enum err_code heads_load(const char *path, const struct heads_fit *fit, bool strict,
                                      struct heads **ret_heads, struct err *err);
/* The set without the head of that name: a set of its own with one reference, its file written
 * anew. Errors: ERR_NOT_FOUND when it has no such head, ERR_CONFLICT when it has no other,
 * ERR_NOMEM. */
CHECK_RESULT enum err_code heads_without(const struct heads *heads, const char *name,
                                         const struct heads_fit *fit, struct heads **ret_heads,
                                         struct err *err);

/* Thread-safe. heads_acquire returns its argument; heads_release frees with the last one; NULL is
 * fine for both. */
struct heads *heads_acquire(struct heads *heads);
void heads_release(struct heads *heads);

/* The head of that name, or NULL; heads may be NULL. Borrowed from the set. */
const struct head *heads_find(const struct heads *heads, const char *name);

/* True for a name that a head may bear: its form, and not one of the reserved words. */
bool head_name_ok(const char *name);
/* True where every tensor of the file is called like a head's. */
bool heads_only(const struct safetensors *file);

/* "softmax", "sigmoid", "score", "tokens"; "pooled", "cls", "tokens"; "tanh", "relu", "gelu". */
const char *head_type_name(enum head_type type);
const char *head_input_name(enum head_input input);
const char *head_activation_name(enum head_activation activation);

/* logits [n,K] from rows [n,W] of the head's input. Each row depends on its own input alone, to the
 * last bit. */
void head_logits(const struct head *head, const float *rows, size_t n, float *logits);

/* One row of logits [K] → scores [K] by temperature and kind, in fp32; may be the same array. */
void head_scores(const struct head *head, const float *logits, float *scores);

/* In place over one row: numerically stable softmax in fp32. */
void head_softmax(float *logits, size_t classes);

/* Index of the greatest value; the first of equal ones; a NaN gives way to any number. */
size_t head_best(const float *scores, size_t classes);

/* How much each token has to do with the logit of label k, for a head on the mean over hidden
 * states [n,H] (pooled [H] is that mean, logit the head's): shares [n] with
 * *ret_bias + Σ shares = logit. Exact for a linear head, w·h_t / n; with a dense layer the gradient
 * at the mean times h_t / n (Simonyan et al. 2014). scratch: [H]. */
void head_explain(const struct head *head, const float *hidden, size_t n, const float *pooled,
                  size_t k, float logit, float *scratch, float *shares, float *ret_bias);

#endif
