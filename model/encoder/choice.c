#include "model/encoder/choice.h"

#include <string.h>

#include "base/size.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/pages.h"
#include "model/encoder/selfcheck.h"

struct machine machine_here(uint64_t (*now_ns)(void))
{
    return (struct machine){.has = cpu_has, .tile = dispatch_tile, .now_ns = now_ns};
}

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

/* Attention's products are timed on so many inputs; the best run counts, the others were
 * disturbed. bf16 has to be faster by a quarter: where it is, it is so by much more. */
enum { TIMED_INPUTS = 64, TIMED_RUNS = 20, TIMED_CALLS = 16 };

/* A kernel on a tile of zeros. */
struct timed {
    const struct tile_kernel *tile;
    struct multiply_args args;
    unsigned char *memory; /* NULL: none to be had */
    size_t bytes;
    uint64_t best_ns; /* of TIMED_CALLS */
};

static struct timed timed_begin(const struct tile_kernel *tile)
{
    struct multiply_args args = {
        .rows = tile->rows_max,
        .words = TIMED_INPUTS / tile->word_inputs,
        .panels = tile->panels,
        .panel_bytes = TIMED_INPUTS / tile->word_inputs * tile->columns * sizeof(uint32_t),
        .ld = (size_t)tile->panels * tile->columns,
    };
    size_t rows_bytes = size_round_up(args.rows * args.words * sizeof(uint32_t), PAGES_ALIGN);
    size_t b_bytes = args.panels * args.panel_bytes;
    size_t bytes = rows_bytes + b_bytes + args.rows * args.ld * sizeof(float);
    unsigned char *memory = pages_alloc(bytes);
    if (memory) {
        args.a = memory;
        args.b = args.next = memory + rows_bytes;
        args.tile = (float *)(memory + rows_bytes + b_bytes);
    }
    return (struct timed){tile, args, memory, bytes, UINT64_MAX};
}

static void timed_run(struct timed *timed, uint64_t (*now_ns)(void))
{
    uint64_t start_ns = now_ns();
    for (int call = 0; call < TIMED_CALLS; call++) {
        timed->tile->multiply(&timed->args);
    }
    uint64_t took_ns = now_ns() - start_ns;
    timed->best_ns = took_ns < timed->best_ns ? took_ns : timed->best_ns;
}

/* For a product of TIMED_INPUTS. */
static double timed_each_ns(const struct timed *timed)
{
    return (double)timed->best_ns / (double)(timed->args.rows * timed->args.ld);
}

/* In turns, since a CPU that wakes up becomes faster. */
static bool is_faster(const struct tile_kernel *tile, const struct tile_kernel *other,
                      uint64_t (*now_ns)(void))
{
    struct timed one = timed_begin(tile);
    struct timed two = timed_begin(other);
    bool faster = one.memory && two.memory;
    for (int run = 0; faster && run < TIMED_RUNS; run++) {
        timed_run(&one, now_ns);
        timed_run(&two, now_ns);
    }
    faster = faster && timed_each_ns(&one) < 0.8 * timed_each_ns(&two);
    pages_free(one.memory, one.bytes);
    pages_free(two.memory, two.bytes);
    return faster;
}

/* int8 rounds far more coarsely than bf16, so attention may be rounded to that; bf16 itself has no
 * such room (docs/BENCHMARKS.md has the errors). */
static enum precision choose_attention(const struct machine *machine, const struct choice *choice)
{
    const struct kernels *ops = dispatch_kernels(choice->isa);
    const struct tile_kernel *bf16 = machine->tile(choice->isa, PRECISION_BF16);
    const struct tile_kernel *f32 = machine->tile(choice->isa, PRECISION_FP32);
    struct err wrong = ERR_INIT;
    if (choice->precision != PRECISION_INT8 || !machine->now_ns || !f32 || !bf16 ||
        !bf16->pack_pairs || selfcheck_tile(ops, bf16, &wrong) != ERR_OK) {
        return PRECISION_FP32;
    }
    return is_faster(bf16, f32, machine->now_ns) ? PRECISION_BF16 : PRECISION_FP32;
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
        choice.attention = choose_attention(machine, &choice);
        *ret_choice = choice;
    }
    return code;
}
