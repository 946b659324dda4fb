/* Which heads a job's answer takes. Private to server/answer. */
#ifndef ORTHRUS_SERVER_ASK_H
#define ORTHRUS_SERVER_ASK_H

#include <stdbool.h>

#include "server/queue/job.h"

/* Bits 1 << enum head_kind. Call after the body is parsed. */
unsigned job_heads_needed(const struct job *job);

/* False with PROBLEM_HEAD_ABSENT when one of them is not in heads (NULL: none in service). */
bool job_heads_present(unsigned needed, const struct heads *heads, struct problem *problem);

#endif
