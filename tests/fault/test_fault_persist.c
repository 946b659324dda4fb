/* kill -9 at every system call that persistence makes, before it and after it, and in the middle of
 * each write: afterwards the folder holds the old heads or the new, whole, and what the dead
 * process had reported as done is there. ORTHRUS_FULL=1 goes on to a thousand kills.
 *
 * And each of those calls fails once in every way that a disk has: then memory and folder say the
 * same, a change that was reported as failed has left nothing, and the next one is made. A start
 * serves what the folder holds or ends, and harms nothing. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "model/model.h"
#include "server/heads/headstore.h"
#include "server/metrics/metrics.h"
#include "server/settings.h"
#include "tests/support/heads_file.h"
#include "tests/support/shell.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

enum { CLASSES = 6, MOODS = 3, KILLS_FULL = 1000 };

/* The calls below stand before libc's for all code of this program. */
enum moment { BEFORE, HALFWAY, AFTER, MOMENTS };

static unsigned kill_at; /* the n-th call from now; 0: none */
static enum moment kill_moment;
static int fault; /* what errno that call gets instead; 0: it kills, SHORT: it writes less */

enum { SHORT = -1 };

static void die(void)
{
    (void)kill(getpid(), SIGKILL);
}

/* True when this is the call. */
static bool strikes(void)
{
    return kill_at && --kill_at == 0;
}

#define FAULTY(call)                              \
    bool here = strikes();                        \
    if (here && fault > 0) {                      \
        errno = fault;                            \
        return -1;                                \
    }                                             \
    if (here && !fault && kill_moment != AFTER) { \
        die();                                    \
    }                                             \
    long result = (call);                         \
    if (here && !fault) {                         \
        die();                                    \
    }

ssize_t write(int fd, const void *data, size_t size)
{
    bool here = fd != STDERR_FILENO && strikes();
    if (here && fault > 0) {
        errno = fault;
        return -1;
    }
    if (here && !fault && kill_moment == BEFORE) {
        die();
    }
    bool less = here && (fault == SHORT || kill_moment == HALFWAY);
    long result = syscall(SYS_write, fd, data, less ? (size + 1) / 2 : size);
    if (here && !fault) {
        die();
    }
    return result;
}

int fsync(int fd)
{
    FAULTY(syscall(SYS_fsync, fd))
    return (int)result;
}

int fchmod(int fd, mode_t mode)
{
    FAULTY(syscall(SYS_fchmod, fd, mode))
    return (int)result;
}

int close(int fd)
{
    FAULTY(syscall(SYS_close, fd))
    return (int)result;
}

int unlink(const char *path)
{
    FAULTY(syscall(SYS_unlinkat, AT_FDCWD, path, 0))
    return (int)result;
}

int rename(const char *from, const char *to)
{
    FAULTY(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
    return (int)result;
}

/* What only looks at the disk fails, too; a kill there would be one between two changes. */
#define FAULTY_LOOK(failed)       \
    if (fault > 0 && strikes()) { \
        errno = fault;            \
        return failed;            \
    }

int open(const char *path, int flags, ...)
{
    FAULTY_LOOK(-1)
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0644);
}

ssize_t read(int fd, void *data, size_t size)
{
    FAULTY_LOOK(-1)
    return syscall(SYS_read, fd, data, size);
}

int fstat(int fd, struct stat *status)
{
    int (*real)(int, struct stat *);
    *(void **)&real = dlsym(RTLD_NEXT, "fstat");
    FAULTY_LOOK(-1)
    return real(fd, status);
}

