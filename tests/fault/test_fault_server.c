/* The whole daemon in this process, over a socket, with each place that allocates failing once, by
 * its chain of callers: what was asked ends with its own answer, with 500 `internal` or with the
 * end of its connection, and the same asked again is answered as before. A start whose thread,
 * epoll set or socket can't be had ends with an error that says so. jansson's own allocations are
 * left alone: its lexer ignores some failures. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/log.h"
#include "server/server.h"
#include "tests/fault/chaos.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

#define TINY   ORTHRUS_TEST_DATA "/golden/tiny-bert"
#define TOKEN  "0123456789-0123456789-0123456789-0123456789"
#define BEARER "Authorization: Bearer " TOKEN "\r\n"
#define JSON   "Content-Type: application/json\r\n"

enum { ANSWER_MAX = 1 << 22, PLACES_MAX = 2000, HIDDEN = 32, PATH_SIZE = 300, PATIENCE_S = 60 };
enum { CONNECTS_MAX = 6000, PAUSE_US = 10000 };

static struct settings settings = {
    .model_dir = TINY,
    .precision = "fp32",
    .threads = 1,
    .max_queue_requests = 512,
    .max_client_batch = 64,
    .max_body_bytes = 1 << 20,
    .admin_max_body_bytes = 1 << 20,
    .max_connections = 16,
    .request_timeout_ms = 60000,
    .drain_timeout_s = 10,
    .header_timeout_ms = 60000,
    .body_timeout_ms = 60000,
    .idle_timeout_ms = 60000,
    .cors_origin = "https://example.org",
    .version = "test",
};
static struct scratch scratch;
static char main_address[PATH_SIZE], admin_address[PATH_SIZE], state_dir[PATH_SIZE];
static char token_file[PATH_SIZE], key_file[PATH_SIZE];
static int told = -1; /* standard error, while the daemon's log goes elsewhere */

/* --- Calls that fail -------------------------------------------------------------------------- */

static atomic_uint calls_left; /* until the one that fails; 0: none */
static atomic_bool struck;

/* The n-th call from now fails, once; 0: none. */
static void fail_call(unsigned n)
{
    atomic_store(&struck, false);
    atomic_store(&calls_left, n);
}

static bool strikes(int error)
{
    unsigned left = atomic_load(&calls_left);
    while (left && !atomic_compare_exchange_weak(&calls_left, &left, left - 1)) {
    }
    if (left != 1) {
        return false;
    }
    atomic_store(&struck, true);
    errno = error;
    return true;
}

/* These stand before libc's for all code of this program, its libraries included. */
#define CALL(result, failed, error, name, parameters, arguments) \
    result name parameters;                                      \
    result name parameters                                       \
    {                                                            \
        static result(*real) parameters;                         \
        *(void **)&real = dlsym(RTLD_NEXT, #name);               \
        return strikes(error) ? (failed) : real arguments;       \
    }

CALL(int, EAGAIN, EAGAIN, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (thread, attributes, run, argument))
CALL(int, -1, EMFILE, eventfd, (unsigned initial, int flags), (initial, flags))
CALL(int, -1, EMFILE, epoll_create1, (int flags), (flags))
CALL(int, -1, EMFILE, pipe2, (int fds[2], int flags), (fds, flags))
CALL(int, -1, EMFILE, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, -1, EINVAL, bind, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
CALL(int, -1, EINVAL, listen, (int fd, int backlog), (fd, backlog))
CALL(int, -1, EIO, chmod, (const char *path, mode_t mode), (path, mode))

static void hide_log(void)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)fflush(stderr);
    told = dup(STDERR_FILENO);
    assert_true(nowhere >= 0 && told >= 0 && dup2(nowhere, STDERR_FILENO) >= 0);
    (void)close(nowhere);
}

static void show_log(void)
{
    if (told >= 0) {
        assert_true(dup2(told, STDERR_FILENO) >= 0);
        (void)close(told);
        told = -1;
    }
}

/* cmocka tells on standard error. */
#define FAIL(...)              \
    do {                       \
        show_log();            \
        fail_msg(__VA_ARGS__); \
    } while (0)

/* --- The daemon ------------------------------------------------------------------------------- */

static pthread_t daemon_thread;
static struct err daemon_err;
static enum err_code daemon_code;

static void *run_daemon(void *argument)
{
    (void)argument;
    daemon_code = server_run(&settings, &daemon_err);
    return NULL;
}

