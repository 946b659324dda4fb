#include "model/encoder/choice.h"

#include <string.h>

#include "model/encoder/dispatch.h"
#include "model/encoder/selfcheck.h"

const struct machine this_machine = {.has = cpu_has, .tile = dispatch_tile};

/* OpenBLAS (no tile) is the one that the others are measured by. */
static enum err_code try_kernel(const struct machine *machine, enum isa isa,
                                enum precision precision, struct err *err)
{
    const struct tile_kernel *tile = machine->tile(isa, precision);
    return tile ? selfcheck_tile(dispatch_kernels(isa), tile, err) : ERR_OK;
}

/* The set that the user named: tried as well, and refused rather than replaced. */
static enum err_code choose_named(const struct machine *machine, const char *isa,
                                  const char *precision, struct choice *choice, struct err *err)
{
    enum err_code code = isa_parse(isa, &choice->isa, err);
    if (code == ERR_OK && !machine->has(choice->isa)) {
        code = err_set(err, ERR_UNSUPPORTED, "this machine can't run %s", isa);
    }
    if (code != ERR_OK) {
        (void)err_prefix(err, "--isa");
        return code;
    }
    code = precision_parse(precision, choice->isa, &choice->precision, err);
    if (code != ERR_OK) {
        (void)err_prefix(err, "--precision");
        return code;
    }
    code = try_kernel(machine, choice->isa, choice->precision, err);
    if (code != ERR_OK) {
        (void)err_prefix(err, "--isa");
    }
    return code;
}

/* Sets that can't multiply the precision are passed over in silence, those that do it wrongly with
 * a warning. Where none is left, err is about the highest. */
static enum err_code choose_best(const struct machine *machine, const char *precision,
                                 struct choice *choice, struct err *err)
{
    struct err wrong = ERR_INIT; /* of the highest set that multiplies wrongly */
    struct err unfit = ERR_INIT; /* of the highest that can't multiply it at all */
    enum err_code code = ERR_UNSUPPORTED;
    for (enum isa isa = ISA_COUNT; isa-- > ISA_GENERIC;) {
        if (!machine->has(isa)) {
            continue;
        }
        choice->isa = isa;
        code = precision_parse(precision, isa, &choice->precision, &unfit);
        if (code == ERR_OK) {
            struct err found = ERR_INIT;
            code = try_kernel(machine, isa, choice->precision, &found);
            if (code != ERR_OK && code != ERR_MISMATCH) {
                (void)err_set(err, code, "%s", found.text);
                return code;
            }
            wrong = wrong.code == ERR_OK ? found : wrong;
        }
        if (code == ERR_OK && wrong.code != ERR_OK) {
            (void)err_set(&choice->warning, wrong.code, "%s; using %s", wrong.text, isa_name(isa));
        }
        if (code != ERR_UNSUPPORTED && code != ERR_MISMATCH) {
            break;
        }
    }
    if (code != ERR_OK) {
        const struct err *cause = wrong.code != ERR_OK ? &wrong : &unfit;
        (void)err_set(err, cause->code, "--precision: %s", cause->text);
        return cause->code;
    }
    return ERR_OK;
}

/* int8 is multiplied without AMX, and bf16 with it. */
static void note_faster(const struct machine *machine, struct choice *choice)
{
    if (choice->warning.code == ERR_OK && choice->isa == ISA_AMX &&
        choice->precision == PRECISION_INT8 &&
        machine->tile(ISA_AMX, PRECISION_INT8) == machine->tile(ISA_AVX512VNNI, PRECISION_INT8)) {
        (void)err_set(&choice->warning, ERR_UNSUPPORTED,
                      "int8 has no kernel for this CPU's AMX: --precision bf16 is faster here");
    }
}

enum err_code choice_make(const struct machine *machine, const char *isa, const char *precision,
                          struct choice *ret_choice, struct err *err)
{
    struct choice choice = {.warning = ERR_INIT};
    enum err_code code = strcmp(isa, "auto") == 0
                             ? choose_best(machine, precision, &choice, err)
                             : choose_named(machine, isa, precision, &choice, err);
    if (code == ERR_OK) {
        note_faster(machine, &choice);
        *ret_choice = choice;
    }
    return code;
}
