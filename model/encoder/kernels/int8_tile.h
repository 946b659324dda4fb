/* The product of an int8 tile, written once over the vector type of simd_<set>.h. The file that
 * includes this says before how many ROWS a tile has, and what the integers do: WORD_VECTOR is a
 * vector of LANES words, with LOAD_WORDS(p) from aligned memory, SET1_WORD(word) and
 * WORDS_TO_VF(words). DPBUSD(sum, a, b) is each lane of sum plus the four products of a's unsigned
 * bytes with b's signed ones. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_TILE_H
#define ORTHRUS_MODEL_KERNELS_INT8_TILE_H

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/unroll.h"

enum { INT8_COLUMNS = 2 * LANES, LINE_BYTES = 64 };

/* Not the intrinsics' type: where one array is used as two types, gcc 12 keeps a copy of it on the
 * stack. */
typedef int ints __attribute__((vector_size(LANES * sizeof(int))));

/* What stands before the words, in fp32: sums = Σ low·(its weight) + Σ sum·centre +
 * Σ wide·(its weight). */
INLINE void multiply_floats(const size_t rows, size_t n, const float *a, const float *b,
                            vf sums[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = vf_set1(0.0f);
        sums[r][1] = vf_set1(0.0f);
    }
    for (size_t k = 0; k < n; k++) {
        vf b0 = vf_load(b);
        vf b1 = vf_load(b + LANES);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = vf_set1(a[r]);
            sums[r][0] = vf_fma(x, b0, sums[r][0]);
            sums[r][1] = vf_fma(x, b1, sums[r][1]);
        }
        a += rows;
        b += INT8_COLUMNS;
    }
}

/* dots = the integer sums of one group. */
INLINE void multiply_words(const size_t rows, size_t n, const uint32_t *a, const uint32_t *b,
                           const char *next, size_t next_step, ints dots[ROWS][2])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][0] = (ints){0};
        dots[r][1] = (ints){0};
    }
    for (size_t k = 0; k < n; k++) {
        WORD_VECTOR b0 = LOAD_WORDS(b);
        WORD_VECTOR b1 = LOAD_WORDS(b + LANES);
        UNROLL
        for (size_t line = 0; line < INT8_COLUMNS * sizeof *b; line += LINE_BYTES) {
            __builtin_prefetch(next + line, 0, 2);
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            WORD_VECTOR x = SET1_WORD(a[r]);
            dots[r][0] = (ints)DPBUSD((WORD_VECTOR)dots[r][0], x, b0);
            dots[r][1] = (ints)DPBUSD((WORD_VECTOR)dots[r][1], x, b1);
        }
        a += rows;
        b += INT8_COLUMNS;
        next += next_step;
    }
}

/* sums + dots·row·columns */
INLINE vf add_scaled(vf sums, ints dots, vf row, vf columns)
{
    return vf_fma(vf_mul(WORDS_TO_VF((WORD_VECTOR)dots), row), columns, sums);
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const float *row_scales = args->a;
    const float *column_scales = args->b;
    const float *floats_a = row_scales + args->groups * rows;
    const float *floats_b = column_scales + args->groups * INT8_COLUMNS;
    size_t floats = 2 * args->groups + args->wide;
    const uint32_t *a = (const uint32_t *)(floats_a + floats * rows);
    const uint32_t *b = (const uint32_t *)(floats_b + floats * INT8_COLUMNS);
    const char *next = args->next;
    vf sums[ROWS][2];
    multiply_floats(rows, floats, floats_a, floats_b, sums);
    for (size_t k = 0; k < args->words; k += args->group_words) {
        size_t n = args->words - k < args->group_words ? args->words - k : args->group_words;
        ints dots[ROWS][2];
        multiply_words(rows, n, a, b, next, args->next_step, dots);
        vf columns[2] = {vf_load(column_scales), vf_load(column_scales + LANES)};
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf row = vf_set1(row_scales[r]);
            sums[r][0] = add_scaled(sums[r][0], dots[r][0], row, columns[0]);
            sums[r][1] = add_scaled(sums[r][1], dots[r][1], row, columns[1]);
        }
        a += n * rows;
        b += n * INT8_COLUMNS;
        next += n * args->next_step;
        row_scales += rows;
        column_scales += INT8_COLUMNS;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        vf_store(args->tile + r * args->ld, sums[r][0]);
        vf_store(args->tile + r * args->ld + LANES, sums[r][1]);
    }
}

#endif