static void make_files(void)
{
    scratch_make(&scratch);
    (void)snprintf(main_address, sizeof main_address, "unix:%s/main", scratch.dir);
    (void)snprintf(admin_address, sizeof admin_address, "unix:%s/admin", scratch.dir);
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", scratch.dir);
    (void)snprintf(token_file, sizeof token_file, "%s/tokens", scratch.dir);
    (void)snprintf(key_file, sizeof key_file, "%s/keys", scratch.dir);
    scratch_text(&scratch, "tokens", "ops:" TOKEN "\n");
    scratch_text(&scratch, "keys", "team:" TOKEN "\n");
    settings.listen = main_address;
    settings.admin_listen = admin_address;
    settings.admin_token_file = token_file;
    settings.api_key_file = key_file;
    settings.state_dir = state_dir;
}

/* --- A client --------------------------------------------------------------------------------- */

struct asked {
    const char *method, *path, *headers, *body;
    bool admin;
    bool varies; /* from one answer to the next; the status counts */
};

static int connect_to(const char *address)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    (void)snprintf(to.sun_path, sizeof to.sun_path, "%s", address + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) {
        return fd;
    }
    (void)close(fd);
    return -1;
}

/* A fixed room: the client's own allocations are none of those that fail. */
struct answer {
    size_t size;
    char data[ANSWER_MAX];
};

static struct answer whole, got;

/* The status, 0 where the connection ended without one; -1 where there is none to connect to. */
static int ask(const struct asked *asked, const void *body, size_t size, struct answer *answer)
{
    char head[1024];
    int fd = connect_to(asked->admin ? admin_address : main_address);
    if (fd < 0) {
        return -1;
    }
    int length = snprintf(head, sizeof head,
                          "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: r\r\n"
                          "Origin: https://example.org\r\nContent-Length: %zu\r\n%s%s\r\n",
                          asked->method, asked->path, size, BEARER, asked->headers);
    (void)send(fd, head, (size_t)length, MSG_NOSIGNAL);
    (void)send(fd, body, size, MSG_NOSIGNAL);
    ssize_t more = 1;
    for (answer->size = 0; more > 0; answer->size += more > 0 ? (size_t)more : 0) {
        assert_true(answer->size < ANSWER_MAX - 1);
        more = recv(fd, answer->data + answer->size, ANSWER_MAX - 1 - answer->size, 0);
    }
    bool waited = more < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    (void)close(fd);
    if (waited) {
        FAIL("%s %s: no end", asked->method, asked->path);
    }
    answer->data[answer->size] = '\0';
    bool answered = strncmp(answer->data, "HTTP/1.1 ", 9) == 0;
    return answered ? (int)strtol(answer->data + 9, NULL, 10) : 0;
}

static const char *body_of(const struct answer *answer)
{
    const char *end = strstr(answer->data, "\r\n\r\n");
    return end ? end + 4 : "";
}

static int start_daemon(void **state)
{
    static const struct asked ready = {.method = "GET", .path = "/readyz", .headers = ""};
    (void)state;
    make_files();
    log_setup(LOG_DEBUG, LOG_JSON);
    hide_log();
    daemon_err = (struct err)ERR_INIT;
    int status = pthread_create(&daemon_thread, NULL, run_daemon, NULL) == 0 ? 0 : -2;
    for (int i = 0; status != -2 && status != 200 && i < CONNECTS_MAX; i++) {
        (void)usleep(PAUSE_US);
        status = ask(&ready, "", 0, &got);
    }
    return status == 200 ? 0 : -1;
}

static int stop_daemon(void **state)
{
    (void)state;
    (void)kill(getpid(), SIGTERM);
    (void)pthread_join(daemon_thread, NULL);
    show_log();
    assert_int_equal(daemon_code, ERR_OK);
    scratch_remove(&scratch);
    return 0;
}

/* --- What is asked ---------------------------------------------------------------------------- */

#define POSTED(path, body)                     \
    {                                          \
        "POST", path, JSON, body, false, false \
    }
#define GOT(path, varies)                  \
    {                                      \
        "GET", path, "", "", false, varies \
    }
#define ADMIN(method, path, body)          \
    {                                      \
        method, path, "", body, true, true \
    }

