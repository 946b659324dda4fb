/* Which heads a job's answer takes. Private to server/answer. */
#ifndef ORTHRUS_SERVER_ASK_H
#define ORTHRUS_SERVER_ASK_H

#include <stdbool.h>

#include "server/queue/job.h"

/* Names of heads, borrowed from the job or constant. */
struct asked {
    size_t n;
    const char *name[HEADS_MAX];
};

/* Call after the body is parsed. */
void asked_of(const struct job *job, struct asked *ret_asked);

/* False with PROBLEM_HEAD_ABSENT when one of them is not in heads (NULL: none in service). */
bool asked_present(const struct asked *asked, const struct heads *heads, struct problem *problem);

#endif
