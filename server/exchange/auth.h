/* Bearer tokens from a file of `id:token` lines. Tokens are kept as digests and compared in
 * constant time; the id names the caller in logs. Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_AUTH_H
#define ORTHRUS_SERVER_AUTH_H

#include <stddef.h>

#include "base/err.h"

enum { AUTH_ID_MAX = 64, AUTH_TOKEN_MIN = 32, AUTH_TOKEN_MAX = 512, AUTH_TOKENS_MAX = 1024 };

struct keyring;

enum auth_result {
    AUTH_OK,
    AUTH_MISSING, /* no Authorization: Bearer */
    AUTH_WRONG,   /* a token nobody has */
};

/* Reads the file: `id:token` lines (id of letters, digits, '.', '_', '-'; token of at least
 * AUTH_TOKEN_MIN printable bytes without spaces); empty lines and lines that begin with '#' are
 * skipped. An id may have several tokens, so that they can rotate. what names the ring in logs
 * ("admin token"); both strings are borrowed. Errors name file and line, never a token. */
CHECK_RESULT enum err_code keyring_create(const char *path, const char *what,
                                          struct keyring **ret_ring, struct err *err);
void keyring_destroy(struct keyring *ring);
/* Reads the file again; on an error the old tokens stay in force. A file that holds no token any
 * more is none: it revokes them all. *ret_n: how many are in force now. */
CHECK_RESULT enum err_code keyring_reload(struct keyring *ring, size_t *ret_n, struct err *err);

/* Another number after each reload. NULL (no ring) is fine. */
unsigned keyring_version(const struct keyring *ring);

/* Checks an Authorization header's value (NULL: none). On AUTH_OK the id is written. Failures
 * are logged, at most a few a second. */
enum auth_result keyring_check(struct keyring *ring, const char *authorization, const char *remote,
                               char ret_id[AUTH_ID_MAX + 1]);

#endif
