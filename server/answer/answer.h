/* What a job is asked and what it is answered: joins the contract (api/) with texts and tensors
 * (model/). The queue below knows nothing of either; it calls these through struct engine_answers.
 */
#ifndef ORTHRUS_SERVER_ANSWER_H
#define ORTHRUS_SERVER_ANSWER_H

#include "server/queue/engine.h"

/* What engine_create takes. Constant. */
extern const struct engine_answers answers;

/* Parses body and tokenizes. False with the problem set; then `done` is not called. For
 * API_TOKENIZE the response is complete afterwards and the scheduler is not needed. */
CHECK_RESULT bool answer_prepare(struct job *job, const struct engine *engine);

/* Applies the heads where asked (one acquired version for the whole job) and writes the response
 * body or sets the problem. */
void answer_finish(struct job *job, const struct engine *engine);

#endif
