/* sentence-transformers' files: modules.json and what its modules' folders say. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/files/config_private.h"
#include "model/files/safetensors.h"

enum { PATH_MAX_BYTES = 255, NAME_MAX_BYTES = 255 };

/* Relative, and staying inside the folder by its text. */
static bool path_is_inside(const char *path, size_t size)
{
    if (size > PATH_MAX_BYTES || strlen(path) != size || path[0] == '/' || strchr(path, '\\')) {
        return false;
    }
    for (const char *part = path; part;) {
        const char *slash = strchr(part, '/');
        size_t length = slash ? (size_t)(slash - part) : strlen(part);
        if (length == 2 && memcmp(part, "..", 2) == 0) {
            return false;
        }
        part = slash ? slash + 1 : NULL;
    }
    return true;
}

/* True for a class of sentence-transformers of that name, whatever module path a release gives it:
 * a class of somebody else's is another computation. */
static bool type_is(const char *type, const char *name)
{
    static const char package[] = "sentence_transformers.";
    const char *dot = type ? strrchr(type, '.') : NULL;
    return dot && strncmp(type, package, sizeof package - 1) == 0 && strcmp(dot + 1, name) == 0;
}

/* The encoder's module; before 1.0 it had a class for each family. */
static bool is_transformer(const char *type)
{
    return type_is(type, "Transformer") || type_is(type, "BERT") || type_is(type, "RoBERTa") ||
           type_is(type, "DistilBERT") || type_is(type, "XLMRoBERTa");
}

struct entry {
    const char *type;
    const char *path; /* a copy in the arena */
};

static enum err_code read_entry(const struct fields *fields, size_t i, struct config *config,
                                struct entry *ret_entry)
{
    const struct jval *module = jval_at(fields->root, i);
    const char *type;
    const char *path;
    size_t type_size;
    size_t path_size;
    if (!jval_string(jval_get(module, "type"), &type, &type_size) ||
        !jval_string(jval_get(module, "path"), &path, &path_size)) {
        return err_set(fields->err, ERR_INVALID, "%s: module %zu: type and path must be strings",
                       fields->path, i);
    }
    if (!path_is_inside(path, path_size)) {
        return err_set(fields->err, ERR_INVALID,
                       "%s: module %zu: path must be relative, without \"..\" and at most %d bytes",
                       fields->path, i, PATH_MAX_BYTES);
    }
    const struct jval *kwargs = jval_get(module, "kwargs");
    if (jval_array_size(kwargs) || jval_object_size(kwargs)) {
        return err_set(fields->err, ERR_UNSUPPORTED,
                       "%s: module %zu: kwargs must be absent or empty", fields->path, i);
    }
    *ret_entry = (struct entry){.type = type,
                                .path = arena_memdup(&config->lists->arena, path, path_size)};
    return ret_entry->path ? ERR_OK : err_nomem(fields->err, path_size);
}

static enum err_code wrong_module(const struct fields *fields, size_t i, const struct entry *entry,
                                  const char *allowed)
{
    return err_set(fields->err, ERR_UNSUPPORTED,
                   "%s: module %zu: type %s is not supported there, allowed %s", fields->path, i,
                   tensor_shown_name(entry->type), allowed);
}

/* Behind Transformer and Pooling: Dense and Normalize in any order; Dropout does nothing outside
 * training. */
static enum err_code add_module(const struct fields *fields, size_t i, const struct entry *entry,
                                struct config *config)
{
    struct config_lists *lists = config->lists;
    struct module *module = &lists->modules[lists->n_modules];
    if (type_is(entry->type, "Dropout")) {
        return ERR_OK;
    }
    if (type_is(entry->type, "Dense") && entry->path[0]) {
        module->kind = MODULE_DENSE;
    } else if (type_is(entry->type, "Normalize")) {
        module->kind = MODULE_NORMALIZE;
    } else {
        return wrong_module(fields, i, entry,
                            "are sentence_transformers' Dense (in a folder of its own), Normalize "
                            "and Dropout");
    }
    module->path = entry->path;
    lists->n_modules++;
    config->folder_normalize = module->kind == MODULE_NORMALIZE;
    return ERR_OK;
}

