/* Inputs of a request: texts, arrays of them, token ids. */
#include <string.h>

#include "api/request_private.h"
#include "base/size.h"

static bool empty(struct reader *reader, const struct path *path)
{
    return problem_set(reader->problem, PROBLEM_EMPTY_INPUTS, path->text, "%s must not be empty",
                       path->text);
}

bool inputs_start(struct reader *reader, const struct path *path, size_t n)
{
    if (n == 0) {
        return empty(reader, path);
    }
    if (n > reader->limits->client_batch) {
        return problem_set(reader->problem, PROBLEM_TOO_MANY, path->text,
                           "%s holds too many inputs; at most %zu are allowed in one request",
                           path->text, reader->limits->client_batch);
    }
    struct api_input *inputs = arena_calloc(reader->arena, n, sizeof(*inputs));
    if (!inputs) {
        return reader_no_memory(reader);
    }
    reader->request->inputs = inputs;
    reader->request->n = n;
    return true;
}

static char *move_text(char *at, const char **text, size_t size)
{
    if (size) {
        memcpy(at, *text, size);
    }
    *text = at;
    return at + size;
}

/* The texts point into the tree until now: copies all of them side by side into the arena. */
bool inputs_keep(struct reader *reader)
{
    struct api_request *request = reader->request;
    size_t total = 0;
    for (size_t i = 0; i < request->n; i++) {
        if (!size_add(total, request->inputs[i].size, &total) ||
            !size_add(total, request->inputs[i].second_size, &total)) {
            return reader_no_memory(reader);
        }
    }
    char *at = arena_alloc(reader->arena, total);
    if (!at) {
        return reader_no_memory(reader);
    }
    for (size_t i = 0; i < request->n; i++) {
        struct api_input *input = &request->inputs[i];
        if (input->text) {
            at = move_text(at, &input->text, input->size);
        }
        if (input->second) {
            at = move_text(at, &input->second, input->second_size);
        }
    }
    return true;
}

void input_set_text(struct api_input *input, const json_t *value)
{
    input->text = json_string_value(value);
    input->size = json_string_length(value);
}

bool inputs_read_one(struct reader *reader, const struct path *path, const json_t *value)
{
    if (!inputs_start(reader, path, 1)) {
        return false;
    }
    input_set_text(&reader->request->inputs[0], value);
    reader->request->single = true;
    return inputs_keep(reader);
}

