/* Each system call on files and listening sockets fails once, in every way that a kernel has: what
 * was done is done, or ends with an error that names a path; no descriptor stays open, no temporary
 * file lies about, and what has succeeded all the same gave what it gives when nothing fails: a
 * file that could not be looked for is not one that is not there. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/log.h"
#include "base/reader.h"
#include "model/model.h"
#include "model/space.h"
#include "server/exchange/auth.h"
#include "server/heads/headstore.h"
#include "server/http/listen.h"
#include "server/metrics/metrics.h"
#include "server/settings.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

enum { OUT_MAX = 1 << 20, ATTEMPTS_MAX = 10000, SHORT = -1, PATH_SIZE = 1024 };

#define TOKEN "0123456789-0123456789-0123456789-0123456789"

static unsigned fail_at; /* the n-th call from now; 0: none */
static int fault;        /* what errno it gets; SHORT: half of the bytes */
static bool struck;
static bool repeats; /* the call that failed is one that EINTR only interrupts */

/* Returns true where this is the call, errno set. */
static bool strikes(bool moves_bytes)
{
    if (!fail_at || --fail_at != 0) {
        return false;
    }
    struck = true;
    repeats = moves_bytes;
    if (fault == SHORT) {
        return false;
    }
    errno = fault;
    return true;
}

/* The calls below stand before libc's for all code of this program. */
#define REAL(result, name, parameters) \
    static result(*real) parameters;   \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

#define CALL(result, failed, name, parameters, arguments)  \
    result name parameters                                 \
    {                                                      \
        REAL(result, name, parameters);                    \
        return strikes(false) ? (failed) : real arguments; \
    }

