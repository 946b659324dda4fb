/* Request bodies: hostile bytes → checked structs. jansson parses; depth and UTF-8 are checked
 * before it; every member is checked for type, range, duplicates and being known.
 *
 * Everything a parsed request points to lives in its arena. No function here blocks or logs; each
 * may be called from any thread. */
#ifndef ORTHRUS_API_REQUEST_H
#define ORTHRUS_API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "base/arena.h"

enum { API_DEPTH_MAX = 8 };

/* Which grammar a body is read by. */
enum api_kind {
    API_EMBED,      /* POST /embed, POST / */
    API_CLASSIFY,   /* POST /classify */
    API_SENTIMENT,  /* POST /sentiment */
    API_PREDICT,    /* POST /predict, TEI's */
    API_ANALYZE,    /* POST /analyze */
    API_OPENAI,     /* POST /v1/embeddings, /embeddings */
    API_TOKENIZE,   /* POST /tokenize */
    API_HEAD,       /* POST /heads/{name} */
    API_RERANK,     /* POST /rerank, TEI's */
    API_SIMILARITY, /* POST /similarity, TEI's */
    API_EMBED_ALL,  /* POST /embed_all, TEI's */
    API_DECODE,     /* POST /decode, TEI's */
    API_KINDS,
};

/* Configured bounds that a body is checked against. */
struct api_limits {
    size_t client_batch;             /* texts in one request */
    size_t hidden;                   /* H, for dimensions */
    size_t max_length;               /* tokens per text, for ids given by the client */
    size_t vocab;                    /* V, for ids given by the client */
    const char *const *prompt_names; /* [n_prompts] of the model folder, UTF-8 */
    size_t n_prompts;
};

/* A request's prompt: one of these, or the index of a name. */
enum { API_PROMPT_DEFAULT = -1, API_PROMPT_NONE = -2 };

/* One input: a text, a pair of texts, or token ids where the client gave them. */
struct api_input {
    const char *text;   /* valid UTF-8, may hold NULs; NULL when ids */
    size_t size;        /* bytes of text */
    const char *second; /* of a pair; NULL for a single text */
    size_t second_size;
    const int32_t *ids; /* each in 0 … V-1, used as given: nothing is added */
    size_t n_ids;       /* 1 … max_length */
    bool truncated;     /* ids behind max_length were dropped */
};

enum { API_TASK_EMBED = 1, API_TASK_CLASSIFY = 2, API_TASK_SENTIMENT = 4, API_TASKS = 3 };
enum { API_NAME_MAX = 64, API_TASKS_MAX = 67, API_IGNORE_LABELS_MAX = 1024 };

/* aggregation_strategy of a token head, by Hugging Face's names. */
enum api_aggregation {
    API_AGGREGATE_UNSAID,
    API_AGGREGATE_NONE,
    API_AGGREGATE_SIMPLE,
    API_AGGREGATE_FIRST,
    API_AGGREGATE_AVERAGE,
    API_AGGREGATE_MAX,
};

/* function_to_apply of Hugging Face's clients. */
enum api_function { API_FUNCTION_UNSAID, API_FUNCTION_SOFTMAX, API_FUNCTION_SIGMOID };

struct api_name {
    const char *text; /* valid UTF-8, NUL-terminated, without NULs inside */
};

struct api_request {
    enum api_kind kind;
    struct api_input *inputs; /* [n] */
    size_t n;
    bool single;            /* inputs was one string: /classify answers [..] instead of [[..]] */
    bool truncate;          /* default true */
    bool truncate_left;     /* truncation_direction; TEI's "Left"/"left" */
    bool normalize;         /* default true */
    size_t dimensions;      /* 0: all */
    bool raw_scores;        /* logits instead of probabilities */
    size_t top_k;           /* 0: all labels */
    bool base64;            /* OpenAI's encoding_format */
    bool special_tokens;    /* add_special_tokens of /tokenize */
    unsigned tasks;         /* API_TASK_… bits of /analyze; in the order of API_TASK_ values */
    bool tasks_said;        /* false: tasks holds all three, those in service are meant */
    struct api_name *named; /* [n_named] other heads among the tasks: [a-z][a-z0-9_-]{0,63} */
    size_t n_named;
    bool abstain, explain;
    bool windows; /* long: "windows" */
    enum api_aggregation aggregation;
    struct api_name *ignore_labels; /* [n_ignore_labels] where ignore_said, else ["O"] */
    size_t n_ignore_labels;
    bool ignore_said;
    enum api_function function;
    int prompt; /* API_PROMPT_…, or an index into prompt_names; /tokenize: NONE by default */
    bool return_text;  /* /rerank */
    bool skip_special; /* skip_special_tokens of /decode; default true */
};

/* The heap that the JSON tree of such a body takes while it is parsed, beside the bytes of its
 * strings: two bytes may become two hundred. 0 where request_parse refuses it before. */
size_t request_tree_bytes(enum api_kind kind, const char *body, size_t size,
                          const struct api_limits *limits);

/* Parses a body. The arena gets one api_input an input, the texts and the ids: a ceiling of 8 ×
 * size
 * + 64 × client_batch + 64 KiB is always enough; the JSON tree lives on the heap during the call,
 * bounded in values. On failure returns false with the problem set and *ret_request unspecified.
 * Hugging Face's "parameters" makes `single` false where labels are answered (its client expects
 * [[…]]); function_to_apply "none" is raw_scores. /rerank's inputs are pairs of the query and each
 * text; /similarity's are the source sentence, then the sentences; /decode's are ids.
 * JSON null counts as absent everywhere. An integer is a number without a
 * fraction, as in JSON Schema (5.0 is one). */
CHECK_RESULT bool request_parse(enum api_kind kind, const char *body, size_t size,
                                const struct api_limits *limits, struct arena *arena,
                                struct api_request *ret_request, struct problem *problem);

#endif
