#include "model/files/config.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "model/files/config_private.h"
#include "model/files/fields.h"

enum {
    LISTS_BYTES_MAX = 64 * 1024 * 1024,
    WARNING_SIZE = 512,
    TYPES_MAX = 256,
    LABEL_MAX = 256,
    LABEL_INDEX_DIGITS = 6,
    LABELS_DEFAULT = 2, /* transformers' */
};

/* What follows the architecture's name in a class name. */
static const struct {
    const char *task;
    enum folder folder;
} tasks[] = {
    {"Model", FOLDER_BARE},
    {"ForSequenceClassification", FOLDER_SEQUENCE},
    {"ForTokenClassification", FOLDER_TOKENS},
    {"ForMaskedLM", FOLDER_MLM},
    {"ForPreTraining", FOLDER_MLM},
    {"LMHeadModel", FOLDER_MLM},
    {"ForCausalLM", FOLDER_MLM},
    {"ForNextSentencePrediction", FOLDER_NSP},
    {"ForQuestionAnswering", FOLDER_QA},
    {"ForMultipleChoice", FOLDER_CHOICE},
};

static bool find_class(const char *name, const struct architecture **ret_row,
                       enum folder *ret_folder)
{
    const char *task = NULL;
    *ret_row = architecture_of_class(name, &task);
    for (size_t i = 0; *ret_row && i < sizeof tasks / sizeof *tasks; i++) {
        if (strcmp(tasks[i].task, task) == 0) {
            *ret_folder = tasks[i].folder;
            return true;
        }
    }
    return false;
}

/* The class names of `architectures`: their row, and what the folder is by the first of them.
 * Absent and empty lists name none. */
static enum err_code read_class(const struct fields *fields, const struct architecture **ret_row,
                                enum folder *ret_folder)
{
    const struct jval *list = fields_get(fields, "architectures");
    *ret_row = NULL;
    *ret_folder = FOLDER_BARE;
    if (!list || (jval_is_array(list) && jval_array_size(list) == 0)) {
        return ERR_OK;
    }
    static const char allowed[] =
        "a list of class names of one family, Bert, DistilBert, Roberta or XLMRoberta before "
        "Model, ForMaskedLM, ForPreTraining, ForSequenceClassification, "
        "ForTokenClassification, ForNextSentencePrediction, ForQuestionAnswering or "
        "ForMultipleChoice";
    for (size_t i = jval_array_size(list); i-- > 0;) {
        const struct architecture *row = NULL;
        const char *name;
        size_t size;
        if (!jval_string(jval_at(list, i), &name, &size) || strlen(name) != size ||
            !find_class(name, &row, ret_folder) || (*ret_row && row != *ret_row)) {
            return fields_wrong(fields, "architectures", ERR_UNSUPPORTED, allowed);
        }
        *ret_row = row;
    }
    return jval_is_array(list) ? ERR_OK
                               : fields_wrong(fields, "architectures", ERR_UNSUPPORTED, allowed);
}

/* model_type decides; old files have none, there the class names do. Where both are, they must
 * agree: a class of another family is another computation. */
static enum err_code read_architecture(const struct fields *fields, struct config *config)
{
    /* model_type first: of a model of another family it says in a word which one it is. */
    char allowed[128];
    (void)snprintf(allowed, sizeof allowed, "one of %s", architecture_list());
    const struct jval *value = fields_get(fields, "model_type");
    if (value) {
        const char *word;
        size_t size;
        config->architecture = jval_string(value, &word, &size) && strlen(word) == size
                                   ? architecture_find(word)
                                   : NULL;
        if (!config->architecture) {
            return fields_wrong(fields, "model_type", ERR_UNSUPPORTED, allowed);
        }
    }
    const struct architecture *by_class = NULL;
    enum err_code code = read_class(fields, &by_class, &config->folder);
    if (code != ERR_OK) {
        return code;
    }
    config->architecture = value ? config->architecture : by_class;
    if (!config->architecture) {
        return fields_wrong(fields, "model_type", ERR_UNSUPPORTED, allowed);
    }
    if (by_class && by_class != config->architecture) {
        return err_set(fields->err, ERR_UNSUPPORTED,
                       "%s: architectures: names a %s class, but model_type is %s", fields->path,
                       by_class->model_type, config->architecture->model_type);
    }
    return ERR_OK;
}

