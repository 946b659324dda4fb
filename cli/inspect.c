/* orthrus inspect: what a model folder or heads file holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/command.h"
#include "cli/flags.h"
#include "model/files/checkpoint.h"
#include "model/heads/heads.h"

static void print_tensors(const struct safetensors *file)
{
    size_t count = safetensors_count(file);
    size_t bytes;
    (void)safetensors_bytes(file, &bytes);
    printf("%zu tensors, %zu bytes\n", count, bytes);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        char shape[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, shape);
        printf("  %-64s %-5s %s\n", tensor->name, dtype_name(tensor->dtype), shape);
    }
}

static void print_metadata(const struct safetensors *file)
{
    const struct jval *metadata = safetensors_metadata(file);
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while (metadata && (iter = jval_object_next(metadata, iter, &key, &value))) {
        const char *text;
        size_t size;
        if (jval_string(value, &text, &size)) {
            printf("  %s: %s\n", key, text);
        }
    }
}

static const char *on_off(bool on)
{
    return on ? "yes" : "no";
}

static enum err_code inspect_folder(const char *dir, struct err *err)
{
    struct checkpoint *checkpoint;
    enum err_code code = checkpoint_open(dir, command_default_threads(), &checkpoint, err);
    if (code != ERR_OK) {
        return code;
    }
    const struct config *c = &checkpoint->config;
    printf("model folder %s\n", dir);
    printf("architecture %s, folder %s, activation %s\n", c->architecture->model_type,
           folder_name(c->folder), activation_name(c->activation));
    printf("hidden %zu, layers %zu, attention heads %zu, intermediate %zu\n", c->hidden, c->layers,
           c->heads, c->intermediate);
    printf("vocabulary %zu, positions %zu, token types %zu, LayerNorm eps %g\n", c->vocab,
           c->positions, c->types, (double)c->layer_norm_eps);
    char pooling[POOLING_TEXT_SIZE];
    printf("pooling %s, Normalize module %s, tokens per text %zu\n",
           pooling_name(c->pooling, pooling), on_off(c->folder_normalize), c->max_length);
    printf("tokenizer: lower-case %s, strip accents %s, split CJK %s\n",
           on_off(c->tokenizer.lower_case), on_off(c->tokenizer.strip_accents),
           on_off(c->tokenizer.tokenize_chinese_chars));
    printf("encoder sha256 %s\n", checkpoint->encoder_sha256);
    for (size_t i = 0; i < weights_files(checkpoint->weights); i++) {
        const struct safetensors *file = weights_file(checkpoint->weights, i);
        printf("%s: ", safetensors_label(file));
        print_tensors(file);
    }
    checkpoint_close(checkpoint);
    return ERR_OK;
}

/* Says whether a file with heads would be accepted, beside what it holds. */
static enum err_code inspect_heads(const struct safetensors *file, struct err *err)
{
    size_t size;
    const unsigned char *bytes = safetensors_bytes(file, &size);
    const struct heads_fit fit = {.hidden = 0};
    struct heads *heads;
    enum err_code code = heads_create(bytes, size, safetensors_label(file), &fit, heads_only(file),
                                      NULL, &heads, err);
    if (code != ERR_OK) {
        return code;
    }
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        printf("%s: %s of the %s input, %zu classes over %zu", head->name,
               head_type_name(head->type), head_input_name(head->input), head->classes,
               head->width);
        if (head->inner) {
            printf(" through %zu (%s)", head->inner, head_activation_name(head->activation));
        }
        putchar(':');
        for (size_t k = 0; k < head->classes; k++) {
            printf("%s %s", k ? "," : "", head->labels[k]);
        }
        putchar('\n');
    }
    heads_release(heads);
    return ERR_OK;
}

/* True where a file has something that would be read as heads. */
static bool holds_heads(const struct safetensors *file)
{
    return heads_only(file) || safetensors_find(file, "classifier.weight") ||
           safetensors_find(file, "sentiment.weight");
}

static enum err_code inspect_file(const char *path, struct err *err)
{
    struct safetensors *file;
    enum err_code code = safetensors_open(path, &file, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t size;
    const unsigned char *bytes = safetensors_bytes(file, &size);
    char sha256[SHA256_HEX_SIZE + 1];
    sha256_of(bytes, size, sha256);
    printf("safetensors file %s\nsha256 %s\n", path, sha256);
    print_metadata(file);
    print_tensors(file);
    if (holds_heads(file)) {
        code = inspect_heads(file, err);
    }
    safetensors_close(file);
    return code;
}

int command_inspect(int argc, char **argv)
{
    const struct flag flags[] = {{0}};
    const struct command command = {
        .name = "inspect",
        .arguments = "PATH",
        .summary = "Shows what a model folder or a heads file holds (shapes, dtypes, labels, "
                   "SHA-256), after validating it as serve would.",
        .flags = flags,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct stat st;
    bool folder = stat(arguments[0], &st) == 0 && S_ISDIR(st.st_mode);
    enum err_code code = folder ? inspect_folder(arguments[0], &err)
                                : inspect_file(arguments[0], &err);
    return code == ERR_OK ? EXIT_DONE : command_fail("inspect", &err);
}