static enum err_code read_modules(const struct fields *fields, struct config *config)
{
    size_t n = jval_array_size(fields->root);
    if (!jval_is_array(fields->root) || n < 1 || n > CONFIG_MODULES_MAX) {
        return err_set(fields->err, ERR_INVALID,
                       "%s: must be an array of 1 to %d modules, Transformer and Pooling first",
                       fields->path, CONFIG_MODULES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        struct entry entry = {0};
        enum err_code code = read_entry(fields, i, config, &entry);
        if (code != ERR_OK) {
            return code;
        }
        if (i == 0 && is_transformer(entry.type)) {
            config->lists->transformer = entry.path;
        } else if (i == 1 && type_is(entry.type, "Pooling") && entry.path[0]) {
            config->lists->pooling = entry.path;
        } else if (i < 2) {
            return wrong_module(fields, i, &entry,
                                i == 0
                                    ? "is sentence_transformers' Transformer"
                                    : "is sentence_transformers' Pooling in a folder of its own");
        } else if ((code = add_module(fields, i, &entry, config)) != ERR_OK) {
            return code;
        }
    }
    config->has_modules = true;
    return ERR_OK;
}

enum err_code modules_open(const char *dir, struct config *config, struct err *err)
{
    struct fields fields = {0};
    enum err_code code = fields_open(dir, "modules.json", true, &fields, err);
    if (code == ERR_OK && fields.root) {
        code = read_modules(&fields, config);
    } else if (code == ERR_OK) {
        config->lists->pooling = "1_Pooling"; /* where it is there */
    }
    if (code == ERR_OK || fields.path) {
        fields_close(&fields);
    }
    return code;
}

/* The older keys in the order in which that release concatenated them. */
static const struct {
    const char *key;
    enum pooling mode;
} older_modes[] = {
    {"pooling_mode_cls_token", POOLING_CLS},
    {"pooling_mode_max_tokens", POOLING_MAX},
    {"pooling_mode_mean_tokens", POOLING_MEAN},
    {"pooling_mode_mean_sqrt_len_tokens", POOLING_MEAN_SQRT},
    {"pooling_mode_weightedmean_tokens", POOLING_WEIGHTEDMEAN},
    {"pooling_mode_lasttoken", POOLING_LASTTOKEN},
};

static enum err_code read_older_modes(const struct fields *fields, enum pooling *ret_pooling)
{
    enum pooling pooling = 0;
    for (size_t i = 0; i < sizeof older_modes / sizeof *older_modes; i++) {
        bool on = false;
        enum err_code code = fields_bool(fields, older_modes[i].key, false, &on);
        if (code != ERR_OK) {
            return code;
        }
        if (on) {
            pooling = pooling_append(pooling, older_modes[i].mode);
        }
    }
    *ret_pooling = pooling ? pooling : POOLING_MEAN;
    return ERR_OK;
}

/* "mean", or a list of such words. */
static enum err_code read_mode(const struct fields *fields, enum pooling *ret_pooling)
{
    const struct jval *value = fields_get(fields, "pooling_mode");
    bool list = jval_is_array(value);
    size_t n = list ? jval_array_size(value) : 1;
    struct err ignored = ERR_INIT;
    enum pooling pooling = 0;
    for (size_t i = 0; i < n && i <= POOLING_LIST_MAX; i++) {
        const char *word;
        size_t size;
        enum pooling mode;
        bool known = jval_string(list ? jval_at(value, i) : value, &word, &size) &&
                     strlen(word) == size && pooling_parse(word, &mode, &ignored) == ERR_OK &&
                     pooling_count(mode) == 1;
        pooling = known ? pooling_append(pooling, mode) : 0;
        if (!pooling) {
            break;
        }
    }
    if (!pooling) {
        return fields_wrong(fields, "pooling_mode", ERR_UNSUPPORTED,
                            "\"cls\", \"max\", \"mean\", \"mean_sqrt_len_tokens\", "
                            "\"weightedmean\", \"lasttoken\" or a list of 1 to 6 of them");
    }
    *ret_pooling = pooling;
    return ERR_OK;
}

static enum err_code check_width(const struct fields *fields, const char *field,
                                 const struct config *config)
{
    size_t width = config->hidden;
    enum err_code code = fields_size(fields, field, 1, CONFIG_HIDDEN_MAX, config->hidden, &width);
    if (code == ERR_OK && width != config->hidden) {
        return err_set(fields->err, ERR_MISMATCH,
                       "%s: %s is %zu, but the hidden size in config.json is %zu", fields->path,
                       field, width, config->hidden);
    }
    return code;
}

static enum err_code read_pooling(const struct fields *fields, struct config *config)
{
    static const struct field_rule rules[] = {
        {"embedding_dimension", FIELD_READ},
        {"word_embedding_dimension", FIELD_READ},
        {"pooling_mode", FIELD_READ},
        {"pooling_mode_cls_token", FIELD_READ},
        {"pooling_mode_max_tokens", FIELD_READ},
        {"pooling_mode_mean_tokens", FIELD_READ},
        {"pooling_mode_mean_sqrt_len_tokens", FIELD_READ},
        {"pooling_mode_weightedmean_tokens", FIELD_READ},
        {"pooling_mode_lasttoken", FIELD_READ},
        {"include_prompt", FIELD_READ},
    };
    if (!fields->root) {
        return ERR_OK;
    }
    enum err_code code = fields_apply(fields, rules, sizeof rules / sizeof *rules, config);
    if (code == ERR_OK) {
        code = check_width(fields, "word_embedding_dimension", config);
    }
    if (code == ERR_OK) {
        code = check_width(fields, "embedding_dimension", config);
    }
    if (code == ERR_OK) {
        code = fields_bool(fields, "include_prompt", true, &config->include_prompt);
    }
    if (code != ERR_OK) {
        return code;
    }
    return fields_get(fields, "pooling_mode") ? read_mode(fields, &config->pooling)
                                              : read_older_modes(fields, &config->pooling);
}

/* Where a module reads and writes: the sentence's vector, in every release. */
static enum err_code check_places(const struct fields *fields)
{
    static const char *const names[] = {"module_input_name", "module_output_name"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct jval *value = fields_get(fields, names[i]);
        if (value && !fields_is_word(value, "sentence_embedding")) {
            return fields_wrong(fields, names[i], ERR_UNSUPPORTED, "\"sentence_embedding\"");
        }
    }
    return ERR_OK;
}

static enum err_code read_normalize(const struct fields *fields, struct config *config)
{
    static const struct field_rule rules[] = {
        {"module_input_name", FIELD_READ},
        {"module_output_name", FIELD_READ},
    };
    enum err_code code = fields_apply(fields, rules, sizeof rules / sizeof *rules, config);
    return code == ERR_OK ? check_places(fields) : code;
}

/* A class of torch.nn, under its short name or its full one; absent: Tanh. */
static enum err_code read_dense_activation(const struct fields *fields, enum activation *ret)
{
    static const struct {
        const char *name;
        enum activation activation;
    } classes[] = {
        {"Tanh", ACTIVATION_TANH}, {"Identity", ACTIVATION_IDENTITY}, {"ReLU", ACTIVATION_RELU},
        {"GELU", ACTIVATION_GELU}, {"SiLU", ACTIVATION_SILU},
    };
    const char *word = "torch.nn.Tanh";
    size_t size = strlen(word);
    const struct jval *value = jval_get(fields->root, "activation_function");
    bool text = !value || (jval_string(value, &word, &size) && strlen(word) == size);
    const char *dot = text ? strrchr(word, '.') : NULL;
    for (size_t i = 0; dot && i < sizeof classes / sizeof *classes; i++) {
        if (strncmp(word, "torch.nn.", 9) == 0 && strcmp(dot + 1, classes[i].name) == 0) {
            *ret = classes[i].activation;
            return ERR_OK;
        }
    }
    return fields_wrong(fields, "activation_function", ERR_UNSUPPORTED,
                        "torch.nn's Tanh, Identity, ReLU, GELU or SiLU");
}

static enum err_code read_dense(const struct fields *fields, struct module *module,
                                struct config *config)
{
    static const struct field_rule rules[] = {
        {"in_features", FIELD_READ},
        {"out_features", FIELD_READ},
        {"bias", FIELD_READ},
        {"activation_function", FIELD_READ},
        {"module_input_name", FIELD_READ},
        {"module_output_name", FIELD_READ},
        {"use_residual", FIELD_FALSE},
    };
    enum err_code code = fields_check_object(fields);
    if (code == ERR_OK) {
        code = fields_apply(fields, rules, sizeof rules / sizeof *rules, config);
    }
    if (code == ERR_OK) {
        code = check_places(fields);
    }
    if (code == ERR_OK) {
        code = fields_size(fields, "in_features", 1, (size_t)CONFIG_HIDDEN_MAX * POOLING_LIST_MAX,
                           0, &module->in);
    }
    if (code == ERR_OK) {
        code = fields_size(fields, "out_features", 1, CONFIG_HIDDEN_MAX, 0, &module->out);
    }
    if (code == ERR_OK) {
        code = fields_bool(fields, "bias", true, &module->bias);
    }
    return code == ERR_OK ? read_dense_activation(fields, &module->activation) : code;
}

static enum err_code load_module(const char *dir, struct module *module, struct config *config,
                                 struct err *err)
{
    char name[PATH_MAX_BYTES + sizeof "/config.json"];
    (void)snprintf(name, sizeof name, "%s/config.json", module->path);
    if (module->kind == MODULE_NORMALIZE) {
        return module->path[0] ? config_read_file(dir, name, true, read_normalize, config, err)
                               : ERR_OK;
    }
    struct fields fields = {0};
    enum err_code code = fields_open(dir, name, false, &fields, err);
    if (code == ERR_OK) {
        code = read_dense(&fields, module, config);
        fields_close(&fields);
    }
    return code;
}

/* Each Dense must take what comes to it. */
static enum err_code check_chain(const char *dir, const struct config *config, struct err *err)
{
    size_t width = config_pooled_width(config);
    for (size_t i = 0; i < config->lists->n_modules; i++) {
        const struct module *module = &config->lists->modules[i];
        if (module->kind != MODULE_DENSE) {
            continue;
        }
        if (module->in != width) {
            return err_set(err, ERR_MISMATCH,
                           "%s/%s/config.json: in_features is %zu, but a vector of %zu comes there",
                           dir, module->path, module->in, width);
        }
        width = module->out;
    }
    return ERR_OK;
}

static enum err_code load_chain(const char *dir, struct config *config, struct err *err)
{
    struct config_lists *lists = config->lists;
    if (lists->pooling) {
        char name[PATH_MAX_BYTES + sizeof "/config.json"];
        (void)snprintf(name, sizeof name, "%s/config.json", lists->pooling);
        enum err_code code = config_read_file(dir, name, !config->has_modules, read_pooling, config,
                                              err);
        if (code != ERR_OK) {
            return code;
        }
    }
    for (size_t i = 0; i < lists->n_modules; i++) {
        enum err_code code = load_module(dir, &lists->modules[i], config, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    return check_chain(dir, config, err);
}

/* What a modality says about text: the encoder's forward pass and its last hidden states, or the
 * logits of a sequence classifier. */
static enum err_code check_modality(const struct fields *fields, const char *output)
{
    const struct jval *text = jval_get(fields_get(fields, "modality_config"), "text");
    if (text && (!fields_is_word(jval_get(text, "method"), "forward") ||
                 !fields_is_word(jval_get(text, "method_output_name"), output))) {
        return err_set(fields->err, ERR_UNSUPPORTED,
                       "%s: modality_config: text must be the method \"forward\" with the output "
                       "\"%s\"",
                       fields->path, output);
    }
    return ERR_OK;
}

static enum err_code read_task(const struct fields *fields)
{
    const struct jval *task = fields_get(fields, "transformer_task");
    bool sequence = fields_is_word(task, "sequence-classification");
    if (task && !sequence && !fields_is_word(task, "feature-extraction")) {
        return fields_wrong(fields, "transformer_task", ERR_UNSUPPORTED,
                            "\"feature-extraction\" or \"sequence-classification\"");
    }
    const struct jval *output = fields_get(fields, "module_output_name");
    if (output && !fields_is_word(output, sequence ? "scores" : "token_embeddings")) {
        return fields_wrong(fields, "module_output_name", ERR_UNSUPPORTED,
                            sequence ? "\"scores\"" : "\"token_embeddings\"");
    }
    return check_modality(fields, sequence ? "logits" : "last_hidden_state");
}

static enum err_code read_sentence(const struct fields *fields, struct config *config)
{
    static const struct field_rule rules[] = {
        {"max_seq_length", FIELD_READ},
        {"do_lower_case", FIELD_READ},
        {"transformer_task", FIELD_READ},
        {"modality_config", FIELD_READ},
        {"module_output_name", FIELD_READ},
        {"unpad_inputs", FIELD_NONE},
        {"processing_kwargs", FIELD_EMPTY},
        {"query_length", FIELD_FALSE},
        {"document_length", FIELD_FALSE},
        {"query_expansion", FIELD_EMPTY},
        {"model_args", FIELD_EMPTY},
        {"model_kwargs", FIELD_EMPTY},
        {"tokenizer_args", FIELD_EMPTY},
        {"processor_kwargs", FIELD_EMPTY},
        {"config_args", FIELD_EMPTY},
        {"config_kwargs", FIELD_EMPTY},
        {"tokenizer_name_or_path", FIELD_EMPTY},
    };
    enum err_code code = fields_apply(fields, rules, sizeof rules / sizeof *rules, config);
    if (code == ERR_OK) {
        code = fields_limit(fields, "max_seq_length", LENGTH_MIN, &config->saved_max_length);
    }
    if (code == ERR_OK) {
        code = fields_bool(fields, "do_lower_case", false, &config->tokenizer.lower_case_first);
    }
    return code == ERR_OK ? read_task(fields) : code;
}

/* The first of these names that is there, as sentence-transformers looks for them. */
static enum err_code load_sentence(const char *inside, struct config *config, struct err *err)
{
    static const char *const names[] = {
        "sentence_bert_config.json",       "sentence_roberta_config.json",
        "sentence_distilbert_config.json", "sentence_camembert_config.json",
        "sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
        "sentence_xlnet_config.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fields fields = {0};
        enum err_code code = fields_open(inside, names[i], true, &fields, err);
        if (code != ERR_OK) {
            return code;
        }
        bool there = fields.root != NULL;
        if (there) {
            code = fields_check_object(&fields);
            code = code == ERR_OK ? read_sentence(&fields, config) : code;
        }
        fields_close(&fields);
        if (code != ERR_OK || there) {
            return code;
        }
    }
    return ERR_OK;
}

static enum err_code add_prompts(const struct fields *fields, const struct jval *map,
                                 struct config *config)
{
    struct config_lists *lists = config->lists;
    size_t n = jval_object_size(map);
    struct prompt *prompts = n <= CONFIG_PROMPTS_MAX
                                 ? arena_calloc(&lists->arena, n + 1, sizeof *prompts)
                                 : NULL;
    bool good = jval_is_object(map) && n <= CONFIG_PROMPTS_MAX;
    const char *name;
    const struct jval *value;
    void *iter = NULL;
    while (good && prompts && (iter = jval_object_next(map, iter, &name, &value))) {
        const char *text = "";
        size_t size = 0;
        /* null stands for a prompt that says nothing */
        good = (jval_is_null(value) || jval_string(value, &text, &size)) && strlen(text) == size &&
               size <= CONFIG_PROMPT_MAX && strlen(name) <= NAME_MAX_BYTES;
        struct prompt *prompt = &prompts[lists->n_prompts++];
        prompt->name = good ? arena_memdup(&lists->arena, name, strlen(name)) : NULL;
        prompt->text = good ? arena_memdup(&lists->arena, text, size) : NULL;
        if (good && (!prompt->name || !prompt->text)) {
            return err_nomem(fields->err, size);
        }
    }
    if (!good) {
        return err_set(fields->err, ERR_INVALID,
                       "%s: prompts: must be an object of at most %d strings of at most %d bytes",
                       fields->path, CONFIG_PROMPTS_MAX, CONFIG_PROMPT_MAX);
    }
    lists->prompts = prompts;
    return prompts ? ERR_OK : err_nomem(fields->err, n * sizeof *prompts);
}

static enum err_code read_prompts(const struct fields *fields, struct config *config)
{
    const struct jval *map = fields_get(fields, "prompts");
    enum err_code code = map ? add_prompts(fields, map, config) : ERR_OK;
    const struct jval *value = fields_get(fields, "default_prompt_name");
    if (code != ERR_OK || !value) {
        return code;
    }
    const char *name;
    size_t size;
    if (jval_string(value, &name, &size) && strlen(name) == size) {
        config->lists->default_prompt = config_prompt(config, name);
    }
    if (!config->lists->default_prompt) {
        return fields_wrong(fields, "default_prompt_name", ERR_INVALID,
                            "a name of prompts, or null");
    }
    return ERR_OK;
}

static enum err_code read_sentence_transformers(const struct fields *fields, struct config *config)
{
    static const struct field_rule rules[] = {
        {"prompts", FIELD_READ},       {"default_prompt_name", FIELD_READ},
        {"truncate_dim", FIELD_READ},  {"model_type", FIELD_READ},
        {"__version__", FIELD_NONE},   {"similarity_fn_name", FIELD_NONE},
        {"activation_fn", FIELD_NONE},
    };
    enum err_code code = fields_apply(fields, rules, sizeof rules / sizeof *rules, config);
    const struct jval *type = fields_get(fields, "model_type");
    if (code == ERR_OK && type && !fields_is_word(type, "SentenceTransformer") &&
        !fields_is_word(type, "CrossEncoder")) {
        return fields_wrong(fields, "model_type", ERR_UNSUPPORTED,
                            "\"SentenceTransformer\" or \"CrossEncoder\"");
    }
    if (code == ERR_OK) {
        code = read_prompts(fields, config);
    }
    if (code == ERR_OK && fields_get(fields, "truncate_dim")) {
        /* More than there are: sentence-transformers leaves all of them, and so does who reads it.
         */
        code = fields_size(fields, "truncate_dim", 1, INT32_MAX, 0, &config->truncate_dim);
    }
    return code;
}

enum err_code modules_load(const char *dir, const char *inside, struct config *config,
                           struct err *err)
{
    enum err_code code = load_sentence(inside, config, err);
    if (code == ERR_OK && config->has_modules && !config->lists->pooling &&
        config->folder != FOLDER_SEQUENCE) {
        code = err_set(err, ERR_UNSUPPORTED,
                       "%s/modules.json: has no Pooling, and config.json names no sequence "
                       "classifier",
                       dir);
    }
    if (code == ERR_OK) {
        code = load_chain(dir, config, err);
    }
    if (code == ERR_OK) {
        code = config_read_file(dir, "config_sentence_transformers.json", true,
                                read_sentence_transformers, config, err);
    }
    return code;
}
