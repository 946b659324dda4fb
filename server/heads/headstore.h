/* The heads in service: publish, acquire, release, keep, persist, watch.
 *
 * Readers take a reference under a short lock once per response; writers (PUT, rollback, SIGHUP,
 * the watched folder) validate everything before that lock is touched. Process lifetime;
 * thread-safe. */
#ifndef ORTHRUS_SERVER_HEADSTORE_H
#define ORTHRUS_SERVER_HEADSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/heads/heads.h"

struct model;
struct metrics;
struct settings;
struct headstore;

enum { HEADSTORE_KEPT = 8 };

/* One version as others see it; holds a reference. */
struct heads_version {
    uint64_t version;    /* counts up from 1 */
    struct heads *heads; /* NULL: no heads in service */
    uint64_t loaded_wall_ns;
    char source[512];       /* the file's path, or "PUT", "DELETE" */
    char source_sha256[65]; /* of the upload or file that brought it */
    char id[32];            /* "v<version>-<12 hex>" */
};

/* Opens the store with the heads that INTERFACE.md's order of sources gives (state dir, --heads,
 * folder, defaults). An explicit file that does not fit is an error; a default that does not fit is
 * a logged warning and no heads. Starts the folder's watcher when settings ask for it. threads:
 * for the pass over the texts that heads are tried on. */
CHECK_RESULT enum err_code headstore_create(const struct settings *settings,
                                            const struct model *model, enum pooling pooling,
                                            unsigned threads, struct metrics *metrics,
                                            struct headstore **ret_store, struct err *err);
void headstore_destroy(struct headstore *store);

/* The active version with one reference (version->heads may be NULL); release it. */
void headstore_acquire(struct headstore *store, struct heads_version *ret_version);
void heads_version_release(struct heads_version *version);

/* Kept versions, the active one first; each with a reference. Returns how many. ret_refusal, where
 * not NULL, is the watched folder's last refusal at that moment, "" when none. */
size_t headstore_list(struct headstore *store, struct heads_version ret[HEADSTORE_KEPT],
                      char ret_refusal[ERR_TEXT_MAX]);

enum swap_result {
    SWAP_OK,
    SWAP_INVALID,      /* 422, err tells */
    SWAP_OTHER,        /* 409 other encoder or pooling */
    SWAP_BUSY,         /* 409 another swap is under way */
    SWAP_MANAGED,      /* 409 a folder rules */
    SWAP_PRECONDITION, /* 412 */
    SWAP_UNKNOWN,      /* 404 no such version */
    SWAP_NO_HEAD,      /* 404 no such head */
    SWAP_LAST_HEAD,    /* 409 a set has at least one head */
    SWAP_NO_SHADOW,    /* 404 nothing is staged */
    SWAP_STALE,        /* 409 the active set changed since the staging */
    SWAP_FAILED,       /* 500 could not persist */
};

/* Validates data, probes it, persists it, publishes it. if_match: expected sha256 of the active
 * set, "*" for any, or NULL. dry_run stops before persisting. by: the token's id, for the audit
 * line. Off the serving path: the caller's thread does the work. */
enum swap_result headstore_put(struct headstore *store, const void *data, size_t size,
                               const char *if_match, bool dry_run, const char *by,
                               struct heads_version *ret_now, struct heads_version *ret_previous,
                               struct err *err);
/* Makes a kept version active again, under its old number. version 0: the one that was active
 * before the active one. if_match and dry_run as above. */
enum swap_result headstore_rollback(struct headstore *store, uint64_t version, const char *if_match,
                                    bool dry_run, const char *by, struct heads_version *ret_now,
                                    struct heads_version *ret_previous, struct err *err);
/* The active set without one head becomes a version. Otherwise as headstore_put. */
enum swap_result headstore_remove(struct headstore *store, const char *name, const char *if_match,
                                  bool dry_run, const char *by, struct heads_version *ret_now,
                                  struct heads_version *ret_previous, struct err *err);
/* The audit line and count of an attempt that its caller turned away as SWAP_BUSY before it came
 * here. what: "put", "rollback". */
void headstore_turned_away(struct headstore *store, const char *by, const char *what);
/* SIGHUP: reads --heads again, its default without it; what was put in meanwhile goes. */
void headstore_reload(struct headstore *store);
bool headstore_managed(const struct headstore *store);

#endif
