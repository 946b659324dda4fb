/* The product of an int8 tile, written once over the vector type of simd_<set>.h. The file that
 * includes this says before how many ROWS a tile has, and what the integers do: WORD_VECTOR is a
 * vector of LANES words, with LOAD_WORDS(p) from aligned memory and SET1_WORD(word). DPBUSD(sum, a,
 * b) is each lane of sum plus the four products of a's unsigned bytes with b's signed ones,
 * DPWSSD(sum, a, b) plus the two products of their int16_t. */
#ifndef ORTHRUS_MODEL_KERNELS_INT8_TILE_H
#define ORTHRUS_MODEL_KERNELS_INT8_TILE_H

#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/unroll.h"

enum { INT8_COLUMNS = LANES, INT8_PANELS = 2, LINE_BYTES = 64 };

/* Not the intrinsics' type: where one array is used as two types, gcc 12 keeps a copy of it on the
 * stack. */
typedef int ints __attribute__((vector_size(LANES * sizeof(int))));

/* sums = Σ wide·(its weight) in fp32. */
INLINE void multiply_wide(const size_t rows, const size_t panels, size_t n, const float *a,
                          const char *b, size_t panel_bytes, vf sums[ROWS][INT8_PANELS])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            sums[r][p] = vf_set1(0.0f);
        }
    }
    for (size_t k = 0; k < n; k++) {
        vf weights[INT8_PANELS];
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            weights[p] = vf_load((const float *)(b + p * panel_bytes));
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf x = vf_set1(a[r]);
            UNROLL
            for (size_t p = 0; p < panels; p++) {
                sums[r][p] = vf_fma(x, weights[p], sums[r][p]);
            }
        }
        a += rows;
        b += INT8_COLUMNS * sizeof(float);
    }
}

/* dots = INT8_ZERO_BITS + the products of the pairs of one group. */
INLINE void multiply_pairs(const size_t rows, const size_t panels, const uint32_t *a, const char *b,
                           size_t panel_bytes, ints dots[ROWS][INT8_PANELS])
{
    const WORD_VECTOR zero = SET1_WORD(INT8_ZERO_BITS);
    WORD_VECTOR pairs[INT8_PANELS];
    UNROLL
    for (size_t p = 0; p < panels; p++) {
        pairs[p] = LOAD_WORDS(b + p * panel_bytes);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        WORD_VECTOR x = SET1_WORD(a[r]);
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            dots[r][p] = (ints)DPWSSD(zero, x, pairs[p]);
        }
    }
}

INLINE void multiply_word(const size_t rows, const uint32_t *a, const char *b, const char *next,
                          const size_t sum, ints dots[ROWS][INT8_PANELS])
{
    WORD_VECTOR words = LOAD_WORDS(b);
    __builtin_prefetch(next, 0, 2);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][sum] = (ints)DPBUSD((WORD_VECTOR)dots[r][sum], SET1_WORD(a[r]), words);
    }
}

/* dots += the products of the words of one group, of one panel. Its sums are two a row, of even
 * words and of odd ones: one alone would wait for itself. Integers, so the same sum. */
INLINE void multiply_words_of_one(const size_t rows, size_t n, const uint32_t *a, const char *b,
                                  const char *next, size_t next_step, ints dots[ROWS][INT8_PANELS])
{
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][1] = (ints){0};
    }
    const size_t word_bytes = INT8_COLUMNS * sizeof *a;
    size_t k = 0;
    for (; k + 2 <= n; k += 2) {
        multiply_word(rows, a, b, next, 0, dots);
        multiply_word(rows, a + rows, b + word_bytes, next + next_step, 1, dots);
        a += 2 * rows;
        b += 2 * word_bytes;
        next += 2 * next_step;
    }
    if (k < n) {
        multiply_word(rows, a, b, next, 0, dots);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        dots[r][0] += dots[r][1];
    }
}

/* dots += the products of the words of one group. */
INLINE void multiply_words(const size_t rows, const size_t panels, size_t n, const uint32_t *a,
                           const char *b, size_t panel_bytes, const char *next, size_t next_step,
                           ints dots[ROWS][INT8_PANELS])
{
    for (size_t k = 0; k < n; k++) {
        WORD_VECTOR words[INT8_PANELS];
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            words[p] = LOAD_WORDS(b + p * panel_bytes);
        }
        UNROLL
        for (size_t line = 0; line < panels * INT8_COLUMNS * sizeof *a; line += LINE_BYTES) {
            __builtin_prefetch(next + line, 0, 2);
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            WORD_VECTOR x = SET1_WORD(a[r]);
            UNROLL
            for (size_t p = 0; p < panels; p++) {
                dots[r][p] = (ints)DPBUSD((WORD_VECTOR)dots[r][p], x, words[p]);
            }
        }
        a += rows;
        b += INT8_COLUMNS * sizeof *a;
        next += next_step;
    }
}

/* sums + dots·row·columns, where offset is what INT8_ZERO_BITS times row adds. */
INLINE vf add_scaled(vf sums, ints dots, vf row, vf offset, vf columns)
{
    return vf_fma(vf_fma((vf)dots, row, offset), columns, sums);
}

INLINE void multiply_rows(const size_t rows, const size_t panels, const struct multiply_args *args)
{
    const size_t column_bytes = INT8_COLUMNS * sizeof(uint32_t);
    const float *row_scales = args->a;
    const char *column_scales = args->b;
    const float *row_offsets = row_scales + args->groups * rows;
    const uint32_t *row_pairs = (const uint32_t *)(row_offsets + args->groups * rows);
    const char *column_pairs = column_scales + args->groups * column_bytes;
    const float *wide_a = (const float *)(row_pairs + args->groups * rows);
    const char *wide_b = column_pairs + args->groups * column_bytes;
    const uint32_t *a = (const uint32_t *)(wide_a + args->wide * rows);
    const char *b = wide_b + args->wide * column_bytes;
    const char *next = args->next;
    vf sums[ROWS][INT8_PANELS];
    multiply_wide(rows, panels, args->wide, wide_a, wide_b, args->panel_bytes, sums);
    for (size_t k = 0; k < args->words; k += args->group_words) {
        size_t n = args->words - k < args->group_words ? args->words - k : args->group_words;
        ints dots[ROWS][INT8_PANELS];
        vf columns[INT8_PANELS];
        multiply_pairs(rows, panels, row_pairs, column_pairs, args->panel_bytes, dots);
        if (panels == 1) {
            multiply_words_of_one(rows, n, a, b, next, args->next_step, dots);
        } else {
            multiply_words(rows, panels, n, a, b, args->panel_bytes, next, args->next_step, dots);
        }
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            columns[p] = vf_load((const float *)(column_scales + p * args->panel_bytes));
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf row = vf_set1(row_scales[r]);
            vf offset = vf_set1(row_offsets[r]);
            UNROLL
            for (size_t p = 0; p < panels; p++) {
                sums[r][p] = add_scaled(sums[r][p], dots[r][p], row, offset, columns[p]);
            }
        }
        a += n * rows;
        b += n * column_bytes;
        next += n * args->next_step;
        row_scales += rows;
        row_offsets += rows;
        row_pairs += rows;
        column_scales += column_bytes;
        column_pairs += column_bytes;
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t p = 0; p < panels; p++) {
            vf_store(args->tile + r * args->ld + p * LANES, sums[r][p]);
        }
    }
}

#endif
