/* The product of an int8 tile, written once over the vector type of simd_<set>.h. The file that
 * includes this says before how many ROWS a tile has, and what the integers do: WORD_VECTOR is a
 * vector of LANES words, with LOAD_WORDS(p) from aligned memory and SET1_WORD(word). DPBUSD(sum, a,
 * b) is each lane of sum plus the four products of a's unsigned bytes with b's signed ones,
 * DPWSSD(sum, a, b) plus the two products of their int16_t. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_TILE_H
#define ORTHRUS_MODEL_KERNELS_INT8_TILE_H

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/unroll.h"

enum { INT8_COLUMNS = 2 * LANES, LINE_BYTES = 64 };

/* Not the intrinsics' type: where one array is used as two types, gcc 12 keeps a copy of it on the
 * stack. */
typedef int ints __attribute__((vector_size(LANES * sizeof(int))));

/* sums = Σ wide·(its weight) in fp32. */
INLINE void multiply_wide(const size_t rows, size_t n, const float *a, const float *b,
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

/* dots = INT8_ZERO_BITS + the products of the pairs of one group. */
INLINE void multiply_pairs(const size_t rows, const uint32_t *a, const uint32_t *b,
                           ints dots[ROWS][2])
{
    const WORD_VECTOR zero = SET1_WORD(INT8_ZERO_BITS);
    WORD_VECTOR b0 = LOAD_WORDS(b);
    WORD_VECTOR b1 = LOAD_WORDS(b + LANES);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        WORD_VECTOR x = SET1_WORD(a[r]);
        dots[r][0] = (ints)DPWSSD(zero, x, b0);
        dots[r][1] = (ints)DPWSSD(zero, x, b1);
    }
}

/* dots += the products of the words of one group. */
INLINE void multiply_words(const size_t rows, size_t n, const uint32_t *a, const uint32_t *b,
                           const char *next, size_t next_step, ints dots[ROWS][2])
{
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

/* sums + dots·row·columns, where offset is what INT8_ZERO_BITS times row adds. */
INLINE vf add_scaled(vf sums, ints dots, vf row, vf offset, vf columns)
{
    return vf_fma(vf_fma((vf)dots, row, offset), columns, sums);
}

INLINE void multiply_rows(const size_t rows, const struct multiply_args *args)
{
    const float *row_scales = args->a;
    const float *column_scales = args->b;
    const float *row_offsets = row_scales + args->groups * rows;
    const uint32_t *row_pairs = (const uint32_t *)(row_offsets + args->groups * rows);
    const uint32_t *column_pairs = (const uint32_t *)(column_scales + args->groups * INT8_COLUMNS);
    const float *wide_a = (const float *)(row_pairs + args->groups * rows);
    const float *wide_b = (const float *)(column_pairs + args->groups * INT8_COLUMNS);
    const uint32_t *a = (const uint32_t *)(wide_a + args->wide * rows);
    const uint32_t *b = (const uint32_t *)(wide_b + args->wide * INT8_COLUMNS);
    const char *next = args->next;
    vf sums[ROWS][2];
    multiply_wide(rows, args->wide, wide_a, wide_b, sums);
    for (size_t k = 0; k < args->words; k += args->group_words) {
        size_t n = args->words - k < args->group_words ? args->words - k : args->group_words;
        ints dots[ROWS][2];
        multiply_pairs(rows, row_pairs, column_pairs, dots);
        multiply_words(rows, n, a, b, next, args->next_step, dots);
        vf columns[2] = {vf_load(column_scales), vf_load(column_scales + LANES)};
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf row = vf_set1(row_scales[r]);
            vf offset = vf_set1(row_offsets[r]);
            sums[r][0] = add_scaled(sums[r][0], dots[r][0], row, offset, columns[0]);
            sums[r][1] = add_scaled(sums[r][1], dots[r][1], row, offset, columns[1]);
        }
        a += n * rows;
        b += n * INT8_COLUMNS;
        next += n * args->next_step;
        row_scales += rows;
        row_offsets += rows;
        row_pairs += rows;
        column_scales += INT8_COLUMNS;
        column_pairs += INT8_COLUMNS;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        vf_store(args->tile + r * args->ld, sums[r][0]);
        vf_store(args->tile + r * args->ld + LANES, sums[r][1]);
    }
}

#endif