static enum err_code read_activation(const struct fields *fields, struct config *config)
{
    const char *field = config->architecture->activation;
    const struct jval *value = fields_get(fields, field);
    const char *word;
    size_t size;
    config->activation = ACTIVATION_GELU;
    if (!value ||
        (jval_string(value, &word, &size) && activation_parse(word, &config->activation))) {
        return ERR_OK;
    }
    return fields_wrong(fields, field, ERR_UNSUPPORTED,
                        "\"gelu\", \"gelu_python\", \"gelu_new\", \"gelu_pytorch_tanh\", "
                        "\"gelu_python_tanh\", \"gelu_fast\", \"gelu_accurate\", \"relu\", "
                        "\"silu\" or \"swish\"");
}

static enum err_code read_dimensions(const struct fields *fields, struct config *config)
{
    const struct architecture *row = config->architecture;
    const struct {
        const char *field;
        size_t min, max, fallback;
        size_t *ret;
    } sizes[] = {
        {row->hidden_size, 1, CONFIG_HIDDEN_MAX, 0, &config->hidden},
        {row->heads, 1, CONFIG_HIDDEN_MAX, 0, &config->heads},
        {row->intermediate_size, 1, CONFIG_INTERMEDIATE_MAX, 0, &config->intermediate},
        {row->layers, 1, CONFIG_LAYERS_MAX, 0, &config->layers},
        {"vocab_size", 1, CONFIG_VOCAB_MAX, 0, &config->vocab},
        {"max_position_embeddings", LENGTH_MIN, CONFIG_POSITIONS_MAX, 0, &config->position_rows},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum err_code code = fields_size(fields, sizes[i].field, sizes[i].min, sizes[i].max,
                                         sizes[i].fallback, sizes[i].ret);
        if (code != ERR_OK) {
            return code;
        }
    }
    config->types = 1;
    if (row->has_types) {
        enum err_code code = fields_size(fields, "type_vocab_size", 1, TYPES_MAX,
                                         row->default_types, &config->types);
        if (code != ERR_OK) {
            return code;
        }
    }
    if (config->hidden % config->heads != 0) {
        return err_set(fields->err, ERR_INVALID, "%s: %s %zu is not a multiple of %s %zu",
                       fields->path, row->hidden_size, config->hidden, row->heads, config->heads);
    }
    size_t embedding_size = config->hidden;
    enum err_code code = fields_size(fields, "embedding_size", 1, CONFIG_HIDDEN_MAX, config->hidden,
                                     &embedding_size);
    if (code == ERR_OK && embedding_size != config->hidden) {
        code = fields_wrong(fields, "embedding_size", ERR_UNSUPPORTED, "the hidden size");
    }
    return code;
}

/* Where a text's first token stands, and so how long a text may be. */
static enum err_code read_positions(const struct fields *fields, struct config *config)
{
    static const char *const absolute[] = {"absolute"};
    const struct jval *type = fields_get(fields, "position_embedding_type");
    if (type && !fields_is_word(type, absolute[0])) {
        return fields_wrong(fields, "position_embedding_type", ERR_UNSUPPORTED, "\"absolute\"");
    }
    config->position_first = 0;
    if (config->architecture->positions_pad) {
        size_t pad = config->architecture->default_pad;
        if (jval_get(fields->root, "pad_token_id")) {
            enum err_code code = fields_size(fields, "pad_token_id", 0,
                                             config->position_rows - LENGTH_MIN - 1, 0, &pad);
            if (code != ERR_OK) {
                return code;
            }
        }
        config->position_first = pad + 1;
    }
    if (config->position_rows < config->position_first + LENGTH_MIN) {
        return fields_wrong(fields, "max_position_embeddings", ERR_INVALID,
                            "at least pad_token_id + 3");
    }
    config->positions = config->position_rows - config->position_first;
    return ERR_OK;
}

static enum err_code wrong_labels(const struct fields *fields)
{
    return err_set(fields->err, ERR_INVALID,
                   "%s: id2label: must map \"0\" to \"K-1\", each once, to strings of 1 to %d "
                   "bytes, K at most %d",
                   fields->path, LABEL_MAX, CONFIG_LABELS_MAX);
}

