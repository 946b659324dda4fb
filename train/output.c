#include "train/output.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "model/heads/labels.h"

enum { COPY_BYTES_MAX = 64 * 1024 * 1024, LABELS_JSON_MAX = 4 * 1024 * 1024 };

/* The files of a model folder beside its weights; those that aren't there are passed over. */
static const char *const companions[] = {
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
};

static enum err_code copy_file(const char *from, const char *to, struct err *err)
{
    char *data;
    size_t size;
    enum err_code code = file_read(from, COPY_BYTES_MAX, &data, &size, err);
    if (code == ERR_OK) {
        code = file_write_atomic(to, data, size, err);
        free(data);
    }
    return code;
}

static enum err_code copy_companions(const struct run *run, struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < sizeof companions / sizeof *companions; i++) {
        char *from = file_join(run->options->model_dir, companions[i]);
        char *to = file_join(run->options->output, companions[i]);
        if (!from || !to) {
            code = err_nomem(err, strlen(run->options->output));
        } else if (file_exists(from)) {
            if (strchr(companions[i], '/')) {
                *strrchr(to, '/') = '\0';
                (void)mkdir(to, 0777);
                to[strlen(to)] = '/';
            }
            code = copy_file(from, to, err);
        }
        free(from);
        free(to);
    }
    return code;
}

static void source_of(const struct param *param, struct tensor_source *ret_source)
{
    *ret_source = (struct tensor_source){
        .name = param->name,
        .rank = param->rank,
        .shape = {param->shape[0], param->rank == 2 ? param->shape[1] : 0},
        .data = param->value,
    };
}

/* The trained encoder; its new digest goes to sha256. */
static enum err_code write_encoder(const struct run *run, char sha256[SHA256_HEX_SIZE + 1],
                                   struct err *err)
{
    const struct params *params = learner_params(run->learner);
    struct tensor_source *sources = calloc(params->n_encoder, sizeof *sources);
    char *path = file_join(run->options->output, "model.safetensors");
    if (!sources || !path) {
        free(sources);
        free(path);
        return err_nomem(err, params->n_encoder * sizeof *sources);
    }
    for (size_t i = 0; i < params->n_encoder; i++) {
        source_of(&params->at[i], &sources[i]);
    }
    const struct metadata_source metadata[] = {{"format", "pt"}};
    enum err_code code = copy_companions(run, err);
    if (code == ERR_OK) {
        code = safetensors_write_file(path, sources, params->n_encoder, metadata, 1, err);
    }
    free(sources);
    free(path);
    struct checkpoint *written = NULL;
    if (code == ERR_OK) {
        code = checkpoint_open(run->options->output, run->options->threads, &written, err);
    }
    if (code == ERR_OK) {
        memcpy(sha256, written->encoder_sha256, SHA256_HEX_SIZE + 1);
        checkpoint_close(written);
    }
    return code;
}

static enum err_code write_heads(const struct run *run, const char *encoder_sha256, struct err *err)
{
    const struct params *params = learner_params(run->learner);
    struct tensor_source sources[2 * HEAD_COUNT];
    struct metadata_source metadata[3 + HEAD_COUNT];
    struct buf labels[HEAD_COUNT];
    size_t n_sources = 0;
    size_t n_metadata = 0;
    bool good = true;
    for (size_t i = params->n_encoder; i < params->n; i++) {
        source_of(&params->at[i], &sources[n_sources++]);
    }
    metadata[n_metadata++] = (struct metadata_source){"format", "pt"};
    metadata[n_metadata++] = (struct metadata_source){"encoder.sha256", encoder_sha256};
    char pooling[POOLING_TEXT_SIZE];
    metadata[n_metadata++] = (struct metadata_source){"pooling",
                                                      pooling_name(run->config.pooling, pooling)};
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        buf_init(&labels[kind], LABELS_JSON_MAX);
        if (run->classes[kind] > 0) {
            good = labels_append(run->sets[kind].at, run->sets[kind].n, &labels[kind]) && good;
            metadata[n_metadata++] = (struct metadata_source){kinds_labels_key(kind),
                                                              labels[kind].data};
        }
    }
    char *path = file_join(run->options->output, "heads.safetensors");
    enum err_code code = good && path ? safetensors_write_file(path, sources, n_sources, metadata,
                                                               n_metadata, err)
                                      : err_nomem(err, LABELS_JSON_MAX);
    free(path);
    for (size_t i = 0; i < HEAD_COUNT; i++) {
        buf_done(&labels[i]);
    }
    return code;
}

enum err_code output_write(struct run *run, struct err *err)
{
    char encoder_sha256[SHA256_HEX_SIZE + 1];
    memcpy(encoder_sha256, run->encoder_sha256, sizeof encoder_sha256);
    if (run->deep) {
        enum err_code code = write_encoder(run, encoder_sha256, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    return write_heads(run, encoder_sha256, err);
}
