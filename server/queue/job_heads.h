/* Which heads a job's answer takes. Private to job.c and job_answer.c. */
#ifndef ORTHRUS_SERVER_JOB_HEADS_H
#define ORTHRUS_SERVER_JOB_HEADS_H

#include <stdbool.h>

#include "server/queue/job.h"

/* Bits 1 << enum head_kind. Call after the body is parsed. */
unsigned job_heads_needed(const struct job *job);

/* False with PROBLEM_HEAD_ABSENT when one of them is not in heads (NULL: none in service). */
bool job_heads_present(unsigned needed, const struct heads *heads, struct problem *problem);

#endif
