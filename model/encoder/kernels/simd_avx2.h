/* Eight floats at once, under the names that vector_ops.h is written in. Only for files compiled
 * for AVX2 and FMA. */
#ifndef ORTHRUS_MODEL_KERNELS_SIMD_AVX2_H
#define ORTHRUS_MODEL_KERNELS_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>

enum { LANES = 8 };
typedef __m256 vf;

static inline __m256i vf_mask(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= LANES ? LANES : (int)n), lane);
}
static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
/* The first n floats; the other lanes are zero and their memory is not touched. */
static inline vf vf_load_n(const float *p, size_t n)
{
    return n >= LANES ? vf_load(p) : _mm256_maskload_ps(p, vf_mask(n));
}
static inline void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
static inline void vf_store_n(float *p, size_t n, vf v)
{
    if (n >= LANES) {
        vf_store(p, v);
    } else {
        _mm256_maskstore_ps(p, vf_mask(n), v);
    }
}
static inline vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}
static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
/* a·b + c in one rounding */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
/* The second argument where either is NaN. */
static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a·2^n for integral n in -126 … 127; NaN in a stays NaN whatever n is. */
static inline vf vf_scale2(vf a, vf n)
{
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}
/* a in the first n lanes, b in the others */
static inline vf vf_select_n(size_t n, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(vf_mask(n)));
}
/* Halves are added pairwise: one fixed order. */
static inline float vf_sum(vf a)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float vf_largest(vf a)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

#endif