static const struct asked every[] = {
    POSTED("/embed", "{\"inputs\":[\"hello world\",\"caf\\u00e9\"],\"dimensions\":4}"),
    {"POST", "/embed", JSON "Accept: application/octet-stream\r\n", "{\"inputs\":\"a\"}", false,
     false},
    POSTED("/", "{\"inputs\":\"a\"}"),
    POSTED("/v1/embeddings", "{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}"),
    POSTED("/classify", "{\"inputs\":[\"hello\",\"world\"],\"top_k\":2}"),
    POSTED("/sentiment", "{\"inputs\":\"a\"}"),
    POSTED("/heads/classifier", "{\"inputs\":\"a\"}"),
    POSTED("/predict?head=classifier", "{\"inputs\":[[\"a\"],[\"b\",\"c\"]]}"),
    POSTED("/similarity", "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\",\"c\"]}}"),
    POSTED("/embed_all", "{\"inputs\":\"a\"}"),
    POSTED("/analyze", "{\"inputs\":\"a\",\"tasks\":[\"embed\",\"sentiment\"]}"),
    POSTED("/tokenize", "{\"inputs\":[\"hello\"]}"),
    POSTED("/decode", "{\"ids\":[[2,5,3]]}"),
    GOT("/v1/models", false),
    GOT("/v1/models/tiny-bert", false),
    GOT("/v1/models/other", false),
    GOT("/heads", false),
    GOT("/info", true),
    GOT("/metrics", true),
    GOT("/readyz", false),
    GOT("/docs", false),
    GOT("/openapi.json", false),
    GOT("/nothing", false),
    {"OPTIONS", "/embed", "Access-Control-Request-Method: POST\r\n", "", false, false},
    {"DELETE", "/embed", "", "", false, false},
    POSTED("/embed", "{\"inputs\":\"a\",\"inputz\":1}"),
    POSTED("/v1/embeddings", "{\"input\":1}"),
    POSTED("/embed", "{\"inputs\":"),
    {"POST", "/embed", "", "{\"inputs\":\"a\"}", false, false},
    ADMIN("GET", "/admin/heads", ""),
    ADMIN("GET", "/admin/heads/1", ""),
    ADMIN("GET", "/admin/heads/9", ""),
    ADMIN("GET", "/admin/shadow", ""),
    ADMIN("DELETE", "/admin/shadow", ""),
    ADMIN("DELETE", "/admin/heads/none", ""),
    ADMIN("POST", "/admin/heads/rollback", "{\"version\":99}"),
    ADMIN("POST", "/admin/heads/rollback", "{\"version\":\"x\"}"),
    ADMIN("POST", "/admin/shadow/promote", ""),
    ADMIN("PUT", "/admin/heads", "nothing of the kind"),
};

static bool failed_well(int status, const struct answer *answer)
{
    return status == 0 || (status == 500 && strstr(body_of(answer), "internal"));
}

static void test_every_request(void **state)
{
    (void)state;
    size_t total = 0;
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        const struct asked *asked = &every[i];
        size_t size = strlen(asked->body);
        (void)ask(asked, asked->body, size, &whole); /* makes what stays */
        int status = ask(asked, asked->body, size, &whole);
        bool failed = true;
        size_t places = 0;
        assert_true(status > 0);
        for (; failed && places < PLACES_MAX; places += failed) {
            chaos_fail_new();
            int now = ask(asked, asked->body, size, &got);
            failed = chaos_failed();
            chaos_fail_at(0);
            bool same = now == status &&
                        (asked->varies || strcmp(body_of(&got), body_of(&whole)) == 0);
            if (!same && !(failed && failed_well(now, &got))) {
                FAIL("%s %s, place %zu: %d: %s", asked->method, asked->path, places, now,
                     body_of(&got));
            }
            now = ask(asked, asked->body, size, &got);
            if (now != status || (!asked->varies && strcmp(body_of(&got), body_of(&whole)) != 0)) {
                FAIL("%s %s, after place %zu: %d: %s", asked->method, asked->path, places, now,
                     body_of(&got));
            }
        }
        total += places;
    }
    print_message("%zu places of requests that had not failed before\n", total);
}

/* The entity tag of the heads in service, which is their SHA-256. */
static void active(char out[80])
{
    static const struct asked list = ADMIN("GET", "/admin/heads", "");
    int status = ask(&list, "", 0, &got);
    const char *tag = strstr(got.data, "ETag: \"");
    if (status != 200 || !tag) {
        FAIL("GET /admin/heads: %d", status);
    }
    (void)snprintf(out, 80, "%.64s", tag + 7);
}

