/* How well a team of any width divides one sentence, on a machine of any size: the members of a
 * pass run one after the other, each as a coroutine that gives way at every barrier, and each
 * member's time between two barriers is taken. A team would need the sum, over all phases, of its
 * slowest member's time; the efficiency is the time of one thread alone divided by that and by the
 * width. What many cores do to each other (memory, barriers, waking) is not in it. Each core of a
 * team has an L2 cache of its own, here they share one: so what a member fetched ahead of a
 * barrier, which the others have driven out, is fetched again before its time goes on. Not part of
 * the product.
 *
 *   bench_teams MODEL_DIR TOKENS [PRECISION]
 *
 * Prints one JSON object a precision and width: the time, the efficiency, and what the phases of
 * all layers take of the time. The linker sends the encoder's calls of team_barrier and
 * linear_run here (--wrap).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "base/clock.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/linear.h"
#include "model/model.h"

enum { MEMBERS_MAX = 64, PHASES_MAX = 256, ROUNDS = 15, TOKENS_MAX = 512 };
static const size_t stack_bytes = (size_t)1 << 20;
static const unsigned widths[] = {1, 2, 4, 8, 16, 32, 64};
enum { WIDTHS = sizeof widths / sizeof *widths };

void __wrap_team_barrier(struct team *team);
void __real_team_barrier(struct team *team);
void __wrap_linear_run(const struct linear *linear, const struct linear_call *call,
                       const struct team *team, unsigned member, void *scratch);
void __real_linear_run(const struct linear *linear, const struct linear_call *call,
                       const struct team *team, unsigned member, void *scratch);

struct member {
    ucontext_t context;
    char *stack; /* owned */
    struct scratch *scratch;
    size_t phase;
    uint64_t since_ns;
    bool ended;
    const unsigned char *fetched; /* ahead of the next matrix; NULL */
    size_t fetched_bytes;
};

struct run {
    const struct encoder *encoder;
    struct workspace *workspace;
    struct batch batch;
    struct team team;
    float *pooled;
    struct member members[MEMBERS_MAX];
    uint64_t best_ns[PHASES_MAX][MEMBERS_MAX]; /* of all rounds */
};

static struct run run;
static unsigned running; /* which member */
static ucontext_t scheduler;

static void require(bool fine, const char *what)
{
    if (!fine) {
        (void)fprintf(stderr, "bench_teams: %s\n", what);
        exit(1);
    }
}

static void phase_ended(struct member *member)
{
    uint64_t took_ns = clock_now_ns() - member->since_ns;
    require(member->phase < PHASES_MAX, "too many phases");
    uint64_t *best_ns = &run.best_ns[member->phase++][running];
    *best_ns = *best_ns == 0 || took_ns < *best_ns ? took_ns : *best_ns;
}

static void read_again(const unsigned char *bytes, size_t n)
{
    enum { LINE = 64 };
    static volatile unsigned sink;
    for (size_t i = 0; bytes && i < n; i += LINE) {
        sink += bytes[i];
    }
}

void __wrap_team_barrier(struct team *team)
{
    if (team != &run.team) { /* loading */
        __real_team_barrier(team);
        return;
    }
    struct member *member = &run.members[running];
    phase_ended(member);
    require(swapcontext(&member->context, &scheduler) == 0, "swapcontext");
    read_again(member->fetched, member->fetched_bytes);
    member->since_ns = clock_now_ns();
}

void __wrap_linear_run(const struct linear *linear, const struct linear_call *call,
                       const struct team *team, unsigned member, void *scratch)
{
    __real_linear_run(linear, call, team, member, scratch);
    if (team == &run.team) {
        run.members[member].fetched = call->fetched;
        run.members[member].fetched_bytes = call->fetched_bytes;
    }
}

static void run_member(void)
{
    struct member *member = &run.members[running];
    const struct outputs out = {.pooled = run.pooled};
    member->since_ns = clock_now_ns();
    encoder_assist(run.encoder, run.workspace, &run.batch, POOLING_MEAN, &run.team, running,
                   member->scratch, &out);
    member->ended = true;
}

static void run_round(unsigned width)
{
    team_init(&run.team, width);
    for (unsigned m = 0; m < width; m++) {
        struct member *member = &run.members[m];
        member->phase = 0;
        member->ended = false;
        member->fetched = NULL;
        require(getcontext(&member->context) == 0, "getcontext");
        member->context.uc_stack.ss_sp = member->stack;
        member->context.uc_stack.ss_size = stack_bytes;
        member->context.uc_link = &scheduler;
        makecontext(&member->context, run_member, 0);
    }
    while (!run.members[0].ended) {
        for (running = 0; running < width; running++) {
            require(swapcontext(&scheduler, &run.members[running].context) == 0, "swapcontext");
        }
    }
}

