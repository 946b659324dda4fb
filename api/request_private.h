/* Shared by request.c, request_inputs.c and request_json.c alone. */
#ifndef ORTHRUS_API_REQUEST_PRIVATE_H
#define ORTHRUS_API_REQUEST_PRIVATE_H

#include <jansson.h>

#include "api/request.h"

/* The type of a value that is there. (jansson's macros ask at each place whether it is.) */
static inline bool is(const json_t *value, json_type type)
{
    return json_typeof(value) == type;
}

/* One parse. Lifetime: request_parse's stack. */
struct reader {
    enum api_kind kind;
    const struct api_limits *limits;
    struct arena *arena;
    struct api_request *request; /* being filled */
    struct problem *problem;
    bool in_parameters;  /* inside Hugging Face's "parameters" */
    bool has_parameters; /* it was there */
    bool has_prompt;     /* prompt_name was there and not null */
    const json_t *query; /* of /rerank, borrowed from the tree */
};

/* Names as messages and `param` carry them: "name", "parameters.name", "name[3]", "name[3][0]". */
struct path {
    char text[80];
};
struct path path_of(const struct reader *reader, const char *name);
struct path path_at(const struct path *path, size_t index);

/* Each returns false: problem_set with what is allowed. */
bool reader_wrong_type(struct reader *reader, const struct path *path, const char *allowed);
bool reader_no_memory(struct reader *reader);

/* True where value is an integer from least to most, else a problem. */
bool reader_integer(struct reader *reader, const json_t *value, const struct path *path,
                    int64_t least, int64_t most, int64_t *ret);

/* JSON Schema's meaning: any number without a fraction, 5.0 too. */
bool reader_is_integer(const json_t *value);

/* True for a string of exactly that text. */
bool reader_is_text(const json_t *value, const char *text);
/* False: PROBLEM_FIELD_VALUE for a string, PROBLEM_FIELD_TYPE for anything else. */
bool reader_wrong_choice(struct reader *reader, const char *name, const json_t *value,
                         const char *allowed);

/* request_names.c: a name into the arena; an array of them; the tasks of /analyze. */
bool read_name(struct reader *reader, const struct path *path, const json_t *value,
               const char **ret_name);
bool read_names(struct reader *reader, const struct path *path, const json_t *value, size_t most,
                struct api_name **ret_names, size_t *ret_n);
bool read_tasks(struct reader *reader, const char *name, const json_t *value);

/* request_pairs.c: the query and texts of /rerank, joined once both are known; the object of
 * /similarity; a pair or a single text of /predict. */
bool read_query(struct reader *reader, const char *name, const json_t *value);
bool read_rerank_texts(struct reader *reader, const char *name, const json_t *value);
bool join_query(struct reader *reader);
bool read_similarity(struct reader *reader, const struct path *path, const json_t *value);
bool read_predict_inputs(struct reader *reader, const struct path *path, const json_t *value);

/* request_inputs.c, for request_pairs.c: 1 … client_batch inputs and room for them; a string into
 * an input; all strings out of the tree into the arena, once. */
bool inputs_start(struct reader *reader, const struct path *path, size_t n);
void input_set_text(struct api_input *input, const json_t *value);
bool inputs_keep(struct reader *reader);
bool inputs_read_one(struct reader *reader, const struct path *path, const json_t *value);
/* One array of ids or several, as /decode takes them. */
bool read_id_lists(struct reader *reader, const char *name, const json_t *value);

/* The grammars of `inputs` and of OpenAI's `input`: fill request->inputs, n and single. */
bool read_inputs(struct reader *reader, const char *name, const json_t *value);
bool read_openai_input(struct reader *reader, const char *name, const json_t *value);

/* request_json.c: bytes → tree. */

/* Everything that can be said of a body before a parser sees it: empty, UTF-8, depth, and how many
 * values it holds. */
bool request_body_ok(enum api_kind kind, const char *body, size_t size,
                     const struct api_limits *limits, struct problem *problem);

/* The tree, owned by the caller; NULL with the problem set. Two things that are JSON and that
 * jansson refuses may stand in a field that is ignored, so the body is read once more: with every
 * integer as a real where one is beyond 64 bits, and, for OpenAI's routes, with other names where
 * one holds U+0000. */
json_t *request_parse_json(enum api_kind kind, const char *body, size_t size,
                           struct problem *problem);

/* True where a field's name may be repeated to the client: 1 … 64 printable ASCII characters. An
 * arbitrary one would let a body write into logs and terminals. */
bool request_may_echo(const char *name, size_t size);

#endif
