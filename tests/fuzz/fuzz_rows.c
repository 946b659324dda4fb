/* Any bytes as the trainer's data: the first byte picks JSON lines, CSV or TSV and the columns.
 * What is accepted has tokens, labels within their classes and finite targets; what is refused
 * names its line. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/jval.h"
#include "train/data/dataset.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_LENGTH = 16, ARENA_MAX = 1 << 22 };

static struct tokenizer *tokenizer;
static int file;
static char path[64];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct tokenizer_options options = tokenizer_options_default();
    jval_global_init();
    CHECK(tokenizer_create(ORTHRUS_TEST_DATA "/golden/tiny-bert/vocab.txt", &options, &tokenizer,
                           NULL) == ERR_OK);
    file = memfd_create("data", MFD_CLOEXEC);
    CHECK(file >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return 0;
}

static void check_dataset(const struct dataset *data, const struct tasks *tasks)
{
    CHECK(data->n >= 1 && data->tasks == tasks->n && data->starts[0] == 0);
    for (size_t i = 0; i < data->n; i++) {
        CHECK(dataset_length(data, i) >= 2 && dataset_length(data, i) <= MAX_LENGTH);
        CHECK(!data->weights || isfinite(data->weights[i]));
        for (size_t t = 0; t < tasks->n; t++) {
            const struct task *task = &tasks->at[t];
            int32_t label = data->labels[t][i];
            CHECK(label == LABEL_NONE || (label >= 0 && (size_t)label < task->labels.n));
            for (size_t k = 0; data->targets[t] && k < task->labels.n; k++) {
                CHECK(label == LABEL_NONE || isfinite(data->targets[t][i * task->labels.n + k]));
            }
        }
    }
    size_t tokens;
    CHECK(dataset_batch_tokens(data, 4, &tokens, NULL) == ERR_OK && tokens >= data->longest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"classifier", "tags:sigmoid", "stars:score"};
    if (size == 0) {
        return 0;
    }
    uint8_t choice = data[0];
    CHECK(ftruncate(file, 0) == 0);
    CHECK(pwrite(file, data + 1, size - 1, 0) == (ssize_t)size - 1);
    struct arena arena;
    arena_init(&arena, ARENA_MAX);
    struct tasks tasks;
    const struct task_words words = {.heads = kinds, .n_heads = choice & 0x10 ? 3 : 0};
    CHECK(tasks_make(&words, NULL, &arena, &tasks, NULL) == ERR_OK);
    struct rows_columns columns = {
        .text = "text", .n = tasks.n, .group = choice & 0x20 ? "group" : NULL};
    for (size_t i = 0; i < tasks.n; i++) {
        columns.labels[i] = tasks.at[i].name;
    }
    const struct dataset_options options = {.path = path,
                                            .format = (enum rows_format)(ROWS_JSONL + choice % 3),
                                            .columns = &columns,
                                            .tokenizer = tokenizer,
                                            .max_length = MAX_LENGTH};
    struct dataset dataset;
    struct err err = ERR_INIT;
    if (dataset_load(&options, &tasks, &arena, &dataset, &err) == ERR_OK) {
        check_dataset(&dataset, &tasks);
        dataset_done(&dataset);
    } else {
        CHECK(err.code != ERR_OK && err.text[0] && err.code != ERR_NOMEM);
    }
    arena_done(&arena);
    return 0;
}