/* The phase that a barrier ends: a pass begins with one and ends with one, between them are five a
 * layer, or behind another one seven. */
static enum phase phase_of(size_t nth)
{
    static const enum phase five[] = {PHASE_QKV, PHASE_ATTENTION, PHASE_ATTENTION_OUT, PHASE_FFN_IN,
                                      PHASE_FFN_OUT};
    static const enum phase seven[] = {PHASE_QKV,           PHASE_ATTENTION, PHASE_ATTENTION_OUT,
                                       PHASE_ATTENTION_OUT, PHASE_FFN_IN,    PHASE_FFN_OUT,
                                       PHASE_FFN_OUT};
    size_t phases = run.members[0].phase;
    size_t layers = encoder_config(run.encoder)->layers;
    size_t embed = (phases - 1) % layers;
    if (nth < embed || nth + 1 == phases) {
        return nth < embed ? PHASE_EMBED : PHASE_POOL;
    }
    return (phases - 1) / layers == 5 ? five[(nth - embed) % 5] : seven[(nth - embed) % 7];
}

static double critical_ms(unsigned width, double phase_ms[PHASE_COUNT])
{
    memset(run.best_ns, 0, sizeof run.best_ns);
    for (int round = 0; round < ROUNDS; round++) {
        run_round(width);
    }
    uint64_t sum_ns = 0;
    for (enum phase p = 0; p < PHASE_COUNT; p++) {
        phase_ms[p] = 0;
    }
    for (size_t phase = 0; phase < run.members[0].phase; phase++) {
        uint64_t slowest_ns = 0;
        for (unsigned m = 0; m < width; m++) {
            uint64_t ns = run.best_ns[phase][m];
            slowest_ns = ns > slowest_ns ? ns : slowest_ns;
        }
        sum_ns += slowest_ns;
        phase_ms[phase_of(phase)] += (double)slowest_ns / 1e6;
    }
    return (double)sum_ns / 1e6;
}

static void measure(const char *dir, enum precision precision, size_t tokens)
{
    struct err err = ERR_INIT;
    const struct encoder_options options = {
        .precision = precision, .isa = cpu_detect(), .threads = 2};
    struct model *model;
    require(model_load(dir, &options, &model, &err) == ERR_OK, err.text);
    run.encoder = model->encoder;
    require(workspace_create(run.encoder, 1, tokens, &run.workspace, &err) == ERR_OK, err.text);
    int32_t ids[TOKENS_MAX];
    for (size_t i = 0; i < tokens; i++) {
        ids[i] = (int32_t)(1000 + 37 * i % 5000);
    }
    require(batch_init(&run.batch, 1, tokens) && batch_add(&run.batch, ids, tokens), "no batch");
    run.pooled = calloc(encoder_config(run.encoder)->hidden, sizeof *run.pooled);
    for (unsigned m = 0; m < MEMBERS_MAX; m++) {
        run.members[m].stack = malloc(stack_bytes);
        require(run.members[m].stack != NULL &&
                    scratch_create(run.encoder, tokens, &run.members[m].scratch, &err) == ERR_OK,
                "out of memory");
    }
    double alone_ms = 0;
    for (size_t w = 0; w < WIDTHS; w++) {
        double phase_ms[PHASE_COUNT];
        double ms = critical_ms(widths[w], phase_ms);
        alone_ms = w == 0 ? ms : alone_ms;
        printf("{\"precision\":\"%s\",\"tokens\":%zu,\"width\":%u,\"ms\":%.3f,\"efficiency\":%.3f",
               precision_name(precision), tokens, widths[w], ms, alone_ms / ms / widths[w]);
        for (enum phase p = 0; p < PHASE_COUNT; p++) {
            printf(",\"%s_ms\":%.3f", phase_name(p), phase_ms[p]);
        }
        printf("}\n");
        (void)fflush(stdout);
    }
    for (unsigned m = 0; m < MEMBERS_MAX; m++) {
        free(run.members[m].stack);
        scratch_destroy(run.members[m].scratch);
    }
    free(run.pooled);
    batch_done(&run.batch);
    workspace_destroy(run.workspace);
    model_destroy(model);
}

int main(int argc, char **argv)
{
    size_t tokens = argc == 3 || argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    require(tokens >= 2 && tokens <= TOKENS_MAX,
            "usage: bench_teams MODEL_DIR TOKENS (2 to 512) [PRECISION]");
    for (enum precision p = PRECISION_FP32; p <= PRECISION_INT8; p++) {
        bool asked = argc < 4 || strcmp(argv[3], precision_name(p)) == 0;
        if (asked && (p == PRECISION_FP32 || dispatch_tile(cpu_detect(), p))) {
            measure(argv[1], p, tokens);
        }
    }
    return 0;
}
