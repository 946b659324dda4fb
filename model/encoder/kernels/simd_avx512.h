/* Sixteen floats at once, under the names that vector_ops.h is written in. Only for files compiled
 * for AVX-512. */
#ifndef ORTHRUS_MODEL_KERNELS_SIMD_AVX512_H
#define ORTHRUS_MODEL_KERNELS_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>

enum { LANES = 16 };
typedef __m512 vf;

static inline __mmask16 vf_mask(size_t n)
{
    return n >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}
static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
/* The first n floats; the other lanes are zero and their memory is not touched. */
static inline vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(vf_mask(n), p);
}
static inline void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
static inline void vf_store_n(float *p, size_t n, vf v)
{
    _mm512_mask_storeu_ps(p, vf_mask(n), v);
}
static inline vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
/* a·b + c in one rounding */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* The second argument where either is NaN. */
static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a·2^n for integral n in -126 … 127 */
static inline vf vf_scale2(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}
/* a in the first n lanes, b in the others */
static inline vf vf_select_n(size_t n, vf a, vf b)
{
    return _mm512_mask_mov_ps(b, vf_mask(n), a);
}
/* Halves are added pairwise: one fixed order. */
static inline float vf_sum(vf a)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float vf_largest(vf a)
{
    return _mm512_reduce_max_ps(a);
}

#endif
