/* Training data: JSONL, one object a line: {"text", "classifier", "sentiment"}; a label is a name
 * or an index, and one that is missing or null takes no part in its head's loss. Other members are
 * ignored, and so are empty lines and the labels of a head whose set is empty. */
#ifndef ORTHRUS_TRAIN_DATASET_H
#define ORTHRUS_TRAIN_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "model/encoder/batch.h"
#include "model/text/tokenizer.h"
#include "train/kinds.h"
#include "train/labels.h"

#define DATASET_FILE_MAX ((size_t)16 << 30)
enum { DATASET_LINE_MAX = 4 * 1024 * 1024, DATASET_LINES_MAX = 50 * 1000 * 1000 };

/* Tokenized examples; lifetime of a run. */
struct dataset {
    size_t n;
    int32_t *ids;                /* all tokens, owned */
    size_t *starts;              /* [n+1], owned */
    int32_t *labels[HEAD_COUNT]; /* [n], LABEL_NONE where missing, owned */
    size_t labelled[HEAD_COUNT];
    size_t longest;                   /* tokens */
    size_t truncated;                 /* texts that were cut at the length limit */
    char sha256[SHA256_HEX_SIZE + 1]; /* of the file */
};

/* Reads, checks and tokenizes a file. Errors: ERR_INVALID "file:line: what was expected", for the
 * first bad line; ERR_NOT_FOUND, ERR_IO, ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code dataset_load(const char *path, const struct tokenizer *tokenizer,
                                        size_t max_length, const struct label_set sets[HEAD_COUNT],
                                        struct dataset *ret_dataset, struct err *err);
/* NULL and zeroed structs are fine. */
void dataset_done(struct dataset *dataset);

static inline size_t dataset_length(const struct dataset *dataset, size_t i)
{
    return dataset->starts[i + 1] - dataset->starts[i];
}

/* Tokens of the `texts` longest examples: what a batch can hold at most. */
CHECK_RESULT enum err_code dataset_batch_tokens(const struct dataset *dataset, size_t texts,
                                                size_t *ret_tokens, struct err *err);

#endif
