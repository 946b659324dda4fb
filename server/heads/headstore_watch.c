/* Follows --heads-dir. inotify says when something happened, a short silence says that it is over,
 * and a slow poll catches file systems that report nothing. What decides is a scan: the valid
 * *.safetensors with the greatest name. Names are resolved at each scan, so a ConfigMap's swap of
 * its ..data link is just another change. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/size.h"
#include "server/heads/headstore_parts.h"

enum { QUIET_MS = 200, QUIET_MOST_MS = 2000, POLL_MS = 10000 };
/* Of more files than that the ones with the lesser names are as good as not there. */
enum { FILES_MAX = 1024, FILES_ROOM = 2 * FILES_MAX };

struct candidate {
    char *name; /* owned */
};

struct watch {
    struct headstore *store;
    char *dir;   /* owned */
    int inotify; /* -1 where the kernel has none left: polling goes on */
    int stop;    /* eventfd */
    pthread_t thread;
    bool started;
    char seen[SHA256_HEX_SIZE + 1]; /* of names, inodes, sizes and times at the last scan */
};

static bool has_suffix(const char *name, const char *suffix)
{
    size_t size = strlen(name);
    size_t suffix_size = strlen(suffix);
    return size > suffix_size && strcmp(name + size - suffix_size, suffix) == 0;
}

static int descending(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)b)->name, ((const struct candidate *)a)->name);
}

static void free_candidates(struct candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(candidates[i].name);
    }
    free(candidates);
}

/* Sorts them, the greatest name first, and drops those that are too many. */
static size_t keep_greatest(struct candidate *candidates, size_t n)
{
    qsort(candidates, n, sizeof *candidates, descending);
    while (n > FILES_MAX) {
        free(candidates[--n].name);
    }
    return n;
}

static bool is_candidate(const char *name)
{
    return name[0] != '.' && has_suffix(name, ".safetensors");
}

/* The folder's *.safetensors into candidates [FILES_ROOM]. */
static enum err_code read_folder(DIR *folder, const char *dir, struct candidate *candidates,
                                 size_t *ret_n, struct err *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            /* Half a list would bring an older file into service. */
            return errno ? err_set_errno(err, ERR_IO, errno, "--heads-dir %s", dir) : ERR_OK;
        }
        if (!is_candidate(entry->d_name)) {
            continue;
        }
        if (*ret_n == FILES_ROOM) {
            *ret_n = keep_greatest(candidates, *ret_n);
        }
        candidates[*ret_n].name = strdup(entry->d_name);
        if (!candidates[*ret_n].name) {
            return err_nomem(err, strlen(entry->d_name));
        }
        ++*ret_n;
    }
}

/* The folder's *.safetensors, the greatest name first. */
static enum err_code list_candidates(const char *dir, struct candidate **ret_candidates,
                                     size_t *ret_n, struct err *err)
{
    DIR *folder = opendir(dir);
    if (!folder) {
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "--heads-dir %s",
                             dir);
    }
    struct candidate *candidates = calloc(FILES_ROOM, sizeof *candidates);
    size_t n = 0;
    if (!candidates) {
        (void)closedir(folder);
        return err_nomem(err, FILES_ROOM * sizeof *candidates);
    }
    enum err_code code = read_folder(folder, dir, candidates, &n, err);
    (void)closedir(folder);
    if (code != ERR_OK) {
        free_candidates(candidates, n);
        return code;
    }
    *ret_n = keep_greatest(candidates, n);
    *ret_candidates = candidates;
    return ERR_OK;
}

/* A digest of what stat says about the files behind the names: changes whenever one of them may
 * have changed. "" when memory is out, which never equals the last one. */
static void sign(const char *dir, const struct candidate *candidates, size_t n,
                 char out[SHA256_HEX_SIZE + 1])
{
    out[0] = '\0';
    struct sha256 *sha = sha256_create();
    for (size_t i = 0; i < n && sha; i++) {
        char *path = file_join(dir, candidates[i].name);
        struct stat st = {.st_size = 0};
        if (!path || stat(path, &st) != 0) {
            st = (struct stat){.st_size = 0};
        }
        free(path);
        const int64_t values[] = {(int64_t)st.st_dev,          (int64_t)st.st_ino,
                                  (int64_t)st.st_size,         (int64_t)st.st_mtim.tv_sec,
                                  (int64_t)st.st_mtim.tv_nsec, (int64_t)st.st_ctim.tv_sec,
                                  (int64_t)st.st_ctim.tv_nsec};
        sha256_update(sha, candidates[i].name, strlen(candidates[i].name) + 1);
        sha256_update(sha, values, sizeof values);
    }
    if (sha) {
        unsigned char digest[SHA256_SIZE];
        sha256_finish(sha, digest);
        sha256_hex(digest, out);
    }
}

