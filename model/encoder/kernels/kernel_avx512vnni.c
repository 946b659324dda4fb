/* int8 on AVX512-VNNI. */
#if defined(__x86_64__)
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "model/encoder/kernels/avx512_tile.h"
#include "model/encoder/kernels/int8_grid.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/kernels/simd_avx512.h"

/* Half as many rows as the other precisions: the integer sums of a group and the fp32 sums of all
 * groups are in registers together. Rows are packed by eights, 64 columns at once: one group or
 * two. */
enum { ROWS = 7, LINES = 8, BYTES = 64, PARTS = 4, SLICES = 2 };

/* Lanes of 16 columns that are there and not wide. */
INLINE __mmask16 kept(const struct pack_args *args, size_t k)
{
    return k < args->in ? (__mmask16)args->keep[k / 16] : 0;
}

/* Each row's least (or greatest) lane → lane of that row; PICK keeps one of two lane by lane. */
#define DEFINE_ACROSS(name, PICK)                                            \
    INLINE __m256 name(const __m512 rows[LINES])                             \
    {                                                                        \
        __m512 two[4];                                                       \
        __m512 four[2];                                                      \
        UNROLL                                                               \
        for (size_t i = 0; i < 4; i++) {                                     \
            two[i] = PICK(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]),  \
                          _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1])); \
        }                                                                    \
        UNROLL                                                               \
        for (size_t i = 0; i < 2; i++) {                                     \
            __m512d even = _mm512_castps_pd(two[2 * i]);                     \
            __m512d odd = _mm512_castps_pd(two[2 * i + 1]);                  \
            four[i] = PICK(_mm512_castpd_ps(_mm512_unpacklo_pd(even, odd)),  \
                           _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd))); \
        }                                                                    \
        __m512 eight = PICK(_mm512_shuffle_f32x4(four[0], four[1], 0x88),    \
                            _mm512_shuffle_f32x4(four[0], four[1], 0xdd));   \
        eight = PICK(_mm512_shuffle_f32x4(eight, eight, 0x88),               \
                     _mm512_shuffle_f32x4(eight, eight, 0xdd));              \
        return _mm512_castps512_ps256(eight);                                \
    }
DEFINE_ACROSS(least_across, _mm512_min_ps)
DEFINE_ACROSS(greatest_across, _mm512_max_ps)

/* Of a group, a lane a row. */
struct grids {
    __m256 scale;
    __m256 inverse;
    __m256 zero;
};

/* int8_grid_of, eight at once. */
INLINE struct grids grids_of(__m256 low, __m256 high)
{
    __m256 scale = _mm256_div_ps(_mm256_sub_ps(high, low), _mm256_set1_ps(INT8_STEPS));
    scale = _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_set1_epi32(INT8_SCALE_LOST)), scale);
    __m256 there = _mm256_cmp_ps(scale, _mm256_set1_ps(FLT_MIN), _CMP_NLT_UQ);
    scale = _mm256_and_ps(scale, there);
    __m256 inverse = _mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(1.0f), scale), there);
    __m256 zero = _mm256_round_ps(_mm256_mul_ps(_mm256_sub_ps(_mm256_setzero_ps(), low), inverse),
                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (struct grids){scale, inverse, zero};
}

/* Columns [from,to) of all rows; NaN where one of a row's is NaN, which minimum and maximum drop.
 */
