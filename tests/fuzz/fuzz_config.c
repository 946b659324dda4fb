/* Any bytes as the JSON files of a model folder, one behind the other with a NUL between them. What
 * is accepted stays within the bounds of model/files/config.h. Seed: golden/tiny-bert/config.json.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "model/files/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
    "config.json",        "tokenizer_config.json", "sentence_bert_config.json",
    "modules.json",       "1_Pooling/config.json", "config_sentence_transformers.json",
    "2_Dense/config.json"};
static const char *const folders[] = {"1_Pooling", "2_Dense"};
enum { FILES = sizeof names / sizeof *names, FOLDERS = sizeof folders / sizeof *folders };

static char folder[64];

static void remove_folder(void)
{
    char path[128];
    for (size_t i = 0; i < FILES; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i < FOLDERS; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        (void)rmdir(path);
    }
    (void)rmdir(folder);
}

static void make_folder(void)
{
    char path[128];
    (void)snprintf(folder, sizeof folder, "/tmp/orthrus-fuzz-XXXXXX");
    CHECK(mkdtemp(folder));
    for (size_t i = 0; i < FOLDERS; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        CHECK(mkdir(path, 0700) == 0);
    }
    CHECK(atexit(remove_folder) == 0);
}

/* An empty part leaves its file out. */
static void put_file(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (size == 0) {
        (void)unlink(path);
        return;
    }
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, size, file) == size);
    CHECK(fclose(file) == 0);
}

static void check_config(const struct config *config)
{
    CHECK(config->hidden >= 1 && config->hidden <= CONFIG_HIDDEN_MAX);
    CHECK(config->heads >= 1 && config->hidden % config->heads == 0);
    CHECK(config->intermediate >= 1 && config->intermediate <= CONFIG_INTERMEDIATE_MAX);
    CHECK(config->layers >= 1 && config->layers <= CONFIG_LAYERS_MAX);
    CHECK(config->vocab >= 1 && config->vocab <= CONFIG_VOCAB_MAX);
    CHECK(config->positions >= 2 && config->positions <= CONFIG_POSITIONS_MAX);
    CHECK(config->types >= 1);
    CHECK(config->layer_norm_eps > 0 && config->layer_norm_eps <= 1);
    CHECK(config->hidden_dropout >= 0 && config->hidden_dropout < 1);
    CHECK(config->attention_dropout >= 0 && config->attention_dropout < 1);
    CHECK(pooling_count(config->pooling) >= 1 &&
          pooling_count(config->pooling) <= POOLING_LIST_MAX);
    CHECK(config->architecture && config->n_labels >= 1 && config->n_labels <= CONFIG_LABELS_MAX);
    CHECK(config_vector_width(config) >= 1);
    CHECK(config->max_length >= 2 && config->max_length <= config->positions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!folder[0]) {
        make_folder();
    }
    for (size_t i = 0; i < FILES; i++) {
        const uint8_t *end = size ? memchr(data, 0, size) : NULL;
        size_t part = end && i + 1 < FILES ? (size_t)(end - data) : size;
        put_file(names[i], data, part);
        data += part;
        size -= part;
        if (size) { /* the NUL */
            data++;
            size--;
        }
    }
    struct config config;
    struct err err = ERR_INIT;
    if (config_load(folder, &config, &err) == ERR_OK) {
        check_config(&config);
        config_done(&config);
    } else {
        CHECK(err.code != ERR_OK && err.text[0]);
    }
    return 0;
}
