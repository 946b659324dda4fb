#include "server/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 1024, SOCKET_MODE = 0660 };

#define ADDRESS_ALLOWED "HOST:PORT, [v6]:PORT or unix:/path is allowed"

/* Splits HOST:PORT or [v6]:PORT. */
static enum err_code split(const char *text, char *host, size_t host_size, char *port,
                           size_t port_size, struct err *err)
{
    const char *colon = strrchr(text, ':');
    const char *begin = text;
    const char *end = colon;
    if (*text == '[') {
        begin = text + 1;
        end = strchr(text, ']');
        if (!end || end + 1 != colon) {
            return err_set(err, ERR_USAGE, "%.100s: " ADDRESS_ALLOWED, text);
        }
    } else if (colon && strchr(text, ':') != colon) {
        return err_set(err, ERR_USAGE, "%.100s: an IPv6 address stands in brackets", text);
    }
    if (!colon || end == begin || (size_t)(end - begin) >= host_size || !colon[1] ||
        strlen(colon + 1) >= port_size || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        return err_set(err, ERR_USAGE, "%.100s: " ADDRESS_ALLOWED, text);
    }
    (void)snprintf(host, host_size, "%.*s", (int)(end - begin), begin);
    (void)snprintf(port, port_size, "%s", colon + 1);
    if (strtoul(port, NULL, 10) > 65535) {
        return err_set(err, ERR_USAGE, "%.100s: a port is at most 65535", text);
    }
    return ERR_OK;
}

static enum err_code describe(struct listen_socket *socket, struct err *err)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (getsockname(socket->fd, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return err_set_errno(err, ERR_IO, errno, "bound address");
    }
    (void)snprintf(socket->address, sizeof socket->address,
                   bound.ss_family == AF_INET6 ? "[%.90s]:%s" : "%.90s:%s", host, port);
    return ERR_OK;
}

static int bind_tcp(const struct addrinfo *info)
{
    int one = 1;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    info->ai_protocol);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int number = errno;
        (void)close(fd);
        errno = number;
        return -1;
    }
    return fd;
}

static enum err_code open_tcp(const char *text, struct listen_socket *socket, struct err *err)
{
    char host[256];
    char port[8];
    if (split(text, host, sizeof host, port, sizeof port, err) != ERR_OK) {
        return err->code;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(host, port, &hints, &list);
    if (failed) {
        return err_set(err, ERR_USAGE, "%.100s: %s", text, gai_strerror(failed));
    }
    /* A name may have several addresses: the first that binds is it. */
    int number = 0;
    for (const struct addrinfo *at = list; at && socket->fd < 0; at = at->ai_next) {
        socket->fd = bind_tcp(at);
        number = errno;
    }
    freeaddrinfo(list);
    if (socket->fd < 0) {
        return err_set_errno(err, number == EADDRINUSE ? ERR_CONFLICT : ERR_IO, number, "%.100s",
                             text);
    }
    return describe(socket, err);
}

/* A socket file without a listener is left over from a process that died. */
static enum err_code remove_stale(const struct sockaddr_un *address, struct err *err)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0) {
        return ERR_OK;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return err_set(err, ERR_CONFLICT, "unix:%s: the file is there and is no socket",
                       address->sun_path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "socket");
    }
    bool stale = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                 errno == ECONNREFUSED;
    (void)close(fd);
    if (!stale) {
        return err_set(err, ERR_CONFLICT, "unix:%s: another process listens there",
                       address->sun_path);
    }
    if (unlink(address->sun_path) != 0 && errno != ENOENT) {
        return err_set_errno(err, ERR_IO, errno, "unix:%s", address->sun_path);
    }
    return ERR_OK;
}

static enum err_code open_unix(const char *path, struct listen_socket *to, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof address.sun_path) {
        return err_set(err, ERR_USAGE, "unix:%.100s: a path of 1 to %zu bytes is allowed", path,
                       sizeof address.sun_path - 1);
    }
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (remove_stale(&address, err) != ERR_OK) {
        return err->code;
    }
    to->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (to->fd < 0 || bind(to->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        return err_set_errno(err, ERR_IO, errno, "unix:%s", path);
    }
    /* The mode is set before listen(2): nobody connects earlier. */
    struct stat status;
    (void)snprintf(to->path, sizeof to->path, "%s", path);
    if (lstat(path, &status) == 0) {
        to->device = status.st_dev;
        to->inode = status.st_ino;
    }
    if (chmod(path, SOCKET_MODE) != 0 || listen(to->fd, LISTEN_BACKLOG) != 0) {
        return err_set_errno(err, ERR_IO, errno, "unix:%s", path);
    }
    (void)snprintf(to->address, sizeof to->address, "unix:%s", path);
    return ERR_OK;
}

enum err_code listen_open(const char *text, struct listen_socket *ret_socket, struct err *err)
{
    struct listen_socket made = {.fd = -1};
    enum err_code code = strncmp(text, "unix:", 5) == 0 ? open_unix(text + 5, &made, err)
                                                        : open_tcp(text, &made, err);
    if (code != ERR_OK) {
        listen_close(&made);
        return code;
    }
    *ret_socket = made;
    return ERR_OK;
}

void listen_close(struct listen_socket *socket)
{
    if (socket->fd >= 0) {
        (void)close(socket->fd);
        socket->fd = -1;
    }
    struct stat status;
    if (socket->path[0] && lstat(socket->path, &status) == 0 && status.st_dev == socket->device &&
        status.st_ino == socket->inode) {
        (void)unlink(socket->path);
    }
    socket->path[0] = '\0';
}
