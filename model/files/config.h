/* What a model folder's JSON files say, every field of theirs honoured, without influence, or
 * refused: config.json, tokenizer_config.json, modules.json with its modules' folders,
 * sentence_bert_config.json, config_sentence_transformers.json. docs/MODELS.md is the table. */
#ifndef ORTHRUS_MODEL_CONFIG_H
#define ORTHRUS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/files/architecture.h"
#include "model/text/tokenizer.h"

/* Bounds on what a config.json may ask for: a hostile one must not make us allocate the machine. */
enum {
    CONFIG_HIDDEN_MAX = 8192,
    CONFIG_LAYERS_MAX = 128,
    CONFIG_INTERMEDIATE_MAX = 65536,
    CONFIG_VOCAB_MAX = 1 << 22,
    CONFIG_POSITIONS_MAX = 1 << 16,
    CONFIG_LABELS_MAX = 1024,
    CONFIG_PROMPTS_MAX = 256,
    CONFIG_PROMPT_MAX = 65536, /* bytes of one prompt */
    CONFIG_MODULES_MAX = 16,
    CONFIG_WARNINGS_MAX = 64,
    CONFIG_LENGTH_DEFAULT = 128, /* tokens of a text for a bare encoder: the source notebook's */
};

/* How hidden states become a vector, under sentence-transformers' names. Several modes, side by
 * side in a vector n·H wide, are one value too: a hexadecimal digit each, the first one lowest. */
enum pooling {
    POOLING_MEAN = 1,     /* over the text's own tokens */
    POOLING_CLS,          /* the first token */
    POOLING_MAX,          /* the largest of each column */
    POOLING_MEAN_SQRT,    /* the sum over √n: mean_sqrt_len_tokens */
    POOLING_WEIGHTEDMEAN, /* token t of n weighs t + 1 */
    POOLING_LASTTOKEN,
    POOLING_LIST_END = 0x1000000, /* no value: lists of six fit below */
};
enum { POOLING_LIST_MAX = 6, POOLING_TEXT_SIZE = 128 };
/* How many modes, and the i-th of them. */
size_t pooling_count(enum pooling pooling);
enum pooling pooling_mode(enum pooling pooling, size_t i);
/* The list with one mode more; 0 where it is full. */
enum pooling pooling_append(enum pooling pooling, enum pooling mode);
/* "mean", or "cls,max" for several; returns out. */
const char *pooling_name(enum pooling pooling, char out[POOLING_TEXT_SIZE]);
/* The same text back; the error (ERR_USAGE) says what is allowed. */
CHECK_RESULT enum err_code pooling_parse(const char *text, enum pooling *ret_pooling,
                                         struct err *err);

/* What the folder is, by architectures, model_type and the tensors together. */
enum folder {
    FOLDER_BARE,     /* an encoder, alone or with modules.json */
    FOLDER_SEQUENCE, /* …ForSequenceClassification, its head's tensors there */
    FOLDER_TOKENS,   /* …ForTokenClassification, likewise */
    FOLDER_MLM,      /* …ForMaskedLM, ForPreTraining, LMHeadModel: a bare encoder, head ignored */
    FOLDER_NSP,      /* …ForNextSentencePrediction, likewise */
    FOLDER_QA,       /* …ForQuestionAnswering, likewise */
    FOLDER_CHOICE,   /* …ForMultipleChoice, likewise */
    FOLDER_PAIR,     /* the project's own: transformer.* beside classifier.*, sentiment.* */
};
/* "bare", "sequence", "tokens", "mlm", "nsp", "qa", "choice", "pair". */
const char *folder_name(enum folder folder);

enum label_problem { LABELS_UNSAID, LABELS_SINGLE, LABELS_MULTI, LABELS_REGRESSION };

/* A module behind pooling, in modules.json's order. */
enum module_kind { MODULE_DENSE, MODULE_NORMALIZE };
struct module {
    enum module_kind kind;
    const char *path; /* the module's folder, under the model's; "" for none */
    /* Dense alone: y = activation(W·x + b) */
    size_t in, out;
    bool bias;
    enum activation activation; /* TANH or IDENTITY; RELU, GELU, SILU too */
};

