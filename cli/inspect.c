/* orthrus inspect: what a model folder or heads file holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/float_text.h"
#include "base/jval.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "model/files/checkpoint.h"
#include "model/model.h"

enum { OUT_MAX = 512 * 1024 * 1024 };

/* The two ways to say it, filled side by side: lines for people, one object for programs. */
struct report {
    struct buf text, json;
};

/* Text out of a file, as a terminal may see it: control characters, C1 ones too, become '?'. */
static void append_shown(struct buf *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned char next = i + 1 < size ? (unsigned char)text[i + 1] : 0;
        bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;
        buf_append_char(out, c < 0x20 || c == 0x7f || c1 ? '?' : text[i]);
        i += c1;
    }
}

static void append_json_text(struct buf *out, const char *text)
{
    jval_append_string(out, text, strlen(text));
}

static void add_tensors(struct report *report, const struct safetensors *file, bool first)
{
    size_t count = safetensors_count(file);
    size_t bytes;
    (void)safetensors_bytes(file, &bytes);
    buf_printf(&report->text, "%zu tensors, %zu bytes\n", count, bytes);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        char shape[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, shape);
        buf_append_str(&report->text, "  ");
        append_shown(&report->text, tensor->name, strlen(tensor->name));
        for (size_t pad = strlen(tensor->name); pad < 64; pad++) {
            buf_append_char(&report->text, ' ');
        }
        buf_printf(&report->text, " %-5s %s\n", dtype_name(tensor->dtype), shape);
        buf_append_str(&report->json, first && i == 0 ? "" : ",");
        buf_append_str(&report->json, "{\"name\":");
        append_json_text(&report->json, tensor->name);
        buf_printf(&report->json, ",\"dtype\":\"%s\",\"shape\":%s}", dtype_name(tensor->dtype),
                   shape);
    }
}

static void add_metadata(struct report *report, const struct safetensors *file)
{
    const struct jval *metadata = safetensors_metadata(file);
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    const char *comma = "";
    buf_append_str(&report->json, ",\"metadata\":{");
    while (metadata && (iter = jval_object_next(metadata, iter, &key, &value))) {
        const char *text;
        size_t size;
        if (!jval_string(value, &text, &size)) {
            continue;
        }
        buf_append_str(&report->text, "  ");
        append_shown(&report->text, key, strlen(key));
        buf_append_str(&report->text, ": ");
        append_shown(&report->text, text, size);
        buf_append_char(&report->text, '\n');
        buf_append_str(&report->json, comma);
        append_json_text(&report->json, key);
        buf_append_char(&report->json, ':');
        jval_append_string(&report->json, text, size);
        comma = ",";
    }
    buf_append_char(&report->json, '}');
}

static void add_head(struct report *report, const struct head *head)
{
    char temperature[FLOAT_TEXT_MAX + 1];
    temperature[float_text(head->temperature, temperature)] = '\0';
    buf_printf(&report->text, "%s: %s of the %s input, %zu classes over %zu", head->name,
               head_type_name(head->type), head_input_name(head->input), head->classes,
               head->width);
    buf_printf(&report->json,
               "{\"name\":\"%s\",\"kind\":\"%s\",\"input\":\"%s\",\"classes\":%zu,\"width\":%zu,"
               "\"temperature\":%s,\"thresholds\":%s,",
               head->name, head_type_name(head->type), head_input_name(head->input), head->classes,
               head->width, temperature, head->thresholds ? "true" : "false");
    if (head->inner) {
        buf_printf(&report->text, " through %zu (%s)", head->inner,
                   head_activation_name(head->activation));
        buf_printf(&report->json, "\"dense\":%zu,\"activation\":\"%s\",", head->inner,
                   head_activation_name(head->activation));
    }
    buf_append_char(&report->text, ':');
    buf_append_str(&report->json, "\"labels\":[");
    for (size_t k = 0; k < head->classes; k++) {
        buf_append_str(&report->text, k ? ", " : " ");
        append_shown(&report->text, head->labels[k], strlen(head->labels[k]));
        buf_append_str(&report->json, k ? "," : "");
        append_json_text(&report->json, head->labels[k]);
    }
    buf_append_char(&report->text, '\n');
    buf_append_str(&report->json, "]}");
}

