/* Four floats at once on arm64, under the names that vector_ops.h is written in. */
#ifndef ORTHRUS_MODEL_KERNELS_SIMD_NEON_H
#define ORTHRUS_MODEL_KERNELS_SIMD_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

enum { LANES = 4 };
typedef float32x4_t vf;

static inline vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
/* The first n floats; the other lanes are zero and their memory is not touched. */
static inline vf vf_load_n(const float *p, size_t n)
{
    if (n >= LANES) {
        return vf_load(p);
    }
    float lanes[LANES] = {0};
    memcpy(lanes, p, n * sizeof *lanes);
    return vf_load(lanes);
}
static inline void vf_store(float *p, vf v)
{
    vst1q_f32(p, v);
}
static inline void vf_store_n(float *p, size_t n, vf v)
{
    if (n >= LANES) {
        vf_store(p, v);
        return;
    }
    float lanes[LANES];
    vf_store(lanes, v);
    memcpy(p, lanes, n * sizeof *lanes);
}
static inline vf vf_set1(float x)
{
    return vdupq_n_f32(x);
}
static inline vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}
/* a·b + c in one rounding */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
/* NaN where either is NaN. */
static inline vf vf_min(vf a, vf b)
{
    return vminq_f32(a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}
static inline vf vf_round(vf a)
{
    return vrndnq_f32(a);
}
/* a·2^n for integral n in -126 … 127; NaN in a stays NaN whatever n is. */
static inline vf vf_scale2(vf a, vf n)
{
    int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)));
}
/* a in the first n lanes, b in the others */
static inline vf vf_select_n(size_t n, vf a, vf b)
{
    static const uint32_t lane[LANES] = {0, 1, 2, 3};
    return vbslq_f32(vcltq_u32(vld1q_u32(lane), vdupq_n_u32((uint32_t)n)), a, b);
}
/* Halves are added pairwise: one fixed order. */
static inline float vf_sum(vf a)
{
    return vaddvq_f32(a);
}
static inline float vf_largest(vf a)
{
    return vmaxvq_f32(a);
}

#endif
