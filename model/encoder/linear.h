/* A linear layer y = x·Wᵀ + b with its epilogue, its weights packed once at load for the kernel
 * that will multiply them. Everything here is for one process's lifetime and immutable once packed;
 * any number of threads may run one linear, each with its own scratch.
 *
 * Legend: T rows, K inputs, N outputs; a panel: the weights of kernel->columns outputs; a group:
 * inputs that share a scale (int8). Weights come in PyTorch's nn.Linear layout [N,K]. */
#ifndef ORTHRUS_MODEL_LINEAR_H
#define ORTHRUS_MODEL_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/pages.h"
#include "model/encoder/team.h"
#include "model/files/safetensors.h"

/* Columns of a panel with OpenBLAS: a member's share is a multiple of it. */
enum { LINEAR_BLAS_COLUMNS = 64 };

struct linear {
    const struct kernels *ops;
    const struct tile_kernel *kernel; /* NULL: OpenBLAS */
    size_t in;                        /* K */
    size_t out;                       /* N */
    size_t words;                     /* per row: ⌈K / kernel->word_inputs⌉ and what fills up */
    size_t wide;                      /* int8 alone: inputs that stay in fp32 */
    size_t group;                     /* int8 alone: inputs that share a scale, see pack_args */
    size_t groups;                    /* int8 alone: ⌈K / group⌉ */
    size_t chunk;           /* blocks that are multiplied with one panel after the other */
    size_t panels;          /* ⌈N / columns⌉ */
    size_t panel_bytes;     /* see struct multiply_args; 0 with OpenBLAS */
    unsigned char *weight;  /* [panels][panel_bytes], or float [N,K] with OpenBLAS */
    float *bias;            /* [N] */
    uint32_t *wide_columns; /* [wide] which, ascending */
    uint16_t *keep;         /* int8 alone: see struct pack_args */
};

/* Weights and biases that stand below each other in one matrix: Q, K and V are multiplied at once.
 * All have the same shape [N/parts, K]. */
struct linear_part {
    const struct tensor *weight;
    const struct tensor *bias;
};

struct linear_shape {
    size_t in;    /* K */
    size_t out;   /* N */
    size_t wide;  /* ≤ K; 0 but for int8 */
    size_t group; /* see struct pack_args; read for int8 alone */
    size_t l2;    /* bytes of a core's cache; 0: CPU_L2_DEFAULT. Speed alone */
};

/* Fills the sizes and takes the memory from region (none while that measures). kernel may be NULL
 * for OpenBLAS in fp32. */
void linear_layout(struct linear *linear, const struct kernels *ops,
                   const struct tile_kernel *kernel, const struct linear_shape *shape,
                   struct region *region);

/* Makes the inputs with the greatest weight [K] the wide ones; of equals the first. Once, before
 * packing. */
void linear_choose_wide(struct linear *linear, const float *weight);

/* Packing is cut into `panels` independent jobs, one call each, from any thread. scratch holds
 * linear_pack_floats floats and belongs to the call. */
size_t linear_pack_floats(const struct linear *linear);
void linear_pack(struct linear *linear, const struct linear_part *parts, size_t n_parts,
                 size_t panel, float *scratch);

struct completion;
struct operand;

/* One product of x [T,K], whose operand's linear is the one that runs. Its outputs go to out, or,
 * packed, to the operand that is multiplied next. */
struct linear_call {
    const struct operand *x;
    enum finish finish;
    const float *residual; /* [T,N], FINISH_ADD alone; may be out */
    size_t residual_ld;
    float *out;    /* [T,N], where completion has several spans [block][span][rows][columns of the
                      span] */
    size_t out_ld; /* not read there */
    const struct operand *next;          /* [T,N] instead of out; NULL */
    const struct completion *completion; /* of the blocks in out, a part each panel; NULL */
    size_t completion_panels;            /* of a span; read where a block has several spans */
    /* Fetched from memory while the member's last panels are multiplied; NULL. Speed alone. */
    const void *fetched;
    size_t fetched_bytes;
};

/* The panels of the first tile that a member of the team will make of a product of so many rows;
 * NULL where it makes none. next: as in the call, or NULL. */
const void *linear_first_panels(const struct linear *linear, const struct linear *next, size_t rows,
                                const struct team *team, unsigned member, size_t *ret_bytes);

/* Panels whose outputs are packed at once for the matrix that multiplies them next. */
size_t linear_span_panels(const struct linear *linear, const struct linear *next);

/* Bytes of scratch, aligned to 64, that one member needs; next: as in the call, or NULL. */
size_t linear_scratch_bytes(const struct linear *linear, const struct linear *next);

/* This member's share of the blocks and columns. No barrier inside: put one behind it before the
 * output is read. */
void linear_run(const struct linear *linear, const struct linear_call *call,
                const struct team *team, unsigned member, void *scratch);

#endif
