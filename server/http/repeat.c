#include "server/http/repeat.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/accesslog.h"
#include "server/http/intake.h"
#include "server/http/rawreply.h"
#include "server/http/reaper.h"
#include "server/routes/routes.h"

/* After so many refusals in a row one goes the long way, whatever may have changed meanwhile. */
enum { ROW_MAX = 128 };
/* LOOK_MAX: bytes of a request that is refused here, and of the low-water mark. */
enum { HEAD_MAX = 2048, LENGTH_DIGITS_MAX = 9, LOOK_MAX = 16 * 1024 };

static const char length_name[] = "\r\nContent-Length:";

static void forget_last(struct repeat *repeat)
{
    exchange_destroy(repeat->last);
    free(repeat->path);
    repeat->last = NULL;
    repeat->path = NULL;
    repeat->row = 0;
}

/* Keeps the head that these bytes begin with, which the framing found plain. */
static void keep_head(struct repeat *repeat, uint64_t number, const char *bytes, size_t size)
{
    forget_last(repeat);
    free(repeat->head);
    repeat->head = NULL;
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    size_t head_size = end ? (size_t)(end - bytes) + 4 : 0;
    char *head = head_size <= HEAD_MAX ? malloc(head_size + 1) : NULL;
    if (!head) {
        return;
    }
    memcpy(head, bytes, head_size);
    head[head_size] = '\0';
    const char *number_at = strcasestr(head, length_name);
    if (!number_at) {
        free(head);
        return;
    }
    number_at += strlen(length_name);
    number_at += strspn(number_at, " \t");
    repeat->head = head;
    repeat->head_size = head_size;
    repeat->number = number;
    repeat->number_at = (size_t)(number_at - head);
    repeat->number_size = strspn(number_at, "0123456789");
}

/* Whether the bytes are one request with the head that is kept, whatever number Content-Length has;
 * that number. */
static bool same_request(const struct repeat *repeat, const char *bytes, size_t size,
                         size_t *ret_length)
{
    size_t begin = repeat->number_at;
    size_t behind = repeat->number_at + repeat->number_size;
    size_t rest = repeat->head_size - behind;
    size_t length = 0;
    if (size < repeat->head_size || memcmp(bytes, repeat->head, begin) != 0) {
        return false;
    }
    size_t at = begin;
    for (; at < size && at - begin < LENGTH_DIGITS_MAX && bytes[at] >= '0' && bytes[at] <= '9';
         at++) {
        length = length * 10 + (size_t)(bytes[at] - '0');
    }
    *ret_length = length;
    return at > begin && size - at >= rest &&
           memcmp(bytes + at, repeat->head + behind, rest) == 0 && size - at - rest == length;
}

/* Counted first: who reads an answer finds it in the next scrape. */
static void send_refusal(struct exchange *x)
{
    x->replied_ns = clock_now_ns();
    x->reply_size = x->reply.body.size;
    x->queued = true;
    metrics_request(x->server->metrics, x->label, x->reply.status, x->replied_ns - x->arrived_ns);
    bool sent = rawreply_refusal(x);
    accesslog_write(x, x->reply.status, sent);
}

/* Whether the token of x may have been revoked since it was checked. */
static bool keys_changed(const struct exchange *x)
{
    return x->keys_version != keyring_version(x->server->api_keys);
}

/* Whether a refusal can be all that there is to say. */
static bool undisturbed(const struct conn *conn, uint64_t now_ns)
{
    const struct exchange *x = conn->repeat.last;
    unsigned most = x->server->settings->max_connection_requests;
    return conn->repeat.row < ROW_MAX && policy_impatient(&conn->patience, now_ns) &&
           server_phase(x->server) == SERVER_READY && !keys_changed(x) &&
           (!most || conn->requests + 1 < most);
}

