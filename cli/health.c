/* orthrus health: asks /readyz, for container health checks. */
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/flags.h"

/* Where to ask: http://HOST:PORT/PATH or unix:/socket. */
struct target {
    char host[256];
    char port[8];
    char path[256];
    char socket_path[sizeof((struct sockaddr_un *)0)->sun_path]; /* "" for TCP */
};

static enum err_code parse_host_port(const char *text, size_t size, struct target *target,
                                     struct err *err)
{
    const char *end = text + size;
    const char *host = text;
    const char *host_end;
    const char *port;
    if (size && *text == '[') {
        host = text + 1;
        host_end = memchr(host, ']', size - 1);
        port = host_end && host_end + 1 < end && host_end[1] == ':' ? host_end + 2 : NULL;
    } else {
        host_end = memrchr(text, ':', size);
        port = host_end ? host_end + 1 : NULL;
    }
    if (!port || (size_t)(host_end - host) >= sizeof target->host ||
        (size_t)(end - port) >= sizeof target->port || port == end) {
        return err_set(err, ERR_USAGE,
                       "URL: http://HOST:PORT/PATH, HOST:PORT, [v6]:PORT or unix:/path is allowed");
    }
    for (const char *digit = port; digit < end; digit++) {
        if (!isdigit((unsigned char)*digit)) {
            return err_set(err, ERR_USAGE, "URL: its port must be a number from 1 to 65535");
        }
    }
    unsigned long number = strtoul(port, NULL, 10);
    if (number < 1 || number > UINT16_MAX) {
        return err_set(err, ERR_USAGE, "URL: its port must be a number from 1 to 65535");
    }
    (void)snprintf(target->host, sizeof target->host, "%.*s", (int)(host_end - host), host);
    (void)snprintf(target->port, sizeof target->port, "%.*s", (int)(end - port), port);
    /* A listener on every address is asked on this machine's own. */
    if (strcmp(target->host, "0.0.0.0") == 0 || strcmp(target->host, "::") == 0 ||
        !target->host[0]) {
        (void)snprintf(target->host, sizeof target->host, "localhost");
    }
    return ERR_OK;
}

static enum err_code parse_target(const char *url, struct target *target, struct err *err)
{
    (void)snprintf(target->path, sizeof target->path, "/readyz");
    target->socket_path[0] = '\0';
    if (strncmp(url, "unix:", 5) == 0) {
        if (strlen(url + 5) >= sizeof target->socket_path) {
            return err_set(err, ERR_USAGE, "URL: the socket's path is too long");
        }
        (void)snprintf(target->socket_path, sizeof target->socket_path, "%s", url + 5);
        (void)snprintf(target->host, sizeof target->host, "localhost");
        return ERR_OK;
    }
    if (strncmp(url, "https://", 8) == 0) {
        return err_set(err, ERR_USAGE, "URL: https is not spoken; TLS ends at the balancer");
    }
    if (strncmp(url, "http://", 7) == 0) {
        url += 7;
    }
    size_t size = strcspn(url, "/");
    if (url[size] && url[size + 1]) {
        if (strlen(url + size) >= sizeof target->path || strpbrk(url + size, " \r\n")) {
            return err_set(err, ERR_USAGE, "URL: its path is too long or holds spaces");
        }
        (void)snprintf(target->path, sizeof target->path, "%s", url + size);
    }
    return parse_host_port(url, size, target, err);
}