static void add_heads(struct report *report, const struct heads *heads)
{
    buf_append_str(&report->json, ",\"heads\":[");
    for (size_t i = 0; heads && i < heads->n; i++) {
        buf_append_str(&report->json, i ? "," : "");
        add_head(report, &heads->list[i]);
    }
    buf_append_char(&report->json, ']');
}

static const char *on_off(bool on)
{
    return on ? "yes" : "no";
}

static void add_config(struct report *report, const struct model *model)
{
    const struct config *c = &model->config;
    char pooling[POOLING_TEXT_SIZE];
    (void)pooling_name(c->pooling, pooling);
    buf_append_str(&report->text, "model folder ");
    append_shown(&report->text, model->dir, strlen(model->dir));
    buf_printf(&report->text, "\narchitecture %s, folder %s, activation %s\n",
               c->architecture->model_type, folder_name(c->folder), activation_name(c->activation));
    buf_printf(&report->text, "hidden %zu, layers %zu, attention heads %zu, intermediate %zu\n",
               c->hidden, c->layers, c->heads, c->intermediate);
    buf_printf(&report->text, "vocabulary %zu, positions %zu, token types %zu, LayerNorm eps %g\n",
               c->vocab, c->positions, c->types, (double)c->layer_norm_eps);
    buf_printf(&report->text, "pooling %s, Normalize module %s, tokens per text %zu\n", pooling,
               on_off(c->folder_normalize), c->max_length);
    buf_printf(&report->text, "tokenizer: lower-case %s, strip accents %s, split CJK %s\n",
               on_off(c->tokenizer.lower_case), on_off(c->tokenizer.strip_accents),
               on_off(c->tokenizer.tokenize_chinese_chars));
    buf_printf(&report->text, "encoder sha256 %s\ntokenizer sha256 %s\n", model->encoder_sha256,
               tokenizer_digest(model->tokenizer));
    buf_append_str(&report->json, "{\"kind\":\"model\",\"path\":");
    append_json_text(&report->json, model->dir);
    buf_printf(&report->json,
               ",\"architecture\":\"%s\",\"folder\":\"%s\",\"activation\":\"%s\",\"hidden\":%zu,"
               "\"layers\":%zu,\"attention_heads\":%zu,\"intermediate\":%zu,\"vocabulary\":%zu,"
               "\"positions\":%zu,\"token_types\":%zu,\"layer_norm_eps\":%.9g,",
               c->architecture->model_type, folder_name(c->folder), activation_name(c->activation),
               c->hidden, c->layers, c->heads, c->intermediate, c->vocab, c->positions, c->types,
               (double)c->layer_norm_eps);
    buf_printf(&report->json,
               "\"pooling\":\"%s\",\"normalize\":%s,\"max_length\":%zu,\"dimensions\":%zu,"
               "\"encoder_sha256\":\"%s\",\"tokenizer_sha256\":\"%s\"",
               pooling, c->folder_normalize ? "true" : "false", c->max_length,
               vector_out(model->vector), model->encoder_sha256,
               tokenizer_digest(model->tokenizer));
}

/* The weights' files again, for their tensors: the model has packed them and closed the files. */
static enum err_code add_files(struct report *report, const char *dir, struct err *err)
{
    struct checkpoint *checkpoint;
    enum err_code code = checkpoint_open(dir, command_default_threads(), &checkpoint, err);
    if (code != ERR_OK) {
        return code;
    }
    buf_append_str(&report->json, ",\"tensors\":[");
    for (size_t i = 0; i < weights_files(checkpoint->weights); i++) {
        const struct safetensors *file = weights_file(checkpoint->weights, i);
        append_shown(&report->text, safetensors_label(file), strlen(safetensors_label(file)));
        buf_append_str(&report->text, ": ");
        add_tensors(report, file, i == 0);
    }
    buf_append_char(&report->json, ']');
    checkpoint_close(checkpoint);
    return ERR_OK;
}