INLINE struct grids group_grids(const struct pack_args *args, size_t from, size_t to)
{
    __m512 low[LINES];
    __m512 high[LINES];
    __mmask16 nan = 0;
    UNROLL
    for (size_t r = 0; r < LINES; r++) {
        low[r] = _mm512_setzero_ps();
        high[r] = _mm512_setzero_ps();
    }
    for (size_t k = from; k < to; k += 32) {
        __mmask16 first = kept(args, k);
        __mmask16 second = kept(args, k + 16);
        UNROLL
        for (size_t r = 0; r < ROWS; r++) {
            if (r < args->rows) {
                const float *x = args->x + r * args->ld + k;
                __m512 v = _mm512_maskz_loadu_ps(first, x);
                __m512 w = second ? _mm512_maskz_loadu_ps(second, x + 16) : _mm512_setzero_ps();
                nan |= _mm512_cmp_ps_mask(v, w, _CMP_UNORD_Q);
                low[r] = _mm512_min_ps(low[r], _mm512_min_ps(v, w));
                high[r] = _mm512_max_ps(high[r], _mm512_max_ps(v, w));
            }
        }
    }
    __m256 lows = least_across(low);
    if (nan) {
        float rows[LINES];
        _mm256_storeu_ps(rows, lows);
        for (size_t r = 0; r < args->rows; r++) {
            for (size_t k = from; k < to; k++) {
                float x = args->x[r * args->ld + k];
                bool is_kept = args->keep[k / 16] >> k % 16 & 1;
                rows[r] = is_kept && isnan(x) ? x : rows[r];
            }
        }
        lows = _mm256_loadu_ps(rows);
    }
    return grids_of(lows, greatest_across(high));
}

/* 64 columns of a row → bytes: round(x·inverse) + zero, 0 in those that are wide or not there. Four
 * bytes are a word; word 4p + q stands at 4q + p. inverses, zeros: for both halves. */
INLINE __m512i quantize_64(const float *x, const __mmask16 masks[PARTS], const float *inverses,
                           const float *zeros, size_t half)
{
    __m512i parts[PARTS];
    UNROLL
    for (size_t p = 0; p < PARTS; p++) {
        const float *inverse = inverses + p / 2 * half;
        const float *zero = zeros + p / 2 * half;
        __m512 v = masks[p] ? _mm512_maskz_loadu_ps(masks[p], x + 16 * p) : _mm512_setzero_ps();
        v = _mm512_fmadd_ps(v, _mm512_set1_ps(*inverse), _mm512_set1_ps(*zero));
        parts[p] = _mm512_maskz_cvtps_epi32(masks[p], v);
    }
    return _mm512_packus_epi16(_mm512_packus_epi32(parts[0], parts[1]),
                               _mm512_packus_epi32(parts[2], parts[3]));
}

/* rows[r] holds 16 words of row r, in quantize_64's order; afterwards rows[i] holds word 2i of rows
 * 0 … 7 and, above it, word 2i + 1. */
INLINE void transpose_8x16(__m512i rows[LINES])
{
    const __m512i front = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i back = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i a[LINES];
    __m512i b[LINES];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < 2; i++) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    /* b[4h + p], quarter q: word 4p + q of rows 4h … 4h+3. */
    UNROLL
    for (size_t p = 0; p < PARTS; p++) {
        rows[2 * p] = _mm512_permutex2var_epi64(b[p], front, b[4 + p]);
        rows[2 * p + 1] = _mm512_permutex2var_epi64(b[p], back, b[4 + p]);
    }
}

/* What stands before the words for the group at k; sums: Σu, a lane a row. */
INLINE void note_group(const struct pack_args *args, size_t k, struct grids grids, __m256i sums)
{
    __mmask16 there = (__mmask16)((1u << args->rows) - 1);
    size_t at = k / args->group * args->rows;
    size_t n = args->in - k < args->group ? args->in - k : args->group;
    int32_t count = int8_count_kept(args, k, n);
    __m256i zero = _mm256_cvtps_epi32(grids.zero);
    __m256i centred = _mm256_sub_epi32(sums, _mm256_mullo_epi32(zero, _mm256_set1_epi32(count)));
    __m256i pairs = _mm256_or_si256(_mm256_and_si256(zero, _mm256_set1_epi32(0xffff)),
                                    _mm256_slli_epi32(centred, 16));
    __m256 offsets = _mm256_mul_ps(grids.scale, _mm256_set1_ps(-INT8_ZERO));
    _mm512_mask_storeu_ps(args->scales + at, there, _mm512_castps256_ps512(grids.scale));
    _mm512_mask_storeu_ps(args->offsets + at, there, _mm512_castps256_ps512(offsets));
    _mm512_mask_storeu_epi32(args->pairs + at, there, _mm512_castsi256_si512(pairs));
}