static bool is_active(const struct headstore *store, const char *source_sha256)
{
    const struct kept *kept = &store->kept;
    return kept->n && strcmp(kept->version[0].source_sha256, source_sha256) == 0;
}

/* True where a file could not be looked at for a reason that says nothing about it: a disk's error,
 * no descriptor or memory left. */
static bool is_passing(const char *path, enum err_code code)
{
    struct stat st;
    if (code != ERR_IO || !path) {
        return code == ERR_NOMEM;
    }
    return stat(path, &st) == 0 ? S_ISREG(st.st_mode) && access(path, R_OK) == 0 : errno != ENOENT;
}

enum tried {
    TRIED_SERVES,  /* now, or already did */
    TRIED_REFUSED, /* reported, and kept for GET /admin/heads while it is the newest */
    TRIED_IN_VAIN, /* not its fault: an older file must not take its place */
};

/* What became of one file. */
struct attempt {
    char sha256[SHA256_HEX_SIZE + 1]; /* "" where it could not be read */
    struct heads *heads;              /* one reference; NULL: it serves already, or is refused */
    bool named;                       /* an error's text begins with the file's name or path */
};

/* Reads a file and checks what it holds. */
static enum swap_result load_file(const struct watch *watch, const char *path, const char *name,
                                  struct attempt *attempt, struct err *err)
{
    struct headstore *store = watch->store;
    char *data = NULL;
    size_t size = 0;
    enum err_code code = file_read_regular(path, HEADS_FILE_MAX, &data, &size, err);
    if (code != ERR_OK) {
        /* A longer one was cut before the name. */
        attempt->named = code != ERR_NOMEM && strlen(path) < ERR_TEXT_MAX;
        return SWAP_FAILED;
    }
    sha256_of(data, size, attempt->sha256);
    struct heads *heads = NULL;
    if (!is_active(store, attempt->sha256)) {
        code = headstore_read(store, data, size, name, NULL, &heads, err);
        attempt->named = code != ERR_OK && code != ERR_NOMEM;
    }
    free(data);
    if (heads) {
        code = probes_try(&store->probes, heads, err);
    }
    if (code != ERR_OK) {
        heads_release(heads);
        return code == ERR_NOMEM ? SWAP_FAILED : SWAP_INVALID;
    }
    attempt->heads = heads;
    return SWAP_OK;
}

static enum tried try_file(struct watch *watch, const char *name, struct err *refusal)
{
    struct headstore *store = watch->store;
    uint64_t begin_ns = clock_now_ns();
    char *path = file_join(watch->dir, name);
    struct err err = ERR_INIT;
    struct attempt attempt = {.heads = NULL};
    enum swap_result result = SWAP_FAILED;
    if (path) {
        result = load_file(watch, path, name, &attempt, &err);
    } else {
        err_nomem(&err, strlen(name));
    }
    if (result == SWAP_OK && !attempt.heads) {
        free(path);
        return TRIED_SERVES;
    }
    if (result == SWAP_OK) {
        /* Refused so far are the files with greater names. */
        result = headstore_commit(store, attempt.heads, path, attempt.sha256, refusal->text, NULL,
                                  &err);
    }
    headstore_audit(store, "heads-dir", name, attempt.sha256[0] ? attempt.sha256 : NULL, result,
                    false, begin_ns, &err);
    if (result != SWAP_OK) {
        if (!attempt.named) {
            err_prefix(&err, "%s", name);
        }
        err_set(refusal, err.code, "%s", err.text);
    }
    bool passing = result != SWAP_OK && is_passing(path, err.code);
    free(path);
    return result == SWAP_OK ? TRIED_SERVES : passing ? TRIED_IN_VAIN : TRIED_REFUSED;
}