/* All that serve does with a folder before it listens. */
static enum err_code inspect_folder(const char *dir, struct report *report, struct err *err)
{
    struct encoder_options options;
    struct model *model;
    struct heads *heads = NULL;
    char *source = NULL;
    struct err warning = ERR_INIT;
    enum err_code code = command_choose("auto", "auto", command_default_threads(), &options, err);
    if (code == ERR_OK) {
        code = command_load(dir, &options, &model, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    char *shipped = command_shipped_heads();
    code = model_default_heads(model, model->config.pooling, shipped, &heads, &source, &warning,
                               err);
    free(shipped);
    if (code == ERR_OK) {
        add_config(report, model);
        if (warning.code != ERR_OK) {
            buf_printf(&report->text, "warning: %s\n", warning.text);
        }
        buf_append_str(&report->json, ",\"heads_source\":");
        if (source) {
            append_json_text(&report->json, source);
        } else {
            buf_append_str(&report->json, "null");
        }
        add_heads(report, heads);
        code = add_files(report, dir, err);
        buf_append_str(&report->json, "}\n");
    }
    free(source);
    heads_release(heads);
    model_destroy(model);
    return code;
}

/* True where a file has something that would be read as heads. */
static bool holds_heads(const struct safetensors *file)
{
    return heads_only(file) || safetensors_find(file, "classifier.weight") ||
           safetensors_find(file, "sentiment.weight");
}

static enum err_code inspect_file(const char *path, struct report *report, struct err *err)
{
    struct safetensors *file;
    enum err_code code = safetensors_open(path, &file, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t size;
    const unsigned char *bytes = safetensors_bytes(file, &size);
    const struct heads_fit fit = {.hidden = 0};
    struct heads *heads = NULL;
    if (holds_heads(file)) {
        code = heads_create(bytes, size, path, &fit, heads_only(file), NULL, &heads, err);
    }
    if (code == ERR_OK) {
        char sha256[SHA256_HEX_SIZE + 1];
        sha256_of(bytes, size, sha256);
        buf_append_str(&report->text, "safetensors file ");
        append_shown(&report->text, path, strlen(path));
        buf_printf(&report->text, "\nsha256 %s\n", sha256);
        buf_printf(&report->json, "{\"kind\":\"%s\",\"path\":", heads ? "heads" : "safetensors");
        append_json_text(&report->json, path);
        buf_printf(&report->json, ",\"sha256\":\"%s\",\"bytes\":%zu", sha256, size);
        add_metadata(report, file);
        buf_append_str(&report->json, ",\"tensors\":[");
        add_tensors(report, file, true);
        buf_append_char(&report->json, ']');
        add_heads(report, heads);
        buf_append_str(&report->json, "}\n");
    }
    heads_release(heads);
    safetensors_close(file);
    return code;
}

int command_inspect(int argc, char **argv)
{
    bool json = false;
    const struct flag flags[] = {
        {"json", 0, FLAG_BOOL, &json, NULL, "off", "one JSON object", 0, 0, false},
        {0},
    };
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
    struct report report;
    struct stat st;
    buf_init(&report.text, OUT_MAX);
    buf_init(&report.json, OUT_MAX);
    bool folder = stat(arguments[0], &st) == 0 && S_ISDIR(st.st_mode);
    enum err_code code = folder ? inspect_folder(arguments[0], &report, &err)
                                : inspect_file(arguments[0], &report, &err);
    const struct buf *out = json ? &report.json : &report.text;
    if (code == ERR_OK && buf_failed(out)) {
        code = err_nomem(&err, out->size);
    }
    if (code == ERR_OK) {
        (void)fwrite(out->data, out->size, 1, stdout);
    }
    buf_done(&report.text);
    buf_done(&report.json);
    return code == ERR_OK ? EXIT_DONE : command_fail("inspect", &err);
}
