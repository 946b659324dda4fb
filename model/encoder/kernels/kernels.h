/* What one instruction set gives the encoder: pure functions over pointers and dimensions. Each
 * kernel_<set>.c fills tables of these with its own code; model/encoder/dispatch picks the tables
 * once.
 *
 * One order for every sum: an output element adds its products over k = 0, 1, … one after the
 * other, and a row's sums run over its columns in an order that its width alone decides. So a
 * row's result is the same to the last bit whatever rows are computed beside it.
 *
 * Legend: T rows (tokens), K inputs of a matrix, H hidden. Matrices are row-major, `ld` is the
 * distance of two rows in elements. No alignment is asked for unless said. */
#ifndef ORTHRUS_MODEL_KERNELS_KERNELS_H
#define ORTHRUS_MODEL_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "model/encoder/cpu.h"

/* int8: a group has 32, 64 or 128 inputs. */
enum { INT8_UNIT = 32, INT8_GROUP_MAX = 128 };

/* int8: Σ of a group's products added to it is, read as fp32, that sum plus 3·2^22, exactly: sums
 * are less than 2^22 in magnitude. So they are scaled without being converted. */
#define INT8_ZERO_BITS 0x4b400000
#define INT8_ZERO      12582912.0f

/* Rows → words. A word is 32 bits of one row's inputs: one fp32, two bf16 or four int8. The words
 * of several rows stand interleaved: word k of row r at words[k·stride + r]. */
struct pack_args {
    const float *x; /* [rows,in] */
    size_t ld;
    size_t rows; /* 0 … pack_max, or rows_max for pack_rows */
    size_t in;   /* columns; those behind them in the last word are zero */
    size_t stride;
    uint32_t *words;  /* of a stride's words the first pack_max are written, those behind `rows`
                         zero; nothing behind the last stride */
    size_t row_words; /* AMX alone: words of a whole row, of which these are a part */
    /* int8 alone. `group` inputs after another have one scale, by their range made to hold 0: rows
     * are mapped to 0 … 255, x = scale·(u − zero), columns to -127 … 127, x = scale·(i + centre).
     * See kernels/int8_grid.h. What follows is written: [groups][rows], of columns
     * [groups][stride]. */
    size_t group;         /* see INT8_UNIT; x begins where one does */
    const uint16_t *keep; /* [⌈K/16⌉] bit i of word w: input 16w + i is there and not wide */
    float *scales;        /* of rows of 22 bits, so that their offset is exact */
    float *offsets;       /* rows alone: −INT8_ZERO·scale */
    uint32_t *pairs; /* two int16_t: zero, and above it Σ(u − zero) without the wide; of columns
                        −Σi, and centre */
};

/* One tile: rows × the columns of one panel or of several that follow each other. Blocks, in this
 * order (what stands before the words is for int8):
 *   a: scales float[groups][rows], offsets float[groups][rows], pairs[groups][rows],
 *      wide float[wide][rows], words[words][rows]
 *   b, of each panel: scales float[groups][columns], pairs[groups][columns],
 *      wide float[wide][columns], words[words][columns]; aligned to 64 bytes
 * Without int8: tile = Σ_k a·b in fp32. With: an input is scale_a·(byte_a − zero_a), a weight
 * scale_b·(byte_b + centre_b); a column's pair is −Σ byte_b, and above it centre_b, so that the
 * pairs' two products and the words' together are Σ (byte_a − zero_a)(byte_b + centre_b) in
 * integers. tile = Σ wide products in fp32, then group by group scale_a·scale_b·(that sum). */
struct multiply_args {
    size_t rows; /* 1 … rows_max */
    size_t words;
    size_t group_words; /* int8 alone: of a group, the last may have fewer */
    size_t groups;      /* int8 alone: ⌈words / group_words⌉ */
    size_t wide;        /* int8 alone */
    const void *a;
    const void *b;
    size_t panels;      /* 1 … kernel->panels */
    size_t panel_bytes; /* from one to the next */
    const void *next;   /* prefetched on the way: up to next_step bytes a word; 0 for nothing */
    size_t next_step;
    float *tile; /* [rows,panels·columns], all written, and rows up to a row_unit's end */
    size_t ld;
};

