#include "model/files/config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jval.h"
#include "base/size.h"

enum {
    CONFIG_FILE_MAX = 16 * 1024 * 1024,
    CONFIG_MODULES_MAX = 8,
    CONFIG_PATH_MAX = 255,
    CONFIG_DEFAULT_LENGTH = 128,
    CONFIG_TYPES_MAX = 256,
    LENGTH_MIN = 2, /* [CLS] and [SEP] */
};

/* One file of the folder while it is read. Every read_… below returns an error that names path,
 * field, what was found and what is allowed. */
struct reader {
    char *path;        /* owned */
    struct jval *root; /* owned; NULL where the file is absent */
    struct err *err;
};

static enum err_code reader_open(const char *dir, const char *name, bool optional,
                                 struct reader *ret_reader, struct err *err)
{
    struct reader reader = {.path = file_join(dir, name), .err = err};
    if (!reader.path) {
        return err_nomem(err, strlen(dir) + strlen(name));
    }
    if (!optional || file_exists(reader.path)) {
        enum err_code code = jval_read_file(reader.path, CONFIG_FILE_MAX, &reader.root, err);
        if (code != ERR_OK) {
            free(reader.path);
            return code;
        }
    }
    *ret_reader = reader;
    return ERR_OK;
}

static void reader_close(struct reader *reader)
{
    jval_free(reader->root);
    free(reader->path);
}

/* What stands there, for an error: a number itself, of anything else only the kind. */
static void describe(const struct jval *value, char *out, size_t size)
{
    int64_t integer;
    double number;
    bool truth;
    if (jval_int(value, &integer)) {
        (void)snprintf(out, size, "%lld", (long long)integer);
    } else if (jval_double(value, &number)) {
        (void)snprintf(out, size, "%g", number);
    } else if (jval_bool(value, &truth)) {
        (void)snprintf(out, size, "%s", truth ? "true" : "false");
    } else {
        (void)snprintf(out, size, "%s",
                       !value                  ? "nothing"
                       : jval_is_null(value)   ? "null"
                       : jval_is_array(value)  ? "an array"
                       : jval_is_string(value) ? "a string"
                                               : "an object");
    }
}

static enum err_code wrong(const struct reader *reader, const char *field, enum err_code code,
                           const char *allowed)
{
    char found[64];
    describe(jval_get(reader->root, field), found, sizeof found);
    return err_set(reader->err, code, "%s: %s: found %s, allowed is %s", reader->path, field, found,
                   allowed);
}

static enum err_code check_object(const struct reader *reader)
{
    if (reader->root && !jval_is_object(reader->root)) {
        return err_set(reader->err, ERR_INVALID, "%s: must be a JSON object", reader->path);
    }
    return ERR_OK;
}

/* The field, or NULL when it is absent or null. */
static const struct jval *present(const struct reader *reader, const char *field)
{
    const struct jval *value = jval_get(reader->root, field);
    return jval_is_null(value) ? NULL : value;
}

/* A fallback of 0 makes the field required. */
static enum err_code read_size(const struct reader *reader, const char *field, size_t min,
                               size_t max, size_t fallback, size_t *ret)
{
    const struct jval *value = present(reader, field);
    if (!value && fallback) {
        *ret = fallback;
        return ERR_OK;
    }
    int64_t number;
    if (!jval_int(value, &number) || number < 0 || (uint64_t)number < min ||
        (uint64_t)number > max) {
        char allowed[80];
        (void)snprintf(allowed, sizeof allowed, "an integer from %zu to %zu", min, max);
        return wrong(reader, field, ERR_INVALID, allowed);
    }
    *ret = (size_t)number;
    return ERR_OK;
}

static enum err_code read_float(const struct reader *reader, const char *field, double min,
                                double max, double fallback, float *ret)
{
    const struct jval *value = present(reader, field);
    double number = fallback;
    if (value && (!jval_double(value, &number) || !(number >= min && number <= max))) {
        char allowed[80];
        (void)snprintf(allowed, sizeof allowed, "a number from %g to %g", min, max);
        return wrong(reader, field, ERR_INVALID, allowed);
    }
    *ret = (float)number;
    return ERR_OK;
}

