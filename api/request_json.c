/* jansson, guarded: depth, UTF-8 and duplicates are checked before a tree is built. */
#include <stdlib.h>
#include <string.h>

#include "api/request_private.h"
#include "base/jval.h"
#include "base/size.h"
#include "base/utf8.h"

enum { NAME_ECHO_MAX = 64 };
enum {
    VALUES_SLACK = 4096,  /* JSON values beyond the inputs themselves */
    OPENAI_SLACK = 65536, /* ignored fields of OpenAI's requests, and ids that will be cut */
};

bool request_may_echo(const char *name, size_t size)
{
    if (size == 0 || size > NAME_ECHO_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (name[i] < 0x20 || name[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

/* jansson makes a heap object of each value, some 40 bytes of one digit and a comma: without a
 * bound a body could take twenty times its size. True if there are at most max values, counted by
 * the commas and brackets outside strings; *ret_bytes is the heap that they take then. */
static bool values_within(const char *body, size_t size, size_t max, size_t *ret_bytes)
{
    /* jansson's structs as malloc rounds them up: an object with its first buckets, an array with
     * its first entries, each further entry (while the array grows there are two), a member's
     * buckets, a string or a key with its text's own block. */
    enum { OBJECT = 224, ARRAY = 128, ENTRY = 24, MEMBER = 40, STRING = 80, NUMBER = 32 };
    size_t values = 1;
    size_t bytes = 0;
    char last = ',';
    for (size_t i = 0; i < size; i++) {
        char byte = body[i];
        bool opens = byte == '[' || byte == '{';
        bool begins = last == ',' || last == ':' || last == '[';
        values += opens || byte == ',';
        if (values > max) {
            return false;
        }
        if (byte == '"') {
            bytes += STRING;
            while (++i < size && body[i] != '"') {
                i += body[i] == '\\';
            }
        } else if (opens) {
            bytes += byte == '{' ? OBJECT : ARRAY;
        } else if (byte == ',' || byte == ':') {
            bytes += byte == ',' ? ENTRY : MEMBER;
        } else if (begins && byte >= '-' && byte <= '9') {
            bytes += NUMBER;
        }
        last = byte == ' ' || (byte >= '\t' && byte <= '\r') ? last : byte;
    }
    *ret_bytes = bytes;
    return true;
}

static size_t values_max(enum api_kind kind, const struct api_limits *limits)
{
    size_t values = 0;
    bool ids = kind == API_OPENAI || kind == API_EMBED || kind == API_EMBED_ALL ||
               kind == API_DECODE;
    bool fits = ids ? size_mul(limits->client_batch, limits->max_length, &values) &&
                          size_add(values, OPENAI_SLACK, &values)
                    : size_mul(limits->client_batch, 2, &values) &&
                          size_add(values, VALUES_SLACK, &values);
    return fits ? values : SIZE_MAX;
}

size_t request_tree_bytes(enum api_kind kind, const char *body, size_t size,
                          const struct api_limits *limits)
{
    size_t bytes = 0;
    bool made = jval_depth_ok(body, size, API_DEPTH_MAX) &&
                values_within(body, size, values_max(kind, limits), &bytes);
    return made ? bytes : 0;
}

bool request_body_ok(enum api_kind kind, const char *body, size_t size,
                     const struct api_limits *limits, struct problem *problem)
{
    if (size == 0) {
        return problem_set(problem, PROBLEM_EMPTY_BODY, NULL,
                           "the body is empty; it must be a JSON object");
    }
    if (!utf8_valid(body, size)) {
        return problem_set(problem, PROBLEM_NOT_UTF8, NULL, "the body is not valid UTF-8");
    }
    if (!jval_depth_ok(body, size, API_DEPTH_MAX)) {
        return problem_set(problem, PROBLEM_TOO_DEEP, NULL,
                           "the body is nested too deep; at most %d levels are allowed",
                           API_DEPTH_MAX);
    }
    /* jansson passes over one behind a number. */
    if (memchr(body, '\0', size)) {
        return problem_set(problem, PROBLEM_NOT_JSON, NULL,
                           "the body is not valid JSON (a byte that is zero)");
    }
    size_t bytes = 0;
    if (!values_within(body, size, values_max(kind, limits), &bytes)) {
        return problem_set(problem, PROBLEM_TOO_MANY, kind == API_OPENAI ? "input" : "inputs",
                           "the body holds too many values; at most %zu inputs are allowed",
                           limits->client_batch);
    }
    return true;
}

/* Names the member whose key ends at `end` of the body; jansson's own message does not. */
static bool duplicate_member(const char *body, size_t size, int position, struct problem *problem)
{
    size_t end = position > 0 ? (size_t)position : 0;
    json_t *name = NULL;
    if (end >= 2 && end <= size && body[end - 1] == '"') {
        size_t from = end - 1;
        /* A quote inside a string has a backslash before it, the opening one never has. */
        do {
            from--;
        } while (from > 0 && (body[from] != '"' || body[from - 1] == '\\'));
        name = json_loadb(body + from, end - from, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    }
    if (name && request_may_echo(json_string_value(name), json_string_length(name))) {
        problem_set(problem, PROBLEM_FIELD_DUPLICATE, json_string_value(name),
                    "field %s is there twice in one object", json_string_value(name));
    } else {
        problem_set(problem, PROBLEM_FIELD_DUPLICATE, NULL, "a field is there twice in one object");
    }
    json_decref(name);
    return false;
}

static bool json_problem(const json_error_t *error, const char *body, size_t size,
                         struct problem *problem)
{
    switch (error->text[0] ? json_error_code(error) : json_error_out_of_memory) {
    case json_error_out_of_memory:
        return problem_set(problem, PROBLEM_INTERNAL, NULL,
                           "out of memory while reading the request");
    case json_error_duplicate_key:
        return duplicate_member(body, size, error->position, problem);
    case json_error_null_byte_in_key:
        return problem_set(problem, PROBLEM_FIELD_UNKNOWN, NULL,
                           "unknown field: its name holds U+0000");
    case json_error_numeric_overflow:
        return problem_set(problem, PROBLEM_FIELD_RANGE, NULL,
                           "a number in the body (line %d) is too large for any field",
                           error->line);
    default:
        return problem_set(problem, PROBLEM_NOT_JSON, NULL,
                           "the body is not valid JSON (line %d, column %d)", error->line,
                           error->column);
    }
}

/* Behind the closing quote of the string that starts at `at`; size where it is not closed. */
static size_t string_end(const char *text, size_t size, size_t at)
{
    for (at++; at < size && text[at] != '"'; at++) {
        at += text[at] == '\\';
    }
    return at < size ? at + 1 : size;
}

static bool is_name(const char *text, size_t size, size_t end)
{
    while (end < size && strchr(" \t\r\n", text[end]) && text[end]) {
        end++;
    }
    return end < size && text[end] == ':';
}

/* A copy in which names have U+FFFD for U+0000 (both are six bytes as escapes), owned; NULL when
 * memory is out. */
static char *without_nul_names(const char *body, size_t size)
{
    char *copy = malloc(size);
    if (!copy) {
        return NULL;
    }
    memcpy(copy, body, size);
    for (size_t at = 0; at < size;) {
        if (copy[at] != '"') {
            at++;
            continue;
        }
        size_t end = string_end(copy, size, at);
        bool name = is_name(copy, size, end);
        for (; at < end; at++) {
            if (copy[at] != '\\') {
                continue;
            }
            if (name && end - at > 6 && memcmp(copy + at, "\\u0000", 6) == 0) {
                memcpy(copy + at, "\\ufffd", 6);
            }
            at++;
        }
        at = end;
    }
    return copy;
}

/* error's text is empty where memory was out. */
static json_t *load(const char *body, size_t size, json_error_t *error)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    (void)jval_memory_failed();
    *error = (json_error_t){.line = 0};
    json_t *tree = json_loadb(body, size, flags, error);
    if (!tree && error->text[0] && json_error_code(error) == json_error_numeric_overflow) {
        *error = (json_error_t){.line = 0};
        tree = json_loadb(body, size, flags | JSON_DECODE_INT_AS_REAL, error);
    }
    if (jval_memory_failed()) {
        json_decref(tree);
        tree = NULL;
        *error = (json_error_t){.line = 0};
    }
    return tree;
}

json_t *request_parse_json(enum api_kind kind, const char *body, size_t size,
                           struct problem *problem)
{
    json_error_t error;
    json_t *tree = load(body, size, &error);
    if (!tree && kind == API_OPENAI && error.text[0] &&
        json_error_code(&error) == json_error_null_byte_in_key) {
        char *copy = without_nul_names(body, size);
        if (copy) {
            tree = load(copy, size, &error);
        } else {
            error = (json_error_t){.line = 0};
        }
        free(copy);
    }
    if (!tree) {
        json_problem(&error, body, size, problem);
    }
    return tree;
}
