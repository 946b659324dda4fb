/* What --isa and --precision mean on this machine: the instruction set and precision to run, whose
 * kernel has been tried (model/encoder/selfcheck) before anything is multiplied with it. */
#ifndef ORTHRUS_MODEL_CHOICE_H
#define ORTHRUS_MODEL_CHOICE_H

#include "base/err.h"
#include "model/encoder/kernels/kernels.h"

struct choice {
    enum isa isa;
    enum precision precision;
    enum precision attention; /* of its products, for encoder_options; a narrow model has fp32 */
    /* Why a better set was passed over: its kernel computes wrongly; or which precision would be
     * faster on this machine. ERR_OK as a rule. */
    struct err warning;
};

/* What a choice rests on: cpu_has and dispatch_tile, or what a test puts in their place. now_ns:
 * the caller's clock, or NULL, and then attention stays in fp32. */
struct machine {
    bool (*has)(enum isa isa);
    const struct tile_kernel *(*tile)(enum isa isa, enum precision precision);
    uint64_t (*now_ns)(void);
};
/* This machine, by that clock. */
struct machine machine_here(uint64_t (*now_ns)(void));

/* isa: a name, or "auto" for the highest set of the machine that multiplies the precision, and
 * multiplies it correctly. precision: as precision_parse says. With int8 attention multiplies in
 * bf16 where the set has a kernel that is faster so than in fp32: some CPUs do, some don't, and no
 * feature bit tells, so both are timed. Takes some milliseconds; call it once, before the threads
 * that multiply start. Errors, named --isa or --precision: ERR_USAGE; ERR_UNSUPPORTED where the
 * machine lacks the set or the set the precision; ERR_MISMATCH where no set that is allowed
 * multiplies correctly; ERR_NOMEM. */
CHECK_RESULT enum err_code choice_make(const struct machine *machine, const char *isa,
                                       const char *precision, struct choice *ret_choice,
                                       struct err *err);

#endif
