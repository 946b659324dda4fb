/* What a model folder's JSON files say: config.json, tokenizer_config.json, modules.json with
 * 1_Pooling/config.json and sentence_bert_config.json. */
#ifndef ORTHRUS_MODEL_CONFIG_H
#define ORTHRUS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/text/tokenizer.h"

enum pooling { POOLING_MEAN, POOLING_CLS };

/* Bounds on what a config.json may ask for: a hostile one must not make us allocate the machine. */
enum {
    CONFIG_HIDDEN_MAX = 8192,
    CONFIG_LAYERS_MAX = 128,
    CONFIG_INTERMEDIATE_MAX = 65536,
    CONFIG_VOCAB_MAX = 1 << 22,
    CONFIG_POSITIONS_MAX = 1 << 16,
};

struct config {
    size_t hidden;       /* H */
    size_t heads;        /* A, attention heads; H % A == 0 */
    size_t intermediate; /* I */
    size_t layers;       /* L */
    size_t vocab;        /* V */
    size_t positions;    /* max_position_embeddings */
    size_t types;        /* type_vocab_size, ≥ 1; every token is of type 0 */
    float layer_norm_eps;
    float hidden_dropout;    /* for training */
    float attention_dropout; /* for training */
    struct tokenizer_options tokenizer;
    enum pooling pooling;  /* the folder's, else mean */
    bool folder_normalize; /* the folder ends in a Normalize module */
    size_t max_length;     /* default tokens per text: max_seq_length, else 128; ≤ positions */
};

/* Reads and validates the files of a folder. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID,
 * ERR_UNSUPPORTED (not a BERT, another activation, relative positions), each naming the file and
 * the field, what was found and what is allowed. */
CHECK_RESULT enum err_code config_load(const char *dir, struct config *ret_config, struct err *err);

const char *pooling_name(enum pooling pooling);
CHECK_RESULT enum err_code pooling_parse(const char *word, enum pooling *ret_pooling,
                                         struct err *err);

#endif
