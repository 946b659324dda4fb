#include "model/heads/own.h"

#include <stdlib.h>
#include <string.h>

#include "model/heads/heads_private.h"
#include "model/heads/labels.h"

enum { OWN_ENTRIES_MAX = 8 };

/* While the folder's tensors become a file. */
struct own {
    const struct checkpoint *checkpoint;
    const char *name;
    char names[PART_COUNT][HEAD_KEY_SIZE];
    char keys[HEAD_KEYS][HEAD_KEY_SIZE];
    float *values[PART_COUNT]; /* owned */
    struct tensor_source tensors[PART_COUNT];
    struct metadata_source entries[OWN_ENTRIES_MAX];
    size_t n_tensors, n_entries;
    struct buf labels;
};

static void add_entry(struct own *own, enum head_key key, const char *value)
{
    own->entries[own->n_entries++] = (struct metadata_source){
        head_key(own->name, key, own->keys[key]), value};
}

static enum err_code add_tensor(struct own *own, enum head_part part, const char *suffix,
                                const struct tensor *tensor, struct err *err)
{
    if (!tensor) {
        return ERR_OK;
    }
    float *values = calloc(tensor->count ? tensor->count : 1, sizeof *values);
    if (!values) {
        return err_nomem(err, tensor->count * sizeof *values);
    }
    own->values[part] = values;
    tensor_to_f32(tensor, 0, tensor->count, values);
    (void)snprintf(own->names[part], sizeof own->names[part], "%s.%s", own->name, suffix);
    struct tensor_source *source = &own->tensors[own->n_tensors++];
    *source = (struct tensor_source){
        .name = own->names[part], .rank = tensor->rank, .data = values};
    memcpy(source->shape, tensor->shape, tensor->rank * sizeof *tensor->shape);
    return ERR_OK;
}

static enum err_code add_tensors(struct own *own, struct err *err)
{
    const struct head_tensors *head = &own->checkpoint->head;
    enum err_code code = add_tensor(own, PART_WEIGHT, "weight", head->last_w, err);
    if (code == ERR_OK) {
        code = add_tensor(own, PART_BIAS, "bias", head->last_b, err);
    }
    if (code == ERR_OK) {
        code = add_tensor(own, PART_DENSE_WEIGHT, "dense.weight", head->dense_w, err);
    }
    return code == ERR_OK ? add_tensor(own, PART_DENSE_BIAS, "dense.bias", head->dense_b, err)
                          : code;
}

/* What the labels can't be, said of the file that they come from. */
static enum err_code check_labels(const struct config *config, struct err *err)
{
    const char *const *labels = config->lists->labels;
    for (size_t i = 0; i < config->n_labels; i++) {
        if (!label_is_plain(labels[i], strlen(labels[i]))) {
            return err_set(err, ERR_INVALID, "config.json: id2label: %zu has a control character",
                           i);
        }
        for (size_t earlier = 0; earlier < i; earlier++) {
            if (strcmp(labels[earlier], labels[i]) == 0) {
                return err_set(err, ERR_INVALID, "config.json: id2label: %zu is the same as %zu", i,
                               earlier);
            }
        }
    }
    return ERR_OK;
}

/* Kind and function as transformers' text-classification pipeline chooses them. */
static enum err_code add_kind(struct own *own, struct err *err)
{
    const struct config *config = &own->checkpoint->config;
    if (config->folder == FOLDER_TOKENS) {
        add_entry(own, HEAD_KEY_KIND, head_type_name(HEAD_TOKENS));
        return ERR_OK;
    }
    add_entry(own, HEAD_KEY_INPUT, head_input_name(HEAD_INPUT_CLS));
    if (config->problem == LABELS_REGRESSION && config->n_labels != 1) {
        return err_set(
            err, ERR_UNSUPPORTED,
            "config.json: problem_type regression with %zu numbers is not served, with 1 "
            "it is",
            config->n_labels);
    }
    if (config->n_labels == 1) {
        add_entry(own, HEAD_KEY_KIND, head_type_name(HEAD_SCORE));
        if (config->problem == LABELS_REGRESSION) {
            add_entry(own, HEAD_KEY_FUNCTION, "none");
        }
    } else if (config->problem == LABELS_MULTI) {
        add_entry(own, HEAD_KEY_KIND, head_type_name(HEAD_SIGMOID));
    }
    return ERR_OK;
}

static enum err_code add_activation(struct own *own, struct err *err)
{
    static const struct {
        enum activation between;
        enum head_activation activation;
    } known[] = {
        {ACTIVATION_TANH, HEAD_TANH}, {ACTIVATION_RELU, HEAD_RELU}, {ACTIVATION_GELU, HEAD_GELU}};
    const struct head_tensors *head = &own->checkpoint->head;
    for (size_t i = 0; head->dense_w && i < sizeof known / sizeof *known; i++) {
        if (known[i].between == head->between) {
            add_entry(own, HEAD_KEY_ACTIVATION, head_activation_name(known[i].activation));
            return ERR_OK;
        }
    }
    return head->dense_w ? err_set(err, ERR_UNSUPPORTED, "the head's activation %s is not served",
                                   activation_name(head->between))
                         : ERR_OK;
}

static enum err_code write_own(struct own *own, const struct heads_fit *fit, struct buf *out,
                               struct err *err)
{
    const struct config *config = &own->checkpoint->config;
    enum err_code code = check_labels(config, err);
    code = code == ERR_OK ? add_tensors(own, err) : code;
    bool whole = labels_append((char *const *)(uintptr_t)config->lists->labels, config->n_labels,
                               &own->labels);
    add_entry(own, HEAD_KEY_LABELS, own->labels.data);
    if (code == ERR_OK) {
        code = whole ? add_kind(own, err) : err_nomem(err, own->labels.size);
    }
    if (code == ERR_OK) {
        code = add_activation(own, err);
    }
    const struct metadata_source meant_for[] = {{HEADS_ENCODER_KEY, fit->encoder_sha256},
                                                {HEADS_TOKENIZER_KEY, fit->tokenizer_sha256}};
    for (size_t i = 0; i < sizeof meant_for / sizeof *meant_for; i++) {
        if (meant_for[i].value) {
            own->entries[own->n_entries++] = meant_for[i];
        }
    }
    return code == ERR_OK ? safetensors_write(own->tensors, own->n_tensors, own->entries,
                                              own->n_entries, out, err)
                          : code;
}

enum err_code heads_of_folder(const struct checkpoint *checkpoint, const struct heads_fit *fit,
                              struct heads **ret_heads, struct err *err)
{
    enum folder folder = checkpoint->config.folder;
    *ret_heads = NULL;
    if (folder != FOLDER_SEQUENCE && folder != FOLDER_TOKENS) {
        return ERR_OK;
    }
    struct own own = {.checkpoint = checkpoint,
                      .name = folder == FOLDER_TOKENS ? "tagger" : "classifier"};
    struct buf file;
    buf_init(&own.labels, HEADS_FILE_MAX);
    buf_init(&file, HEADS_FILE_MAX);
    enum err_code code = write_own(&own, fit, &file, err);
    if (code == ERR_OK) {
        code = heads_create(file.data, file.size, weights_label(checkpoint->weights), fit, true,
                            NULL, ret_heads, err);
    }
    for (size_t part = 0; part < PART_COUNT; part++) {
        free(own.values[part]);
    }
    buf_done(&own.labels);
    buf_done(&file);
    return code;
}
