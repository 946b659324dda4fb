/* The one budget of memory that is held for clients: bodies, what is made of them, ids, vectors,
 * answers that are being sent. Whatever a client makes the program hold is counted before it is
 * held, and refused where it does not fit: nothing ever waits for room.
 *
 * Each exchange has one account, whose total its owner sets as memory comes and goes. What only one
 * of a few threads holds for a moment (the JSON tree, a batch) is the program's own.
 *
 * The budget: process lifetime, thread-safe. An account: request lifetime, one thread at a time. */
#ifndef ORTHRUS_SERVER_CLIENT_BYTES_H
#define ORTHRUS_SERVER_CLIENT_BYTES_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/err.h"
#include "server/metrics/metrics.h"

struct client_bytes {
    atomic_size_t used;
    atomic_size_t most;  /* since nothing was held */
    atomic_size_t limit; /* SIZE_MAX until it is known; then constant */
    struct metrics *metrics;
};

void client_bytes_init(struct client_bytes *budget, struct metrics *metrics);
void client_bytes_limit(struct client_bytes *budget, size_t limit);

/* One exchange's part of it. Zeroed with `budget` set: nothing held. budget NULL (tests): no
 * limit. */
struct account {
    struct client_bytes *budget;
    size_t bytes;
};

enum account_verdict {
    ACCOUNT_OK,
    ACCOUNT_FULL,  /* others hold too much now: 429 */
    ACCOUNT_NEVER, /* more than the whole budget: 413 */
};

/* The account's owner holds that many bytes from now on. Fewer than before are always fine;
 * otherwise nothing changes unless the answer is ACCOUNT_OK. */
CHECK_RESULT enum account_verdict account_hold(struct account *account, size_t bytes);
/* The same where it can't be more than is held already; to 0 at the end. Whoever gives back the
 * last of very much returns what the heaps keep of it (heap.h), which takes milliseconds. */
void account_shrink(struct account *account, size_t bytes);
/* The whole budget; SIZE_MAX where there is none. NULL is fine. */
size_t account_limit(const struct account *account);

/* --max-client-bytes where none is given: half of what the cgroup or the machine leaves beside what
 * is resident now, but at least 4 × max_body_bytes. root as in cgroup.h. */
size_t client_bytes_default(const char *root, size_t resident_bytes, size_t max_body_bytes);

/* Bodies of the greatest size must be able to come in while others are worked on. */
enum { CLIENT_BYTES_BODIES = 4 };

#endif
