/* What a run leaves behind: the heads file, swap-ready, and the model folder where the encoder was
 * trained. */
#ifndef ORTHRUS_TRAIN_OUTPUT_H
#define ORTHRUS_TRAIN_OUTPUT_H

#include "train/run/run.h"

/* Writes OUTPUT/heads.safetensors, before it OUTPUT/model.safetensors, config, vocabulary and
 * tokenizer files where the encoder was trained; each replaced atomically, the heads last. */
CHECK_RESULT enum err_code output_write(struct run *run, struct err *err);

#endif
