/* A set of heads that is staged: it sees the texts that the active one answers, answers none, and
 * tells how often both agree. Not persisted. */
#ifndef ORTHRUS_SERVER_SHADOW_H
#define ORTHRUS_SERVER_SHADOW_H

#include "base/buf.h"
#include "server/heads/headstore.h"

/* Snapshot lifetime, reference-counted: the store holds one, and each job that it accompanies.
 * Thread-safe. */
struct shadow;

/* The staged set, or NULL; with one reference, for shadow_release (NULL is fine). active: the
 * version that a job answers with; NULL too where that is not the one it was staged beside. */
struct shadow *shadow_acquire(struct headstore *store, const struct heads_version *active);
void shadow_release(struct shadow *shadow);
/* The staged head that accompanies an active one: of its name, both for whole texts; or NULL. */
const struct head *shadow_head(const struct shadow *shadow, const struct head *active);
/* Counts one text: the best labels and their scores. Returns whether they agree. */
bool shadow_count(struct shadow *shadow, const struct head *active, const struct head *staged,
                  const float *active_scores, const float *staged_scores);

/* PUT ?stage=shadow: validated and merged as headstore_put would, then put beside the active set;
 * *ret_now has version 0. */
enum swap_result shadow_stage(struct headstore *store, const void *data, size_t size,
                              const char *if_match, bool dry_run, const char *by,
                              struct heads_version *ret_now, struct heads_version *ret_previous,
                              struct err *err);
/* Makes the staged set active: SWAP_NO_SHADOW, SWAP_STALE where the active set has changed since.
 */
enum swap_result shadow_promote(struct headstore *store, const char *if_match, bool dry_run,
                                const char *by, struct heads_version *ret_now,
                                struct heads_version *ret_previous, struct err *err);
/* Drops it. */
enum swap_result shadow_drop(struct headstore *store, const char *if_match, bool dry_run,
                             const char *by, struct heads_version *ret_now, struct err *err);
/* Appends what GET /admin/shadow answers; false where nothing is staged. */
bool shadow_report(struct headstore *store, struct buf *out);

#endif
