/* The store's inside, shared by headstore.c (publish, put, rollback), headstore_probe.c,
 * headstore_persist.c and headstore_watch.c. */
#ifndef ORTHRUS_SERVER_HEADSTORE_PARTS_H
#define ORTHRUS_SERVER_HEADSTORE_PARTS_H

#include <pthread.h>

#include "model/model.h"
#include "server/heads/headstore.h"
#include "server/metrics/metrics.h"
#include "server/settings.h"

/* What a pass over a few texts leaves, computed once, through which staged heads are tried. */
struct probes {
    float *pooled; /* [n,P], owned */
    float *cls;    /* [n,H], owned */
    float *tokens; /* [n_tokens,H], owned */
    size_t n;
    size_t n_tokens;
};

struct watch;

/* Versions in order of their last activation: version[0] is the active one. */
struct kept {
    struct heads_version version[HEADSTORE_KEPT + 1]; /* one more while a set is being changed */
    size_t n;
};

struct headstore {
    const struct settings *settings;
    const struct model *model;
    enum pooling pooling;
    struct metrics *metrics;
    struct probes probes;
    pthread_mutex_t swap;  /* held by whoever changes the heads, from reading to publishing */
    uint64_t next_version; /* under swap */
    pthread_mutex_t lock;  /* short: guards what follows */
    struct kept kept;
    char refusal[ERR_TEXT_MAX];
    struct shadow *shadow; /* one reference; NULL: nothing is staged */
    struct watch *watch;   /* owned; NULL without --heads-dir */
};

/* headstore_probe.c */
CHECK_RESULT enum err_code probes_init(const struct model *model, enum pooling pooling,
                                       unsigned threads, struct probes *ret_probes,
                                       struct err *err);
void probes_done(struct probes *probes);
/* Runs the probes through every head of the set: ERR_INVALID when a score is not finite. */
CHECK_RESULT enum err_code probes_try(const struct probes *probes, const struct heads *heads,
                                      struct err *err);

/* headstore_persist.c: the folder holds one file per kept version and state.json, which names them
 * in order; it is written last, so a crash leaves the old state or the new. */

/* Makes the folder where it is missing, reads what it keeps and clears away files that nothing
 * names. Damage is logged and set aside, never an error. *ret_active is false when the active
 * version was not among what could be read. */
CHECK_RESULT enum err_code persist_open(const char *dir, const struct heads_fit *fit,
                                        struct kept *ret_kept, bool *ret_active,
                                        uint64_t *ret_next_version, struct err *err);
/* Writes what is missing of kept, then the state. On an error the folder says what it said before,
 * and nothing new is left in it; where it can't be brought back to that, the new state holds: a
 * line in the log and ERR_OK. */
CHECK_RESULT enum err_code persist_write(const char *dir, const struct kept *kept,
                                         uint64_t next_version, struct err *err);
/* Removes the file of a version that is kept no longer. */
void persist_forget(const char *dir, const struct heads_version *version);

/* headstore_watch.c */

/* Scans --heads-dir once and starts the thread that follows it. The swap lock is held. Errors:
 * ERR_NOT_FOUND, ERR_IO when there is no such folder. */
CHECK_RESULT enum err_code watch_create(struct headstore *store, const char *dir,
                                        struct watch **ret_watch, struct err *err);
void watch_destroy(struct watch *watch);

/* headstore.c */

/* False with err set where If-Match (NULL: none) does not name the active set. */
bool headstore_expected(const struct heads_version *active, const char *if_match, struct err *err);

/* Checks a heads file's bytes. Errors: those of heads_create, whose texts begin with label; out of
 * memory may be said without it. Any thread. */
CHECK_RESULT enum err_code headstore_read(const struct headstore *store, const void *data,
                                          size_t size, const char *label, const struct heads *base,
                                          struct heads **ret_heads, struct err *err);
/* The same, and probes them. Any thread. */
enum swap_result headstore_stage(struct headstore *store, const void *data, size_t size,
                                 const char *label, const struct heads *base,
                                 struct heads **ret_heads, struct err *err);
/* Makes heads (one reference, taken over) the active version: persists, then publishes, together
 * with what the watched folder refuses (refusal; NULL leaves that as it is), so that nobody sees
 * the one without the other. The swap lock is held. On failure heads is released and nothing has
 * changed. */
enum swap_result headstore_commit(struct headstore *store, struct heads *heads, const char *source,
                                  const char *source_sha256, const char *refusal,
                                  struct heads_version *ret_previous, struct err *err);
/* One line in the log for an attempt, and one count in the metrics; a swap that was made is counted
 * where it is published. */
void headstore_audit(struct headstore *store, const char *by, const char *what, const char *sha256,
                     enum swap_result result, bool dry_run, uint64_t begin_ns,
                     const struct err *err);
void headstore_set_refusal(struct headstore *store, const char *text);
void heads_version_copy(const struct heads_version *from, struct heads_version *ret_to);

#endif