static enum err_code read_bool(const struct reader *reader, const char *field, bool fallback,
                               bool *ret)
{
    const struct jval *value = present(reader, field);
    bool truth = fallback;
    if (value && !jval_bool(value, &truth)) {
        return wrong(reader, field, ERR_INVALID, "true or false");
    }
    *ret = truth;
    return ERR_OK;
}

/* True if a value is that word. */
static bool is_word(const struct jval *value, const char *word)
{
    const char *text;
    size_t size;
    return jval_string(value, &text, &size) && size == strlen(word) &&
           memcmp(text, word, size) == 0;
}

/* The field must be absent or one of the words (NULL ends them). */
static enum err_code require_word(const struct reader *reader, const char *field,
                                  const char *const *words, const char *allowed)
{
    const struct jval *value = present(reader, field);
    bool known = !value;
    for (size_t i = 0; words[i]; i++) {
        known = known || is_word(value, words[i]);
    }
    return known ? ERR_OK : wrong(reader, field, ERR_UNSUPPORTED, allowed);
}

/* Old files have no model_type; their architectures then must all begin with Bert. */
static enum err_code check_model_type(const struct reader *reader)
{
    static const char *const words[] = {"bert", NULL};
    if (present(reader, "model_type")) {
        return require_word(reader, "model_type", words, "\"bert\"");
    }
    const struct jval *architectures = jval_get(reader->root, "architectures");
    size_t n = jval_array_size(architectures);
    bool bert = n > 0;
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t size;
        bert = bert && jval_string(jval_at(architectures, i), &text, &size) && size >= 4 &&
               memcmp(text, "Bert", 4) == 0;
    }
    return bert ? ERR_OK : wrong(reader, "model_type", ERR_UNSUPPORTED, "\"bert\"");
}

/* What would make another computation out of the same tensors. */
static enum err_code check_architecture(const struct reader *reader)
{
    static const char *const gelu[] = {"gelu", "gelu_python", NULL};
    static const char *const absolute[] = {"absolute", NULL};
    enum err_code code = check_model_type(reader);
    if (code == ERR_OK) {
        code = require_word(reader, "hidden_act", gelu, "\"gelu\" (the erf form)");
    }
    if (code == ERR_OK) {
        code = require_word(reader, "position_embedding_type", absolute, "\"absolute\"");
    }
    bool decoder = false;
    if (code == ERR_OK) {
        code = read_bool(reader, "is_decoder", false, &decoder);
    }
    if (code == ERR_OK && decoder) {
        code = wrong(reader, "is_decoder", ERR_UNSUPPORTED, "false");
    }
    return code;
}

static enum err_code read_dimensions(const struct reader *reader, struct config *config)
{
    const struct {
        const char *field;
        size_t min, max, fallback;
        size_t *ret;
    } sizes[] = {
        {"hidden_size", 1, CONFIG_HIDDEN_MAX, 0, &config->hidden},
        {"num_attention_heads", 1, CONFIG_HIDDEN_MAX, 0, &config->heads},
        {"intermediate_size", 1, CONFIG_INTERMEDIATE_MAX, 0, &config->intermediate},
        {"num_hidden_layers", 1, CONFIG_LAYERS_MAX, 0, &config->layers},
        {"vocab_size", 1, CONFIG_VOCAB_MAX, 0, &config->vocab},
        {"max_position_embeddings", LENGTH_MIN, CONFIG_POSITIONS_MAX, 0, &config->positions},
        {"type_vocab_size", 1, CONFIG_TYPES_MAX, 2, &config->types},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        enum err_code code = read_size(reader, sizes[i].field, sizes[i].min, sizes[i].max,
                                       sizes[i].fallback, sizes[i].ret);
        if (code != ERR_OK) {
            return code;
        }
    }
    if (config->hidden % config->heads != 0) {
        return err_set(reader->err, ERR_INVALID,
                       "%s: hidden_size %zu is not a multiple of num_attention_heads %zu",
                       reader->path, config->hidden, config->heads);
    }
    return ERR_OK;
}

