/* The encoder digest of a bound checkpoint; model/files/checkpoint.h defines it. For checkpoint.c.
 */
#ifndef ORTHRUS_MODEL_CHECKPOINT_DIGEST_H
#define ORTHRUS_MODEL_CHECKPOINT_DIGEST_H

#include "base/err.h"
#include "model/files/checkpoint.h"

/* Reads every encoder tensor once: refuses infinities and NaNs (ERR_INVALID, naming tensor and
 * index) and gives the digest. Runs on `threads` threads, 0 counts as 1; where the system gives
 * fewer, on those. */
CHECK_RESULT enum err_code checkpoint_digest(const struct checkpoint *checkpoint, unsigned threads,
                                             char out[SHA256_HEX_SIZE + 1], struct err *err);

#endif
