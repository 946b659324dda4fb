#include "server/heads/headstore.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "server/heads/headstore_parts.h"
#include "server/heads/shadow.h"

void heads_version_copy(const struct heads_version *from, struct heads_version *ret_to)
{
    *ret_to = *from;
    (void)heads_acquire(ret_to->heads);
}

void heads_version_release(struct heads_version *version)
{
    if (version) {
        heads_release(version->heads);
        version->heads = NULL;
    }
}

static void kept_release(struct kept *kept)
{
    for (size_t i = 0; i < kept->n; i++) {
        heads_version_release(&kept->version[i]);
    }
    kept->n = 0;
}

/* Puts version (its reference is taken over) in front of the others, without a second entry of the
 * same number. */
static void kept_activate(struct kept *kept, const struct heads_version *version)
{
    size_t at = 0;
    while (at < kept->n && kept->version[at].version != version->version) {
        at++;
    }
    if (at < kept->n) {
        heads_version_release(&kept->version[at]);
    } else {
        CHECK(kept->n <= HEADSTORE_KEPT);
        kept->n++;
    }
    memmove(&kept->version[1], &kept->version[0], at * sizeof kept->version[0]);
    kept->version[0] = *version;
}

void headstore_acquire(struct headstore *store, struct heads_version *ret_version)
{
    (void)pthread_mutex_lock(&store->lock);
    if (store->kept.n) {
        heads_version_copy(&store->kept.version[0], ret_version);
    } else {
        *ret_version = (struct heads_version){.version = 0};
    }
    (void)pthread_mutex_unlock(&store->lock);
}

size_t headstore_list(struct headstore *store, struct heads_version ret[HEADSTORE_KEPT],
                      char ret_refusal[ERR_TEXT_MAX])
{
    (void)pthread_mutex_lock(&store->lock);
    size_t n = store->kept.n;
    for (size_t i = 0; i < n; i++) {
        heads_version_copy(&store->kept.version[i], &ret[i]);
    }
    if (ret_refusal) {
        memcpy(ret_refusal, store->refusal, sizeof store->refusal);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return n;
}

void headstore_set_refusal(struct headstore *store, const char *text)
{
    (void)pthread_mutex_lock(&store->lock);
    (void)snprintf(store->refusal, sizeof store->refusal, "%s", text);
    (void)pthread_mutex_unlock(&store->lock);
}

bool headstore_managed(const struct headstore *store)
{
    return store->settings->heads_dir != NULL;
}

static enum metrics_swap metric_of(enum swap_result result, bool dry_run)
{
    switch (result) {
    case SWAP_OK:
        return dry_run ? METRICS_SWAP_DRY_RUN : METRICS_SWAP_OK;
    case SWAP_INVALID:
        return METRICS_SWAP_REFUSED;
    case SWAP_OTHER:
        return METRICS_SWAP_OTHER_ENCODER;
    case SWAP_BUSY:
        return METRICS_SWAP_BUSY;
    case SWAP_MANAGED:
        return METRICS_SWAP_MANAGED;
    case SWAP_PRECONDITION:
        return METRICS_SWAP_PRECONDITION;
    case SWAP_UNKNOWN:
    case SWAP_NO_HEAD:
    case SWAP_NO_SHADOW:
        return METRICS_SWAP_UNKNOWN;
    case SWAP_LAST_HEAD:
        return METRICS_SWAP_REFUSED;
    case SWAP_STALE:
        return METRICS_SWAP_PRECONDITION;
    case SWAP_FAILED:
        break;
    }
    return METRICS_SWAP_FAILED;
}

void headstore_audit(struct headstore *store, const char *by, const char *what, const char *sha256,
                     enum swap_result result, bool dry_run, uint64_t begin_ns,
                     const struct err *err)
{
    enum metrics_swap metric = metric_of(result, dry_run);
    if (result != SWAP_OK || dry_run) {
        metrics_swap(store->metrics, metric);
    }
    LOG_KEPT(result == SWAP_OK ? LOG_INFO : LOG_WARN, "heads swap", LOG_S("by", by),
             LOG_S("what", what), LOG_S("sha256", sha256),
             LOG_S("result", metrics_swap_name(metric)),
             LOG_U("us", (clock_now_ns() - begin_ns) / NS_PER_US),
             LOG_S("error", result == SWAP_OK ? NULL : err->text));
}

static void declare_labels(struct headstore *store, const struct heads *heads)
{
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        for (size_t k = 0; k < head->classes && k < METRICS_LABELS_MAX; k++) {
            metrics_declare(store->metrics, head->name, head->labels[k]);
        }
    }
}