/* A key of id2label: decimal digits without a leading zero. */
static bool parse_index(const char *key, size_t limit, size_t *ret)
{
    size_t length = strlen(key);
    size_t index = 0;
    if (length == 0 || length > LABEL_INDEX_DIGITS || (length > 1 && key[0] == '0')) {
        return false;
    }
    for (const char *c = key; *c; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        index = index * 10 + (size_t)(*c - '0');
    }
    *ret = index;
    return index < limit;
}

static enum err_code read_id2label(const struct fields *fields, const struct jval *map,
                                   struct config *config)
{
    size_t n = jval_object_size(map);
    struct arena *arena = &config->lists->arena;
    if (!jval_is_object(map) || n == 0 || n > CONFIG_LABELS_MAX) {
        return wrong_labels(fields);
    }
    const char **labels = arena_calloc(arena, n, sizeof *labels);
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while (labels && (iter = jval_object_next(map, iter, &key, &value))) {
        size_t index;
        const char *text;
        size_t size;
        if (!parse_index(key, n, &index) || !jval_string(value, &text, &size) || size == 0 ||
            size > LABEL_MAX || strlen(text) != size) {
            return wrong_labels(fields);
        }
        labels[index] = arena_memdup(arena, text, size);
        if (!labels[index]) {
            return err_nomem(fields->err, size);
        }
    }
    if (!labels) {
        return err_nomem(fields->err, n * sizeof *labels);
    }
    config->lists->labels = labels; /* n distinct keys below n: every one is filled */
    config->n_labels = n;
    return ERR_OK;
}

/* transformers' own names where a file has none. */
static enum err_code number_labels(const struct fields *fields, struct config *config)
{
    size_t n = 0;
    enum err_code code = fields_size(fields, "num_labels", 1, CONFIG_LABELS_MAX, LABELS_DEFAULT,
                                     &n);
    if (code == ERR_OK && !fields_get(fields, "num_labels")) {
        code = fields_size(fields, "_num_labels", 1, CONFIG_LABELS_MAX, LABELS_DEFAULT, &n);
    }
    if (code != ERR_OK) {
        return code;
    }
    struct arena *arena = &config->lists->arena;
    const char **labels = arena_calloc(arena, n, sizeof *labels);
    for (size_t i = 0; labels && i < n; i++) {
        char text[32];
        int size = snprintf(text, sizeof text, "LABEL_%zu", i);
        labels[i] = arena_memdup(arena, text, (size_t)size);
        if (!labels[i]) {
            labels = NULL;
        }
    }
    if (!labels) {
        return err_nomem(fields->err, n * sizeof *labels);
    }
    config->lists->labels = labels;
    config->n_labels = n;
    return ERR_OK;
}

/* id2label, where absent num_labels; a number that contradicts the names is a warning, as
 * transformers goes by the names. */
static enum err_code read_labels(const struct fields *fields, struct config *config)
{
    const struct jval *map = fields_get(fields, "id2label");
    enum err_code code = map ? read_id2label(fields, map, config) : number_labels(fields, config);
    size_t said = config->n_labels;
    if (code == ERR_OK && map) {
        code = fields_size(fields, "num_labels", 1, CONFIG_LABELS_MAX, config->n_labels, &said);
    }
    if (code == ERR_OK && said != config->n_labels) {
        config_warn(config, "%s: num_labels is %zu, but id2label has %zu labels: the labels count",
                    fields->path, said, config->n_labels);
    }
    return code;
}

static enum err_code read_problem(const struct fields *fields, struct config *config)
{
    static const char *const words[] = {
        [LABELS_SINGLE] = "single_label_classification",
        [LABELS_MULTI] = "multi_label_classification",
        [LABELS_REGRESSION] = "regression",
    };
    const struct jval *value = fields_get(fields, "problem_type");
    config->problem = LABELS_UNSAID;
    for (enum label_problem p = LABELS_SINGLE; p <= LABELS_REGRESSION; p++) {
        if (fields_is_word(value, words[p])) {
            config->problem = p;
        }
    }
    if (value && config->problem == LABELS_UNSAID) {
        return fields_wrong(fields, "problem_type", ERR_UNSUPPORTED,
                            "single_label_classification, multi_label_classification or "
                            "regression");
    }
    return ERR_OK;
}

