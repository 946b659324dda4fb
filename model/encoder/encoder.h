/* The BERT encoder: packed ragged batch → hidden states [T,H] → pooled embeddings [N,H].
 * Post-LayerNorm transformer, erf-GELU. Source: Devlin et al. 2018; Vaswani et al. 2017, eq. 1;
 * reference: Hugging Face transformers' BertModel in eval mode.
 *
 * Legend: N texts, T packed tokens, H hidden, A heads, D = H/A, I intermediate, L layers. */
#ifndef ORTHRUS_MODEL_ENCODER_H
#define ORTHRUS_MODEL_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/encoder/batch.h"
#include "model/encoder/cpu.h"
#include "model/encoder/team.h"
#include "model/files/checkpoint.h"
#include "model/files/config.h"

/* Hidden states up to it make a narrow model: it averages fewer roundings, so int8 has finer groups
 * there and more inputs in fp32, and its attention none to spare. */
enum { ENCODER_NARROW = 512 };

struct encoder_options {
    enum precision precision;
    enum isa isa;             /* the highest level to use; cpu_detect() as a rule */
    enum precision attention; /* of its products: fp32, or bf16 where isa has a kernel for it */
    unsigned threads;         /* for packing the weights at load */
};

/* Process lifetime, immutable once made; shared by every thread. Holds its own packed copy of the
 * weights: the checkpoint may be closed afterwards. */
struct encoder;

/* Packs the weights on options->threads threads. Errors: ERR_UNSUPPORTED where this machine lacks
 * the instruction set or the set can't multiply the precision; ERR_NOMEM. */
CHECK_RESULT enum err_code encoder_create(const struct checkpoint *checkpoint,
                                          const struct encoder_options *options,
                                          struct encoder **ret_encoder, struct err *err);
/* NULL is fine. */
void encoder_destroy(struct encoder *encoder);

const struct config *encoder_config(const struct encoder *encoder);
enum precision encoder_precision(const struct encoder *encoder);
enum isa encoder_isa(const struct encoder *encoder);
/* Of attention's products: fp32 or bf16. */
enum precision encoder_attention(const struct encoder *encoder);
/* Floating-point operations of one text of n tokens (multiply and add count two). */
double encoder_flops(const struct encoder *encoder, size_t n);
/* Bytes of packed weights. */
size_t encoder_bytes(const struct encoder *encoder);

/* Thread lifetime: what one thread alone needs of a pass. Sized once, for any pass of up to
 * max_tokens tokens. */
struct scratch;
/* Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code scratch_create(const struct encoder *encoder, size_t max_tokens,
                                          struct scratch **ret_scratch, struct err *err);
/* NULL is fine. */
void scratch_destroy(struct scratch *scratch);

/* Thread lifetime: the arrays of one forward pass, shared by the members of its team, and the
 * scratch of the thread that leads it. Sized once; the forward pass never allocates. */
struct workspace;

enum { WORKSPACE_TOKENS_MAX = 1 << 20 };

/* Room for batches of up to max_texts texts and max_tokens tokens. Errors: ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code workspace_create(const struct encoder *encoder, size_t max_texts,
                                            size_t max_tokens, struct workspace **ret_workspace,
                                            struct err *err);
/* NULL is fine. */
void workspace_destroy(struct workspace *workspace);

/* The scratch inside: for a thread that leads passes of its own and assists in those of others. */
struct scratch *workspace_scratch(struct workspace *workspace);

/* Hidden states [T,H] of the last forward pass, borrowed until the next one. */
const float *workspace_hidden(const struct workspace *workspace);

/* Phases of a pass, for the profile of `orthrus bench`. */
enum phase {
    PHASE_EMBED,
    PHASE_QKV,
    PHASE_ATTENTION,
    PHASE_ATTENTION_OUT, /* and its LayerNorm */
    PHASE_FFN_IN,
    PHASE_FFN_OUT, /* and its LayerNorm */
    PHASE_POOL,
    PHASE_COUNT
};
const char *phase_name(enum phase phase);

/* Optional observation, set before a pass and used by member 0 alone; NULL members are skipped.
 * The encoder has no clock of its own. */
struct observer {
    uint64_t (*now_ns)(void);
    uint64_t phase_ns[PHASE_COUNT]; /* added up */
    /* layer 0 is the embeddings' output, layer i the output of the i-th of L layers. */
    void (*on_layer)(void *context, size_t layer, const float *hidden, size_t total, size_t width);
    void *context;
};
void workspace_observe(struct workspace *workspace, struct observer *observer);

/* What a pass leaves for its caller, always in fp32: the caller's arrays, each NULL where it is not
 * wanted. workspace_hidden lends the same hidden states without a copy. */
struct outputs {
    float *pooled; /* [N,n·H] one vector a text, pooling's n modes, not normalized */
    float *cls;    /* [N,H] hidden state of each text's first token */
    float *tokens; /* [T,H] hidden states of all tokens */
};

/* One pass, as member 0 of the team; what out asks for is complete when it returns. The batch fits
 * the workspace; ids are below V and each text is at most `positions` long (CHECKed). A text's
 * outputs do not depend on the rest of the batch, nor on the team's width: to the last bit on the
 * packed paths (all but ISA_GENERIC), within 2e-6 on OpenBLAS. */
void encoder_forward(const struct encoder *encoder, struct workspace *workspace,
                     const struct batch *batch, enum pooling pooling, struct team *team,
                     const struct outputs *out);

/* The same pass, as member 1 … width-1, each called once with the leader's arguments and a scratch
 * of its own for as many tokens. */
void encoder_assist(const struct encoder *encoder, struct workspace *workspace,
                    const struct batch *batch, enum pooling pooling, struct team *team,
                    unsigned member, struct scratch *scratch, const struct outputs *out);

/* Some of a pass's work, for measuring what a whole one takes: the embeddings and one of the L
 * layers on them, on this thread alone. The result is no text's vector. */
void encoder_forward_layer(const struct encoder *encoder, struct workspace *workspace,
                           const struct batch *batch, size_t layer);

/* The same pass on up to `threads` threads, the caller's among them, which begin and end here: for
 * what is computed before anything is served. A thread that can't be had is one member less; there
 * are at most TOGETHER_MAX. */
enum { TOGETHER_MAX = 64 };
void encoder_forward_together(const struct encoder *encoder, struct workspace *workspace,
                              const struct batch *batch, enum pooling pooling, unsigned threads,
                              const struct outputs *out);

/* Divides each row of [N,H] by its Euclidean norm; a zero row stays zero. */
void embeddings_normalize(float *embeddings, size_t n, size_t hidden);

#endif
