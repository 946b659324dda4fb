/* A team: the threads that run one forward pass together, each executing the same code on its
 * share (single program, multiple data), with a barrier between phases. A team of one costs
 * nothing. Lifetime: one forward pass or more; the owner keeps the struct until every member has
 * returned from its last barrier. */
#ifndef ORTHRUS_MODEL_TEAM_H
#define ORTHRUS_MODEL_TEAM_H

#include <stdatomic.h>
#include <stddef.h>

struct team {
    unsigned width;      /* members */
    atomic_uint arrived; /* at the current barrier */
    atomic_uint phase;   /* barriers passed, see team.c */
};

void team_init(struct team *team, unsigned width);

/* Waits until every member is here; writes before it are visible to all behind it. Spins briefly,
 * then sleeps, so that an oversubscribed machine still goes on. */
void team_barrier(struct team *team);

/* Member m's share of n items in whole multiples of grain: [*ret_from, *ret_to). The shares of all
 * members cover 0 … n without overlap. */
void team_share(const struct team *team, unsigned member, size_t n, size_t grain, size_t *ret_from,
                size_t *ret_to);

#endif
