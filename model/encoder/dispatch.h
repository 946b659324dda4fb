/* Which kernels multiply a precision on an instruction set. The one place that knows. */
#ifndef ORTHRUS_MODEL_DISPATCH_H
#define ORTHRUS_MODEL_DISPATCH_H

#include "model/encoder/kernels/kernels.h"

/* Everything between the matrices, and fp32 tiles. Never NULL. */
const struct kernels *dispatch_kernels(enum isa isa);

/* Tiles of a precision, or NULL where the set has none: then fp32 goes through OpenBLAS
 * (ISA_GENERIC), and any other precision is unsupported. */
const struct tile_kernel *dispatch_tile(enum isa isa, enum precision precision);

#endif
