/* The files of a model folder beside the encoder's weights, copied, so that what the trainer writes
 * is a folder that the libraries load as they loaded the one it came from. */
#ifndef ORTHRUS_TRAIN_COMPANIONS_H
#define ORTHRUS_TRAIN_COMPANIONS_H

#include "base/err.h"
#include "model/files/config.h"

/* Copies the encoder's JSON and vocabulary files, sentence-transformers' files and the folders of
 * its modules, weights of Dense included, from dir to output; what is not there is passed over.
 * config is dir's. Errors: ERR_IO, ERR_LIMIT, ERR_NOMEM, naming the file. */
CHECK_RESULT enum err_code companions_copy(const char *dir, const struct config *config,
                                           const char *output, struct err *err);

#endif