/* A change is made, or the same serves as before and it can be made. */
static void test_every_change(void **state)
{
    static const struct asked put = ADMIN("PUT", "/admin/heads", NULL);
    static const struct asked changes[] = {
        ADMIN("PUT", "/admin/heads?dry_run", NULL),
        ADMIN("PUT", "/admin/heads", NULL),
        ADMIN("POST", "/admin/heads/rollback", ""),
        ADMIN("DELETE", "/admin/heads/sentiment", ""),
        ADMIN("PUT", "/admin/heads?stage=shadow", NULL),
        ADMIN("GET", "/admin/shadow", ""),
        ADMIN("POST", "/admin/shadow/promote", ""),
    };
    static const struct asked stage = ADMIN("PUT", "/admin/heads?stage=shadow", NULL);
    (void)state;
    float value = 1.0F;
    size_t total = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const struct asked *change = &changes[i];
        bool failed = true;
        size_t places = 0;
        for (; failed && places < PLACES_MAX; places += failed) {
            char before[80];
            char after[80];
            struct buf file = heads_file_make(HIDDEN, 2, 3, value++, NULL);
            struct buf staged = heads_file_make(HIDDEN, 2, 3, value++, NULL);
            assert_int_equal(ask(&put, file.data, file.size, &got), 200);
            assert_int_equal(ask(&stage, staged.data, staged.size, &got), 200);
            active(before);
            struct buf next = heads_file_make(HIDDEN, 2, 3, value++, NULL);
            const void *body = change->body ? "" : next.data;
            size_t size = change->body ? 0 : next.size;
            chaos_fail_new();
            int status = ask(change, body, size, &got);
            failed = chaos_failed();
            chaos_fail_at(0);
            if (status != 200 && !(failed && failed_well(status, &got))) {
                FAIL("%s %s, place %zu: %d: %s", change->method, change->path, places, status,
                     body_of(&got));
            }
            active(after);
            if (status == 500 && strcmp(before, after) != 0) {
                FAIL("%s %s, place %zu: refused, and made", change->method, change->path, places);
            }
            buf_done(&next);
            buf_done(&staged);
            buf_done(&file);
        }
        total += places;
    }
    print_message("%zu places of changes that had not failed before\n", total);
}

/* --- Starts ----------------------------------------------------------------------------------- */

/* Everything is there but the model. It ends with the error of what it could not have, at the
 * latest with the model's, and leaves no socket. True where something had failed. */
static bool start_in_vain(const char *what, unsigned at)
{
    struct err err = ERR_INIT;
    enum err_code code = server_run(&settings, &err);
    bool failed = chaos_failed() || atomic_load(&struck);
    chaos_fail_at(0);
    fail_call(0);
    if (code == ERR_OK || !err.text[0] || (!failed && code != ERR_NOT_FOUND)) {
        FAIL("%s %u: %s: %s", what, at, err_name(code), err.text);
    }
    assert_int_not_equal(access(main_address + 5, F_OK), 0);
    assert_int_not_equal(access(admin_address + 5, F_OK), 0);
    return failed;
}

static void test_starts(void **state)
{
    (void)state;
    char nowhere[PATH_SIZE];
    unsigned calls = 0;
    unsigned places = 0;
    make_files();
    (void)snprintf(nowhere, sizeof nowhere, "%s/nothing", scratch.dir);
    settings.model_dir = nowhere;
    hide_log();
    chaos_fail_at(0);
    assert_false(start_in_vain("start", 0));
    for (bool failed = true; failed && places < PLACES_MAX; places += failed) {
        chaos_fail_new();
        failed = start_in_vain("place", places);
    }
    for (bool failed = true; failed && calls < PLACES_MAX; calls += failed) {
        fail_call(calls + 1);
        failed = start_in_vain("call", calls + 1);
        assert_false(start_in_vain("after call", calls + 1));
    }
    show_log();
    settings.model_dir = TINY;
    scratch_remove(&scratch);
    print_message("%u places and %u calls of starts failed\n", places, calls);
    assert_true(places > 5 && calls > 10);
}

int main(void)
{
    const struct CMUnitTest starts[] = {cmocka_unit_test(test_starts)};
    const struct CMUnitTest served[] = {
        cmocka_unit_test(test_every_request),
        cmocka_unit_test(test_every_change),
    };
    int failed = cmocka_run_group_tests(starts, NULL, NULL);
    return failed + cmocka_run_group_tests(served, start_daemon, stop_daemon);
}
