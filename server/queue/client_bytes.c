#include "server/queue/client_bytes.h"

#include <stdint.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/size.h"
#include "server/queue/cgroup.h"

/* What less than so much leaves in the heaps is not worth looking for. */
enum { RETURN_FROM_BYTES = 16 << 20 };

void client_bytes_init(struct client_bytes *budget, struct metrics *metrics)
{
    atomic_init(&budget->used, 0);
    atomic_init(&budget->most, 0);
    atomic_init(&budget->limit, SIZE_MAX);
    budget->metrics = metrics;
}

void client_bytes_limit(struct client_bytes *budget, size_t limit)
{
    atomic_store(&budget->limit, limit);
    metrics_gauge_limit(budget->metrics, METRICS_CLIENT_BYTES, limit);
}

size_t account_limit(const struct account *account)
{
    return account && account->budget
               ? atomic_load_explicit(&account->budget->limit, memory_order_relaxed)
               : SIZE_MAX;
}

static void note_most(struct client_bytes *budget, size_t used)
{
    size_t most = atomic_load_explicit(&budget->most, memory_order_relaxed);
    while (used > most &&
           !atomic_compare_exchange_weak_explicit(&budget->most, &most, used, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

/* Nothing is held any more: what a storm has left free in the threads' heaps goes back. */
static void rest(struct client_bytes *budget)
{
    if (atomic_exchange_explicit(&budget->most, 0, memory_order_relaxed) >= RETURN_FROM_BYTES) {
        heap_return_all();
    }
}

void account_shrink(struct account *account, size_t bytes)
{
    CHECK(bytes <= account->bytes);
    size_t less = account->bytes - bytes;
    if (account->budget && less) {
        struct client_bytes *budget = account->budget;
        size_t used = atomic_fetch_sub_explicit(&budget->used, less, memory_order_relaxed);
        metrics_gauge_add(budget->metrics, METRICS_CLIENT_BYTES, -(int64_t)less);
        if (used == less) {
            rest(budget);
        }
    }
    account->bytes = bytes;
}

enum account_verdict account_hold(struct account *account, size_t bytes)
{
    if (bytes <= account->bytes) {
        account_shrink(account, bytes);
        return ACCOUNT_OK;
    }
    size_t more = bytes - account->bytes;
    size_t limit = account_limit(account);
    if (bytes > limit) {
        return ACCOUNT_NEVER;
    }
    if (account->budget) {
        atomic_size_t *used = &account->budget->used;
        size_t before = atomic_load_explicit(used, memory_order_relaxed);
        do {
            if (before > limit || more > limit - before) {
                return ACCOUNT_FULL;
            }
        } while (!atomic_compare_exchange_weak_explicit(
            used, &before, before + more, memory_order_relaxed, memory_order_relaxed));
        note_most(account->budget, before + more);
        metrics_gauge_add(account->budget->metrics, METRICS_CLIENT_BYTES, (int64_t)more);
    }
    account->bytes = bytes;
    return ACCOUNT_OK;
}

static double read_limit(const char *root, const char *folder, const char *file)
{
    char line[CGROUP_LINE_MAX];
    char *end;
    double bytes;
    return cgroup_line(root, folder, file, line) && cgroup_number(line, &end, &bytes) ? bytes : 0;
}

/* memory.max of version 2: "max" or bytes. */
static double limit_v2(const char *root, const char *folder)
{
    return read_limit(root, folder, "memory.max");
}

/* memory.limit_in_bytes of version 1: more than any machine has where there is no limit. */
static double limit_v1(const char *root, const char *folder)
{
    return read_limit(root, folder, "memory.limit_in_bytes");
}

size_t client_bytes_default(const char *root, size_t resident_bytes, size_t max_body_bytes)
{
    static const struct cgroup_limit memory = {
        .controller = "memory", .mounts = {"memory"}, .v1 = limit_v1, .v2 = limit_v2};
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    double have = pages > 0 && page_bytes > 0 ? (double)pages * (double)page_bytes : 0;
    double allowed = cgroup_least(root, &memory);
    if (allowed > 0 && (have <= 0 || allowed < have)) {
        have = allowed;
    }
    double left = (have - (double)resident_bytes) / 2;
    size_t least = CLIENT_BYTES_BODIES * max_body_bytes;
    return left > (double)least ? (size_t)left : least;
}