static enum err_code read_model(const struct reader *reader, struct config *config)
{
    enum err_code code = check_object(reader);
    if (code == ERR_OK) {
        code = check_architecture(reader);
    }
    if (code == ERR_OK) {
        code = read_dimensions(reader, config);
    }
    if (code == ERR_OK) {
        code = read_float(reader, "layer_norm_eps", 1e-15, 0.1, 1e-12, &config->layer_norm_eps);
    }
    if (code == ERR_OK) {
        code = read_float(reader, "hidden_dropout_prob", 0, 0.99, 0.1, &config->hidden_dropout);
    }
    if (code == ERR_OK) {
        code = read_float(reader, "attention_probs_dropout_prob", 0, 0.99, 0.1,
                          &config->attention_dropout);
    }
    return code;
}

/* Defaults are BertTokenizer's. */
static enum err_code read_tokenizer(const struct reader *reader, struct config *config)
{
    struct tokenizer_options *options = &config->tokenizer;
    enum err_code code = check_object(reader);
    if (code == ERR_OK) {
        code = read_bool(reader, "do_lower_case", true, &options->lower_case);
    }
    if (code == ERR_OK) {
        code = read_bool(reader, "strip_accents", options->lower_case, &options->strip_accents);
    }
    if (code == ERR_OK) {
        code = read_bool(reader, "tokenize_chinese_chars", true, &options->tokenize_chinese_chars);
    }
    return code;
}

static enum err_code read_length(const struct reader *reader, struct config *config)
{
    size_t length = CONFIG_DEFAULT_LENGTH;
    enum err_code code = check_object(reader);
    if (code == ERR_OK) {
        code = read_size(reader, "max_seq_length", LENGTH_MIN, INT32_MAX, CONFIG_DEFAULT_LENGTH,
                         &length);
    }
    bool lower = false;
    if (code == ERR_OK) {
        code = read_bool(reader, "do_lower_case", false, &lower);
    }
    if (code == ERR_OK && lower && !config->tokenizer.lower_case) {
        code = wrong(reader, "do_lower_case", ERR_UNSUPPORTED,
                     "false (lower-casing belongs into tokenizer_config.json)");
    }
    config->max_length = size_min(length, config->positions);
    return code;
}

static enum err_code read_pooling(const struct reader *reader, struct config *config)
{
    static const char *const unsupported[] = {
        "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"};
    enum err_code code = check_object(reader);
    if (code != ERR_OK || !reader->root) {
        return code;
    }
    bool mode = false;
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        code = read_bool(reader, unsupported[i], false, &mode);
        if (code == ERR_OK && mode) {
            code = wrong(reader, unsupported[i], ERR_UNSUPPORTED,
                         "false (mean and cls pooling are supported)");
        }
        if (code != ERR_OK) {
            return code;
        }
    }
    bool mean = false;
    bool cls = false;
    code = read_bool(reader, "pooling_mode_mean_tokens", false, &mean);
    if (code == ERR_OK) {
        code = read_bool(reader, "pooling_mode_cls_token", false, &cls);
    }
    if (code == ERR_OK && mean == cls) {
        code = err_set(reader->err, ERR_UNSUPPORTED,
                       "%s: exactly one of pooling_mode_mean_tokens and pooling_mode_cls_token "
                       "must be true",
                       reader->path);
    }
    size_t width = config->hidden;
    if (code == ERR_OK) {
        code = read_size(reader, "word_embedding_dimension", 1, CONFIG_HIDDEN_MAX, config->hidden,
                         &width);
    }
    if (code == ERR_OK && width != config->hidden) {
        code = err_set(reader->err, ERR_MISMATCH,
                       "%s: word_embedding_dimension is %zu, but hidden_size in config.json is %zu",
                       reader->path, width, config->hidden);
    }
    if (code == ERR_OK) {
        config->pooling = cls ? POOLING_CLS : POOLING_MEAN;
    }
    return code;
}

static enum err_code load_pooling(const char *dir, const char *folder, bool optional,
                                  struct config *config, struct err *err)
{
    char name[CONFIG_PATH_MAX + sizeof "/config.json"];
    (void)snprintf(name, sizeof name, "%s/config.json", folder);
    struct reader reader = {0};
    enum err_code code = reader_open(dir, name, optional, &reader, err);
    if (code == ERR_OK) {
        code = read_pooling(&reader, config);
        reader_close(&reader);
    }
    return code;
}

