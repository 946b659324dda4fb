/* Problems: the one table that maps what went wrong to HTTP status, TEI's error_type and a stable
 * snake_case code, and the bodies in which clients read it. */
#ifndef ORTHRUS_API_PROBLEM_H
#define ORTHRUS_API_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum problem_kind {
    PROBLEM_NONE = 0,
    /* 400 */
    PROBLEM_NOT_JSON,     /* not_json */
    PROBLEM_NOT_UTF8,     /* not_utf8 */
    PROBLEM_TOO_DEEP,     /* too_deep */
    PROBLEM_BAD_FRAMING,  /* bad_framing: duplicate or contradicting framing headers */
    PROBLEM_EMPTY_INPUTS, /* empty_inputs, error_type Empty */
    PROBLEM_EMPTY_BODY,   /* empty_body */
    /* 401, 403 */
    PROBLEM_KEY_MISSING,    /* key_missing, 401 + WWW-Authenticate */
    PROBLEM_KEY_WRONG,      /* key_wrong, 401 */
    PROBLEM_ADMIN_DISABLED, /* admin_disabled, 403 */
    /* 404, 405 */
    PROBLEM_ROUTE_UNKNOWN,   /* route_unknown */
    PROBLEM_HEAD_ABSENT,     /* head_absent */
    PROBLEM_VERSION_UNKNOWN, /* version_unknown */
    PROBLEM_SHADOW_ABSENT,   /* shadow_absent */
    PROBLEM_MODEL_UNKNOWN,   /* model_unknown (/v1/models/{id}) */
    PROBLEM_METHOD,          /* method_not_allowed, 405 + Allow */
    /* 409, 412 */
    PROBLEM_SWAP_BUSY,     /* swap_in_progress */
    PROBLEM_MANAGED,       /* managed */
    PROBLEM_LAST_HEAD,     /* last_head */
    PROBLEM_SHADOW_STALE,  /* shadow_stale: the active set changed since */
    PROBLEM_OTHER_ENCODER, /* other_encoder */
    PROBLEM_PRECONDITION,  /* precondition_failed, 412 */
    /* 408 */
    PROBLEM_BODY_SLOW, /* body_timeout */
    /* 413 */
    PROBLEM_BODY_LARGE,     /* body_too_large */
    PROBLEM_TOO_MANY,       /* too_many_inputs */
    PROBLEM_RESPONSE_LARGE, /* response_too_large */
    /* 415 */
    PROBLEM_NOT_JSON_TYPE, /* unsupported_media_type */
    PROBLEM_ENCODING,      /* unsupported_content_encoding */
    /* 422 */
    PROBLEM_FIELD_TYPE,      /* wrong_type */
    PROBLEM_FIELD_RANGE,     /* out_of_range */
    PROBLEM_FIELD_UNKNOWN,   /* unknown_field */
    PROBLEM_FIELD_DUPLICATE, /* duplicate_field */
    PROBLEM_FIELD_MISSING,   /* missing_field */
    PROBLEM_FIELD_VALUE,     /* unsupported_value (prompt_name, encoding_format on /embed, a pair on
                                /predict) */
    PROBLEM_TOO_LONG,        /* input_too_long, error_type Validation */
    PROBLEM_HEADER_VALUE,    /* bad_header (X-Request-Timeout-Ms, If-Match) , 400 */
    PROBLEM_HEADS_INVALID,   /* heads_invalid */
    PROBLEM_EXPLAIN,         /* explain_unavailable */
    PROBLEM_NO_DECODER,      /* no_decoder */
    /* 424, TEI's for a model that does something else */
    PROBLEM_NOT_RANKER, /* not_a_ranker, error_type Backend */
    /* 429, 503, 504, 500 */
    PROBLEM_OVERLOADED, /* overloaded + Retry-After */
    PROBLEM_NOT_READY,  /* not_ready, error_type Unhealthy, + Retry-After */
    PROBLEM_DRAINING,   /* draining, 503 */
    PROBLEM_DEADLINE,   /* deadline_exceeded, 504, error_type Overloaded */
    PROBLEM_INTERNAL,   /* internal, 500, error_type Backend */
    PROBLEM_KIND_COUNT,
};

/* The words of every PROBLEM_OVERLOADED for want of room, whatever it is of: the queue,
 * connections, bytes. */
#define PROBLEM_FULL_TEXT "the server is full; try again after Retry-After seconds"

/* Caller's stack or request lifetime. Zeroed means none; the first one set wins. */
struct problem {
    enum problem_kind kind;
    char text[320]; /* says what was wrong and what is allowed; never echoes values */
    char param[80]; /* "inputs[3]", or "" for null */
};

struct problem_row {
    int status;
    const char
        *error_type;  /* TEI's: Validation, Empty, Overloaded, Unhealthy, Backend, Tokenizer */
    const char *code; /* stable snake_case */
};
const struct problem_row *problem_row(enum problem_kind kind);

/* Sets kind, param (NULL for none) and text; always returns false, so that a parser can
 * `return problem_set(…)`. */
bool problem_set(struct problem *problem, enum problem_kind kind, const char *param,
                 const char *fmt, ...) PRINTF_LIKE(4, 5);

/* The native body: {"error","error_type","code","param","request_id"}. */
void problem_write(const struct problem *problem, const char *request_id, struct buf *out);
/* OpenAI's nested body: {"error":{"message","type","param","code"}}; type is
 * invalid_request_error for 4xx (authentication_error for 401, rate_limit_error for 429),
 * server_error for 5xx. */
void problem_write_openai(const struct problem *problem, struct buf *out);
/* OpenAI's routes answer field errors with 400; everything else as in the table. */
int problem_openai_status(enum problem_kind kind);

#endif
