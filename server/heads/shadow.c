#include "server/heads/shadow.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/jval.h"
#include "base/size.h"
#include "server/heads/headstore_parts.h"

/* One head's comparison. */
struct pair {
    const struct head *active; /* of shadow->base */
    const struct head *staged;
    atomic_uint_fast64_t *table; /* [K active, K staged] texts by best labels */
    atomic_uint_fast64_t texts, agree;
    atomic_uint_fast64_t active_ppm, staged_ppm; /* sums of the best scores, parts per million */
};

struct shadow {
    atomic_size_t references;
    struct heads *heads; /* the staged set */
    struct heads *base;  /* the active one that it was staged beside */
    char source_sha256[SHA256_HEX_SIZE + 1];
    uint64_t since_wall_ns;
    size_t n;
    struct pair pairs[HEADS_MAX]; /* [n] */
};

static struct shadow *take(struct shadow *shadow)
{
    if (shadow) {
        atomic_fetch_add_explicit(&shadow->references, 1, memory_order_relaxed);
    }
    return shadow;
}

void shadow_release(struct shadow *shadow)
{
    if (!shadow || atomic_fetch_sub_explicit(&shadow->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < shadow->n; i++) {
        free(shadow->pairs[i].table);
    }
    heads_release(shadow->heads);
    heads_release(shadow->base);
    free(shadow);
}

/* Takes over heads, and references to base. NULL when memory is out; heads is then released. */
static struct shadow *make(struct heads *heads, struct heads *base, const char *source_sha256)
{
    struct shadow *shadow = calloc(1, sizeof *shadow);
    if (!shadow) {
        heads_release(heads);
        return NULL;
    }
    atomic_init(&shadow->references, 1);
    shadow->heads = heads;
    shadow->base = heads_acquire(base);
    shadow->since_wall_ns = clock_wall_ns();
    (void)snprintf(shadow->source_sha256, sizeof shadow->source_sha256, "%s", source_sha256);
    for (size_t i = 0; base && i < base->n; i++) {
        const struct head *active = &base->list[i];
        const struct head *staged = heads_find(heads, active->name);
        size_t cells;
        if (!staged || active->type == HEAD_TOKENS || staged->type == HEAD_TOKENS) {
            continue;
        }
        struct pair *pair = &shadow->pairs[shadow->n++];
        pair->active = active;
        pair->staged = staged;
        pair->table = size_mul(active->classes, staged->classes, &cells)
                          ? calloc(cells, sizeof *pair->table)
                          : NULL;
        if (!pair->table) {
            shadow_release(shadow);
            return NULL;
        }
    }
    return shadow;
}

struct shadow *shadow_acquire(struct headstore *store, const struct heads_version *active)
{
    (void)pthread_mutex_lock(&store->lock);
    struct shadow *shadow = store->shadow;
    bool beside = shadow && (!active || active->heads == shadow->base);
    shadow = beside ? take(shadow) : NULL;
    (void)pthread_mutex_unlock(&store->lock);
    return shadow;
}

static struct pair *pair_of(const struct shadow *shadow, const struct head *active)
{
    for (size_t i = 0; shadow && i < shadow->n; i++) {
        if (shadow->pairs[i].active == active) {
            return (struct pair *)(uintptr_t)&shadow->pairs[i];
        }
    }
    return NULL;
}

const struct head *shadow_head(const struct shadow *shadow, const struct head *active)
{
    const struct pair *pair = pair_of(shadow, active);
    return pair ? pair->staged : NULL;
}

static void add(atomic_uint_fast64_t *counter, uint64_t value)
{
    (void)atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static uint64_t ppm(float score)
{
    return score > 0 ? (uint64_t)((score < 1 ? (double)score : 1) * 1e6) : 0;
}

bool shadow_count(struct shadow *shadow, const struct head *active, const struct head *staged,
                  const float *active_scores, const float *staged_scores)
{
    struct pair *pair = pair_of(shadow, active);
    CHECK(pair && pair->staged == staged);
    size_t a = head_best(active_scores, active->classes);
    size_t s = head_best(staged_scores, staged->classes);
    bool agree = strcmp(active->labels[a], staged->labels[s]) == 0;
    add(&pair->table[a * staged->classes + s], 1);
    add(&pair->texts, 1);
    add(&pair->agree, agree);
    add(&pair->active_ppm, ppm(active_scores[a]));
    add(&pair->staged_ppm, ppm(staged_scores[s]));
    return agree;
}

/* Puts shadow (its reference is taken over, NULL for none) in the other's place. */
static void replace(struct headstore *store, struct shadow *shadow)
{
    (void)pthread_mutex_lock(&store->lock);
    struct shadow *old = store->shadow;
    store->shadow = shadow;
    (void)pthread_mutex_unlock(&store->lock);
    shadow_release(old);
}

static void describe(struct heads_version *version, struct heads *heads, const char *source_sha256)
{
    *version = (struct heads_version){.heads = heads_acquire(heads),
                                      .loaded_wall_ns = clock_wall_ns()};
    (void)snprintf(version->source, sizeof version->source, "shadow");
    (void)snprintf(version->source_sha256, sizeof version->source_sha256, "%s", source_sha256);
}

static enum swap_result lock_swaps(struct headstore *store, struct err *err)
{
    if (pthread_mutex_trylock(&store->swap) != 0) {
        err_set(err, ERR_CONFLICT, "another swap is under way");
        return SWAP_BUSY;
    }
    return SWAP_OK;
}

static enum swap_result stage_locked(struct headstore *store, const void *data, size_t size,
                                     const char *if_match, bool dry_run, const char *source_sha256,
                                     struct heads_version *ret_now,
                                     struct heads_version *ret_previous, struct err *err)
{
    struct heads_version active;
    struct heads *heads = NULL;
    headstore_acquire(store, &active);
    enum swap_result result = SWAP_PRECONDITION;
    if (headstore_expected(&active, if_match, err)) {
        result = headstore_stage(store, data, size, "the heads file", active.heads, &heads, err);
    }
    if (result == SWAP_OK) {
        describe(ret_now, heads, source_sha256);
        struct shadow *shadow = make(heads, active.heads, source_sha256);
        if (!shadow) {
            heads_version_release(ret_now);
            result = SWAP_FAILED;
            (void)err_nomem(err, sizeof *shadow);
        } else if (dry_run) {
            shadow_release(shadow);
        } else {
            replace(store, shadow);
        }
    }
    if (result == SWAP_OK) {
        *ret_previous = active;
    } else {
        heads_version_release(&active);
    }
    return result;
}

enum swap_result shadow_stage(struct headstore *store, const void *data, size_t size,
                              const char *if_match, bool dry_run, const char *by,
                              struct heads_version *ret_now, struct heads_version *ret_previous,
                              struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    char source_sha256[SHA256_HEX_SIZE + 1];
    sha256_of(data, size, source_sha256);
    enum swap_result result = lock_swaps(store, err);
    if (result == SWAP_OK) {
        result = stage_locked(store, data, size, if_match, dry_run, source_sha256, ret_now,
                              ret_previous, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "stage", source_sha256, result, dry_run, begin_ns, err);
    return result;
}

static enum swap_result promote_locked(struct headstore *store, const char *if_match, bool dry_run,
                                       struct heads_version *ret_now,
                                       struct heads_version *ret_previous, struct err *err)
{
    struct heads_version active;
    struct shadow *shadow = shadow_acquire(store, NULL);
    headstore_acquire(store, &active);
    enum swap_result result = SWAP_OK;
    if (!shadow) {
        err_set(err, ERR_NOT_FOUND,
                "no heads are staged; PUT /admin/heads?stage=shadow stages some");
        result = SWAP_NO_SHADOW;
    } else if (!headstore_expected(&active, if_match, err)) {
        result = SWAP_PRECONDITION;
    } else if (shadow->base != active.heads) {
        err_set(err, ERR_CONFLICT, "the active heads have changed since these were staged");
        result = SWAP_STALE;
    } else if (dry_run) {
        describe(ret_now, shadow->heads, shadow->source_sha256);
        *ret_previous = active;
        shadow_release(shadow);
        return SWAP_OK;
    } else {
        result = headstore_commit(store, heads_acquire(shadow->heads), "PUT", shadow->source_sha256,
                                  NULL, ret_previous, err);
        if (result == SWAP_OK) {
            headstore_acquire(store, ret_now);
            replace(store, NULL);
        }
    }
    heads_version_release(&active);
    shadow_release(shadow);
    return result;
}

enum swap_result shadow_promote(struct headstore *store, const char *if_match, bool dry_run,
                                const char *by, struct heads_version *ret_now,
                                struct heads_version *ret_previous, struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    enum swap_result result = SWAP_MANAGED;
    if (headstore_managed(store)) {
        err_set(err, ERR_CONFLICT, "the folder of --heads-dir rules the heads");
    } else {
        result = lock_swaps(store, err);
    }
    if (result == SWAP_OK) {
        result = promote_locked(store, if_match, dry_run, ret_now, ret_previous, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "promote", result == SWAP_OK ? ret_now->heads->sha256 : NULL, result,
                    dry_run, begin_ns, err);
    return result;
}

enum swap_result shadow_drop(struct headstore *store, const char *if_match, bool dry_run,
                             const char *by, struct heads_version *ret_now, struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    struct heads_version active;
    enum swap_result result = lock_swaps(store, err);
    if (result == SWAP_OK) {
        struct shadow *shadow = shadow_acquire(store, NULL);
        headstore_acquire(store, &active);
        if (!shadow) {
            err_set(err, ERR_NOT_FOUND, "no heads are staged");
            result = SWAP_NO_SHADOW;
        } else if (!headstore_expected(&active, if_match, err)) {
            result = SWAP_PRECONDITION;
        } else {
            describe(ret_now, shadow->heads, shadow->source_sha256);
            if (!dry_run) {
                replace(store, NULL);
            }
        }
        heads_version_release(&active);
        shadow_release(shadow);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "drop", NULL, result, dry_run, begin_ns, err);
    return result;
}

static void append_table(const struct pair *pair, struct buf *out)
{
    size_t columns = pair->staged->classes;
    bool first_row = true;
    buf_append_char(out, '{');
    for (size_t a = 0; a < pair->active->classes; a++) {
        bool first = true;
        for (size_t s = 0; s < columns; s++) {
            uint64_t texts = atomic_load(&pair->table[a * columns + s]);
            if (!texts) {
                continue;
            }
            if (first) {
                buf_append_str(out, first_row ? "" : ",");
                jval_append_string(out, pair->active->labels[a], strlen(pair->active->labels[a]));
                buf_append_str(out, ":{");
                first_row = false;
            }
            buf_append_str(out, first ? "" : ",");
            jval_append_string(out, pair->staged->labels[s], strlen(pair->staged->labels[s]));
            buf_printf(out, ":%" PRIu64, texts);
            first = false;
        }
        buf_append_str(out, first ? "" : "}");
    }
    buf_append_char(out, '}');
}

static void append_pair(const struct pair *pair, bool first, struct buf *out)
{
    uint64_t texts = atomic_load(&pair->texts);
    double n = texts ? (double)texts : 1;
    buf_printf(out, "%s\"%s\":{\"texts\":%" PRIu64 ",\"agree\":%" PRIu64 ",\"agreement\":",
               first ? "" : ",", pair->active->name, texts, (uint64_t)atomic_load(&pair->agree));
    if (texts) {
        buf_printf(out, "%.6f,\"confidence\":{\"active\":%.6f,\"shadow\":%.6f},\"table\":",
                   (double)atomic_load(&pair->agree) / n,
                   (double)atomic_load(&pair->active_ppm) / 1e6 / n,
                   (double)atomic_load(&pair->staged_ppm) / 1e6 / n);
    } else {
        buf_append_str(out, "null,\"confidence\":{\"active\":null,\"shadow\":null},\"table\":");
    }
    append_table(pair, out);
    buf_append_char(out, '}');
}

bool shadow_report(struct headstore *store, struct buf *out)
{
    struct shadow *shadow = shadow_acquire(store, NULL);
    char since[32];
    uint64_t texts = 0;
    if (!shadow) {
        return false;
    }
    clock_format_wall(shadow->since_wall_ns, since, sizeof since);
    for (size_t i = 0; i < shadow->n; i++) {
        texts += atomic_load(&shadow->pairs[i].texts);
    }
    buf_printf(out,
               "{\"sha256\":\"%s\",\"source_sha256\":\"%s\",\"active_sha256\":\"%s\","
               "\"since\":\"%s\",\"texts\":%" PRIu64 ",\"heads\":{",
               shadow->heads->sha256, shadow->source_sha256,
               shadow->base ? shadow->base->sha256 : "", since, texts);
    for (size_t i = 0; i < shadow->n; i++) {
        append_pair(&shadow->pairs[i], i == 0, out);
    }
    buf_append_str(out, "}}");
    shadow_release(shadow);
    return true;
}
