#include "train/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/jval.h"
#include "base/size.h"
#include "train/loss.h"

/* What one run over a file needs. */
struct reader {
    const char *path;
    size_t line; /* from 1 */
    const struct tokenizer *tokenizer;
    struct encode_options options;
    const struct label_set *sets;
    struct tokens tokens;
    size_t room_ids, room;
    struct dataset data;
};

static enum err_code bad_line(const struct reader *reader, struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s:%zu: %s", reader->path, reader->line, what);
}

static enum err_code read_label(const struct reader *reader, const struct jval *object,
                                enum head_kind kind, int32_t *ret_label, struct err *err)
{
    const struct jval *value = jval_get(object, head_name(kind));
    const struct label_set *set = &reader->sets[kind];
    const char *text;
    size_t size;
    int64_t index = LABEL_NONE;
    if (!value || jval_is_null(value) || set->n == 0) {
        *ret_label = LABEL_NONE;
        return ERR_OK;
    }
    if (jval_string(value, &text, &size)) {
        index = label_set_find(set, text, size);
    } else if (!jval_int(value, &index)) {
        index = LABEL_NONE;
    }
    if (index < 0 || (uint64_t)index >= set->n) {
        char allowed[256];
        char sentence[ERR_TEXT_MAX];
        label_set_text(set, allowed, sizeof allowed);
        snprintf(sentence, sizeof sentence, "\"%s\" must be one of %s, or an index from 0 to %zu",
                 head_name(kind), allowed, set->n - 1);
        return bad_line(reader, err, sentence);
    }
    *ret_label = (int32_t)index;
    return ERR_OK;
}

/* Room for one more example of n tokens. */
static enum err_code grow(struct reader *reader, size_t n, struct err *err)
{
    struct dataset *data = &reader->data;
    size_t used = data->n == 0 ? 0 : data->starts[data->n];
    if (data->n + 1 >= reader->room) {
        size_t room = reader->room * 2 + 1024;
        size_t *starts = realloc(data->starts, room * sizeof *starts);
        if (!starts) {
            return err_nomem(err, room * sizeof *starts);
        }
        data->starts = starts;
        for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
            int32_t *labels = realloc(data->labels[kind], room * sizeof *labels);
            if (!labels) {
                return err_nomem(err, room * sizeof *labels);
            }
            data->labels[kind] = labels;
        }
        reader->room = room;
    }
    if (n > reader->room_ids - used) {
        size_t room = reader->room_ids * 2 + size_max(n, 65536);
        int32_t *ids = realloc(data->ids, room * sizeof *ids);
        if (!ids) {
            return err_nomem(err, room * sizeof *ids);
        }
        data->ids = ids;
        reader->room_ids = room;
    }
    return ERR_OK;
}

static enum err_code add_example(struct reader *reader, const struct jval *object, struct err *err)
{
    struct dataset *data = &reader->data;
    struct tokens *tokens = &reader->tokens;
    const char *text;
    size_t size;
    int32_t labels[HEAD_COUNT] = {0};
    if (!jval_is_object(object)) {
        return bad_line(reader, err, "must be a JSON object like {\"text\": \"…\"}");
    }
    if (!jval_string(jval_get(object, "text"), &text, &size)) {
        return bad_line(reader, err, "\"text\" must be there and a string");
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        enum err_code code = read_label(reader, object, kind, &labels[kind], err);
        if (code != ERR_OK) {
            return code;
        }
    }
    enum err_code code = tokenizer_encode(reader->tokenizer, text, size, &reader->options, tokens,
                                          err);
    if (code == ERR_OK) {
        code = grow(reader, tokens->n, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    CHECK(data->starts && data->ids);
    if (data->n == 0) {
        data->starts[0] = 0;
    }
    memcpy(data->ids + data->starts[data->n], tokens->ids, tokens->n * sizeof *data->ids);
    data->starts[data->n + 1] = data->starts[data->n] + tokens->n;
    data->longest = size_max(data->longest, tokens->n);
    data->truncated += tokens->truncated;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        data->labels[kind][data->n] = labels[kind];
        data->labelled[kind] += labels[kind] != LABEL_NONE;
    }
    data->n++;
    return ERR_OK;
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!strchr(" \t\r", line[i])) {
            return false;
        }
    }
    return true;
}

static enum err_code read_line(struct reader *reader, const char *line, size_t size,
                               struct err *err)
{
    if (is_blank(line, size)) {
        return ERR_OK;
    }
    if (size > DATASET_LINE_MAX) {
        return err_set(err, ERR_LIMIT, "%s:%zu: longer than %d bytes", reader->path, reader->line,
                       DATASET_LINE_MAX);
    }
    if (reader->data.n == DATASET_LINES_MAX) {
        return err_set(err, ERR_LIMIT, "%s: more than %d examples", reader->path,
                       DATASET_LINES_MAX);
    }
    struct jval *object;
    enum err_code code = jval_parse(line, size, &object, err);
    if (code != ERR_OK) {
        err_prefix(err, "%s:%zu: must be a JSON object", reader->path, reader->line);
        return code;
    }
    code = add_example(reader, object, err);
    jval_free(object);
    return code;
}

enum err_code dataset_load(const char *path, const struct tokenizer *tokenizer, size_t max_length,
                           const struct label_set sets[HEAD_COUNT], struct dataset *ret_dataset,
                           struct err *err)
{
    struct reader reader = {
        .path = path,
        .tokenizer = tokenizer,
        .options = {.max_length = max_length, .add_special_tokens = true},
        .sets = sets,
    };
    struct file_map map;
    enum err_code code = file_map_open(path, DATASET_FILE_MAX, &map, err);
    if (code != ERR_OK) {
        return code;
    }
    const char *at = (const char *)map.data;
    const char *end = map.size > 0 ? at + map.size : at;
    while (at != end && code == ERR_OK) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        reader.line++;
        code = read_line(&reader, at, (size_t)(stop - at), err);
        at = newline ? newline + 1 : end;
    }
    if (code == ERR_OK && reader.data.n == 0) {
        code = err_set(err, ERR_INVALID, "%s: holds no example", path);
    }
    if (code == ERR_OK) {
        sha256_of(map.data, map.size, reader.data.sha256);
    }
    file_map_close(&map);
    tokens_done(&reader.tokens);
    if (code != ERR_OK) {
        dataset_done(&reader.data);
        return code;
    }
    *ret_dataset = reader.data;
    return ERR_OK;
}

void dataset_done(struct dataset *dataset)
{
    if (dataset) {
        free(dataset->ids);
        free(dataset->starts);
        for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
            free(dataset->labels[kind]);
        }
        *dataset = (struct dataset){0};
    }
}

static int descending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

enum err_code dataset_batch_tokens(const struct dataset *dataset, size_t texts, size_t *ret_tokens,
                                   struct err *err)
{
    size_t *lengths = calloc(dataset->n, sizeof *lengths);
    if (!lengths) {
        return err_nomem(err, dataset->n * sizeof *lengths);
    }
    for (size_t i = 0; i < dataset->n; i++) {
        lengths[i] = dataset_length(dataset, i);
    }
    qsort(lengths, dataset->n, sizeof *lengths, descending);
    size_t tokens = 0;
    for (size_t i = 0; i < dataset->n && i < texts; i++) {
        tokens += lengths[i];
    }
    free(lengths);
    *ret_tokens = tokens;
    return ERR_OK;
}
