#include "api/request.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/request_private.h"

enum { TOP_K_MAX = 2147483647 };

/* Members: the one table of what each route's body may hold. */

struct member;
typedef bool member_reader(struct reader *reader, const struct member *member, const json_t *value);
static member_reader read_text_inputs, read_openai_inputs, read_parameters, read_bool,
    read_dimensions, read_top_k, read_direction, read_prompt_name, read_format, read_function,
    read_tasks_member, read_ignored_string, read_ignored_object, read_long, read_aggregation,
    read_ignore_labels, read_stride, read_pairs_member, read_decode_ids;

#define ON(kind)   (1u << (kind))
#define CLASSIFIER (ON(API_CLASSIFY) | ON(API_SENTIMENT) | ON(API_HEAD))
#define PREDICTION (CLASSIFIER | ON(API_PREDICT))
#define VECTORS    (ON(API_EMBED) | ON(API_EMBED_ALL))
#define HUGGING    (PREDICTION | VECTORS | ON(API_SIMILARITY))

static const struct member {
    const char *name;
    unsigned body;       /* ON(kind) of the routes whose body has it */
    unsigned parameters; /* and whose "parameters" has it */
    member_reader *read;
    size_t offset; /* of the bool in struct api_request */
} members[] = {
    {"inputs", HUGGING | ON(API_ANALYZE) | ON(API_TOKENIZE), 0, read_text_inputs, 0},
    {"input", ON(API_OPENAI), 0, read_openai_inputs, 0},
    {"query", ON(API_RERANK), 0, read_pairs_member, 0},
    {"texts", ON(API_RERANK), 0, read_pairs_member, 0},
    {"ids", ON(API_DECODE), 0, read_decode_ids, 0},
    {"tasks", ON(API_ANALYZE), 0, read_tasks_member, 0},
    /* huggingface_hub 0.26 and 0.27 put the fields of /embed here too. */
    {"parameters", PREDICTION | ON(API_EMBED) | ON(API_SIMILARITY), 0, read_parameters, 0},
    {"top_k", CLASSIFIER, PREDICTION, read_top_k, 0},
    {"function_to_apply", 0, PREDICTION, read_function, 0},
    {"raw_scores", PREDICTION | ON(API_ANALYZE) | ON(API_RERANK), 0, read_bool,
     offsetof(struct api_request, raw_scores)},
    {"return_text", ON(API_RERANK), 0, read_bool, offsetof(struct api_request, return_text)},
    {"abstain", CLASSIFIER, CLASSIFIER, read_bool, offsetof(struct api_request, abstain)},
    {"explain", CLASSIFIER, CLASSIFIER, read_bool, offsetof(struct api_request, explain)},
    {"long", CLASSIFIER | ON(API_EMBED) | ON(API_OPENAI) | ON(API_ANALYZE), CLASSIFIER, read_long,
     0},
    {"aggregation_strategy", ON(API_HEAD), ON(API_HEAD), read_aggregation, 0},
    {"ignore_labels", ON(API_HEAD), ON(API_HEAD), read_ignore_labels, 0},
    {"stride", 0, ON(API_HEAD), read_stride, 0},
    {"normalize", ON(API_EMBED) | ON(API_ANALYZE), ON(API_EMBED), read_bool,
     offsetof(struct api_request, normalize)},
    {"truncate", PREDICTION | VECTORS | ON(API_ANALYZE) | ON(API_RERANK),
     ON(API_EMBED) | ON(API_SIMILARITY), read_bool, offsetof(struct api_request, truncate)},
    {"truncation_direction", PREDICTION | VECTORS | ON(API_RERANK),
     ON(API_EMBED) | ON(API_SIMILARITY), read_direction, 0},
    {"dimensions", ON(API_EMBED) | ON(API_OPENAI), ON(API_EMBED), read_dimensions, 0},
    {"prompt_name", VECTORS | ON(API_TOKENIZE) | ON(API_OPENAI), ON(API_EMBED) | ON(API_SIMILARITY),
     read_prompt_name, 0},
    {"encoding_format", ON(API_EMBED) | ON(API_OPENAI), ON(API_EMBED), read_format, 0},
    {"add_special_tokens", ON(API_TOKENIZE), 0, read_bool,
     offsetof(struct api_request, special_tokens)},
    {"skip_special_tokens", ON(API_DECODE), 0, read_bool,
     offsetof(struct api_request, skip_special)},
    {"model", ON(API_OPENAI), 0, read_ignored_string, 0},
    {"user", ON(API_OPENAI), 0, read_ignored_string, 0},
    /* How Hugging Face's hosted service waits and caches; its older clients send it. */
    {"options", HUGGING, 0, read_ignored_object, 0},
};
enum { N_MEMBERS = sizeof(members) / sizeof(members[0]) };

