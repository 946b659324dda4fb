/* The head that a fine-tuned folder brings, by its architecture's recipe, as a set of heads. */
#ifndef ORTHRUS_MODEL_OWN_H
#define ORTHRUS_MODEL_OWN_H

#include "model/files/checkpoint.h"
#include "model/heads/heads.h"

/* A sequence classifier becomes the head `classifier` on the first token (softmax, sigmoid or score
 * by problem_type and the number of labels, as transformers' pipeline takes them), a token
 * classifier the head `tagger`. The set's file is one that PUT would take. *ret_heads is NULL where
 * the folder has no such head. Errors: those of heads_create; ERR_UNSUPPORTED for a regression of
 * several numbers. */
CHECK_RESULT enum err_code heads_of_folder(const struct checkpoint *checkpoint,
                                           const struct heads_fit *fit, struct heads **ret_heads,
                                           struct err *err);

#endif
