/* The trainer's threads: they run one function together, each on its share (single program,
 * multiple data), with team_barrier between phases. Between runs they sleep. */
#ifndef ORTHRUS_TRAIN_CREW_H
#define ORTHRUS_TRAIN_CREW_H

#include "base/err.h"
#include "model/encoder/team.h"

/* One member's view of a run. */
struct part {
    struct team *team;
    unsigned member;
};

struct crew; /* lifetime: one training run */

/* Starts width - 1 threads; the caller of crew_run is member 0. Errors: ERR_NOMEM, ERR_IO. */
CHECK_RESULT enum err_code crew_create(unsigned width, struct crew **ret_crew, struct err *err);
/* NULL is fine. */
void crew_destroy(struct crew *crew);

unsigned crew_width(const struct crew *crew);
/* Runs work(context, part) once in every member; returns when all are done. One caller at a
 * time. */
void crew_run(struct crew *crew, void (*work)(void *context, struct part part), void *context);

/* Shorthand for the member's share of n items; see team_share. */
static inline void part_share(struct part part, size_t n, size_t grain, size_t *ret_from,
                              size_t *ret_to)
{
    team_share(part.team, part.member, n, grain, ret_from, ret_to);
}

#endif
