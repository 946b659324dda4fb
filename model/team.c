#include "model/team.h"

#include <sched.h>

#include "base/check.h"
#include "base/size.h"

enum { SPINS_BEFORE_YIELD = 2000 };

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
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
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    unsigned before = atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel);
    if (before + 1 == team->width) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    unsigned spins = 0;
    while (atomic_load_explicit(&team->phase, memory_order_acquire) == phase) {
        if (++spins < SPINS_BEFORE_YIELD) {
            relax();
        } else {
            sched_yield();
        }
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
