/* Pairs of texts in requests: /predict, /rerank; and /similarity, one text against many. */
#include "api/request_private.h"

static const char predict_allowed[] =
    "a string, an array of one or two strings, or an array of such arrays, as in "
    "[[\"text\"],[\"first\",\"second\"]]";

/* One or two strings. */
static bool set_sequence(struct reader *reader, const struct path *path, const json_t *value,
                         struct api_input *input)
{
    size_t n = json_array_size(value);
    const json_t *second = json_array_get(value, 1);
    if (n < 1 || n > 2 || !is(json_array_get(value, 0), JSON_STRING) ||
        (second && !is(second, JSON_STRING))) {
        return reader_wrong_type(reader, path, "an array of one or two strings");
    }
    input_set_text(input, json_array_get(value, 0));
    if (second) {
        input->second = json_string_value(second);
        input->second_size = json_string_length(second);
    }
    return true;
}

/* TEI's /predict: "a" and ["a"] are one text, ["a","b"] one pair, [["a"],["b","c"]] a batch. */
bool read_predict_inputs(struct reader *reader, const struct path *path, const json_t *value)
{
    size_t n = json_array_size(value);
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, path, predict_allowed);
    }
    bool sequence = json_is_string(json_array_get(value, 0));
    if (sequence && n > 2) {
        return reader_wrong_type(reader, path, predict_allowed);
    }
    if (!inputs_start(reader, path, sequence ? 1 : n)) {
        return false;
    }
    reader->request->single = sequence;
    if (sequence) {
        return set_sequence(reader, path, value, &reader->request->inputs[0]) &&
               inputs_keep(reader);
    }
    for (size_t i = 0; i < n; i++) {
        struct path at = path_at(path, i);
        if (!set_sequence(reader, &at, json_array_get(value, i), &reader->request->inputs[i])) {
            return false;
        }
    }
    return inputs_keep(reader);
}

bool read_query(struct reader *reader, const char *name, const json_t *value)
{
    if (!is(value, JSON_STRING)) {
        struct path path = path_of(reader, name);
        return reader_wrong_type(reader, &path, "a string");
    }
    reader->query = value;
    return true;
}

/* The texts stay in the tree until the query is known. */
bool read_rerank_texts(struct reader *reader, const char *name, const json_t *value)
{
    struct path path = path_of(reader, name);
    size_t n = json_array_size(value);
    if (!is(value, JSON_ARRAY)) {
        return reader_wrong_type(reader, &path, "an array of strings");
    }
    if (!inputs_start(reader, &path, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        if (!is(item, JSON_STRING)) {
            struct path at = path_at(&path, i);
            return reader_wrong_type(reader, &at, "a string");
        }
        reader->request->inputs[i].second = json_string_value(item);
        reader->request->inputs[i].second_size = json_string_length(item);
    }
    return true;
}

bool join_query(struct reader *reader)
{
    struct api_request *request = reader->request;
    if (!reader->query) {
        return problem_set(reader->problem, PROBLEM_FIELD_MISSING, "query",
                           "field query is missing");
    }
    if (request->n == 0) {
        return true; /* the caller says that texts are missing */
    }
    input_set_text(&request->inputs[0], reader->query);
    if (!inputs_keep(reader)) {
        return false;
    }
    for (size_t i = 1; i < request->n; i++) {
        request->inputs[i].text = request->inputs[0].text;
        request->inputs[i].size = request->inputs[0].size;
    }
    return true;
}

/* The two members of /similarity's inputs, both there, and nothing beside them. */
static bool take_sentences(struct reader *reader, const json_t *inputs, const json_t **ret_source,
                           const json_t **ret_sentences)
{
    static const char *const names[] = {"source_sentence", "sentences"};
    static const char *const allowed[] = {"a string", "an array of strings"};
    const json_t *found[2] = {NULL, NULL};
    json_t *mutable_inputs = (json_t *)(uintptr_t)inputs; /* jansson's iterators are not const */
    for (void *at = json_object_iter(mutable_inputs); at;
         at = json_object_iter_next(mutable_inputs, at)) {
        const char *name = json_object_iter_key(at);
        size_t i = strcmp(name, names[0]) == 0 ? 0 : 1;
        if (i == 1 && strcmp(name, names[1]) != 0) {
            bool echo = request_may_echo(name, strlen(name));
            char param[80];
            (void)snprintf(param, sizeof param, "inputs.%s", name);
            return problem_set(reader->problem, PROBLEM_FIELD_UNKNOWN, echo ? param : NULL,
                               "unknown field%s%s in inputs; allowed: source_sentence, sentences",
                               echo ? " " : "", echo ? name : "");
        }
        found[i] = is(json_object_iter_value(at), JSON_NULL) ? NULL : json_object_iter_value(at);
    }
    for (size_t i = 0; i < 2; i++) {
        struct path path;
        (void)snprintf(path.text, sizeof path.text, "inputs.%s", names[i]);
        if (!found[i]) {
            return problem_set(reader->problem, PROBLEM_FIELD_MISSING, path.text,
                               "field %s is missing", path.text);
        }
        if (i == 0 ? !is(found[i], JSON_STRING) : !is(found[i], JSON_ARRAY)) {
            return reader_wrong_type(reader, &path, allowed[i]);
        }
    }
    *ret_source = found[0];
    *ret_sentences = found[1];
    return true;
}

bool read_similarity(struct reader *reader, const struct path *path, const json_t *value)
{
    const json_t *source = NULL;
    const json_t *sentences = NULL;
    if (!is(value, JSON_OBJECT)) {
        return reader_wrong_type(reader, path,
                                 "an object of source_sentence, a string, and sentences, an array "
                                 "of strings");
    }
    if (!take_sentences(reader, value, &source, &sentences)) {
        return false;
    }
    size_t n = json_array_size(sentences);
    if (n == 0) {
        return problem_set(reader->problem, PROBLEM_EMPTY_INPUTS, "inputs.sentences",
                           "inputs.sentences must not be empty");
    }
    if (!inputs_start(reader, path, n + 1)) {
        return false;
    }
    input_set_text(&reader->request->inputs[0], source);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(sentences, i);
        if (!is(item, JSON_STRING)) {
            struct path list = path_of(reader, "inputs.sentences");
            struct path at = path_at(&list, i);
            return reader_wrong_type(reader, &at, "a string");
        }
        input_set_text(&reader->request->inputs[i + 1], item);
    }
    return inputs_keep(reader);
}
