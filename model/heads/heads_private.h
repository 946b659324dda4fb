/* Inside the heads: what heads.c joins, heads_source.c finds in a file, head_read.c makes of it and
 * heads_write.c writes. */
#ifndef ORTHRUS_MODEL_HEADS_PRIVATE_H
#define ORTHRUS_MODEL_HEADS_PRIVATE_H

#include <stdatomic.h>

#include "base/arena.h"
#include "model/heads/heads.h"

enum head_part { PART_WEIGHT, PART_BIAS, PART_DENSE_WEIGHT, PART_DENSE_BIAS, PART_COUNT };

#define HEADS_ENCODER_KEY   "encoder.sha256"
#define HEADS_TOKENIZER_KEY "encoder.tokenizer"
#define HEADS_POOLING_KEY   "pooling"

struct heads_private {
    atomic_size_t references;
    struct arena arena; /* list, names, weights and labels */
    bool names_encoder; /* the file's metadata says encoder.sha256 */
    bool names_tokenizer;
    bool names_pooling;
};

/* The tensors of one head in a file; NULL where it has no such part. */
struct head_parts {
    char name[HEADS_NAME_MAX + 1];
    const struct tensor *part[PART_COUNT];
};

/* A file while a set is made of it. Lifetime: the caller's stack. */
struct heads_source {
    const char *label;
    struct safetensors *file; /* owned */
    const struct heads_fit *fit;
    size_t n;
    struct head_parts heads[HEADS_MAX]; /* [n] by name */
    bool only_heads;                    /* the file holds nothing else */
    struct err *err;
};

/* Metadata that describes a head: "<name>.<word>". */
enum head_key {
    HEAD_KEY_LABELS,
    HEAD_KEY_KIND,
    HEAD_KEY_INPUT,
    HEAD_KEY_ACTIVATION,
    HEAD_KEY_FUNCTION,
    HEAD_KEY_TEMPERATURE,
    HEAD_KEY_THRESHOLDS,
    HEAD_KEYS,
};
enum { HEAD_KEY_SIZE = HEADS_NAME_MAX + 16 };
/* "classifier.labels" into out. */
const char *head_key(const char *name, enum head_key key, char out[HEAD_KEY_SIZE]);
/* True where metadata of that key describes the head. */
bool head_key_of(const char *key, const char *name);

/* heads_source.c: which heads the file has, and whether it is meant for this encoder; checks names
 * and that no part is missing. */
CHECK_RESULT enum err_code heads_source_find(struct heads_source *source, bool strict);
CHECK_RESULT enum err_code heads_source_meant_for(const struct heads_source *source,
                                                  struct heads_private *private_);
/* The metadata's text, or NULL. */
const char *heads_source_text(const struct heads_source *source, const char *key);

/* head_read.c: one head, checked, in arena. */
CHECK_RESULT enum err_code head_read(const struct heads_source *source,
                                     const struct head_parts *parts, struct arena *arena,
                                     struct head *ret_head);
/* A copy of another set's head: sets live independently. */
CHECK_RESULT enum err_code head_copy(const struct head *from, struct arena *arena,
                                     struct head *ret_head, struct err *err);

/* heads_write.c: the set as a file of its own, with what else `metadata` (may be NULL) says but
 * for the head `dropped` (may be NULL). A set of linear softmax heads is written byte for byte as
 * version 0.1 did. */
CHECK_RESULT enum err_code heads_write(const struct heads *heads, const struct heads_fit *fit,
                                       const struct jval *metadata, const char *dropped,
                                       struct buf *out, struct err *err);

#endif
