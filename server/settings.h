/* Every setting of `orthrus serve`, as cli/serve.c fills it from flags and environment. Process
 * lifetime, constant once the server runs. Strings are borrowed from the command line. */
#ifndef ORTHRUS_SERVER_SETTINGS_H
#define ORTHRUS_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/files/config.h"

struct settings {
    const char *model_dir;
    const char *heads_path;       /* NULL: the defaults of INTERFACE.md */
    const char *shipped_heads;    /* the project's own trained heads, NULL when not found */
    const char *heads_dir;        /* NULL: none */
    const char *state_dir;        /* NULL: none */
    const char *listen;           /* HOST:PORT, [v6]:PORT or unix:/path */
    const char *admin_listen;     /* the same, or "off" */
    const char *admin_token_file; /* NULL: admin answers 403 */
    const char *api_key_file;     /* NULL: no key needed */
    const char *precision;        /* auto, fp32, bf16, int8 */
    const char *isa;              /* auto or a level of model/encoder/cpu.h, to force a lower one */
    unsigned threads;             /* 0: by affinity and cgroup */
    size_t max_length;            /* 0: the model's */
    const char *pooling;          /* NULL: the model's */
    size_t max_batch_tokens;      /* 0: measured */
    uint64_t max_wait_us;
    size_t max_queue_tokens; /* 0: auto */
    size_t max_queue_requests;
    size_t max_client_batch;
    size_t max_body_bytes, admin_max_body_bytes;
    size_t max_client_bytes; /* 0: by the memory there is */
    size_t cache_mib;        /* 0: no cache */
    unsigned max_connections;
    const char *served_model_name; /* NULL: the folder's name */
    uint64_t request_timeout_ms;
    uint64_t drain_delay_ms;
    unsigned drain_timeout_s;
    uint64_t header_timeout_ms;  /* a request's headers, from its first byte or its connection's */
    uint64_t body_timeout_ms;    /* a request's body */
    uint64_t idle_timeout_ms;    /* a connection between two requests */
    const char *cors_origin;     /* NULL: none */
    const char *trusted_proxies; /* networks whose X-Forwarded-For is logged; NULL: none */
    unsigned max_connection_requests; /* 0: no limit */
    const char *version;              /* of the program */
    const char *revision;             /* of its source; NULL: not known */
    const char *docker_label;         /* of the image it runs in; NULL: none */
};

/* What may not stand side by side. Errors: ERR_USAGE, naming the flags. */
CHECK_RESULT enum err_code settings_check(const struct settings *settings, struct err *err);

/* What the word of `pooling` means: mean and cls alone may be asked for. Errors: ERR_USAGE, naming
 * the flag. */
CHECK_RESULT enum err_code settings_pooling(const char *word, enum pooling *ret_pooling,
                                            struct err *err);

#endif