/* The swap lock is held. */
static enum err_code scan(struct watch *watch, struct err *err)
{
    struct candidate *candidates = NULL;
    size_t n = 0;
    enum err_code code = list_candidates(watch->dir, &candidates, &n, err);
    if (code != ERR_OK) {
        return code;
    }
    char signature[SHA256_HEX_SIZE + 1];
    sign(watch->dir, candidates, n, signature);
    if (!signature[0] || strcmp(signature, watch->seen) != 0) {
        struct err refusal = ERR_INIT;
        enum tried tried = TRIED_REFUSED;
        for (size_t i = 0; i < n && tried == TRIED_REFUSED; i++) {
            tried = try_file(watch, candidates[i].name, &refusal);
            if (tried == TRIED_IN_VAIN) {
                code = err_set(err, ERR_IO, "--heads-dir %s: %s can't be read now", watch->dir,
                               candidates[i].name);
            }
        }
        if (code != ERR_OK) {
            free_candidates(candidates, n);
            return code;
        }
        headstore_set_refusal(watch->store, refusal.text);
        if (tried == TRIED_REFUSED) {
            LOG(LOG_WARN, "no valid heads in --heads-dir; what served goes on serving",
                LOG_S("dir", watch->dir));
        }
        memcpy(watch->seen, signature, sizeof signature);
    }
    free_candidates(candidates, n);
    return ERR_OK;
}

/* Watching the same folder again changes nothing; a folder that replaced it is a new one. */
static void add_watch(struct watch *watch)
{
    if (watch->inotify >= 0) {
        (void)inotify_add_watch(watch->inotify, watch->dir,
                                IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM |
                                    IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF |
                                    IN_ONLYDIR);
    }
}

enum woken { WOKEN_STOP, WOKEN_EVENT, WOKEN_TIMEOUT };

/* Waits for an event and reads all there are. */
static enum woken wait_event(const struct watch *watch, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = watch->stop, .events = POLLIN},
                            {.fd = watch->inotify, .events = POLLIN}};
    int ready = poll(fds, 2, timeout_ms); /* a negative fd is skipped */
    if (ready < 0 && errno == EINTR) {
        return WOKEN_EVENT;
    }
    if (fds[0].revents) {
        return WOKEN_STOP;
    }
    if (ready <= 0 || !fds[1].revents) {
        return WOKEN_TIMEOUT;
    }
    char events[4096];
    while (read(watch->inotify, events, sizeof events) > 0) {
    }
    return WOKEN_EVENT;
}

static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    for (;;) {
        enum woken woken = wait_event(watch, POLL_MS);
        uint64_t most_ns = clock_now_ns() + QUIET_MOST_MS * NS_PER_MS;
        while (woken == WOKEN_EVENT && clock_now_ns() < most_ns) {
            woken = wait_event(watch, QUIET_MS);
        }
        if (woken == WOKEN_STOP) {
            return NULL;
        }
        struct err err = ERR_INIT;
        (void)pthread_mutex_lock(&watch->store->swap);
        add_watch(watch);
        if (scan(watch, &err) != ERR_OK) {
            watch->seen[0] = '\0'; /* once it can be read again, it is looked at again */
            headstore_set_refusal(watch->store, err.text);
            LOG(LOG_WARN, "--heads-dir can't be read", LOG_S("error", err.text));
        }
        (void)pthread_mutex_unlock(&watch->store->swap);
    }
}

enum err_code watch_create(struct headstore *store, const char *dir, struct watch **ret_watch,
                           struct err *err)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        return err_nomem(err, sizeof *watch);
    }
    watch->store = store;
    watch->dir = strdup(dir);
    watch->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    watch->stop = eventfd(0, EFD_CLOEXEC);
    enum err_code code = ERR_OK;
    if (!watch->dir) {
        code = err_nomem(err, strlen(dir));
    } else if (watch->stop < 0) {
        code = err_set_errno(err, ERR_IO, errno, "eventfd to watch --heads-dir");
    } else {
        add_watch(watch); /* before the scan, so that no change falls between */
        code = scan(watch, err);
    }
    if (code == ERR_OK) {
        int number = pthread_create(&watch->thread, NULL, watch_main, watch);
        watch->started = number == 0;
        code = number == 0 ? ERR_OK
                           : err_set_errno(err, ERR_IO, number, "thread to watch --heads-dir");
    }
    if (code != ERR_OK) {
        watch_destroy(watch);
        return code;
    }
    *ret_watch = watch;
    return ERR_OK;
}

void watch_destroy(struct watch *watch)
{
    if (!watch) {
        return;
    }
    if (watch->started) {
        const uint64_t one = 1;
        (void)!write(watch->stop, &one, sizeof one);
        (void)pthread_join(watch->thread, NULL);
    }
    if (watch->inotify >= 0) {
        (void)close(watch->inotify);
    }
    if (watch->stop >= 0) {
        (void)close(watch->stop);
    }
    free(watch->dir);
    free(watch);
}
