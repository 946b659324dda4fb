/* Which heads a file holds: tensor names → parts by head. */
#include <string.h>

#include "model/heads/heads_private.h"

static const char *const part_suffixes[PART_COUNT] = {
    [PART_WEIGHT] = ".weight",
    [PART_BIAS] = ".bias",
    [PART_DENSE_WEIGHT] = ".dense.weight",
    [PART_DENSE_BIAS] = ".dense.bias",
};

/* What a checkpoint of this project's source notebook calls its two heads. */
static const char *const checkpoint_heads[] = {"classifier", "sentiment"};

/* Names that routes or files use for something else. */
static const char *const reserved[] = {"embed",  "classify", "pooler",  "encoder", "pooling",
                                       "shadow", "staged",   "promote", "rollback"};

static bool well_formed(const char *name, size_t size)
{
    if (size == 0 || size > HEADS_NAME_MAX || name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") >= size;
}

static bool is_reserved(const char *name)
{
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcmp(name, reserved[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool head_name_ok(const char *name)
{
    return well_formed(name, strlen(name)) && !is_reserved(name);
}

/* "x.dense.bias" → "x" and PART_DENSE_BIAS; false where a tensor is not called like a head's. */
static bool split_name(const char *tensor, char name[HEADS_NAME_MAX + 1], enum head_part *ret_part)
{
    size_t size = strlen(tensor);
    for (unsigned part = 0; part < PART_COUNT; part++) {
        size_t suffix = strlen(part_suffixes[part]);
        if (size > suffix && strcmp(tensor + size - suffix, part_suffixes[part]) == 0 &&
            well_formed(tensor, size - suffix) && !memchr(tensor, '.', size - suffix)) {
            memcpy(name, tensor, size - suffix);
            name[size - suffix] = '\0';
            *ret_part = (enum head_part)part;
            return true;
        }
    }
    return false;
}

bool heads_only(const struct safetensors *file)
{
    char name[HEADS_NAME_MAX + 1];
    enum head_part part;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        if (!split_name(safetensors_at(file, i)->name, name, &part)) {
            return false;
        }
    }
    return safetensors_count(file) > 0;
}

const char *heads_source_text(const struct heads_source *source, const char *key)
{
    const char *text = NULL;
    size_t size;
    (void)jval_string(jval_get(safetensors_metadata(source->file), key), &text, &size);
    return text;
}

/* The entry of that name, made where it is missing, in the order of names. NULL when full. */
static struct head_parts *entry(struct heads_source *source, const char *name)
{
    size_t at = 0;
    while (at < source->n && strcmp(source->heads[at].name, name) < 0) {
        at++;
    }
    if (at < source->n && strcmp(source->heads[at].name, name) == 0) {
        return &source->heads[at];
    }
    if (source->n == HEADS_MAX) {
        return NULL;
    }
    memmove(&source->heads[at + 1], &source->heads[at], (source->n - at) * sizeof source->heads[0]);
    source->n++;
    source->heads[at] = (struct head_parts){.name = ""};
    (void)snprintf(source->heads[at].name, sizeof source->heads[at].name, "%s", name);
    return &source->heads[at];
}

static enum err_code take_tensor(struct heads_source *source, const struct tensor *tensor)
{
    char name[HEADS_NAME_MAX + 1];
    enum head_part part;
    if (!split_name(tensor->name, name, &part)) {
        return err_set(source->err, ERR_INVALID,
                       "%s: tensor %s does not belong into a heads file: those of a head do, as "
                       "classifier.weight, classifier.bias, classifier.dense.weight, "
                       "classifier.dense.bias",
                       source->label, tensor_shown_name(tensor->name));
    }
    if (is_reserved(name)) {
        return err_set(source->err, ERR_INVALID, "%s: tensor %s: the name %s is reserved",
                       source->label, tensor->name, name);
    }
    struct head_parts *parts = entry(source, name);
    if (!parts) {
        return err_set(source->err, ERR_LIMIT, "%s: more than %d heads", source->label, HEADS_MAX);
    }
    parts->part[part] = tensor;
    return ERR_OK;
}

/* In a checkpoint: the pair alone, whatever else is in there. */
static void find_pair(struct heads_source *source)
{
    source->only_heads = true;
    for (size_t i = 0; i < safetensors_count(source->file); i++) {
        const struct tensor *tensor = safetensors_at(source->file, i);
        char name[HEADS_NAME_MAX + 1] = "";
        enum head_part part = PART_COUNT;
        bool ours = false;
        for (size_t k = 0; split_name(tensor->name, name, &part) && k < 2; k++) {
            ours = ours || strcmp(name, checkpoint_heads[k]) == 0;
        }
        if (ours) {
            entry(source, name)->part[part] = tensor;
        } else {
            source->only_heads = false;
        }
    }
}

static enum err_code check_parts(const struct heads_source *source, const struct head_parts *parts)
{
    static const enum head_part pairs[][2] = {{PART_WEIGHT, PART_BIAS},
                                              {PART_DENSE_WEIGHT, PART_DENSE_BIAS},
                                              {PART_WEIGHT, PART_DENSE_WEIGHT}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bool first = parts->part[pairs[i][0]];
        bool second = parts->part[pairs[i][1]];
        bool dense_alone = i == 2 && first; /* a head needs no dense layer */
        if (first != second && !dense_alone) {
            return err_set(source->err, ERR_INVALID, "%s: tensor %s%s is missing beside %s%s",
                           source->label, parts->name, part_suffixes[pairs[i][first ? 1 : 0]],
                           parts->name, part_suffixes[pairs[i][first ? 0 : 1]]);
        }
    }
    return ERR_OK;
}

enum err_code heads_source_find(struct heads_source *source, bool strict)
{
    enum err_code code = ERR_OK;
    source->n = 0;
    if (strict) {
        source->only_heads = true;
        for (size_t i = 0; code == ERR_OK && i < safetensors_count(source->file); i++) {
            code = take_tensor(source, safetensors_at(source->file, i));
        }
    } else {
        find_pair(source);
    }
    for (size_t i = 0; code == ERR_OK && i < source->n; i++) {
        code = check_parts(source, &source->heads[i]);
    }
    if (code == ERR_OK && source->n == 0) {
        code = err_set(source->err, ERR_NOT_FOUND,
                       "%s: holds no head: no tensor as classifier.weight or sentiment.weight",
                       source->label);
    }
    return code;
}

static char lower_hex(char c)
{
    return c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
}

/* Is the metadata's digest, where there is one, the expected one? */
static enum err_code check_digest(const struct heads_source *source, const char *key,
                                  const char *what, const char *expected)
{
    const char *named = heads_source_text(source, key);
    if (!named) {
        return ERR_OK;
    }
    bool same = true;
    size_t n = 0;
    for (; named[n] && n < SHA256_HEX_SIZE; n++) {
        char c = lower_hex(named[n]);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            break;
        }
        same = same && (!expected || c == expected[n]);
    }
    if (n != SHA256_HEX_SIZE || named[n]) {
        return err_set(source->err, ERR_INVALID, "%s: %s must be %d hexadecimal digits",
                       source->label, key, SHA256_HEX_SIZE);
    }
    return same ? ERR_OK
                : err_set(source->err, ERR_CONFLICT,
                          "%s: %s: these heads are for %s %.12s, this is %s %.12s", source->label,
                          key, what, named, what, expected);
}

static enum err_code check_pooling(const struct heads_source *source, const char *named)
{
    enum pooling pooling;
    if (pooling_parse(named, &pooling, NULL) != ERR_OK) {
        return err_set(source->err, ERR_INVALID, "%s: %s must name pooling modes, as mean or cls",
                       source->label, HEADS_POOLING_KEY);
    }
    if (source->fit->encoder_sha256 && pooling != source->fit->pooling) {
        char name[POOLING_TEXT_SIZE];
        return err_set(source->err, ERR_CONFLICT,
                       "%s: these heads are for %s pooling, this model runs with %s", source->label,
                       named, pooling_name(source->fit->pooling, name));
    }
    return ERR_OK;
}

enum err_code heads_source_meant_for(const struct heads_source *source,
                                     struct heads_private *private_)
{
    const struct heads_fit *fit = source->fit;
    const char *pooling = heads_source_text(source, HEADS_POOLING_KEY);
    enum err_code code = check_digest(source, HEADS_ENCODER_KEY, "encoder", fit->encoder_sha256);
    if (code == ERR_OK) {
        code = check_digest(source, HEADS_TOKENIZER_KEY, "tokenizer", fit->tokenizer_sha256);
    }
    if (code == ERR_OK && pooling) {
        code = check_pooling(source, pooling);
    }
    private_->names_encoder = heads_source_text(source, HEADS_ENCODER_KEY);
    private_->names_tokenizer = heads_source_text(source, HEADS_TOKENIZER_KEY);
    private_->names_pooling = pooling;
    return code;
}
