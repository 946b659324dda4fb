/* Any bytes on a connection of the real HTTP layer, with a model behind it: what comes back is
 * whole, well-formed responses and then the end; the daemon lives. The first byte picks the
 * listener and how the rest is cut into writes. */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/jval.h"
#include "base/log.h"
#include "server/answer/answer.h"
#include "server/exchange/auth.h"
#include "server/exchange/proxies.h"
#include "server/heads/swapper.h"
#include "server/http/http.h"
#include "server/http/reaper.h"
#include "server/queue/engine.h"
#include "server/state.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Silence of QUIET_MS ends a run: requests that are not whole would wait for their deadlines. */
enum { QUIET_MS = 25, ANSWER_MAX = 8 << 20, KIB = 1024 };

static struct settings settings = {
    .model_dir = ORTHRUS_TEST_DATA "/golden/tiny-bert",
    .precision = "fp32",
    .isa = "auto",
    .listen = "none",
    .admin_listen = "off",
    .threads = 1,
    .max_queue_requests = 64,
    .max_client_batch = 64,
    .max_body_bytes = 64 * KIB,
    .admin_max_body_bytes = 64 * KIB,
    .max_connections = 16,
    .request_timeout_ms = 5000,
    .header_timeout_ms = 200,
    .body_timeout_ms = 200,
    .idle_timeout_ms = 200,
    .version = "fuzz",
};
static struct server server = {.settings = &settings};
static struct proxies proxies;
static struct http *http;

/* So that bytes with this token come to the admin routes. */
static void make_tokens(void)
{
    static const char line[] = "fuzz:fuzz-token-0123456789-0123456789-abcdef\n";
    char path[64];
    int fd = memfd_create("tokens", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, line, sizeof line - 1) == (ssize_t)sizeof line - 1);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(keyring_create(path, "fuzz", &server.admin_tokens, NULL) == ERR_OK && close(fd) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct err err = ERR_INIT;
    struct engine *engine = NULL;
    struct reaper *reaper = NULL;
    const struct connection_limits limits = {16, 4, 4};
    jval_global_init();
    log_setup(LOG_ERROR, LOG_JSON);
    server.metrics = metrics_create("fuzz", NULL);
    server.proxies = &proxies;
    client_bytes_init(&server.client_bytes, server.metrics);
    make_tokens();
    CHECK(server.metrics && swapper_create(&server.swapper, &err) == ERR_OK &&
          reaper_create(&settings, &reaper, &err) == ERR_OK &&
          http_create(&server, reaper, &limits, &http, &err) == ERR_OK);
    if (engine_create(&settings, &answers, server.metrics, &engine, &err) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
    atomic_store(&server.engine, engine);
    atomic_store(&server.phase, SERVER_READY);
    return 0;
}

static size_t number(const char *headers, const char *name)
{
    const char *found = strcasestr(headers, name);
    return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

/* Each response is a status line, headers, and as many bytes as Content-Length says. A HEAD request
 * among them makes the body's length unknown: then the first head alone is checked. */
static void check_responses(char *bytes, size_t size, bool has_head)
{
    while (size > 0) {
        CHECK(size > 12 && memcmp(bytes, "HTTP/1.", 7) == 0);
        char *end = memmem(bytes, size, "\r\n\r\n", 4);
        CHECK(end);
        size_t head = (size_t)(end - bytes) + 4;
        CHECK(!memchr(bytes, '\0', head));
        if (has_head) {
            return;
        }
        end[2] = '\0';
        bool interim = memcmp(bytes + 9, "100", 3) == 0;
        size_t body = interim ? 0 : number(bytes, "\r\nContent-Length:");
        CHECK(body <= size - head);
        bytes += head + body;
        size -= head + body;
    }
}

/* What comes until the daemon closes or says no more; true where it closed. */
static bool read_all(int fd, char *out, size_t *ret_size)
{
    size_t size = 0;
    bool closed = false;
    while (!closed) {
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        int ready = poll(&waiting, 1, QUIET_MS);
        if (ready == 0) {
            break;
        }
        ssize_t n = ready > 0 ? read(fd, out + size, ANSWER_MAX - size) : 0;
        closed = ready > 0 && n <= 0;
        size += n > 0 ? (size_t)n : 0;
        CHECK(size < ANSWER_MAX);
    }
    *ret_size = size;
    return closed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *answer;
    if (!answer) {
        answer = malloc(ANSWER_MAX);
        CHECK(answer);
    }
    if (size < 2) {
        return 0;
    }
    enum listener listener = data[0] & 1 ? LISTENER_ADMIN : LISTENER_MAIN;
    size_t cut = 1 + (data[0] >> 1) % 32 * size / 32;
    data++;
    size--;
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    const struct sockaddr address = {.sa_family = AF_UNIX};
    while (!http_ready(http, listener)) {
        (void)usleep(100);
    }
    http_accept(http, listener, ends[1], &address, sizeof address);
    cut = cut < size ? cut : size;
    bool open = send(ends[0], data, cut, MSG_NOSIGNAL) == (ssize_t)cut &&
                send(ends[0], data + cut, size - cut, MSG_NOSIGNAL) == (ssize_t)(size - cut);
    (void)shutdown(ends[0], SHUT_WR);
    size_t got = 0;
    bool closed = read_all(ends[0], answer, &got);
    /* A malformed Content-Length gets the library's own page, whose header it sends twice. */
    if (open && closed && !memmem(answer, got, "<html>", 6)) {
        check_responses(answer, got, memmem(data, size, "HEAD", 4) != NULL);
    }
    CHECK(close(ends[0]) == 0);
    return 0;
}