CALL(int, -1, fstat, (int fd, struct stat *status), (fd, status))
CALL(int, -1, stat, (const char *path, struct stat *status), (path, status))
CALL(int, -1, lstat, (const char *path, struct stat *status), (path, status))
CALL(int, -1, access, (const char *path, int mode), (path, mode))
CALL(int, -1, fsync, (int fd), (fd))
CALL(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
CALL(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
CALL(int, -1, rename, (const char *from, const char *to), (from, to))
CALL(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(int, -1, mkostemp, (char *pattern, int flags), (pattern, flags))
CALL(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
CALL(int, -1, listen, (int fd, int backlog), (fd, backlog))
CALL(int, -1, getsockname, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
CALL(int, -1, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
     (fd, level, name, value, size))

CALL(DIR *, NULL, opendir, (const char *path), (path))
CALL(struct dirent *, NULL, readdir, (DIR * folder), (folder))
CALL(int, -1, inotify_init1, (int flags), (flags))
CALL(int, -1, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
CALL(int, -1, eventfd, (unsigned initial, int flags), (initial, flags))
CALL(int, fault > 0 ? fault : EAGAIN, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (thread, attributes, run, argument))

int open(const char *path, int flags, ...)
{
    REAL(int, open, (const char *, int, ...));
    return strikes(false) ? -1 : real(path, flags, 0644);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    REAL(void *, mmap, (void *, size_t, int, int, int, off_t));
    return fd >= 0 && strikes(false) ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}

/* It closes, then says that it failed. */
int close(int fd)
{
    REAL(int, close, (int));
    int result = real(fd);
    return strikes(false) ? -1 : result;
}

#define MOVE(name, data_type, parameters, whole, less)           \
    ssize_t name parameters                                      \
    {                                                            \
        REAL(ssize_t, name, parameters);                         \
        unsigned before = fail_at;                               \
        if (strikes(true)) {                                     \
            return -1;                                           \
        }                                                        \
        return before == 1 && fault == SHORT ? (less) : (whole); \
    }

MOVE(read, void, (int fd, void *data, size_t size), real(fd, data, size),
     real(fd, data, (size + 1) / 2))
MOVE(write, const void, (int fd, const void *data, size_t size), real(fd, data, size),
     real(fd, data, (size + 1) / 2))
MOVE(pread, void, (int fd, void *data, size_t size, off_t offset), real(fd, data, size, offset),
     real(fd, data, (size + 1) / 2, offset))

/* --- What is done ----------------------------------------------------------------------------- */

static struct scratch scratch;

static const char *in_scratch(const char *name, char out[PATH_SIZE])
{
    (void)snprintf(out, PATH_SIZE, "%s/%s", scratch.dir, name);
    return out;
}

static enum err_code read_whole(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    char *data;
    size_t size;
    enum err_code code = file_read(in_scratch("lines", path), OUT_MAX, &data, &size, err);
    if (code == ERR_OK) {
        assert_true(buf_append(out, data, size));
        free(data);
        code = file_read_regular(path, OUT_MAX, &data, &size, err);
    }
    if (code == ERR_OK) {
        assert_true(buf_append(out, data, size));
        free(data);
    }
    return code;
}

static enum err_code map_whole(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    struct file_map map;
    enum err_code code = file_map_open(in_scratch("lines", path), OUT_MAX, &map, err);
    if (code == ERR_OK) {
        assert_true(buf_append(out, map.data, map.size));
        file_map_close(&map);
    }
    return code;
}

/* Whatever it says, the file is the old one or the new one. */
static enum err_code write_whole(struct buf *out, struct err *err)
{
    static unsigned turn;
    char path[PATH_SIZE];
    char text[64];
    char *data = NULL;
    size_t size;
    (void)snprintf(text, sizeof text, "turn %u", ++turn);
    enum err_code code = file_write_atomic(in_scratch("written", path), text, strlen(text), err);
    unsigned armed = fail_at;
    fail_at = 0;
    if (file_read(path, OUT_MAX, &data, &size, NULL) == ERR_OK) {
        assert_true(code != ERR_OK || strcmp(data, text) == 0);
        assert_int_equal(strncmp(data, "turn ", 5), 0);
    }
    free(data);
    fail_at = armed;
    (void)out;
    return code;
}

static enum err_code write_pieces(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    struct file_writer writer = {.fd = -1};
    enum err_code code = file_writer_open(in_scratch("pieces", path), &writer, err);
    if (code != ERR_OK) {
        return code;
    }
    for (int i = 0; i < 3 && code == ERR_OK; i++) {
        code = file_writer_put(&writer, "piece", 5, err);
    }
    if (code == ERR_OK) {
        code = file_writer_commit(&writer, err);
    }
    file_writer_abandon(&writer);
    (void)out;
    return code;
}

static enum err_code make_folders(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    char inner[PATH_SIZE];
    (void)out;
    (void)rmdir(in_scratch("a/b", path));
    enum err_code code = file_make_folders(path, err);
    if (code == ERR_OK) {
        code = file_write_atomic(in_scratch("a/from", path), "x", 1, err);
    }
    if (code == ERR_OK) {
        code = file_rename(path, in_scratch("a/to", inner), err);
    }
    return code;
}

static enum err_code read_lines(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    struct reader reader = {0};
    char digest[SHA256_HEX_SIZE + 1];
    enum err_code code = reader_open(in_scratch("lines", path), &reader, err);
    if (code != ERR_OK) {
        return code;
    }
    code = reader_digest(&reader, err);
    enum reader_state state = READER_LINE;
    while (code == ERR_OK && state != READER_END) {
        struct line line;
        code = reader_next(&reader, true, &state, &line, err);
        if (code == ERR_OK && state == READER_LINE) {
            assert_true(buf_append(out, line.text, line.size) && buf_append_char(out, '|'));
        }
    }
    if (code == ERR_OK) {
        reader_digest_text(&reader, digest);
        assert_true(buf_append_str(out, digest));
    }
    reader_close(&reader);
    return code;
}

static enum err_code open_keys(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    char id[AUTH_ID_MAX + 1];
    struct keyring *ring = NULL;
    size_t n = 0;
    enum err_code code = keyring_create(in_scratch("tokens", path), "token", &ring, err);
    if (code == ERR_OK) {
        code = keyring_reload(ring, &n, err);
        assert_int_equal(keyring_check(ring, "Bearer " TOKEN, "unix", id), AUTH_OK);
    }
    keyring_destroy(ring);
    (void)out;
    return code;
}

static enum err_code listen_at(const char *text, struct err *err)
{
    struct listen_socket made = {.fd = -1};
    enum err_code code = listen_open(text, &made, err);
    if (code == ERR_OK) {
        assert_true(made.fd >= 0 && made.address[0]);
        listen_close(&made);
        assert_int_equal(made.fd, -1);
    }
    return code;
}

static enum err_code listen_tcp(struct buf *out, struct err *err)
{
    (void)out;
    enum err_code code = listen_at("127.0.0.1:0", err);
    return code == ERR_OK ? listen_at("[::1]:0", err) : code;
}

/* A file of a process that is gone lies there. */
static enum err_code listen_unix(struct buf *out, struct err *err)
{
    char text[PATH_SIZE];
    (void)out;
    (void)snprintf(text, sizeof text, "unix:%s/socket", scratch.dir);
    return listen_at(text, err);
}

static const char *folder;

static enum err_code load_folder(struct buf *out, struct err *err)
{
    char dir[PATH_SIZE];
    (void)snprintf(dir, sizeof dir, ORTHRUS_TEST_DATA "/%s", folder);
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct model *model = NULL;
    struct heads *heads = NULL;
    struct space space;
    char *source = NULL;
    struct err warning = ERR_INIT;
    enum err_code code = model_load(dir, &options, &model, err);
    if (code == ERR_OK) {
        code = space_make(model, POOLING_MEAN, 64, &space, err);
    }
    if (code == ERR_OK) {
        code = model_default_heads(model, POOLING_MEAN, NULL, &heads, &source, &warning, err);
    }
    if (code == ERR_OK) {
        assert_true(buf_append_str(out, space.id));
        /* Heads that can't be read are left out, and the log says so. */
        assert_true(heads || warning.code == ERR_OK || struck);
        if (warning.code == ERR_OK) {
            assert_true(buf_append_str(out, heads ? heads->sha256 : "no heads"));
        }
    }
    heads_release(heads);
    free(source);
    model_destroy(model);
    return code;
}

static struct model *watching;
static struct metrics *counters;

/* --heads-dir: the greatest name serves, or the start ends; an older file never takes its place. */
static enum err_code watch_folder(struct buf *out, struct err *err)
{
    char path[PATH_SIZE];
    const struct settings settings = {.heads_dir = in_scratch("watched", path)};
    struct headstore *store = NULL;
    enum err_code code = headstore_create(&settings, watching, POOLING_MEAN, 1, counters, &store,
                                          err);
    if (code == ERR_OK) {
        struct heads_version version;
        headstore_acquire(store, &version);
        assert_true(buf_append_str(out, version.heads ? version.heads->sha256 : "no heads"));
        heads_version_release(&version);
    }
    fail_at = 0; /* no kernel refuses a byte for an eventfd, with which the thread is ended */
    headstore_destroy(store);
    return code;
}

static void make_watched(void)
{
    static const char *const names[] = {"watched/a.safetensors", "watched/b.safetensors"};
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct err err = ERR_INIT;
    scratch_mkdir(&scratch, "watched");
    for (int i = 0; i < 2; i++) {
        struct buf file = heads_file_make(32, 2, 3, (float)i, NULL);
        scratch_write(&scratch, names[i], file.data, file.size);
        buf_done(&file);
    }
    assert_int_equal(model_load(ORTHRUS_TEST_DATA "/golden/tiny-bert", &options, &watching, &err),
                     ERR_OK);
    counters = metrics_create("test", NULL);
    assert_non_null(counters);
}

/* --- How it must end -------------------------------------------------------------------------- */

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *listing = opendir("/proc/self/fd");
    assert_non_null(listing);
    while (readdir(listing)) {
        n++;
    }
    (void)closedir(listing);
    return n;
}

static size_t leftovers(void)
{
    size_t n = 0;
    DIR *listing = opendir(scratch.dir);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        n += strstr(entry->d_name, ".tmp-") != NULL;
    }
    (void)closedir(listing);
    return n;
}

struct work {
    const char *name;
    enum err_code (*operate)(struct buf *out, struct err *err);
    const char *folder;
};

static void test_work(void **state)
{
    const struct work *work = *state;
    static const int faults[] = {EIO, SHORT, EINTR, ENOSPC, EACCES};
    const char *full = getenv("ORTHRUS_FULL");
    size_t n_faults = work->folder && !(full && *full == '1') ? 2 : sizeof faults / sizeof *faults;
    struct buf whole;
    struct buf got;
    struct err err = ERR_INIT;
    buf_init(&whole, OUT_MAX);
    buf_init(&got, OUT_MAX);
    folder = work->folder;
    if (work->operate(&whole, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    size_t descriptors = open_descriptors();
    size_t failures = 0;
    for (size_t f = 0; f < n_faults; f++) {
        fault = faults[f];
        for (unsigned n = 1; n < ATTEMPTS_MAX; n++) {
            err = (struct err)ERR_INIT;
            buf_clear(&got);
            struck = false;
            fail_at = n;
            enum err_code code = work->operate(&got, &err);
            fail_at = 0;
            if (!struck) {
                break;
            }
            failures++;
            bool same = got.size == 0 ||
                        (got.size <= whole.size && memcmp(got.data, whole.data, got.size) == 0);
            if (code == ERR_OK ? !same : !err.text[0] || code == ERR_NOMEM) {
                fail_msg("call %u, errno %d: %s: %s", n, fault, err_name(code), err.text);
            }
            if (code != ERR_OK && (fault == SHORT || (fault == EINTR && repeats))) {
                fail_msg("call %u only had to go on: %s", n, err.text);
            }
            assert_int_equal(open_descriptors(), descriptors);
            assert_int_equal(leftovers(), 0);
            struck = false;
            buf_clear(&got);
            if (work->operate(&got, &err) != ERR_OK || got.size != whole.size) {
                fail_msg("after call %u, errno %d: %s", n, fault, err.text);
            }
        }
    }
    print_message("%s: %zu calls failed\n", work->name, failures);
    buf_done(&got);
    buf_done(&whole);
}

static const struct work works[] = {
    {"read", read_whole, NULL},
    {"map", map_whole, NULL},
    {"write", write_whole, NULL},
    {"write in pieces", write_pieces, NULL},
    {"folders and names", make_folders, NULL},
    {"lines", read_lines, NULL},
    {"keys", open_keys, NULL},
    {"listen", listen_tcp, NULL},
    {"listen, unix", listen_unix, NULL},
    {"a watched folder", watch_folder, NULL},
    {"a plain folder", load_folder, "golden/tiny-bert"},
    {"shards", load_folder, "models/plain-sharded"},
    {"modules, Dense", load_folder, "models/st-dense"},
    {"prompts", load_folder, "models/st-prompts"},
    {"a head inside", load_folder, "models/seq-roberta"},
};

enum { WORKS = sizeof works / sizeof *works };

int main(void)
{
    log_setup(LOG_ERROR, LOG_TEXT);
    scratch_make(&scratch);
    scratch_text(&scratch, "lines", "one\r\ntwo\nthree");
    scratch_text(&scratch, "tokens", "ops:" TOKEN "\n");
    make_watched();
    struct CMUnitTest tests[WORKS];
    for (size_t i = 0; i < WORKS; i++) {
        tests[i] = (struct CMUnitTest){.name = works[i].name,
                                       .test_func = test_work,
                                       .initial_state = (void *)(uintptr_t)&works[i]};
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_destroy(watching);
    metrics_destroy(counters);
    scratch_remove(&scratch);
    return failed;
}
