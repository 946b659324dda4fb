#include "model/encoder/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/size.h"

enum { SPINS_BEFORE_SLEEP = 2000 };

/* The phase counts in steps of two; its lowest bit says that somebody sleeps on it. In one word,
 * so that the last to arrive never looks at a team whose owner has gone on already. */
#define SLEEPING 1u

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Sleeps while *word is value; may return early. */
static void sleep_on(atomic_uint *word, unsigned value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(atomic_uint *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void team_init(struct team *team, unsigned width)
{
    CHECK(width >= 1);
    team->width = width;
    atomic_init(&team->arrived, 0);
    atomic_init(&team->phase, 0);
}

void team_barrier(struct team *team)
{
    if (team->width == 1) {
        return;
    }
    /* The phase can't move on before this member has arrived, so reading it first is safe. */
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed) & ~SLEEPING;
    unsigned before = atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel);
    if (before + 1 == team->width) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_uint *word = &team->phase;
        if (atomic_exchange_explicit(word, phase + 2, memory_order_acq_rel) & SLEEPING) {
            wake_all(word);
        }
        return;
    }
    unsigned now = atomic_load_explicit(&team->phase, memory_order_acquire);
    for (unsigned spins = 0; (now & ~SLEEPING) == phase; spins++) {
        if (spins < SPINS_BEFORE_SLEEP) {
            relax();
        } else if (now & SLEEPING ||
                   atomic_compare_exchange_weak(&team->phase, &now, phase | SLEEPING)) {
            sleep_on(&team->phase, phase | SLEEPING);
        }
        now = atomic_load_explicit(&team->phase, memory_order_acquire);
    }
}

void team_share(const struct team *team, unsigned member, size_t n, size_t grain, size_t *ret_from,
                size_t *ret_to)
{
    CHECK(member < team->width && grain > 0);
    size_t grains = size_div_up(n, grain);
    size_t each = grains / team->width;
    size_t more = grains % team->width; /* the first `more` members take one grain more */
    size_t from = each * member + size_min(member, more);
    size_t to = from + each + (member < more ? 1 : 0);
    *ret_from = size_min(from * grain, n);
    *ret_to = size_min(to * grain, n);
}
