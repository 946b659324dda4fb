#include "model/files/architecture.h"

#include <string.h>

/* BERT's names, which RoBERTa keeps for its encoder. */
#define BERT_FIELDS                                                          \
    .hidden_size = "hidden_size", .heads = "num_attention_heads",            \
    .intermediate_size = "intermediate_size", .layers = "num_hidden_layers", \
    .activation = "hidden_act", .hidden_dropout = "hidden_dropout_prob",     \
    .attention_dropout = "attention_probs_dropout_prob", .has_types = true, .has_norm_eps = true
#define EMBEDDING_NAMES(types)                                                    \
    .embedding = {[EMBEDDING_WORD] = "embeddings.word_embeddings.weight",         \
                  [EMBEDDING_POSITION] = "embeddings.position_embeddings.weight", \
                  [EMBEDDING_TYPE] = types,                                       \
                  [EMBEDDING_NORM] = "embeddings.LayerNorm"}
#define BERT_NAMES                                                 \
    EMBEDDING_NAMES("embeddings.token_type_embeddings.weight"),    \
        .layer_path = "encoder.layer.%zu.",                        \
        .layer = {                                                 \
            [LAYER_QUERY] = "attention.self.query",                \
            [LAYER_KEY] = "attention.self.key",                    \
            [LAYER_VALUE] = "attention.self.value",                \
            [LAYER_ATTENTION_OUT] = "attention.output.dense",      \
            [LAYER_ATTENTION_NORM] = "attention.output.LayerNorm", \
            [LAYER_FFN_IN] = "intermediate.dense",                 \
            [LAYER_FFN_OUT] = "output.dense",                      \
            [LAYER_FFN_NORM] = "output.LayerNorm",                 \
    }
#define ROBERTA_ROW                                                                         \
    .prefix = "roberta.", BERT_FIELDS, BERT_NAMES, .positions_pad = true, .default_pad = 1, \
    .default_types = 2,                                                                     \
    .head = {.dense = "classifier.dense",                                                   \
             .between = ACTIVATION_TANH,                                                    \
             .last = "classifier.out_proj",                                                 \
             .tokens = "classifier"}

static const struct architecture rows[] = {
    {
        .model_type = "bert",
        .class_prefix = "Bert",
        .prefix = "bert.",
        BERT_FIELDS,
        BERT_NAMES,
        .default_types = 2,
        .head = {.dense = "pooler.dense",
                 .between = ACTIVATION_TANH,
                 .last = "classifier",
                 .tokens = "classifier"},
    },
    {
        .model_type = "distilbert",
        .class_prefix = "DistilBert",
        .prefix = "distilbert.",
        .hidden_size = "dim",
        .heads = "n_heads",
        .intermediate_size = "hidden_dim",
        .layers = "n_layers",
        .activation = "activation",
        .hidden_dropout = "dropout",
        .attention_dropout = "attention_dropout",
        EMBEDDING_NAMES(NULL),
        .layer_path = "transformer.layer.%zu.",
        .layer =
            {
                [LAYER_QUERY] = "attention.q_lin",
                [LAYER_KEY] = "attention.k_lin",
                [LAYER_VALUE] = "attention.v_lin",
                [LAYER_ATTENTION_OUT] = "attention.out_lin",
                [LAYER_ATTENTION_NORM] = "sa_layer_norm",
                [LAYER_FFN_IN] = "ffn.lin1",
                [LAYER_FFN_OUT] = "ffn.lin2",
                [LAYER_FFN_NORM] = "output_layer_norm",
            },
        .default_types = 1,
        .head = {.dense = "pre_classifier",
                 .between = ACTIVATION_RELU,
                 .last = "classifier",
                 .tokens = "classifier"},
    },
    {.model_type = "roberta", .class_prefix = "Roberta", ROBERTA_ROW},
    {.model_type = "xlm-roberta", .class_prefix = "XLMRoberta", ROBERTA_ROW},
};

enum { ROWS = sizeof rows / sizeof *rows };

const struct architecture *architecture_find(const char *model_type)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].model_type, model_type) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct architecture *architecture_of_class(const char *class_name, const char **ret_task)
{
    for (size_t i = 0; i < ROWS; i++) {
        size_t size = strlen(rows[i].class_prefix);
        if (strncmp(rows[i].class_prefix, class_name, size) == 0) {
            *ret_task = class_name + size;
            return &rows[i];
        }
    }
    return NULL;
}

const char *architecture_list(void)
{
    return "bert, distilbert, roberta, xlm-roberta";
}

static const struct {
    const char *word;
    enum activation activation;
} spellings[] = {
    {"gelu", ACTIVATION_GELU},
    {"gelu_python", ACTIVATION_GELU},
    {"gelu_new", ACTIVATION_GELU_TANH},
    {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
    {"gelu_python_tanh", ACTIVATION_GELU_TANH},
    {"gelu_fast", ACTIVATION_GELU_TANH},
    {"gelu_accurate", ACTIVATION_GELU_TANH},
    {"relu", ACTIVATION_RELU},
    {"silu", ACTIVATION_SILU},
    {"swish", ACTIVATION_SILU},
};

bool activation_parse(const char *word, enum activation *ret_activation)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        if (strcmp(spellings[i].word, word) == 0) {
            *ret_activation = spellings[i].activation;
            return true;
        }
    }
    return false;
}

const char *activation_name(enum activation activation)
{
    static const char *const names[] = {
        [ACTIVATION_GELU] = "gelu", [ACTIVATION_GELU_TANH] = "gelu_tanh",
        [ACTIVATION_RELU] = "relu", [ACTIVATION_SILU] = "silu",
        [ACTIVATION_TANH] = "tanh", [ACTIVATION_IDENTITY] = "identity",
    };
    return names[activation];
}
