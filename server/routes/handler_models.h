/* OpenAI's list of models: one. */
#ifndef ORTHRUS_SERVER_HANDLER_MODELS_H
#define ORTHRUS_SERVER_HANDLER_MODELS_H

#include "server/routes/routes.h"

extern const struct handler handler_models; /* GET /v1/models */
extern const struct handler handler_model;  /* GET /v1/models/{id} */

/* The name that responses give the model: --served-model-name, else the folder's. Any thread. */
const char *served_model_name(struct exchange *x);

#endif