enum repeat_look repeat_look(struct conn *conn, uint64_t *ret_next_ns)
{
    struct repeat *repeat = &conn->repeat;
    struct exchange *x = repeat->last;
    char bytes[LOOK_MAX];
    size_t length;
    uint64_t now_ns = clock_now_ns();
    uint64_t since_ns = x->replied_ns;
    ssize_t got = recvfrom(conn->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
    repeat->unread_since_ns = got > 0 ? since_ns : 0;
    if (got <= 0 || got == sizeof bytes || !undisturbed(conn, now_ns) ||
        !same_request(repeat, bytes, (size_t)got, &length) || length > x->body_max) {
        return REPEAT_OTHER;
    }
    exchange_again(x);
    x->arrived_ns = since_ns;
    x->content_length = length;
    x->received = length;
    x->route->handler->begin(x);
    if (x->problem != PROBLEM_OVERLOADED) {
        return REPEAT_ROOM;
    }
    repeat->unread_since_ns = 0;
    intake_common_headers(x);
    /* Nobody else reads here: what was seen is there. */
    (void)recvfrom(conn->fd, bytes, (size_t)got, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);
    conn->framing.begun++;
    conn->requests++;
    repeat->row++;
    (void)policy_refused(&conn->patience, x->retry_after_s, since_ns);
    send_refusal(x);
    *ret_next_ns = now_ns + policy_lateness_ns(&conn->patience);
    return REPEAT_REFUSED;
}

static bool set_low_water(const struct conn *conn, int bytes)
{
    return setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0;
}

void repeat_wake(const struct conn *conn)
{
    (void)set_low_water(conn, 1);
}

bool repeat_may_read(struct conn *conn)
{
    struct pollfd polled = {.fd = conn->fd, .events = POLLIN | POLLRDHUP};
    if (conn->repeat.sleeps) {
        if (poll(&polled, 1, 0) == 0) {
            return false; /* the library looks on its own after an answer */
        }
        conn->repeat.sleeps = false;
        reaper_wake(conn->repeat.reaper, conn);
    }
    return true;
}

void repeat_see(struct conn *conn, bool fresh, const char *bytes, size_t size)
{
    const struct framing *framing = &conn->framing;
    if (conn->repeat.armed && fresh && framing->state == FRAMING_BETWEEN &&
        framing->begun == conn->requests + 1) {
        keep_head(&conn->repeat, framing->begun, bytes, size);
    }
}

/* Whether nothing but the head decided about x, and neither its answer nor its line in the log says
 * more than would be said of the next one. */
static bool keepable(const struct conn *conn, const struct exchange *x)
{
    const struct request_headers *headers = &x->headers;
    return conn->repeat.head && conn->repeat.number == conn->requests &&
           conn->framing.state == FRAMING_BETWEEN && conn->framing.begun == conn->requests &&
           strcmp(x->remote, "unix") != 0 && x->impatient && x->problem == PROBLEM_OVERLOADED &&
           !x->job && x->counted && x->method == HTTP_POST && x->listener == LISTENER_MAIN &&
           !conn->over_limit && !x->http_1_0 && !x->doubtful && !x->chunked && !x->reply.close &&
           x->route->handler->begin && !headers->origin && !headers->request_id &&
           !headers->traceparent && headers->n_forwarded == 0 && !headers->timeout_ms &&
           !headers->if_space;
}

bool repeat_keep(struct conn *conn, struct reaper *reaper, struct exchange *x)
{
    struct repeat *repeat = &conn->repeat;
    if (x->problem != PROBLEM_OVERLOADED) {
        forget_last(repeat); /* another answer than it had */
    }
    char *path = !repeat->last && keepable(conn, x) ? strdup(x->path) : NULL;
    if (!path) {
        return false;
    }
    x->path = repeat->path = path;
    x->method_name = "POST";
    x->headers = (struct request_headers){0};
    x->wire = NULL;
    account_shrink(&x->account, 0);
    repeat->last = x;
    repeat->reaper = reaper;
    repeat->sleeps = set_low_water(conn, LOOK_MAX) &&
                     reaper_sleep(reaper, conn,
                                  x->replied_ns + policy_lateness_ns(&conn->patience));
    return true;
}

void repeat_done(struct conn *conn)
{
    if (conn->repeat.sleeps) {
        reaper_wake(conn->repeat.reaper, conn);
    }
    forget_last(&conn->repeat);
    free(conn->repeat.head);
    conn->repeat.head = NULL;
}
