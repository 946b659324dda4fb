/* Every route that computes: /embed, /classify, /sentiment, /predict, /analyze, /tokenize and
 * OpenAI's. The route's kind says which grammar and answer. */
#ifndef ORTHRUS_SERVER_HANDLER_PREDICT_H
#define ORTHRUS_SERVER_HANDLER_PREDICT_H

#include "server/routes/routes.h"

extern const struct handler handler_predict;
/* POST /: /predict on a fine-tuned sequence folder, /rerank on one with a single score, else
 * /embed. */
extern const struct handler handler_root;

#endif
