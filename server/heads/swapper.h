/* The thread that validates and swaps heads for admin requests, so that no I/O thread does. It
 * holds one task at a time: who comes while it is busy is told so. Process lifetime;
 * thread-safe. */
#ifndef ORTHRUS_SERVER_SWAPPER_H
#define ORTHRUS_SERVER_SWAPPER_H

#include <stdbool.h>

#include "base/err.h"

struct swapper;

CHECK_RESULT enum err_code swapper_create(struct swapper **ret_swapper, struct err *err);
/* Waits for the task at hand. NULL is fine. */
void swapper_destroy(struct swapper *swapper);

/* Takes the thread for oneself; false when somebody has it. */
bool swapper_claim(struct swapper *swapper);
/* After a claim: runs task(argument) on the thread. It is free again when `task` calls
 * swapper_release, which it does before the requester is told the result. */
void swapper_run(struct swapper *swapper, void (*task)(void *argument), void *argument);
void swapper_release(struct swapper *swapper);

#endif