static enum err_code read_floats(const struct fields *fields, struct config *config)
{
    const struct architecture *row = config->architecture;
    config->layer_norm_eps = 1e-12f;
    enum err_code code = ERR_OK;
    if (row->has_norm_eps) {
        code = fields_float(fields, "layer_norm_eps", 1e-15, 0.1, 1e-12, &config->layer_norm_eps);
    }
    if (code == ERR_OK) {
        code = fields_float(fields, row->hidden_dropout, 0, 0.99, 0.1, &config->hidden_dropout);
    }
    if (code == ERR_OK) {
        code = fields_float(fields, row->attention_dropout, 0, 0.99, 0.1,
                            &config->attention_dropout);
    }
    return code;
}

static enum err_code read_model(const struct fields *fields, struct config *config)
{
    static enum err_code (*const steps[])(const struct fields *, struct config *) = {
        read_architecture, config_apply_rules, read_activation, read_dimensions,
        read_positions,    read_floats,        read_labels,     read_problem,
    };
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < sizeof steps / sizeof *steps; i++) {
        code = steps[i](fields, config);
    }
    return code;
}

/* True for the classes of transformers whose inputs have token types; a file that names none means
 * BERT's. The generic ones (TokenizersBackend, PreTrainedTokenizerFast) and RoBERTa's have none. */
static bool class_has_types(const struct jval *value)
{
    static const char *const classes[] = {"Bert",        "Electra",   "MobileBert",
                                          "SqueezeBert", "RetriBert", "DPR",
                                          "LayoutLM",    "ConvBert",  "DebertaV2"};
    const char *name;
    size_t size;
    if (!jval_string(value, &name, &size)) {
        return true;
    }
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        const char *rest = name + strlen(classes[i]);
        if (strncmp(name, classes[i], strlen(classes[i])) == 0 &&
            (strcmp(rest, "Tokenizer") == 0 || strcmp(rest, "TokenizerFast") == 0 ||
             strcmp(classes[i], "DPR") == 0)) {
            return true;
        }
    }
    return false;
}

/* Where they are not among a model's inputs it is asked with all types 0, pairs too. */
static bool gives_token_types(const struct fields *fields)
{
    const struct jval *names = fields_get(fields, "model_input_names");
    bool listed = false;
    for (size_t i = 0; i < jval_array_size(names); i++) {
        listed = listed || fields_is_word(jval_at(names, i), "token_type_ids");
    }
    return names ? listed : class_has_types(fields_get(fields, "tokenizer_class"));
}

/* Defaults are BertTokenizer's. What tokenizer.json rules over is the tokenizer's own to compare.
 */
static enum err_code read_tokenizer(const struct fields *fields, struct config *config)
{
    struct tokenizer_options *options = &config->tokenizer;
    const struct jval *side = fields_get(fields, "truncation_side");
    if (side && !fields_is_word(side, "right")) {
        return fields_wrong(fields, "truncation_side", ERR_UNSUPPORTED,
                            "\"right\" (a request may ask for truncation_direction)");
    }
    config->token_types = gives_token_types(fields);
    enum err_code code = fields_bool(fields, "do_lower_case", true, &options->lower_case);
    if (code == ERR_OK) {
        code = fields_bool(fields, "strip_accents", options->lower_case, &options->strip_accents);
    }
    if (code == ERR_OK) {
        code = fields_bool(fields, "tokenize_chinese_chars", true,
                           &options->tokenize_chinese_chars);
    }
    if (code == ERR_OK) {
        code = fields_limit(fields, "model_max_length", LENGTH_MIN, &config->tokenizer_max_length);
    }
    return code;
}

enum err_code config_read_file(const char *dir, const char *name, bool optional,
                               enum err_code (*read)(const struct fields *fields,
                                                     struct config *config),
                               struct config *config, struct err *err)
{
    struct fields fields = {0};
    enum err_code code = fields_open(dir, name, optional, &fields, err);
    if (code == ERR_OK) {
        code = fields_check_object(&fields);
        code = code == ERR_OK ? read(&fields, config) : code;
        fields_close(&fields);
    }
    return code;
}

char *config_transformer_dir(const char *dir, const struct config *config)
{
    const char *under = config->lists->transformer;
    return under[0] ? file_join(dir, under) : strdup(dir);
}