/* Words of 64 columns from k on, of which those behind `in` are not stored. */
INLINE void store_words(const struct pack_args *args, size_t k, const __m512i rows[LINES])
{
    __mmask16 low = (__mmask16)((1u << args->rows) - 1);
    __mmask16 high = (__mmask16)(low << LINES);
    size_t n = args->in - k < BYTES ? (args->in - k + 3) / 4 : BYTES / 4;
    uint32_t *words = args->words + k / 4 * args->stride;
    UNROLL
    for (size_t i = 0; i < LINES; i++) {
        if (2 * i < n) {
            _mm512_mask_storeu_epi32(words + 2 * i * args->stride, low, rows[i]);
        }
        if (2 * i + 1 < n) { /* its lanes are the upper eight */
            _mm512_mask_storeu_epi32(words + (2 * i + 1) * args->stride - LINES, high, rows[i]);
        }
    }
}

/* Columns from k on: one group of 64 or more, or two (SLICES) of fewer. */
INLINE void pack_slices(const struct pack_args *args, size_t k, size_t step)
{
    size_t end = args->in - k < step ? args->in : k + step;
    size_t slices = step / args->group;
    struct grids grids[SLICES];
    float inverses[SLICES][LINES];
    float zeros[SLICES][LINES];
    __m512i sums[SLICES] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t s = 0; s < slices; s++) {
        size_t from = k + s * args->group;
        size_t to = from + args->group < end ? from + args->group : end;
        grids[s] = group_grids(args, from, to);
        _mm256_storeu_ps(inverses[s], grids[s].inverse);
        _mm256_storeu_ps(zeros[s], grids[s].zero);
    }
    for (size_t at = k; at < end; at += BYTES) {
        __mmask16 masks[PARTS];
        __m512i rows[LINES];
        for (size_t p = 0; p < PARTS; p++) {
            masks[p] = kept(args, at + 16 * p);
        }
        UNROLL
        for (size_t r = 0; r < LINES; r++) {
            rows[r] = _mm512_setzero_si512();
            if (r < ROWS && r < args->rows) {
                rows[r] = quantize_64(args->x + r * args->ld + at, masks, &inverses[0][r],
                                      &zeros[0][r], slices > 1 ? LINES : 0);
            }
        }
        transpose_8x16(rows);
        store_words(args, at, rows);
        UNROLL
        for (size_t i = 0; i < LINES; i++) {
            size_t s = slices > 1 && i >= LINES / 2;
            sums[s] = _mm512_dpbusd_epi32(sums[s], rows[i], _mm512_set1_epi8(1));
        }
    }
    for (size_t s = 0; s < slices && k + s * args->group < end; s++) {
        note_group(args, k + s * args->group, grids[s],
                   _mm256_add_epi32(_mm512_castsi512_si256(sums[s]),
                                    _mm512_extracti64x4_epi64(sums[s], 1)));
    }
}

/* Words of four unsigned bytes; each group of a row by its own range. */
static void pack_rows(const struct pack_args *args)
{
    if (args->group < BYTES) {
        for (size_t k = 0; k < args->in; k += BYTES) {
            pack_slices(args, k, BYTES);
        }
        return;
    }
    for (size_t k = 0; k < args->in; k += args->group) {
        pack_slices(args, k, args->group);
    }
}

#define WORD_VECTOR       __m512i
#define LOAD_WORDS(p)     _mm512_load_si512(p)
#define SET1_WORD(word)   _mm512_set1_epi32((int)(word))
#define DPBUSD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define DPWSSD(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#include "model/encoder/kernels/int8_columns.h"
#include "model/encoder/kernels/int8_tile.h"

static void multiply(const struct multiply_args *args)
{
    TILE_DISPATCH(ROWS, multiply_rows, args)
}

const struct tile_kernel tile_avx512_int8 = {
    .name = "avx512 int8",
    .precision = PRECISION_INT8,
    .word_inputs = 4,
    .rows_max = ROWS,
    .row_unit = 1,
    .word_unit = 1,
    .columns = INT8_COLUMNS,
    .panels = INT8_PANELS,
    .pack_max = INT8_COLUMNS,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .multiply = multiply,
};
#endif
