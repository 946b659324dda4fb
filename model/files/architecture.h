/* What an architecture is: one row of names, position rule, token types and head recipe over the
 * one forward pass that they share. A model that a row can describe is served; the next one is a
 * row and what is truly new in it.
 * Reference: Hugging Face transformers' modeling_bert, modeling_distilbert, modeling_roberta and
 * modeling_xlm_roberta. */
#ifndef ORTHRUS_MODEL_ARCHITECTURE_H
#define ORTHRUS_MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Between two matrices, and behind a dense layer. */
enum activation {
    ACTIVATION_GELU,      /* x·Φ(x), the erf form */
    ACTIVATION_GELU_TANH, /* ½x(1 + tanh(√(2/π)(x + 0.044715x³))): gelu_new, gelu_pytorch_tanh */
    ACTIVATION_RELU,
    ACTIVATION_SILU, /* x·σ(x) */
    ACTIVATION_TANH, /* dense layers and heads alone */
    ACTIVATION_IDENTITY,
};
/* "gelu", "gelu_tanh", "relu", "silu", "tanh", "identity". */
const char *activation_name(enum activation activation);
/* hidden_act as transformers spells it: gelu, gelu_python; gelu_new, gelu_pytorch_tanh,
 * gelu_python_tanh, gelu_fast, gelu_accurate; relu; silu, swish. False for another word. */
bool activation_parse(const char *word, enum activation *ret_activation);

/* Places of an encoder's parameters. */
enum embedding_param {
    EMBEDDING_WORD,     /* [V,H] */
    EMBEDDING_POSITION, /* [rows,H] */
    EMBEDDING_TYPE,     /* [types,H] */
    EMBEDDING_NORM,     /* [H] weight and bias */
    EMBEDDING_COUNT,
};
enum layer_param {
    LAYER_QUERY,         /* [H,H] [H] */
    LAYER_KEY,           /* [H,H] [H] */
    LAYER_VALUE,         /* [H,H] [H] */
    LAYER_ATTENTION_OUT, /* [H,H] [H] */
    LAYER_ATTENTION_NORM,
    LAYER_FFN_IN,  /* [I,H] [I] */
    LAYER_FFN_OUT, /* [H,I] [H] */
    LAYER_FFN_NORM,
    LAYER_COUNT,
};

/* How an architecture's own heads read its hidden states. Tensor names without .weight, .bias. */
struct head_recipe {
    const char *dense;       /* on the first token; with the encoder's prefix or without */
    enum activation between; /* behind dense */
    const char *last;        /* the classifier itself */
    const char *tokens;      /* the token classifier, on every token */
};

struct architecture {
    const char *model_type;   /* config.json's */
    const char *class_prefix; /* of the names in `architectures`: "Bert" */
    const char *prefix;       /* of the encoder's tensors in a fine-tuned checkpoint: "bert." */
    /* config.json's names */
    const char *hidden_size, *heads, *intermediate_size, *layers, *activation;
    const char *hidden_dropout, *attention_dropout;
    bool has_types;       /* token_type_embeddings, type_vocab_size */
    bool has_norm_eps;    /* layer_norm_eps; else 1e-12 */
    bool positions_pad;   /* a text's first token is at pad_token_id + 1, a pad token at
                             pad_token_id (RoBERTa) */
    size_t default_pad;   /* pad_token_id where config.json is silent */
    size_t default_types; /* type_vocab_size likewise */
    const char *embedding[EMBEDDING_COUNT]; /* under the prefix; a norm without .weight, .bias */
    const char *layer_path;                 /* "encoder.layer.%zu." */
    const char *layer[LAYER_COUNT];         /* under layer_path, without .weight, .bias */
    struct head_recipe head;
};

/* NULL where no row has that model_type. */
const struct architecture *architecture_find(const char *model_type);
/* The row whose class_prefix the class name begins with, the longest; NULL for none. *ret_task is
 * what follows ("Model", "ForSequenceClassification"). */
const struct architecture *architecture_of_class(const char *class_name, const char **ret_task);
/* "bert, distilbert, roberta, xlm-roberta", for errors. */
const char *architecture_list(void);

#endif