/* transformers puts an adapter that lies in the folder on top of its weights. */
static enum err_code refuse_adapter(const char *inside, struct err *err)
{
    char *path = file_join(inside, "adapter_config.json");
    if (!path) {
        return err_nomem(err, strlen(inside));
    }
    enum err_code code = ERR_OK;
    if (file_exists(path)) {
        code = err_set(err, ERR_UNSUPPORTED,
                       "%s: an adapter is not served: merge it into the weights", path);
    }
    free(path);
    return code;
}

static enum err_code load_files(const char *dir, struct config *config, struct err *err)
{
    enum err_code code = modules_open(dir, config, err);
    if (code != ERR_OK) {
        return code;
    }
    char *inside = config_transformer_dir(dir, config);
    if (!inside) {
        return err_nomem(err, strlen(dir));
    }
    code = config_read_file(inside, "config.json", false, read_model, config, err);
    if (code == ERR_NOT_FOUND) {
        const struct err missing = *err;
        *err = ERR_INIT;
        err_set(err, code, "%s; tools/fetch-model fetches a model and prints its folder",
                missing.text);
    }
    if (code == ERR_OK) {
        code = refuse_adapter(inside, err);
    }
    if (code == ERR_OK) {
        code = config_read_file(inside, "tokenizer_config.json", true, read_tokenizer, config, err);
    }
    if (code == ERR_OK) {
        code = modules_load(dir, inside, config, err);
    }
    free(inside);
    return code;
}

enum err_code config_load(const char *dir, struct config *ret_config, struct err *err)
{
    struct config config = {.pooling = POOLING_MEAN, .include_prompt = true};
    config.lists = calloc(1, sizeof *config.lists);
    if (!config.lists) {
        return err_nomem(err, sizeof *config.lists);
    }
    arena_init(&config.lists->arena, LISTS_BYTES_MAX);
    config.lists->transformer = "";
    enum err_code code = load_files(dir, &config, err);
    if (code != ERR_OK) {
        config_done(&config);
        return code;
    }
    config_settle_length(&config);
    *ret_config = config;
    return ERR_OK;
}

void config_done(struct config *config)
{
    if (config && config->lists) {
        arena_done(&config->lists->arena);
        free(config->lists);
        config->lists = NULL;
    }
}

void config_settle_length(struct config *config)
{
    bool fine_tuned = config->folder == FOLDER_SEQUENCE || config->folder == FOLDER_TOKENS;
    size_t length = config->saved_max_length;
    if (length == 0 && (config->has_modules || fine_tuned)) {
        length = config->tokenizer_max_length ? config->tokenizer_max_length : SIZE_MAX;
    }
    config->max_length = size_min(length ? length : CONFIG_LENGTH_DEFAULT, config->positions);
}

void config_warn(struct config *config, const char *format, ...)
{
    struct config_lists *lists = config->lists;
    char text[WARNING_SIZE];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0 || lists->n_warnings == CONFIG_WARNINGS_MAX) {
        return;
    }
    char *copy = arena_memdup(&lists->arena, text, strlen(text));
    if (copy) {
        lists->warnings[lists->n_warnings++] = copy;
    }
}

const char *folder_name(enum folder folder)
{
    static const char *const names[] = {
        [FOLDER_BARE] = "bare",     [FOLDER_SEQUENCE] = "sequence", [FOLDER_TOKENS] = "tokens",
        [FOLDER_MLM] = "mlm",       [FOLDER_NSP] = "nsp",           [FOLDER_QA] = "qa",
        [FOLDER_CHOICE] = "choice", [FOLDER_PAIR] = "pair",
    };
    return names[folder];
}

size_t config_pooled_width(const struct config *config)
{
    return pooling_count(config->pooling) * config->hidden;
}

size_t config_vector_width(const struct config *config)
{
    size_t width = config_pooled_width(config);
    for (size_t i = 0; i < config->lists->n_modules; i++) {
        const struct module *module = &config->lists->modules[i];
        width = module->kind == MODULE_DENSE ? module->out : width;
    }
    return config->truncate_dim ? size_min(width, config->truncate_dim) : width;
}

const struct prompt *config_prompt(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->lists->n_prompts; i++) {
        if (strcmp(config->lists->prompts[i].name, name) == 0) {
            return &config->lists->prompts[i];
        }
    }
    return NULL;
}