int access(const char *path, int mode)
{
    FAULTY_LOOK(-1)
    return (int)syscall(SYS_faccessat, AT_FDCWD, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    FAULTY_LOOK(-1)
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

DIR *opendir(const char *path)
{
    DIR *(*real)(const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "opendir");
    FAULTY_LOOK(NULL)
    return real(path);
}

struct dirent *readdir(DIR *folder)
{
    struct dirent *(*real)(DIR *);
    *(void **)&real = dlsym(RTLD_NEXT, "readdir");
    FAULTY_LOOK(NULL)
    return real(folder);
}

int mkostemp(char *pattern, int flags)
{
    int (*real)(char *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "mkostemp");
    FAULTY(real(pattern, flags))
    return (int)result;
}

static struct model *model;
static struct metrics *metrics;
static struct scratch scratch;
static struct settings settings;
static char state_dir[512];
static char seed_dir[512];
static char heads_path[512];

static struct headstore *open_store(void)
{
    struct headstore *store = NULL;
    struct err err = ERR_INIT;
    if (headstore_create(&settings, model, POOLING_MEAN, 1, metrics, &store, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    return store;
}

static bool put(struct headstore *store, struct buf file)
{
    struct heads_version now = {0};
    struct heads_version previous = {0};
    struct err err = ERR_INIT;
    bool done = headstore_put(store, file.data, file.size, NULL, false, "ops", &now, &previous,
                              &err) == SWAP_OK;
    heads_version_release(&now);
    heads_version_release(&previous);
    buf_done(&file);
    return done;
}

static struct buf heads_of(float value)
{
    return heads_file_make(model->config.hidden, CLASSES, MOODS, value, NULL);
}

static bool put_value(struct headstore *store)
{
    return put(store, heads_of(100));
}

/* The classifier is 100 and the other head stays. */
static bool put_one_head(struct headstore *store)
{
    return put(store, heads_file_make(model->config.hidden, CLASSES, 0, 100, NULL));
}

static bool roll_back(struct headstore *store)
{
    struct heads_version now = {0};
    struct heads_version previous = {0};
    struct err err = ERR_INIT;
    bool done = headstore_rollback(store, 0, NULL, false, "ops", &now, &previous, &err) == SWAP_OK;
    heads_version_release(&now);
    heads_version_release(&previous);
    return done;
}

static bool reload(struct headstore *store)
{
    headstore_reload(store);
    return true;
}

/* What serves, by its first classifier weight; every other number has to fit. */
static float served(struct headstore *store)
{
    struct heads_version version;
    headstore_acquire(store, &version);
    assert_non_null(version.heads);
    const struct head *head = heads_find(version.heads, "classifier");
    for (size_t i = 0; i < CLASSES * model->config.hidden; i++) {
        assert_true(head->weight[i] == head->weight[0]);
    }
    float value = head->weight[0];
    heads_version_release(&version);
    return value;
}

struct scenario {
    const char *name;
    unsigned puts_before; /* of 1, 2, 3, …; the file of --heads is 0 */
    bool (*change)(struct headstore *store);
    float old, new;
};

static const struct scenario scenarios[] = {
    {"first put into an empty folder", 0, put_value, 0, 100},
    {"put", 2, put_value, 2, 100},
    {"put that evicts", 9, put_value, 9, 100},
    {"put of one head", 2, put_one_head, 2, 100},
    {"rollback", 3, roll_back, 3, 2},
    {"reload", 2, reload, 2, 0},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* Runs the change in a child that dies at that call. Returns whether it died. */
static bool run_child(struct headstore *store, const struct scenario *scenario, unsigned at,
                      enum moment moment, bool *ret_done)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        kill_moment = moment;
        kill_at = at;
        bool done = scenario->change(store);
        kill_at = 0;
        (void)!write(pipe_fds[1], done ? "y" : "n", 1);
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    char answer = 0;
    *ret_done = read(pipe_fds[0], &answer, 1) == 1 && answer == 'y';
    (void)close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || answer == 'y');
    return WIFSIGNALED(status);
}

static void replace_folder(const char *folder, const char *with)
{
    assert_int_equal(shell("rm -rf '%s' && cp -a '%s' '%s'", folder, with, folder), 0);
}

/* The folder as it is before the change, to be copied for each kill. */
static void prepare(const struct scenario *scenario)
{
    assert_int_equal(shell("rm -rf '%s'", state_dir), 0);
    struct headstore *store = open_store();
    for (unsigned i = 1; i <= scenario->puts_before; i++) {
        assert_true(put(store, heads_of((float)i)));
    }
    headstore_destroy(store);
    replace_folder(seed_dir, state_dir);
}

static bool has_damage(void)
{
    return shell("ls '%s' | grep -q damaged", state_dir) == 0;
}

/* One kill and its aftermath. False when the change was over before the call came. */
static bool try_kill(const struct scenario *scenario, unsigned at, enum moment moment)
{
    replace_folder(state_dir, seed_dir);
    struct headstore *store = open_store();
    bool done;
    bool died = run_child(store, scenario, at, moment, &done);
    headstore_destroy(store);
    store = open_store();
    float value = served(store);
    bool old = value == scenario->old;
    if ((!old && value != scenario->new) || (done && old) || has_damage()) {
        fail_msg("%s: killed %s call %u: serves %g, was told it is done: %d, damage: %d",
                 scenario->name, moment == AFTER ? "after" : "before", at, (double)value, done,
                 has_damage());
    }
    assert_true(put(store, heads_of(50))); /* and goes on */
    headstore_destroy(store);
    store = open_store();
    assert_true(served(store) == 50);
    headstore_destroy(store);
    return died;
}

static void test_kill_at_every_call(void **state)
{
    (void)state;
    const char *full = getenv("ORTHRUS_FULL");
    unsigned wanted = full && strcmp(full, "1") == 0 ? KILLS_FULL : 1;
    unsigned kills = 0;
    while (kills < wanted) {
        for (size_t i = 0; i < SCENARIOS; i++) {
            unsigned before = kills;
            bool died = true;
            prepare(&scenarios[i]);
            for (unsigned at = 1; died; at++) {
                for (int moment = 0; moment < MOMENTS; moment++) {
                    died = try_kill(&scenarios[i], at, (enum moment)moment);
                    kills += died;
                }
            }
            print_message("%s: %u kills\n", scenarios[i].name, kills - before);
        }
    }
}

/* How many files of that name's pattern the folder holds. */
static unsigned count(const char *pattern)
{
    unsigned n = 0;
    DIR *folder = opendir(state_dir);
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        n += fnmatch(pattern, entry->d_name, 0) == 0;
    }
    assert_int_equal(closedir(folder), 0);
    return n;
}

/* One failing call and its aftermath. False when the change was over before the call came. */
static bool try_fault(const struct scenario *scenario, unsigned at, int number)
{
    replace_folder(state_dir, seed_dir);
    struct headstore *store = open_store();
    unsigned files = count("heads-*");
    fault = number;
    kill_at = at;
    bool done = scenario->change(store);
    bool struck = kill_at == 0;
    kill_at = 0;
    fault = 0;
    float value = served(store);
    bool old = value == scenario->old;
    /* A reload does not say how it ended. */
    if ((!old && value != scenario->new) || (scenario->change != reload && done == old)) {
        fail_msg("%s: call %u fails with %d: serves %g, was told it is done: %d", scenario->name,
                 at, number, (double)value, done);
    }
    if (old && count("heads-*") != files) {
        fail_msg("%s: call %u fails with %d: something is left behind", scenario->name, at, number);
    }
    headstore_destroy(store);
    store = open_store();
    if (served(store) != value || has_damage()) {
        fail_msg("%s: call %u fails with %d: memory said %g, the folder %g", scenario->name, at,
                 number, (double)value, (double)served(store));
    }
    assert_int_equal(count("*.tmp-*"), 0);
    assert_true(put(store, heads_of(50))); /* and goes on */
    assert_true(roll_back(store) && served(store) == value);
    headstore_destroy(store);
    return struck;
}

static void test_every_call_fails(void **state)
{
    (void)state;
    static const int numbers[] = {EIO, ENOSPC, EINTR, SHORT};
    unsigned faults = 0;
    for (size_t i = 0; i < SCENARIOS; i++) {
        prepare(&scenarios[i]);
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            unsigned at = 1;
            while (try_fault(&scenarios[i], at, numbers[j])) {
                at++;
            }
            faults += at - 1;
        }
    }
    print_message("%u failing calls\n", faults);
}

/* A start on a folder with three versions, or one whose state is gone. False when it was over
 * before the call came. */
static bool try_start(unsigned at, int number, float expected, uint64_t next)
{
    replace_folder(state_dir, seed_dir);
    struct headstore *store = NULL;
    struct err err = ERR_INIT;
    fault = number;
    kill_at = at;
    enum err_code code = headstore_create(&settings, model, POOLING_MEAN, 1, metrics, &store, &err);
    bool struck = kill_at == 0;
    kill_at = 0;
    fault = 0;
    if (code == ERR_OK) {
        if (served(store) != expected) {
            fail_msg("call %u fails with %d: the start serves %g", at, number,
                     (double)served(store));
        }
        /* No number stands for two sets. */
        struct heads_version version;
        assert_true(put(store, heads_of(50)));
        headstore_acquire(store, &version);
        assert_true(version.version >= next);
        heads_version_release(&version);
    }
    headstore_destroy(store);
    store = open_store();
    if (served(store) != (code == ERR_OK ? 50 : expected) || has_damage()) {
        fail_msg("call %u of a start failed with %d: the next one serves %g", at, number,
                 (double)served(store));
    }
    headstore_destroy(store);
    return struck;
}

static void test_every_call_of_a_start_fails(void **state)
{
    (void)state;
    static const int numbers[] = {EIO, EMFILE, EINTR};
    unsigned faults = 0;
    prepare(&scenarios[1]);
    for (int lost = 0; lost < 2; lost++) {
        if (lost) {
            assert_int_equal(shell("rm '%s/state.json'", seed_dir), 0);
        }
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            unsigned at = 1;
            while (try_start(at, numbers[i], lost ? 0 : scenarios[1].old,
                             scenarios[1].puts_before + 1)) {
                at++;
            }
            faults += at - 1;
        }
    }
    print_message("%u failing calls\n", faults);
}

static int setup(void **state)
{
    (void)state;
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct err err = ERR_INIT;
    if (model_load(TINY, &options, &model, &err) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    metrics = metrics_create("test", NULL);
    /* A killed process leaves the page cache whole: what fsync costs on a disk would buy nothing.
     */
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    scratch_make(&scratch);
    (void)snprintf(seed_dir, sizeof seed_dir, "%s", scratch_path(&scratch, "seed"));
    (void)snprintf(state_dir, sizeof state_dir, "%s", scratch_path(&scratch, "state"));
    struct buf file = heads_of(0);
    scratch_write(&scratch, "heads.safetensors", file.data, file.size);
    (void)snprintf(heads_path, sizeof heads_path, "%s", scratch.path);
    buf_done(&file);
    settings.state_dir = state_dir;
    settings.heads_path = heads_path;
    log_setup(LOG_ERROR, LOG_TEXT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(&scratch);
    metrics_destroy(metrics);
    model_destroy(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_at_every_call),
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_every_call_of_a_start_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