struct prompt {
    const char *name;
    const char *text; /* UTF-8, NUL-terminated, without NULs inside */
};

/* The lists of a config, in one arena; the first owner frees it with config_done. */
struct config_lists {
    struct arena arena;
    const char *transformer; /* the encoder's folder, under the model's: "" or "0_Transformer" */
    const char **labels;     /* [config.n_labels] id2label by index */
    const char *pooling;     /* the Pooling module's folder; NULL for none */
    struct module modules[CONFIG_MODULES_MAX]; /* behind pooling */
    size_t n_modules;
    struct prompt *prompts; /* [n_prompts] in the file's order */
    size_t n_prompts;
    const struct prompt *default_prompt; /* NULL: none */
    char *warnings[CONFIG_WARNINGS_MAX]; /* one sentence each: unknown fields … */
    size_t n_warnings;
};

/* Copied by value; `lists` belongs to one of the copies. */
struct config {
    const struct architecture *architecture;
    enum folder folder;
    size_t hidden;         /* H */
    size_t heads;          /* A, attention heads; H % A == 0 */
    size_t intermediate;   /* I */
    size_t layers;         /* L */
    size_t vocab;          /* V */
    size_t positions;      /* the longest text: position_rows − position_first */
    size_t position_rows;  /* max_position_embeddings */
    size_t position_first; /* of a text's first token: 0, or RoBERTa's pad + 1 */
    size_t types;          /* type_vocab_size, ≥ 1 (DistilBERT: 1, without a table) */
    bool token_types; /* what the tokenizer says of types reaches the encoder; else all are 0 */
    enum activation activation;
    float layer_norm_eps;
    float hidden_dropout;    /* for training */
    float attention_dropout; /* for training */
    struct tokenizer_options tokenizer;
    enum pooling pooling;    /* the folder's, else mean */
    bool include_prompt;     /* a prompt's tokens take part in pooling; true unless the folder says
                                otherwise */
    bool has_modules;        /* modules.json is there */
    bool folder_normalize;   /* the folder ends in a Normalize module */
    size_t truncate_dim;     /* 0: none */
    size_t saved_max_length; /* max_seq_length; 0: not said; SIZE_MAX: none */
    size_t tokenizer_max_length; /* model_max_length; the same */
    size_t max_length;           /* tokens a text by INTERFACE.md section 8, ≤ positions */
    enum label_problem problem;  /* problem_type */
    size_t n_labels;             /* of id2label or num_labels; 2 as transformers where neither is */
    struct config_lists *lists;  /* owned by whom config_done is called for */
};

/* Reads and validates the JSON files of a folder. Errors: ERR_NOT_FOUND, ERR_IO, ERR_INVALID,
 * ERR_UNSUPPORTED (an architecture, activation or module that is not served), ERR_MISMATCH, each
 * naming the file and the field, what was found and what is allowed. The caller owns
 * ret_config->lists. `folder` is what the JSON says; checkpoint_open settles it by the tensors,
 * and max_length with it. */
CHECK_RESULT enum err_code config_load(const char *dir, struct config *ret_config, struct err *err);
/* Frees the lists. NULL and zeroed structs are fine. */
void config_done(struct config *config);

/* The encoder's folder, malloc'ed: dir itself, or the Transformer module's under it. NULL when
 * memory is out. */
char *config_transformer_dir(const char *dir, const struct config *config);

/* Settles max_length from folder, has_modules and the saved limits: with modules.json the saved
 * one (max_seq_length, else model_max_length), a fine-tuned head's folder model_max_length, else
 * CONFIG_LENGTH_DEFAULT; no limit means the positions; never more than those. */
void config_settle_length(struct config *config);

/* Adds a warning; printf-like, cut where it is long, dropped silently past CONFIG_WARNINGS_MAX. */
void config_warn(struct config *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Width of the pooled vector (n·H), and of what /embed gives after Dense and truncate_dim. */
size_t config_pooled_width(const struct config *config);
size_t config_vector_width(const struct config *config);

/* The prompt of that name, or NULL. */
const struct prompt *config_prompt(const struct config *config, const char *name);

#endif