static int connect_unix(const struct target *target)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, target->socket_path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int connect_tcp(const struct target *target, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int why = getaddrinfo(target->host, target->port, &hints, &list);
    if (why != 0) {
        (void)err_set(err, ERR_IO, "%s: %s", target->host, gai_strerror(why));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

/* The status of one GET, or 0 with the error set. */
static int ask(const struct target *target, struct err *err)
{
    const char *where = target->socket_path[0] ? target->socket_path : target->host;
    int fd = target->socket_path[0] ? connect_unix(target) : connect_tcp(target, err);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "%s%s%s: connect", where,
                      target->socket_path[0] ? "" : ":",
                      target->socket_path[0] ? "" : target->port);
        return 0;
    }
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target->path,
                        target->host);
    char answer[64] = "";
    size_t got = 0;
    bool whole = send(fd, request, (size_t)size, MSG_NOSIGNAL) == size;
    ssize_t more = 1;
    /* The status line is enough: "HTTP/1.1 200". */
    while (whole && more > 0 && got < 12) {
        more = recv(fd, answer + got, sizeof answer - 1 - got, 0);
        whole = more >= 0;
        got += whole ? (size_t)more : 0;
    }
    int number = errno;
    (void)close(fd);
    int status = got >= 12 && strncmp(answer, "HTTP/1.", 7) == 0 ? (int)strtol(answer + 9, NULL, 10)
                                                                 : 0;
    if (!status && !whole) {
        err_set_errno(err, ERR_IO, number, "%s:%s: no answer", where, target->port);
    } else if (!status) {
        (void)err_set(err, ERR_IO, "%s:%s: %s", where, target->port,
                      got ? "what answers there is no HTTP" : "closed without an answer");
    }
    return status;
}

/* What the handler says; it may call nothing that formats. */
static char deadline_text[512];
static size_t deadline_size;

static void on_deadline(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, deadline_text, deadline_size);
    _exit(EXIT_FAILED);
}

/* Ends the process then, wherever it waits: for a name, a connection or one more byte. */
static void set_deadline(const struct target *target, unsigned timeout_ms)
{
    int size = snprintf(
        deadline_text, sizeof deadline_text, "orthrus health: %s:%s: no answer within %u ms\n",
        target->socket_path[0] ? target->socket_path : target->host, target->port, timeout_ms);
    deadline_size = size > 0 && (size_t)size < sizeof deadline_text ? (size_t)size : 0;
    const struct itimerval timer = {
        .it_value = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000}};
    (void)signal(SIGALRM, on_deadline);
    (void)setitimer(ITIMER_REAL, &timer, NULL);
}

/* *ret_variable: which one of the environment says so. */
static const char *default_url(const char **ret_variable)
{
    const char *admin = getenv("ORTHRUS_ADMIN_LISTEN");
    const char *listen = getenv("ORTHRUS_LISTEN");
    if (admin && strcmp(admin, "off") == 0) {
        *ret_variable = listen && *listen ? "ORTHRUS_LISTEN" : NULL;
        return *ret_variable ? listen : "127.0.0.1:8080";
    }
    *ret_variable = admin && *admin ? "ORTHRUS_ADMIN_LISTEN" : NULL;
    return *ret_variable ? admin : "127.0.0.1:8081";
}

int command_health(int argc, char **argv)
{
    unsigned timeout_ms = 2000;
    const struct flag flags[] = {
        {"timeout-ms", 0, FLAG_UINT, &timeout_ms, "MS", "2000",
         "longest wait for the answer, all in all", 1, 600000, false},
        {0},
    };
    const struct command command = {
        .name = "health",
        .arguments = "[URL]",
        .summary = "Asks a daemon whether it is ready; exit status 0 if it is, 1 if not.",
        .details = "URL is http://HOST:PORT[/PATH], HOST:PORT, [v6]:PORT or unix:/path; the path "
                   "is /readyz\nunless given. Without URL the admin listener is asked, as "
                   "ORTHRUS_ADMIN_LISTEN or\nserve's default name it (ORTHRUS_LISTEN where that "
                   "is off).\n",
        .flags = flags,
        .max_arguments = 1,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    struct target target = {.port = "0"};
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    const char *variable = NULL;
    const char *url = n_arguments ? arguments[0] : default_url(&variable);
    if (parse_target(url, &target, &err) != ERR_OK) {
        if (variable) {
            (void)err_prefix(&err, "%s", variable);
        }
        return command_fail("health", &err);
    }
    set_deadline(&target, timeout_ms);
    status = ask(&target, &err);
    if (!status) {
        return command_fail("health", &err);
    }
    printf("%s %d\n", target.path, status);
    return status == 200 ? EXIT_DONE : EXIT_FAILED;
}
