/* What a checkpoint holds beside its encoder: the folder's own head, and tensors that nobody
 * reads. */
#include <stdio.h>
#include <string.h>

#include "model/files/checkpoint_private.h"

static const struct tensor *find_part(const struct checkpoint *checkpoint, const char *name,
                                      const char *part)
{
    char full[CHECKPOINT_NAME_SIZE];
    (void)snprintf(full, sizeof full, "%s.%s", name, part);
    const struct tensor *tensor = weights_find(checkpoint->weights, full);
    return tensor ? tensor : checkpoint_find(checkpoint, checkpoint->prefix, full);
}

/* weight [rows,H] and bias [rows] of a linear; both there, or *ret_weight NULL. */
static enum err_code bind_linear(const struct checkpoint *checkpoint, const char *name, size_t rows,
                                 const struct tensor **ret_weight, const struct tensor **ret_bias,
                                 struct err *err)
{
    const struct tensor *weight = find_part(checkpoint, name, "weight");
    const struct tensor *bias = find_part(checkpoint, name, "bias");
    const size_t shape[2] = {rows, checkpoint->config.hidden};
    const char *label = weights_label(checkpoint->weights);
    if (!weight && !bias) {
        return ERR_OK;
    }
    if (!weight || !bias) {
        return err_set(err, ERR_NOT_FOUND, "%s: tensor %s.%s is missing", label, name,
                       weight ? "bias" : "weight");
    }
    enum err_code code = tensor_check(weight, label, 2, shape, err);
    if (code == ERR_OK) {
        code = tensor_check(bias, label, 1, shape, err);
    }
    if (code == ERR_OK) {
        *ret_weight = weight;
        *ret_bias = bias;
    }
    return code;
}

static enum err_code head_missing(const struct checkpoint *checkpoint, const char *name,
                                  struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "%s: tensor %s.weight is missing beside the rest of its head",
                   weights_label(checkpoint->weights), name);
}

/* Where none of a named head's tensors is there, the folder is a bare encoder. */
static enum err_code bind_sequence(struct checkpoint *checkpoint, struct err *err)
{
    struct config *config = &checkpoint->config;
    const struct head_recipe *recipe = &config->architecture->head;
    struct head_tensors head = {.between = recipe->between};
    enum err_code code = bind_linear(checkpoint, recipe->last, config->n_labels, &head.last_w,
                                     &head.last_b, err);
    if (code == ERR_OK && !head.last_w) {
        config->folder = FOLDER_BARE;
        config_warn(config,
                    "%s: config.json names a sequence classifier, but tensor %s.weight is "
                    "not there: a bare encoder is served",
                    weights_label(checkpoint->weights), recipe->last);
        return ERR_OK;
    }
    if (code == ERR_OK) {
        code = bind_linear(checkpoint, recipe->dense, config->hidden, &head.dense_w, &head.dense_b,
                           err);
    }
    if (code == ERR_OK && !head.dense_w) {
        code = head_missing(checkpoint, recipe->dense, err);
    }
    checkpoint->head = code == ERR_OK ? head : checkpoint->head;
    return code;
}

static enum err_code bind_tokens(struct checkpoint *checkpoint, struct err *err)
{
    struct config *config = &checkpoint->config;
    const char *name = config->architecture->head.tokens;
    enum err_code code = bind_linear(checkpoint, name, config->n_labels, &checkpoint->head.last_w,
                                     &checkpoint->head.last_b, err);
    if (code == ERR_OK && !checkpoint->head.last_w) {
        config->folder = FOLDER_BARE;
        config_warn(config,
                    "%s: config.json names a token classifier, but tensor %s.weight is not "
                    "there: a bare encoder is served",
                    weights_label(checkpoint->weights), name);
    }
    return code;
}

enum err_code checkpoint_bind_head(struct checkpoint *checkpoint, struct err *err)
{
    struct config *config = &checkpoint->config;
    bool pair = weights_find(checkpoint->weights, "classifier.weight") ||
                weights_find(checkpoint->weights, "sentiment.weight");
    if (strcmp(checkpoint->prefix, CHECKPOINT_OWN_PREFIX) == 0 && pair) {
        config->folder = FOLDER_PAIR;
        return ERR_OK;
    }
    switch (config->folder) {
    case FOLDER_SEQUENCE:
        return bind_sequence(checkpoint, err);
    case FOLDER_TOKENS:
        return bind_tokens(checkpoint, err);
    case FOLDER_BARE:
    case FOLDER_MLM:
    case FOLDER_NSP:
    case FOLDER_QA:
    case FOLDER_CHOICE:
    case FOLDER_PAIR:
        break;
    }
    return ERR_OK;
}

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

