#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/jval.h"
#include "base/utf8.h"

static const struct problem_row rows[PROBLEM_KIND_COUNT] = {
    [PROBLEM_NONE] = {500, "Backend", "internal"},
    [PROBLEM_NOT_JSON] = {400, "Validation", "not_json"},
    [PROBLEM_NOT_UTF8] = {400, "Validation", "not_utf8"},
    [PROBLEM_TOO_DEEP] = {400, "Validation", "too_deep"},
    [PROBLEM_BAD_FRAMING] = {400, "Validation", "bad_framing"},
    [PROBLEM_EMPTY_INPUTS] = {400, "Empty", "empty_inputs"},
    [PROBLEM_EMPTY_BODY] = {400, "Validation", "empty_body"},
    [PROBLEM_KEY_MISSING] = {401, "Validation", "key_missing"},
    [PROBLEM_KEY_WRONG] = {401, "Validation", "key_wrong"},
    [PROBLEM_ADMIN_DISABLED] = {403, "Validation", "admin_disabled"},
    [PROBLEM_ROUTE_UNKNOWN] = {404, "Validation", "route_unknown"},
    [PROBLEM_HEAD_ABSENT] = {404, "Validation", "head_absent"},
    [PROBLEM_VERSION_UNKNOWN] = {404, "Validation", "version_unknown"},
    [PROBLEM_SHADOW_ABSENT] = {404, "Validation", "shadow_absent"},
    [PROBLEM_MODEL_UNKNOWN] = {404, "Validation", "model_unknown"},
    [PROBLEM_METHOD] = {405, "Validation", "method_not_allowed"},
    [PROBLEM_SWAP_BUSY] = {409, "Validation", "swap_in_progress"},
    [PROBLEM_MANAGED] = {409, "Validation", "managed"},
    [PROBLEM_LAST_HEAD] = {409, "Validation", "last_head"},
    [PROBLEM_SHADOW_STALE] = {409, "Validation", "shadow_stale"},
    [PROBLEM_OTHER_ENCODER] = {409, "Validation", "other_encoder"},
    [PROBLEM_PRECONDITION] = {412, "Validation", "precondition_failed"},
    [PROBLEM_BODY_SLOW] = {408, "Validation", "body_timeout"},
    [PROBLEM_BODY_LARGE] = {413, "Validation", "body_too_large"},
    [PROBLEM_TOO_MANY] = {413, "Validation", "too_many_inputs"},
    [PROBLEM_RESPONSE_LARGE] = {413, "Validation", "response_too_large"},
    [PROBLEM_NOT_JSON_TYPE] = {415, "Validation", "unsupported_media_type"},
    [PROBLEM_ENCODING] = {415, "Validation", "unsupported_content_encoding"},
    [PROBLEM_FIELD_TYPE] = {422, "Validation", "wrong_type"},
    [PROBLEM_FIELD_RANGE] = {422, "Validation", "out_of_range"},
    [PROBLEM_FIELD_UNKNOWN] = {422, "Validation", "unknown_field"},
    [PROBLEM_FIELD_DUPLICATE] = {422, "Validation", "duplicate_field"},
    [PROBLEM_FIELD_MISSING] = {422, "Validation", "missing_field"},
    [PROBLEM_FIELD_VALUE] = {422, "Validation", "unsupported_value"},
    [PROBLEM_TOO_LONG] = {422, "Validation", "input_too_long"},
    [PROBLEM_HEADER_VALUE] = {400, "Validation", "bad_header"},
    [PROBLEM_HEADS_INVALID] = {422, "Validation", "heads_invalid"},
    [PROBLEM_EXPLAIN] = {422, "Validation", "explain_unavailable"},
    [PROBLEM_NO_DECODER] = {422, "Tokenizer", "no_decoder"},
    [PROBLEM_NOT_RANKER] = {424, "Backend", "not_a_ranker"},
    [PROBLEM_OVERLOADED] = {429, "Overloaded", "overloaded"},
    [PROBLEM_NOT_READY] = {503, "Unhealthy", "not_ready"},
    [PROBLEM_DRAINING] = {503, "Unhealthy", "draining"},
    [PROBLEM_DEADLINE] = {504, "Overloaded", "deadline_exceeded"},
    [PROBLEM_INTERNAL] = {500, "Backend", "internal"},
};

const struct problem_row *problem_row(enum problem_kind kind)
{
    CHECK((unsigned)kind < PROBLEM_KIND_COUNT && rows[kind].code);
    return &rows[kind];
}

/* A text may carry a path or a label out of an error, cut anywhere: what goes out is one line of
 * well-formed UTF-8. */
static void make_line(char *text)
{
    bool valid = utf8_valid(text, strlen(text));
    for (char *c = text; *c; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !valid)) {
            *c = '?';
        }
    }
}

bool problem_set(struct problem *problem, enum problem_kind kind, const char *param,
                 const char *fmt, ...)
{
    if (problem->kind != PROBLEM_NONE) {
        return false;
    }
    problem->kind = kind;
    (void)snprintf(problem->param, sizeof(problem->param), "%s", param ? param : "");
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(problem->text, sizeof(problem->text), fmt, args);
    va_end(args);
    make_line(problem->param);
    make_line(problem->text);
    return false;
}

static void append_text(struct buf *out, const char *text)
{
    jval_append_string(out, text, strlen(text));
}

static void append_text_or_null(struct buf *out, const char *text)
{
    if (text && *text) {
        append_text(out, text);
    } else {
        buf_append_str(out, "null");
    }
}

void problem_write(const struct problem *problem, const char *request_id, struct buf *out)
{
    const struct problem_row *row = problem_row(problem->kind);
    buf_append_str(out, "{\"error\":");
    append_text(out, problem->text);
    buf_append_str(out, ",\"error_type\":");
    append_text(out, row->error_type);
    buf_append_str(out, ",\"code\":");
    append_text(out, row->code);
    buf_append_str(out, ",\"param\":");
    append_text_or_null(out, problem->param);
    buf_append_str(out, ",\"request_id\":");
    append_text_or_null(out, request_id);
    buf_append_char(out, '}');
}

static const char *openai_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 429:
        return "rate_limit_error";
    default:
        return status < 500 ? "invalid_request_error" : "server_error";
    }
}

void problem_write_openai(const struct problem *problem, struct buf *out)
{
    buf_append_str(out, "{\"error\":{\"message\":");
    append_text(out, problem->text);
    buf_append_str(out, ",\"type\":");
    append_text(out, openai_type(problem_openai_status(problem->kind)));
    buf_append_str(out, ",\"param\":");
    append_text_or_null(out, problem->param);
    buf_append_str(out, ",\"code\":");
    append_text(out, problem_row(problem->kind)->code);
    buf_append_str(out, "}}");
}

int problem_openai_status(enum problem_kind kind)
{
    int status = problem_row(kind)->status;
    return status == 422 ? 400 : status;
}