enum err_code headstore_read(const struct headstore *store, const void *data, size_t size,
                             const char *label, const struct heads *base, struct heads **ret_heads,
                             struct err *err)
{
    struct heads_fit fit = model_heads_fit(store->model, store->pooling);
    return heads_create(data, size, label, &fit, true, base, ret_heads, err);
}

enum swap_result headstore_stage(struct headstore *store, const void *data, size_t size,
                                 const char *label, const struct heads *base,
                                 struct heads **ret_heads, struct err *err)
{
    struct heads *heads = NULL;
    enum err_code code = headstore_read(store, data, size, label, base, &heads, err);
    if (code == ERR_OK) {
        code = probes_try(&store->probes, heads, err);
    }
    if (code != ERR_OK) {
        heads_release(heads);
        return code == ERR_CONFLICT ? SWAP_OTHER : code == ERR_NOMEM ? SWAP_FAILED : SWAP_INVALID;
    }
    *ret_heads = heads;
    return SWAP_OK;
}

/* Persists and publishes the store's versions with `version` (its reference is taken over) in
 * front, and the refusal where there is one. The swap lock is held. */
static enum swap_result activate(struct headstore *store, const struct heads_version *version,
                                 const char *refusal, struct heads_version *ret_previous,
                                 struct err *err)
{
    /* Only holders of the swap lock change kept, so reading it here needs no other lock. */
    struct kept next = {.n = store->kept.n};
    for (size_t i = 0; i < next.n; i++) {
        heads_version_copy(&store->kept.version[i], &next.version[i]);
    }
    kept_activate(&next, version);
    struct heads_version evicted = {.heads = NULL};
    if (next.n > HEADSTORE_KEPT) {
        evicted = next.version[--next.n];
    }
    const char *dir = store->settings->state_dir;
    uint64_t next_version = store->next_version;
    if (version->version >= next_version) {
        next_version = version->version + 1;
    }
    if (dir && persist_write(dir, &next, next_version, err) != ERR_OK) {
        kept_release(&next);
        heads_version_release(&evicted);
        return SWAP_FAILED;
    }
    declare_labels(store, version->heads);
    store->next_version = next_version;
    metrics_swap(store->metrics, METRICS_SWAP_OK); /* before: who sees the swap finds it counted */
    (void)pthread_mutex_lock(&store->lock);
    struct kept old = store->kept;
    store->kept = next;
    if (refusal) {
        (void)snprintf(store->refusal, sizeof store->refusal, "%s", refusal);
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (ret_previous) {
        *ret_previous = (struct heads_version){.version = 0};
        if (old.n) {
            heads_version_copy(&old.version[0], ret_previous);
        }
    }
    kept_release(&old);
    if (dir && evicted.heads) {
        persist_forget(dir, &evicted);
    }
    heads_version_release(&evicted);
    return SWAP_OK;
}

static void fill_version(struct heads_version *version, uint64_t number, struct heads *heads,
                         const char *source, const char *source_sha256)
{
    *version = (struct heads_version){
        .version = number, .heads = heads, .loaded_wall_ns = clock_wall_ns()};
    (void)snprintf(version->source, sizeof version->source, "%s", source);
    (void)snprintf(version->source_sha256, sizeof version->source_sha256, "%s", source_sha256);
    (void)snprintf(version->id, sizeof version->id, "v%" PRIu64 "-%.12s", number, heads->sha256);
}

enum swap_result headstore_commit(struct headstore *store, struct heads *heads, const char *source,
                                  const char *source_sha256, const char *refusal,
                                  struct heads_version *ret_previous, struct err *err)
{
    struct heads_version version;
    fill_version(&version, store->next_version, heads, source, source_sha256);
    return activate(store, &version, refusal, ret_previous, err);
}

/* Whether the active set is what the caller takes it for. */
bool headstore_expected(const struct heads_version *active, const char *if_match, struct err *err)
{
    if (!if_match || (active->heads && (strcmp(if_match, "*") == 0 ||
                                        strcmp(if_match, active->heads->sha256) == 0))) {
        return true;
    }
    err_set(err, ERR_CONFLICT, "If-Match names heads that are not the active ones");
    return false;
}

/* The part of a PUT that holds the swap lock. */
static enum swap_result put_locked(struct headstore *store, const void *data, size_t size,
                                   const char *if_match, bool dry_run, const char *source_sha256,
                                   struct heads_version *ret_now,
                                   struct heads_version *ret_previous, struct err *err)
{
    struct heads_version active;
    headstore_acquire(store, &active);
    struct heads *heads = NULL;
    enum swap_result result = SWAP_PRECONDITION;
    if (headstore_expected(&active, if_match, err)) {
        result = headstore_stage(store, data, size, "the heads file", active.heads, &heads, err);
    }
    if (result == SWAP_OK && dry_run) {
        fill_version(ret_now, store->next_version, heads, "PUT", source_sha256);
        *ret_previous = active;
        return SWAP_OK;
    }
    heads_version_release(&active);
    if (result == SWAP_OK) {
        result = headstore_commit(store, heads, "PUT", source_sha256, NULL, ret_previous, err);
    }
    if (result == SWAP_OK) {
        headstore_acquire(store, ret_now);
    }
    return result;
}

static enum swap_result begin_swap(struct headstore *store, struct err *err)
{
    if (headstore_managed(store)) {
        err_set(err, ERR_CONFLICT, "the folder of --heads-dir rules the heads");
        return SWAP_MANAGED;
    }
    if (pthread_mutex_trylock(&store->swap) != 0) {
        err_set(err, ERR_CONFLICT, "another swap is under way");
        return SWAP_BUSY;
    }
    return SWAP_OK;
}

enum swap_result headstore_put(struct headstore *store, const void *data, size_t size,
                               const char *if_match, bool dry_run, const char *by,
                               struct heads_version *ret_now, struct heads_version *ret_previous,
                               struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    char source_sha256[SHA256_HEX_SIZE + 1];
    sha256_of(data, size, source_sha256);
    enum swap_result result = begin_swap(store, err);
    if (result == SWAP_OK) {
        result = put_locked(store, data, size, if_match, dry_run, source_sha256, ret_now,
                            ret_previous, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "put", result == SWAP_OK ? ret_now->heads->sha256 : source_sha256,
                    result, dry_run, begin_ns, err);
    return result;
}

static enum swap_result remove_locked(struct headstore *store, const char *name,
                                      const char *if_match, bool dry_run,
                                      struct heads_version *ret_now,
                                      struct heads_version *ret_previous, struct err *err)
{
    struct heads_version active;
    headstore_acquire(store, &active);
    struct heads_fit fit = model_heads_fit(store->model, store->pooling);
    struct heads *heads = NULL;
    enum swap_result result = headstore_expected(&active, if_match, err) ? SWAP_OK
                                                                         : SWAP_PRECONDITION;
    if (result == SWAP_OK) {
        enum err_code code = active.heads ? heads_without(active.heads, name, &fit, &heads, err)
                                          : err_set(err, ERR_NOT_FOUND, "no heads are in service");
        result = code == ERR_OK          ? SWAP_OK
                 : code == ERR_NOT_FOUND ? SWAP_NO_HEAD
                 : code == ERR_CONFLICT  ? SWAP_LAST_HEAD
                                         : SWAP_FAILED;
    }
    if (result == SWAP_OK && dry_run) {
        fill_version(ret_now, store->next_version, heads, "DELETE", heads->sha256);
        *ret_previous = active;
        return SWAP_OK;
    }
    heads_version_release(&active);
    if (result == SWAP_OK) {
        result = headstore_commit(store, heads, "DELETE", heads->sha256, NULL, ret_previous, err);
    }
    if (result == SWAP_OK) {
        headstore_acquire(store, ret_now);
    }
    return result;
}

enum swap_result headstore_remove(struct headstore *store, const char *name, const char *if_match,
                                  bool dry_run, const char *by, struct heads_version *ret_now,
                                  struct heads_version *ret_previous, struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    enum swap_result result = begin_swap(store, err);
    if (result == SWAP_OK) {
        result = remove_locked(store, name, if_match, dry_run, ret_now, ret_previous, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "delete", result == SWAP_OK ? ret_now->heads->sha256 : NULL, result,
                    dry_run, begin_ns, err);
    return result;
}

void headstore_turned_away(struct headstore *store, const char *by, const char *what)
{
    struct err err = ERR_INIT;
    err_set(&err, ERR_CONFLICT, "another swap is under way");
    headstore_audit(store, by, what, NULL, SWAP_BUSY, false, clock_now_ns(), &err);
}

static enum swap_result rollback_locked(struct headstore *store, uint64_t number,
                                        const char *if_match, bool dry_run,
                                        struct heads_version *ret_now,
                                        struct heads_version *ret_previous, struct err *err)
{
    const struct kept *kept = &store->kept;
    const struct heads_version none = {.version = 0};
    size_t at = 1;
    if (!headstore_expected(kept->n ? &kept->version[0] : &none, if_match, err)) {
        return SWAP_PRECONDITION;
    }
    if (number) {
        at = 0;
        while (at < kept->n && kept->version[at].version != number) {
            at++;
        }
    }
    if (at >= kept->n) {
        if (number) {
            err_set(err, ERR_NOT_FOUND, "no such version is kept");
        } else {
            err_set(err, ERR_NOT_FOUND, "there is no version before the active one");
        }
        return SWAP_UNKNOWN;
    }
    struct heads_version version;
    heads_version_copy(&kept->version[at], &version);
    if (dry_run) {
        *ret_now = version;
        heads_version_copy(&kept->version[0], ret_previous);
        return SWAP_OK;
    }
    enum swap_result result = activate(store, &version, NULL, ret_previous, err);
    if (result == SWAP_OK) {
        headstore_acquire(store, ret_now);
    }
    return result;
}

enum swap_result headstore_rollback(struct headstore *store, uint64_t version, const char *if_match,
                                    bool dry_run, const char *by, struct heads_version *ret_now,
                                    struct heads_version *ret_previous, struct err *err)
{
    uint64_t begin_ns = clock_now_ns();
    enum swap_result result = begin_swap(store, err);
    if (result == SWAP_OK) {
        result = rollback_locked(store, version, if_match, dry_run, ret_now, ret_previous, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    headstore_audit(store, by, "rollback", result == SWAP_OK ? ret_now->heads->sha256 : NULL,
                    result, dry_run, begin_ns, err);
    return result;
}

/* The heads that --heads or the defaults give; *ret_heads stays NULL where no default fits. */
static enum err_code load_configured(struct headstore *store, struct heads **ret_heads,
                                     char **ret_source, struct err *err)
{
    const struct settings *settings = store->settings;
    struct heads_fit fit = model_heads_fit(store->model, store->pooling);
    struct heads *heads = NULL;
    char *source = NULL;
    enum err_code code;
    if (settings->heads_path) {
        code = heads_load(settings->heads_path, &fit, true, &heads, err);
        source = code == ERR_OK ? strdup(settings->heads_path) : NULL;
    } else {
        struct err warning = ERR_INIT;
        code = model_default_heads(store->model, store->pooling, settings->shipped_heads, &heads,
                                   &source, &warning, err);
        if (code == ERR_OK && warning.text[0]) {
            LOG(LOG_WARN, "default heads do not fit", LOG_S("error", warning.text));
        }
    }
    if (code == ERR_OK && heads) {
        code = probes_try(&store->probes, heads, err);
    }
    if (code == ERR_OK && heads && !source) {
        code = err_nomem(err, 1);
    }
    if (code != ERR_OK) {
        heads_release(heads);
        free(source);
        return code;
    }
    *ret_heads = heads;
    *ret_source = source;
    return ERR_OK;
}

void headstore_reload(struct headstore *store)
{
    uint64_t begin_ns = clock_now_ns();
    if (headstore_managed(store)) {
        LOG(LOG_INFO, "heads not reloaded: the folder of --heads-dir rules them");
        return;
    }
    struct err err = ERR_INIT;
    struct heads *heads = NULL;
    char *source = NULL;
    (void)pthread_mutex_lock(&store->swap);
    enum swap_result result = SWAP_OK;
    enum err_code code = load_configured(store, &heads, &source, &err);
    char sha256[SHA256_HEX_SIZE + 1] = "";
    if (code != ERR_OK) {
        result = code == ERR_CONFLICT ? SWAP_OTHER : SWAP_INVALID;
    } else if (!heads) {
        result = SWAP_UNKNOWN;
        err_set(&err, ERR_NOT_FOUND, "no heads file fits");
    } else {
        memcpy(sha256, heads->sha256, sizeof sha256);
        const struct kept *kept = &store->kept;
        if (kept->n && strcmp(kept->version[0].heads->sha256, sha256) == 0) {
            heads_release(heads); /* unchanged: the version stays */
            metrics_swap(store->metrics, METRICS_SWAP_OK);
        } else {
            result = headstore_commit(store, heads, source, sha256, NULL, NULL, &err);
        }
    }
    (void)pthread_mutex_unlock(&store->swap);
    headstore_audit(store, "SIGHUP", "reload", sha256[0] ? sha256 : NULL, result, false, begin_ns,
                    &err);
    free(source);
}

/* State folder, watched folder, --heads or defaults, in that order; an explicit file must fit even
 * where it is not the one that serves. */
static enum err_code open_sources(struct headstore *store, struct err *err)
{
    const struct settings *settings = store->settings;
    bool active = false;
    enum err_code code = ERR_OK;
    if (settings->state_dir) {
        struct heads_fit fit = model_heads_fit(store->model, store->pooling);
        code = persist_open(settings->state_dir, &fit, &store->kept, &active, &store->next_version,
                            err);
    }
    if (code == ERR_OK && settings->heads_dir) {
        code = watch_create(store, settings->heads_dir, &store->watch, err);
        active = store->kept.n > 0;
    }
    struct heads *heads = NULL;
    char *source = NULL;
    if (code == ERR_OK && (!active || settings->heads_path)) {
        code = load_configured(store, &heads, &source, err);
    }
    if (code == ERR_OK && !active && heads) {
        struct heads_version version;
        fill_version(&version, store->next_version, heads, source, heads->sha256);
        /* Nothing is persisted at a start: the folder keeps what events put there. */
        kept_activate(&store->kept, &version);
        if (store->kept.n > HEADSTORE_KEPT) {
            heads_version_release(&store->kept.version[--store->kept.n]);
        }
        store->next_version++;
        heads = NULL;
    }
    heads_release(heads);
    free(source);
    return code;
}

enum err_code headstore_create(const struct settings *settings, const struct model *model,
                               enum pooling pooling, unsigned threads, struct metrics *metrics,
                               struct headstore **ret_store, struct err *err)
{
    struct headstore *store = calloc(1, sizeof *store);
    if (!store) {
        return err_nomem(err, sizeof *store);
    }
    store->settings = settings;
    store->model = model;
    store->pooling = pooling;
    store->metrics = metrics;
    store->next_version = 1;
    if (pthread_mutex_init(&store->swap, NULL) != 0 ||
        pthread_mutex_init(&store->lock, NULL) != 0) {
        free(store);
        return err_set(err, ERR_NOMEM, "no memory for the head store");
    }
    enum err_code code = probes_init(model, pooling, threads, &store->probes, err);
    if (code == ERR_OK) {
        (void)pthread_mutex_lock(&store->swap); /* the watcher's thread waits until all is there */
        code = open_sources(store, err);
        (void)pthread_mutex_unlock(&store->swap);
    }
    if (code != ERR_OK) {
        headstore_destroy(store);
        return code;
    }
    struct heads_version active;
    headstore_acquire(store, &active);
    if (active.heads) {
        declare_labels(store, active.heads);
        LOG(LOG_INFO, "heads in service", LOG_S("heads", active.id), LOG_S("from", active.source));
    } else {
        LOG(LOG_WARN, "no heads in service: their routes answer 404 until heads are put in");
    }
    heads_version_release(&active);
    *ret_store = store;
    return ERR_OK;
}

void headstore_destroy(struct headstore *store)
{
    if (!store) {
        return;
    }
    watch_destroy(store->watch);
    shadow_release(store->shadow);
    kept_release(&store->kept);
    probes_done(&store->probes);
    (void)pthread_mutex_destroy(&store->swap);
    (void)pthread_mutex_destroy(&store->lock);
    free(store);
}
