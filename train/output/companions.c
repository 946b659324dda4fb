#include "train/output/companions.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/files/weights.h"

enum { COPY_BYTES_MAX = 1 << 30 };

/* In the encoder's folder. */
static const char *const encoder_files[] = {
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
};
static const char *const folder_files[] = {"modules.json", "config_sentence_transformers.json"};
static const char *const module_files[] = {"config.json", WEIGHTS_FILE};

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

/* names of dir/under to output/under, which is made where there is one to copy. */
static enum err_code copy_files(const char *dir, const char *output, const char *under,
                                const char *const *names, size_t n, struct err *err)
{
    char *from_dir = under[0] ? file_join(dir, under) : strdup(dir);
    char *to_dir = under[0] ? file_join(output, under) : strdup(output);
    enum err_code code = from_dir && to_dir ? ERR_OK : err_nomem(err, strlen(under));
    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        char *from = file_join(from_dir, names[i]);
        char *to = file_join(to_dir, names[i]);
        if (!from || !to) {
            code = err_nomem(err, strlen(names[i]));
        } else if (file_exists(from)) {
            code = file_make_folders(to_dir, err);
            code = code == ERR_OK ? copy_file(from, to, err) : code;
        }
        free(from);
        free(to);
    }
    free(from_dir);
    free(to_dir);
    return code;
}

enum err_code companions_copy(const char *dir, const struct config *config, const char *output,
                              struct err *err)
{
    const struct config_lists *lists = config->lists;
    enum err_code code = copy_files(dir, output, lists->transformer, encoder_files,
                                    sizeof encoder_files / sizeof *encoder_files, err);
    if (code == ERR_OK) {
        code = copy_files(dir, output, "", folder_files, sizeof folder_files / sizeof *folder_files,
                          err);
    }
    if (code == ERR_OK && lists->pooling) {
        code = copy_files(dir, output, lists->pooling, module_files, 1, err);
    }
    for (size_t i = 0; code == ERR_OK && i < lists->n_modules; i++) {
        if (lists->modules[i].path[0]) {
            code = copy_files(dir, output, lists->modules[i].path, module_files,
                              sizeof module_files / sizeof *module_files, err);
        }
    }
    return code;
}
