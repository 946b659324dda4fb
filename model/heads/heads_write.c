/* A set of heads → the bytes of its file. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/heads/heads_private.h"
#include "model/heads/labels.h"

enum { NUMBER_TEXT = 32, HEAD_ENTRIES = HEAD_KEYS };

/* One head's metadata as text. */
struct head_texts {
    char keys[HEAD_KEYS][HEAD_KEY_SIZE];
    struct buf labels, thresholds;
    char temperature[NUMBER_TEXT];
};

/* Everything while a file is put together. */
struct writing {
    const struct heads *heads;
    const struct heads_fit *fit;
    const struct jval *others;
    const char *dropped;             /* a head of whose metadata nothing is kept, or NULL */
    struct head_texts *texts;        /* [n] */
    struct tensor_source *tensors;   /* [PART_COUNT × n] */
    struct metadata_source *entries; /* what the heads say, then what else there is */
    size_t n_tensors, n_entries;
    char pooling[POOLING_TEXT_SIZE]; /* the fit's, as the file names it */
};

static void add_tensors(struct writing *writing, const struct head *head,
                        char (*names)[HEAD_KEY_SIZE])
{
    size_t in = head->inner ? head->inner : head->width;
    const struct {
        const char *suffix;
        unsigned rank;
        size_t shape[2];
        const float *data;
    } parts[PART_COUNT] = {
        {"weight", 2, {head->classes, in}, head->weight},
        {"bias", 1, {head->classes}, head->bias},
        {"dense.weight", 2, {head->inner, head->width}, head->dense_weight},
        {"dense.bias", 1, {head->inner}, head->dense_bias},
    };
    for (unsigned part = 0; part < PART_COUNT; part++) {
        if (parts[part].data) {
            (void)snprintf(names[part], HEAD_KEY_SIZE, "%s.%s", head->name, parts[part].suffix);
            writing->tensors[writing->n_tensors++] = (struct tensor_source){
                names[part],
                parts[part].rank,
                {parts[part].shape[0], parts[part].shape[1]},
                parts[part].data};
        }
    }
}

static void add_entry(struct writing *writing, const struct head *head, struct head_texts *texts,
                      enum head_key key, const char *value)
{
    writing->entries[writing->n_entries++] = (struct metadata_source){
        head_key(head->name, key, texts->keys[key]), value};
}

/* What a head says of itself: its labels, and whatever is not the default. */
static bool add_entries(struct writing *writing, const struct head *head, struct head_texts *texts)
{
    buf_init(&texts->labels, HEADS_FILE_MAX);
    buf_init(&texts->thresholds, HEADS_FILE_MAX);
    bool whole = labels_append(head->labels, head->classes, &texts->labels);
    add_entry(writing, head, texts, HEAD_KEY_LABELS, texts->labels.data);
    if (head->type != HEAD_SOFTMAX) {
        add_entry(writing, head, texts, HEAD_KEY_KIND, head_type_name(head->type));
    }
    if (head->input != HEAD_INPUT_POOLED) {
        add_entry(writing, head, texts, HEAD_KEY_INPUT, head_input_name(head->input));
    }
    if (head->inner) {
        add_entry(writing, head, texts, HEAD_KEY_ACTIVATION,
                  head_activation_name(head->activation));
    }
    if (head->identity) {
        add_entry(writing, head, texts, HEAD_KEY_FUNCTION, "none");
    }
    if (head->temperature < 1 || head->temperature > 1) {
        (void)snprintf(texts->temperature, sizeof texts->temperature, "%.9g",
                       (double)head->temperature);
        add_entry(writing, head, texts, HEAD_KEY_TEMPERATURE, texts->temperature);
    }
    for (size_t k = 0; head->thresholds && k < head->classes; k++) {
        whole = buf_printf(&texts->thresholds, "%s%.9g", k ? "," : "[",
                           (double)head->thresholds[k]) &&
                whole;
    }
    if (head->thresholds) {
        whole = buf_append_char(&texts->thresholds, ']') && whole;
        add_entry(writing, head, texts, HEAD_KEY_THRESHOLDS, texts->thresholds.data);
    }
    return whole;
}

/* True for a key that the set says itself. */
static bool said(const struct writing *writing, const char *key)
{
    const struct heads *heads = writing->heads;
    if (strcmp(key, HEADS_ENCODER_KEY) == 0 || strcmp(key, HEADS_POOLING_KEY) == 0 ||
        (strcmp(key, HEADS_TOKENIZER_KEY) == 0 && writing->fit->tokenizer_sha256)) {
        return true;
    }
    if (writing->dropped && head_key_of(key, writing->dropped)) {
        return true;
    }
    for (size_t i = 0; i < heads->n; i++) {
        if (head_key_of(key, heads->list[i].name)) {
            return true;
        }
    }
    return false;
}

/* What the set is meant for, then what else the source says, in its order. */
static void add_others(struct writing *writing)
{
    const struct heads_private *private_ = writing->heads->private_;
    const struct heads_fit *fit = writing->fit;
    const struct metadata_source meant_for[] = {
        {HEADS_ENCODER_KEY, private_->names_encoder ? fit->encoder_sha256 : NULL},
        {HEADS_TOKENIZER_KEY, private_->names_tokenizer ? fit->tokenizer_sha256 : NULL},
        {HEADS_POOLING_KEY,
         private_->names_pooling ? pooling_name(fit->pooling, writing->pooling) : NULL},
    };
    for (size_t i = 0; i < sizeof meant_for / sizeof *meant_for; i++) {
        if (meant_for[i].value) {
            writing->entries[writing->n_entries++] = meant_for[i];
        }
    }
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while ((iter = jval_object_next(writing->others, iter, &key, &value))) {
        const char *text = "";
        size_t size;
        if (!said(writing, key) && jval_string(value, &text, &size)) {
            writing->entries[writing->n_entries++] = (struct metadata_source){key, text};
        }
    }
}

enum err_code heads_write(const struct heads *heads, const struct heads_fit *fit,
                          const struct jval *metadata, const char *dropped, struct buf *out,
                          struct err *err)
{
    struct writing writing = {.heads = heads, .fit = fit, .others = metadata, .dropped = dropped};
    size_t room = heads->n * HEAD_ENTRIES + 3 + jval_object_size(metadata);
    char(*names)[PART_COUNT][HEAD_KEY_SIZE] = calloc(heads->n, sizeof *names);
    writing.texts = calloc(heads->n, sizeof *writing.texts);
    writing.tensors = calloc(heads->n * PART_COUNT, sizeof *writing.tensors);
    writing.entries = calloc(room, sizeof *writing.entries);
    bool whole = names && writing.texts && writing.tensors && writing.entries;
    for (size_t i = 0; whole && i < heads->n; i++) {
        add_tensors(&writing, &heads->list[i], names[i]);
        whole = add_entries(&writing, &heads->list[i], &writing.texts[i]);
    }
    enum err_code code = ERR_OK;
    if (whole) {
        add_others(&writing);
        code = safetensors_write(writing.tensors, writing.n_tensors, writing.entries,
                                 writing.n_entries, out, err);
    } else {
        code = err_nomem(err, room * sizeof *writing.entries);
    }
    for (size_t i = 0; writing.texts && i < heads->n; i++) {
        buf_done(&writing.texts[i].labels);
        buf_done(&writing.texts[i].thresholds);
    }
    free(writing.entries);
    free(writing.tensors);
    free(writing.texts);
    free(names);
    return code;
}