struct tile_kernel {
    const char *name;
    enum precision precision;
    unsigned word_inputs; /* of a word: 1, 2, 4 */
    unsigned word_unit;   /* words of a row come in multiples of it, filled up with zeros */
    unsigned rows_max;    /* rows of a tile, a multiple of row_unit */
    unsigned row_unit; /* rows are computed in multiples of it: where a tile ends early is waste */
    unsigned columns;  /* columns of a panel, a multiple of pack_max */
    unsigned panels;   /* at most, of one tile: it is fastest with so many */
    unsigned pack_max; /* rows of one pack_columns call; int8: all columns */
    /* a: the rows of one tile, stride their number; AMX has its own order and a stride of
     * row_unit, see kernel_amx_bf16.c */
    void (*pack_rows)(const struct pack_args *args);
    /* b: pack_max columns, stride `columns`; int8 writes nothing for those that are not there */
    void (*pack_columns)(const struct pack_args *args);
    /* b of one panel from what stands transposed, as attention's values do: x [in,n], n ≤ columns,
     * words [⌈in/2⌉][columns], aligned to 64, the half behind an odd last input zero. NULL where a
     * word is one input, or where attention is not multiplied. */
    void (*pack_pairs)(const float *x, size_t ld, size_t in, size_t n, uint32_t *words);
    void (*multiply)(const struct multiply_args *args);
    /* Around a thread's calls of multiply; NULL where there is nothing to set up. */
    void (*enter)(void);
    void (*leave)(void);
};

enum finish {
    FINISH_BIAS, /* y = s + bias */
    /* y = f(s + bias). The errors below are the largest ones on -12 … 12 against the exact
     * function; infinities give what the function tends to, NaN NaN. */
    FINISH_GELU,      /* x·Φ(x), as gelu below */
    FINISH_GELU_TANH, /* ½x(1 + tanh(√(2/π)(x + 0.044715x³))): 1.5e-6 absolute */
    FINISH_RELU,      /* max(x, 0): exact */
    FINISH_SILU,      /* x/(1 + e^-x): 1.5e-6 absolute; Elfwing et al. 2017, eq. 2 */
    FINISH_ADD,       /* y = (s + bias) + residual */
};

/* A linear's epilogue over a block of sums s. */
struct finish_args {
    enum finish finish;
    size_t rows;
    size_t columns;
    const float *sums; /* [rows,columns]; may be out */
    size_t sums_ld;
    const float *bias;     /* [columns] */
    const float *residual; /* [rows,columns], FINISH_ADD alone; may be out */
    size_t residual_ld;
    float *out; /* [rows,columns] */
    size_t out_ld;
};

/* LayerNorm of some rows. */
struct layernorm_args {
    const float *x; /* [rows,width] */
    size_t rows;
    size_t width;
    size_t from; /* columns that are written; statistics are of all */
    size_t to;
    const float *gamma; /* [width] */
    const float *beta;  /* [width] */
    float eps;
    float *out; /* [rows,width]; may be x where all columns are written */
};

struct kernels {
    const char *name;
    const struct tile_kernel *f32;

    void (*finish)(const struct finish_args *args);

    /* In place: x·Φ(x) with the normal distribution function Φ(x) = ½(1 + erf(x/√2)). The largest
     * error is 1.5e-6 absolute; -inf and very negative x give -0, +inf gives +inf, NaN NaN.
     * Source: Hendrycks & Gimpel 2016, eq. 1; reference: torch.nn.functional.gelu. */
    void (*gelu)(float *x, size_t n);

    /* In place over one row: softmax(scale·x), numerically stable. e^x has a relative error of at
     * most 3e-7; what is 87 or more below the largest counts as e^-87. NaN in, NaN out. */
    void (*softmax)(float *row, size_t n, float scale);

    /* Each row: (x − mean)/√(variance + eps)·gamma + beta, statistics in fp32, two passes. Source:
     * Ba et al. 2016, eq. 4; reference: torch.nn.LayerNorm. */
    void (*layernorm)(const struct layernorm_args *args);
};

extern const struct kernels kernels_generic;
extern const struct tile_kernel tile_generic_f32;

#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct tile_kernel tile_avx2_f32;
extern const struct tile_kernel tile_avx2_int8;
extern const struct tile_kernel tile_avxvnni_int8;
extern const struct kernels kernels_avx512;
extern const struct tile_kernel tile_avx512_f32;
extern const struct tile_kernel tile_avx512_bf16;
extern const struct tile_kernel tile_avx512_int8;
extern const struct tile_kernel tile_amx_bf16;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
extern const struct tile_kernel tile_neon_f32;
extern const struct tile_kernel tile_neondot_int8;
extern const struct tile_kernel tile_neonbf16_bf16;
extern const struct tile_kernel tile_neonbf16_int8;
#endif

#endif