/* Relative, and staying inside the folder by its text. */
static bool path_is_inside(const char *path, size_t size)
{
    if (size == 0 || size > CONFIG_PATH_MAX || strlen(path) != size || path[0] == '/' ||
        strchr(path, '\\')) {
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

/* True if a module's type ends in ".Name", as all releases of sentence-transformers write it. */
static bool type_is(const char *type, const char *name)
{
    const char *dot = strrchr(type, '.');
    return strcmp(dot ? dot + 1 : type, name) == 0;
}

/* sentence-transformers: Transformer, Pooling, then perhaps Normalize. */
static enum err_code read_modules(const struct reader *reader, const char *dir,
                                  struct config *config)
{
    static const char *const chain[] = {"Transformer", "Pooling", "Normalize"};
    size_t n = jval_array_size(reader->root);
    if (!jval_is_array(reader->root) || n < 2 || n > CONFIG_MODULES_MAX) {
        return err_set(reader->err, ERR_INVALID,
                       "%s: must be an array of 2 to %d modules, Transformer and Pooling first",
                       reader->path, CONFIG_MODULES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const struct jval *module = jval_at(reader->root, i);
        const char *type = "";
        const char *path = "";
        size_t type_size = 0;
        size_t path_size = 0;
        if (!jval_string(jval_get(module, "type"), &type, &type_size) ||
            !jval_string(jval_get(module, "path"), &path, &path_size)) {
            return err_set(reader->err, ERR_INVALID,
                           "%s: module %zu: type and path must be strings", reader->path, i);
        }
        if (i >= sizeof chain / sizeof *chain || !type_is(type, chain[i])) {
            return err_set(reader->err, ERR_UNSUPPORTED,
                           "%s: module %zu: its type is not supported there, allowed are "
                           "Transformer, Pooling and at last Normalize",
                           reader->path, i);
        }
        if (i == 0 && path_size != 0) {
            return err_set(
                reader->err, ERR_UNSUPPORTED,
                "%s: module 0: path: the Transformer must be in the folder itself (\"\")",
                reader->path);
        }
        if (i > 0 && !path_is_inside(path, path_size)) {
            return err_set(reader->err, ERR_INVALID,
                           "%s: module %zu: path must be relative, without \"..\" and at most %d "
                           "bytes",
                           reader->path, i, CONFIG_PATH_MAX);
        }
        if (i == 1) {
            enum err_code code = load_pooling(dir, path, false, config, reader->err);
            if (code != ERR_OK) {
                return code;
            }
        }
    }
    config->folder_normalize = n == 3;
    return ERR_OK;
}

static enum err_code load_modules(const char *dir, struct config *config, struct err *err)
{
    struct reader reader = {0};
    enum err_code code = reader_open(dir, "modules.json", true, &reader, err);
    if (code != ERR_OK) {
        return code;
    }
    code = reader.root ? read_modules(&reader, dir, config)
                       : load_pooling(dir, "1_Pooling", true, config, err);
    reader_close(&reader);
    return code;
}

enum err_code config_load(const char *dir, struct config *ret_config, struct err *err)
{
    static const struct {
        const char *name;
        bool optional;
        enum err_code (*read)(const struct reader *reader, struct config *config);
    } files[] = {
        {"config.json", false, read_model},
        {"tokenizer_config.json", true, read_tokenizer},
        {"sentence_bert_config.json", true, read_length},
    };
    struct config config = {.pooling = POOLING_MEAN};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct reader reader = {0};
        enum err_code code = reader_open(dir, files[i].name, files[i].optional, &reader, err);
        if (code != ERR_OK) {
            return code;
        }
        code = files[i].read(&reader, &config);
        reader_close(&reader);
        if (code != ERR_OK) {
            return code;
        }
    }
    enum err_code code = load_modules(dir, &config, err);
    if (code == ERR_OK) {
        *ret_config = config;
    }
    return code;
}

static const char *const pooling_names[] = {[POOLING_MEAN] = "mean", [POOLING_CLS] = "cls"};

const char *pooling_name(enum pooling pooling)
{
    return pooling_names[pooling];
}

enum err_code pooling_parse(const char *word, enum pooling *ret_pooling, struct err *err)
{
    for (size_t i = 0; i < sizeof pooling_names / sizeof *pooling_names; i++) {
        if (strcmp(word, pooling_names[i]) == 0) {
            *ret_pooling = (enum pooling)i;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_USAGE, "pooling: mean or cls is allowed");
}