/* Tensors that stand in files of today and have no influence on what is served: buffers, the
 * pooler, heads of pre-training and question answering. Under the encoder's prefix. */
static bool is_idle_inside(const char *name)
{
    static const char *const names[] = {
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_idle_outside(const char *name)
{
    static const char *const prefixes[] = {"cls.",        "lm_head.",          "vocab_transform.",
                                           "qa_outputs.", "vocab_layer_norm.", "vocab_projector."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (begins_with(name, prefixes[i])) {
            return true;
        }
    }
    return false;
}

/* True if name is what the encoder's or the head's rows have bound. Tensors are compared by place,
 * so that a LayerNorm with both spellings is not taken for explained. */
static bool is_bound(const struct checkpoint *checkpoint, const struct tensor *tensor)
{
    const struct head_tensors *head = &checkpoint->head;
    if (tensor == head->dense_w || tensor == head->dense_b || tensor == head->last_w ||
        tensor == head->last_b) {
        return true;
    }
    if (tensor == checkpoint->word || tensor == checkpoint->position ||
        tensor == checkpoint->type || tensor == checkpoint->embeddings_ln_w ||
        tensor == checkpoint->embeddings_ln_b) {
        return true;
    }
    enum { VIEWS = sizeof(struct layer_tensors) / sizeof(struct tensor *) };
    for (size_t l = 0; l < checkpoint->config.layers; l++) {
        const struct tensor *views[VIEWS];
        memcpy(views, &checkpoint->layers[l], sizeof views);
        for (size_t i = 0; i < VIEWS; i++) {
            if (views[i] == tensor) {
                return true;
            }
        }
    }
    return false;
}

/* Tensors of the project's own pair are the heads' to read. */
static bool is_pair(const struct checkpoint *checkpoint, const char *name)
{
    return checkpoint->config.folder == FOLDER_PAIR &&
           (begins_with(name, "classifier.") || begins_with(name, "sentiment."));
}

/* Where the encoder's tensors have no prefix, only its own paths are its. */
static bool is_encoder_path(const struct checkpoint *checkpoint, const char *name)
{
    const char *path = checkpoint->config.architecture->layer_path;
    size_t root = strcspn(path, ".") + 1;
    return begins_with(name, "embeddings.") || strncmp(name, path, root) == 0 ||
           begins_with(name, "pooler.");
}

static enum err_code check_one(struct checkpoint *checkpoint, const struct tensor *tensor,
                               struct err *err)
{
    const char *prefix = checkpoint->prefix;
    const char *label = weights_label(checkpoint->weights);
    bool inside = begins_with(tensor->name, prefix);
    const char *name = inside ? tensor->name + strlen(prefix) : tensor->name;
    if (is_bound(checkpoint, tensor) || is_pair(checkpoint, tensor->name) ||
        (inside && is_idle_inside(name)) || is_idle_outside(tensor->name)) {
        return ERR_OK;
    }
    if (inside && (prefix[0] || is_encoder_path(checkpoint, name))) {
        return err_set(
            err, ERR_UNSUPPORTED, "%s: tensor %s is not one of %s's: what it does is not known",
            label, tensor_shown_name(tensor->name), checkpoint->config.architecture->model_type);
    }
    config_warn(&checkpoint->config,
                "%s: tensor %s is not used: it is no part of what config.json "
                "says the folder is",
                label, tensor_shown_name(tensor->name));
    return ERR_OK;
}

enum err_code checkpoint_check_rest(struct checkpoint *checkpoint, struct err *err)
{
    for (size_t f = 0; f < weights_files(checkpoint->weights); f++) {
        const struct safetensors *file = weights_file(checkpoint->weights, f);
        for (size_t i = 0; i < safetensors_count(file); i++) {
            enum err_code code = check_one(checkpoint, safetensors_at(file, i), err);
            if (code != ERR_OK) {
                return code;
            }
        }
    }
    return ERR_OK;
}
