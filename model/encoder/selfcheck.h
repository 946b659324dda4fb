/* Does a kernel multiply correctly on this machine? CPUID says what there is, not that the CPU, the
 * hypervisor or the emulator below does it right; serving wrong vectors would be noticed by nobody.
 * So a kernel is tried before it is used: about a millisecond. */
#ifndef ORTHRUS_MODEL_SELFCHECK_H
#define ORTHRUS_MODEL_SELFCHECK_H

#include "base/err.h"
#include "model/encoder/kernels/kernels.h"

/* Packs and multiplies, as linear.h does, numbers that every precision holds and adds up exactly,
 * in shapes with remainders everywhere: any difference from plain sums is an error. Run it only on
 * a machine that has the instructions. Errors: ERR_MISMATCH, with the kernel's name and the first
 * wrong number; ERR_NOMEM. */
CHECK_RESULT enum err_code selfcheck_tile(const struct kernels *ops,
                                          const struct tile_kernel *kernel, struct err *err);

#endif
