#include "server/exchange/auth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/log.h"
#include "base/rate.h"
#include "base/sha256.h"

enum {
    AUTH_FILE_MAX = 1024 * 1024,
    LOGS_BURST = 10, /* wrong tokens logged at once, and then so many a second */
    LOGS_PER_S = 1,
};

struct key {
    char id[AUTH_ID_MAX + 1];
    char digest[SHA256_HEX_SIZE + 1];
};

struct keyring {
    const char *path;
    const char *what;
    pthread_mutex_t lock; /* of what follows */
    struct key *keys;     /* owned */
    size_t n;
    struct rate logs;
    atomic_uint version; /* counted up when the keys have changed */
};

static bool id_ok(const char *id, size_t size)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    for (size_t i = 0; i < size; i++) {
        if (!id[i] || !strchr(allowed, id[i])) {
            return false;
        }
    }
    return size > 0 && size <= AUTH_ID_MAX;
}

static bool token_ok(const char *token, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (token[i] <= ' ' || token[i] > '~') {
            return false;
        }
    }
    return size >= AUTH_TOKEN_MIN && size <= AUTH_TOKEN_MAX;
}

static enum err_code parse_line(const char *path, size_t number, const char *line, size_t size,
                                struct key *key, struct err *err)
{
    const char *colon = memchr(line, ':', size);
    size_t id_size = colon ? (size_t)(colon - line) : 0;
    if (!id_ok(line, id_size)) {
        return err_set(err, ERR_INVALID,
                       "%s:%zu: id:token is expected, the id of 1 to %d letters, digits, '.', '_' "
                       "or '-'",
                       path, number, AUTH_ID_MAX);
    }
    if (!token_ok(colon + 1, size - id_size - 1)) {
        return err_set(err, ERR_INVALID,
                       "%s:%zu: a token of %d to %d printable bytes without spaces is expected",
                       path, number, AUTH_TOKEN_MIN, AUTH_TOKEN_MAX);
    }
    (void)snprintf(key->id, sizeof key->id, "%.*s", (int)id_size, line);
    sha256_of(colon + 1, size - id_size - 1, key->digest);
    return ERR_OK;
}

static enum err_code parse(const char *path, const char *data, size_t size, struct key *keys,
                           size_t *ret_n, struct err *err)
{
    size_t n = 0;
    size_t number = 0;
    for (const char *at = data, *end = data + size; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *next = newline ? newline + 1 : end;
        size_t line_size = (size_t)((newline ? newline : end) - at);
        number++;
        if (line_size && at[line_size - 1] == '\r') {
            line_size--;
        }
        if (line_size && *at != '#') {
            if (n == AUTH_TOKENS_MAX) {
                return err_set(err, ERR_LIMIT, "%s: more than %d tokens", path, AUTH_TOKENS_MAX);
            }
            if (parse_line(path, number, at, line_size, &keys[n], err) != ERR_OK) {
                return err->code;
            }
            n++;
        }
        at = next;
    }
    *ret_n = n;
    return ERR_OK;
}

/* At the start the file may be a pipe; later a pipe by that name would be waited for in vain. */
static enum err_code load_keys(struct keyring *ring, bool first, size_t *ret_n, struct err *err)
{
    char *data = NULL;
    size_t size = 0;
    size_t n = 0;
    struct key *keys = calloc(AUTH_TOKENS_MAX, sizeof *keys);
    enum err_code code = keys ? ERR_OK : err_nomem(err, AUTH_TOKENS_MAX * sizeof *keys);
    if (code == ERR_OK) {
        code = first ? file_read(ring->path, AUTH_FILE_MAX, &data, &size, err)
                     : file_read_regular(ring->path, AUTH_FILE_MAX, &data, &size, err);
    }
    if (code == ERR_OK) {
        code = parse(ring->path, data, size, keys, &n, err);
    }
    if (data) {
        explicit_bzero(data, size);
        free(data);
    }
    if (code == ERR_OK) {
        (void)pthread_mutex_lock(&ring->lock);
        struct key *old = ring->keys;
        ring->keys = keys;
        ring->n = n;
        atomic_fetch_add(&ring->version, 1);
        (void)pthread_mutex_unlock(&ring->lock);
        keys = old;
        *ret_n = n;
    }
    free(keys);
    return code;
}

enum err_code keyring_reload(struct keyring *ring, size_t *ret_n, struct err *err)
{
    return load_keys(ring, false, ret_n, err);
}

enum err_code keyring_create(const char *path, const char *what, struct keyring **ret_ring,
                             struct err *err)
{
    struct keyring *ring = calloc(1, sizeof *ring);
    if (!ring) {
        return err_nomem(err, sizeof *ring);
    }
    *ring = (struct keyring){
        .path = path,
        .what = what,
        .logs = RATE_INIT(LOGS_BURST, LOGS_PER_S),
    };
    (void)pthread_mutex_init(&ring->lock, NULL);
    size_t n = 0;
    enum err_code code = load_keys(ring, true, &n, err);
    if (code == ERR_OK && n == 0) {
        code = err_set(err, ERR_INVALID, "%s: no id:token line", path);
    }
    if (code != ERR_OK) {
        keyring_destroy(ring);
        return code;
    }
    *ret_ring = ring;
    return ERR_OK;
}

unsigned keyring_version(const struct keyring *ring)
{
    return ring ? atomic_load(&ring->version) : 0;
}

void keyring_destroy(struct keyring *ring)
{
    if (ring) {
        (void)pthread_mutex_destroy(&ring->lock);
        free(ring->keys);
        free(ring);
    }
}

/* Looks at every byte whatever it finds, so that time tells nothing. */
static bool digest_equal(const char *a, const char *b)
{
    volatile unsigned char difference = 0;
    for (size_t i = 0; i < SHA256_HEX_SIZE; i++) {
        difference = (unsigned char)(difference | (a[i] ^ b[i]));
    }
    return difference == 0;
}

static void log_failure(struct keyring *ring, const char *remote)
{
    uint64_t unlogged;
    if (rate_take(&ring->logs, &unlogged)) {
        LOG(LOG_WARN, "wrong token", LOG_S("what", ring->what), LOG_S("remote", remote),
            LOG_U("not_logged_before", unlogged));
    }
}

enum auth_result keyring_check(struct keyring *ring, const char *authorization, const char *remote,
                               char ret_id[AUTH_ID_MAX + 1])
{
    static const char scheme[] = "Bearer ";
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0) {
        return AUTH_MISSING;
    }
    const char *token = authorization + sizeof scheme - 1;
    token += strspn(token, " ");
    char digest[SHA256_HEX_SIZE + 1];
    sha256_of(token, strlen(token), digest);
    const struct key *found = NULL;
    (void)pthread_mutex_lock(&ring->lock);
    for (size_t i = 0; i < ring->n; i++) {
        if (digest_equal(ring->keys[i].digest, digest)) {
            found = &ring->keys[i];
        }
    }
    if (found) {
        (void)snprintf(ret_id, AUTH_ID_MAX + 1, "%s", found->id);
    }
    (void)pthread_mutex_unlock(&ring->lock);
    if (!found) {
        log_failure(ring, remote);
    }
    return found ? AUTH_OK : AUTH_WRONG;
}