static bool member_allowed(const struct reader *reader, const struct member *member)
{
    return (reader->in_parameters ? member->parameters : member->body) & ON(reader->kind);
}

static const struct member *find_member(const struct reader *reader, const char *name)
{
    for (size_t i = 0; i < N_MEMBERS; i++) {
        if (member_allowed(reader, &members[i]) && strcmp(members[i].name, name) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

/* What readers share. */

struct path path_of(const struct reader *reader, const char *name)
{
    struct path path;
    (void)snprintf(path.text, sizeof(path.text), "%s%s", reader->in_parameters ? "parameters." : "",
                   name);
    return path;
}

struct path path_at(const struct path *path, size_t index)
{
    struct path at;
    (void)snprintf(at.text, sizeof(at.text), "%.50s[%zu]", path->text, index);
    return at;
}

bool reader_wrong_type(struct reader *reader, const struct path *path, const char *allowed)
{
    return problem_set(reader->problem, PROBLEM_FIELD_TYPE, path->text, "%s must be %s", path->text,
                       allowed);
}

bool reader_no_memory(struct reader *reader)
{
    return problem_set(reader->problem, PROBLEM_INTERNAL, NULL,
                       "out of memory while reading the request");
}

bool reader_is_integer(const json_t *value)
{
    return is(value, JSON_INTEGER) ||
           (is(value, JSON_REAL) && trunc(json_real_value(value)) == json_real_value(value));
}

bool reader_integer(struct reader *reader, const json_t *value, const struct path *path,
                    int64_t least, int64_t most, int64_t *ret)
{
    if (!reader_is_integer(value)) {
        return reader_wrong_type(reader, path, "an integer");
    }
    /* Every bound is below 2^53: a real that holds an integer is compared exactly. */
    bool inside = is(value, JSON_REAL)
                      ? json_real_value(value) >= (double)least &&
                            json_real_value(value) <= (double)most
                      : json_integer_value(value) >= least && json_integer_value(value) <= most;
    if (!inside) {
        return problem_set(reader->problem, PROBLEM_FIELD_RANGE, path->text,
                           "%s must be from %lld to %lld", path->text, (long long)least,
                           (long long)most);
    }
    *ret = is(value, JSON_REAL) ? (int64_t)json_real_value(value) : json_integer_value(value);
    return true;
}

bool reader_is_text(const json_t *value, const char *text)
{
    return is(value, JSON_STRING) && json_string_length(value) == strlen(text) &&
           memcmp(json_string_value(value), text, strlen(text)) == 0;
}

bool reader_wrong_choice(struct reader *reader, const char *name, const json_t *value,
                         const char *allowed)
{
    struct path path = path_of(reader, name);
    if (!is(value, JSON_STRING)) {
        return reader_wrong_type(reader, &path, allowed);
    }
    return problem_set(reader->problem, PROBLEM_FIELD_VALUE, path.text, "%s must be %s", path.text,
                       allowed);
}

/* Readers of single members. */

static bool read_text_inputs(struct reader *reader, const struct member *member,
                             const json_t *value)
{
    return read_inputs(reader, member->name, value);
}

static bool read_openai_inputs(struct reader *reader, const struct member *member,
                               const json_t *value)
{
    return read_openai_input(reader, member->name, value);
}

static bool read_bool(struct reader *reader, const struct member *member, const json_t *value)
{
    if (!is(value, JSON_TRUE) && !is(value, JSON_FALSE)) {
        struct path path = path_of(reader, member->name);
        return reader_wrong_type(reader, &path, "true or false");
    }
    *(bool *)((char *)reader->request + member->offset) = is(value, JSON_TRUE);
    return true;
}

static bool read_dimensions(struct reader *reader, const struct member *member, const json_t *value)
{
    struct path path = path_of(reader, member->name);
    int64_t dimensions = 0;
    if (!reader_integer(reader, value, &path, 1, (int64_t)reader->limits->hidden, &dimensions)) {
        return false;
    }
    reader->request->dimensions = (size_t)dimensions;
    return true;
}

static bool read_top_k(struct reader *reader, const struct member *member, const json_t *value)
{
    struct path path = path_of(reader, member->name);
    int64_t top_k = 0;
    if (!reader_integer(reader, value, &path, 1, TOP_K_MAX, &top_k)) {
        return false;
    }
    reader->request->top_k = (size_t)top_k;
    return true;
}

static bool read_direction(struct reader *reader, const struct member *member, const json_t *value)
{
    bool left = reader_is_text(value, "left") || reader_is_text(value, "Left");
    if (!left && !reader_is_text(value, "right") && !reader_is_text(value, "Right")) {
        return reader_wrong_choice(reader, member->name, value, "\"left\" or \"right\"");
    }
    reader->request->truncate_left = left;
    return true;
}

/* 422 with the names that there are, as far as they fit and may be shown. */
static bool unknown_prompt(struct reader *reader, const struct path *path)
{
    const struct api_limits *limits = reader->limits;
    if (limits->n_prompts == 0) {
        return problem_set(reader->problem, PROBLEM_FIELD_VALUE, path->text,
                           "%s must be left out or null: this model has no prompts", path->text);
    }
    char names[200] = "";
    size_t used = 0;
    for (size_t i = 0; i < limits->n_prompts; i++) {
        const char *name = limits->prompt_names[i];
        size_t size = strlen(name);
        if (request_may_echo(name, size) && used + size + sizeof ", \"\"" < sizeof names) {
            used += (size_t)snprintf(names + used, sizeof names - used, "\"%s\", ", name);
        }
    }
    return problem_set(reader->problem, PROBLEM_FIELD_VALUE, path->text,
                       "%s must be one of %sor \"\" for none", path->text, names);
}

/* Ids are used as given: a prompt can't stand before them. */
static bool prompt_fits_inputs(struct reader *reader)
{
    for (size_t i = 0; reader->has_prompt && i < reader->request->n; i++) {
        if (!reader->request->inputs[i].text) {
            return problem_set(reader->problem, PROBLEM_FIELD_VALUE, "prompt_name",
                               "prompt_name must be left out or null beside token ids, which are "
                               "used as given");
        }
    }
    return true;
}

static bool read_prompt_name(struct reader *reader, const struct member *member,
                             const json_t *value)
{
    const struct api_limits *limits = reader->limits;
    struct path path = path_of(reader, member->name);
    if (!is(value, JSON_STRING)) {
        return reader_wrong_type(reader, &path, "a string");
    }
    const char *name = json_string_value(value);
    size_t size = json_string_length(value);
    reader->has_prompt = true;
    if (size == 0) {
        reader->request->prompt = API_PROMPT_NONE;
        return true;
    }
    for (size_t i = 0; i < limits->n_prompts; i++) {
        if (strlen(limits->prompt_names[i]) == size &&
            memcmp(limits->prompt_names[i], name, size) == 0) {
            reader->request->prompt = (int)i;
            return true;
        }
    }
    return unknown_prompt(reader, &path);
}

static bool read_format(struct reader *reader, const struct member *member, const json_t *value)
{
    bool openai = reader->kind == API_OPENAI;
    bool base64 = reader_is_text(value, "base64");
    if (!reader_is_text(value, "float") && !(base64 && openai)) {
        return reader_wrong_choice(reader, member->name, value,
                                   openai
                                       ? "\"float\" or \"base64\""
                                       : "\"float\" on this route; /v1/embeddings answers base64");
    }
    reader->request->base64 = base64;
    return true;
}

static bool read_function(struct reader *reader, const struct member *member, const json_t *value)
{
    bool none = reader_is_text(value, "none");
    bool sigmoid = reader_is_text(value, "sigmoid");
    if (!none && !sigmoid && !reader_is_text(value, "softmax")) {
        return reader_wrong_choice(reader, member->name, value,
                                   "\"softmax\", \"sigmoid\" or \"none\"");
    }
    reader->request->raw_scores = none;
    reader->request->function = none      ? API_FUNCTION_UNSAID
                                : sigmoid ? API_FUNCTION_SIGMOID
                                          : API_FUNCTION_SOFTMAX;
    return true;
}

static bool read_tasks_member(struct reader *reader, const struct member *member,
                              const json_t *value)
{
    return read_tasks(reader, member->name, value);
}

static bool read_pairs_member(struct reader *reader, const struct member *member,
                              const json_t *value)
{
    return member->name[0] == 'q' ? read_query(reader, member->name, value)
                                  : read_rerank_texts(reader, member->name, value);
}

static bool read_decode_ids(struct reader *reader, const struct member *member, const json_t *value)
{
    return read_id_lists(reader, member->name, value);
}

static bool read_long(struct reader *reader, const struct member *member, const json_t *value)
{
    if (!reader_is_text(value, "windows")) {
        return reader_wrong_choice(reader, member->name, value, "\"windows\" or null");
    }
    reader->request->windows = true;
    return true;
}

static bool read_aggregation(struct reader *reader, const struct member *member,
                             const json_t *value)
{
    static const char *const names[] = {"none", "simple", "first", "average", "max"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (reader_is_text(value, names[i])) {
            reader->request->aggregation = (enum api_aggregation)(API_AGGREGATE_NONE + i);
            return true;
        }
    }
    return reader_wrong_choice(reader, member->name, value,
                               "\"none\", \"simple\", \"first\", \"average\" or \"max\"");
}

static bool read_ignore_labels(struct reader *reader, const struct member *member,
                               const json_t *value)
{
    struct path path = path_of(reader, member->name);
    reader->request->ignore_said = true;
    return read_names(reader, &path, value, API_IGNORE_LABELS_MAX, &reader->request->ignore_labels,
                      &reader->request->n_ignore_labels);
}

static bool read_stride(struct reader *reader, const struct member *member, const json_t *value)
{
    (void)value;
    struct path path = path_of(reader, member->name);
    return problem_set(reader->problem, PROBLEM_FIELD_VALUE, path.text,
                       "%s must be left out or null; long: \"windows\" reads the whole text",
                       path.text);
}

static bool read_ignored_object(struct reader *reader, const struct member *member,
                                const json_t *value)
{
    if (!is(value, JSON_OBJECT)) {
        struct path path = path_of(reader, member->name);
        return reader_wrong_type(reader, &path, "an object");
    }
    return true;
}

static bool read_ignored_string(struct reader *reader, const struct member *member,
                                const json_t *value)
{
    if (!is(value, JSON_STRING)) {
        struct path path = path_of(reader, member->name);
        return reader_wrong_type(reader, &path, "a string");
    }
    return true;
}

/* Objects. */

static bool unknown_member(struct reader *reader, const char *name)
{
    char allowed[240] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_MEMBERS; i++) {
        if (member_allowed(reader, &members[i]) && used < sizeof(allowed)) {
            int n = snprintf(allowed + used, sizeof(allowed) - used, "%s%s", used ? ", " : "",
                             members[i].name);
            used += (size_t)n;
        }
    }
    const char *where = reader->in_parameters ? " in parameters" : "";
    if (!request_may_echo(name, strlen(name))) {
        return problem_set(reader->problem, PROBLEM_FIELD_UNKNOWN, NULL,
                           "unknown field%s; allowed: %s", where, allowed);
    }
    struct path path = path_of(reader, name);
    return problem_set(reader->problem, PROBLEM_FIELD_UNKNOWN, path.text,
                       "unknown field %s%s; allowed: %s", name, where, allowed);
}

/* Null counts as absent, for known names. */
static bool read_object(struct reader *reader, const json_t *object)
{
    json_t *mutable_object = (json_t *)(uintptr_t)object; /* jansson's iterators are not const */
    for (void *at = json_object_iter(mutable_object); at;
         at = json_object_iter_next(mutable_object, at)) {
        const char *name = json_object_iter_key(at);
        const json_t *value = json_object_iter_value(at);
        const struct member *member = find_member(reader, name);
        if (!member && reader->kind != API_OPENAI) {
            return unknown_member(reader, name);
        }
        if (member && !is(value, JSON_NULL) && !member->read(reader, member, value)) {
            return false;
        }
    }
    return true;
}

static bool read_parameters(struct reader *reader, const struct member *member, const json_t *value)
{
    if (!is(value, JSON_OBJECT)) {
        struct path path = path_of(reader, member->name);
        return reader_wrong_type(reader, &path, "an object");
    }
    reader->has_parameters = true;
    reader->in_parameters = true;
    bool good = read_object(reader, value);
    reader->in_parameters = false;
    return good;
}

static bool read_request(struct reader *reader, const json_t *tree)
{
    if (!is(tree, JSON_OBJECT)) {
        return problem_set(reader->problem, PROBLEM_FIELD_TYPE, NULL,
                           "the body must be a JSON object");
    }
    if (!read_object(reader, tree)) {
        return false;
    }
    if (reader->kind == API_RERANK && !join_query(reader)) {
        return false;
    }
    if (reader->request->n == 0) {
        const char *name = reader->kind == API_OPENAI   ? "input"
                           : reader->kind == API_RERANK ? "texts"
                           : reader->kind == API_DECODE ? "ids"
                                                        : "inputs";
        return problem_set(reader->problem, PROBLEM_FIELD_MISSING, name, "field %s is missing",
                           name);
    }
    if (reader->has_parameters) {
        reader->request->single = false;
    }
    return true;
}

bool request_parse(enum api_kind kind, const char *body, size_t size,
                   const struct api_limits *limits, struct arena *arena,
                   struct api_request *ret_request, struct problem *problem)
{
    if (!request_body_ok(kind, body, size, limits, problem)) {
        return false;
    }
    *ret_request = (struct api_request){
        .kind = kind,
        .truncate = true,
        .normalize = true,
        .special_tokens = true,
        .skip_special = true,
        .prompt = kind == API_TOKENIZE ? API_PROMPT_NONE : API_PROMPT_DEFAULT,
        .tasks = API_TASK_EMBED | API_TASK_CLASSIFY | API_TASK_SENTIMENT,
    };
    struct reader reader = {
        .kind = kind,
        .limits = limits,
        .arena = arena,
        .request = ret_request,
        .problem = problem,
    };
    json_t *tree = request_parse_json(kind, body, size, problem);
    if (!tree) {
        return false;
    }
    bool good = read_request(&reader, tree) && prompt_fits_inputs(&reader);
    json_decref(tree);
    return good;
}