static bool read_texts(struct reader *reader, const struct path *path, const json_t *value,
                       bool empty_ok)
{
    size_t n = json_array_size(value);
    if (!inputs_start(reader, path, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        struct api_input *input = &reader->request->inputs[i];
        if (!is(item, JSON_STRING)) {
            struct path at = path_at(path, i);
            return reader_wrong_type(reader, &at, "a string");
        }
        input_set_text(input, item);
        if (input->size == 0 && !empty_ok) {
            struct path at = path_at(path, i);
            return empty(reader, &at);
        }
    }
    return inputs_keep(reader);
}

/* One array of ids; those behind max_length are checked, then dropped. */
static bool read_ids(struct reader *reader, const struct path *path, const json_t *value,
                     struct api_input *input)
{
    size_t n = json_array_size(value);
    if (n == 0) {
        return empty(reader, path);
    }
    /* Decoding has no limit of tokens. */
    size_t kept = reader->kind == API_DECODE ? n : size_min(n, reader->limits->max_length);
    int32_t *ids = arena_calloc(reader->arena, kept, sizeof(*ids));
    if (!ids) {
        return reader_no_memory(reader);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        int64_t id = 0;
        if (!is(item, JSON_INTEGER) || json_integer_value(item) < 0 ||
            (size_t)json_integer_value(item) >= reader->limits->vocab) {
            struct path at = path_at(path, i);
            if (!reader_integer(reader, item, &at, 0, (int64_t)reader->limits->vocab - 1, &id)) {
                return false;
            }
        } else {
            id = json_integer_value(item);
        }
        if (i < kept) {
            ids[i] = (int32_t)id;
        }
    }
    *input = (struct api_input){.ids = ids, .n_ids = kept, .truncated = kept < n};
    return true;
}

static bool read_id_arrays(struct reader *reader, const struct path *path, const json_t *value)
{
    size_t n = json_array_size(value);
    if (!inputs_start(reader, path, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        struct path at = path_at(path, i);
        if (!is(item, JSON_ARRAY)) {
            return reader_wrong_type(reader, &at, "an array of token ids");
        }
        if (!read_ids(reader, &at, item, &reader->request->inputs[i])) {
            return false;
        }
    }
    return true;
}

/* Strings, and arrays of ids, in any order: what /embed takes beside a single one of each. */
static bool read_mixed(struct reader *reader, const struct path *path, const json_t *value)
{
    size_t n = json_array_size(value);
    if (!inputs_start(reader, path, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        struct api_input *input = &reader->request->inputs[i];
        struct path at = path_at(path, i);
        if (is(item, JSON_STRING)) {
            input_set_text(input, item);
        } else if (!is(item, JSON_ARRAY) ||
                   (json_array_size(item) && !reader_is_integer(json_array_get(item, 0)))) {
            return reader_wrong_type(reader, &at, "a string or an array of token ids");
        } else if (!read_ids(reader, &at, item, input)) {
            return false;
        }
    }
    return inputs_keep(reader);
}

/* An array of numbers: one text's ids. */
static bool read_one_ids(struct reader *reader, const struct path *path, const json_t *value)
{
    if (!inputs_start(reader, path, 1) ||
        !read_ids(reader, path, value, &reader->request->inputs[0])) {
        return false;
    }
    reader->request->single = true;
    return true;
}

bool read_inputs(struct reader *reader, const char *name, const json_t *value)
{
    struct path path = path_of(reader, name);
    bool vectors = reader->kind == API_EMBED || reader->kind == API_EMBED_ALL;
    if (reader->kind == API_SIMILARITY) {
        return read_similarity(reader, &path, value);
    }
    if (is(value, JSON_STRING)) {
        return inputs_read_one(reader, &path, value);
    }
    if (reader->kind == API_PREDICT) {
        return read_predict_inputs(reader, &path, value);
    }
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, &path,
                                 vectors
                                     ? "a string, an array of token ids, or an array of strings "
                                       "and arrays of token ids"
                                     : "a string or an array of strings");
    }
    if (!vectors) {
        return read_texts(reader, &path, value, true);
    }
    const json_t *first = json_array_get(value, 0);
    return first && reader_is_integer(first) ? read_one_ids(reader, &path, value)
                                             : read_mixed(reader, &path, value);
}

bool read_id_lists(struct reader *reader, const char *name, const json_t *value)
{
    struct path path = path_of(reader, name);
    const json_t *first = json_array_get(value, 0);
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, &path, "an array of token ids or an array of such arrays");
    }
    return json_is_array(first) || !first ? read_id_arrays(reader, &path, value)
                                          : read_one_ids(reader, &path, value);
}

/* OpenAI's `input`: the first element tells which of the four forms it is. */
bool read_openai_input(struct reader *reader, const char *name, const json_t *value)
{
    struct path path = path_of(reader, name);
    if (is(value, JSON_STRING)) {
        return json_string_length(value) ? inputs_read_one(reader, &path, value)
                                         : empty(reader, &path);
    }
    const json_t *first = json_array_get(value, 0);
    if (is(value, JSON_ARRAY) && (!first || is(first, JSON_STRING))) {
        return read_texts(reader, &path, value, false);
    }
    if (json_is_array(first)) {
        return read_id_arrays(reader, &path, value);
    }
    if (first && reader_is_integer(first)) {
        return read_one_ids(reader, &path, value);
    }
    return reader_wrong_type(reader, &path,
                             "a string, an array of strings, an array of token ids or an array "
                             "of such arrays");
}
