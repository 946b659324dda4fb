/* What stands between the matrices, written once over the vector type of simd_<set>.h and included
 * by one kernel file per instruction set, after that header. Formulas and bounds: kernels.h. */
#ifndef ORTHRUS_MODEL_KERNELS_VECTOR_OPS_H
#define ORTHRUS_MODEL_KERNELS_VECTOR_OPS_H

#include <math.h>

#include "model/encoder/kernels/kernels.h"

/* e^x for x ≤ 88: 2^n·e^r with |r| ≤ ½ ln 2 and e^r = 1 + r + r²·q(r), q by least maximum relative
 * error (3e-9 before rounding). */
static inline vf vector_exp(vf x)
{
    const vf log2e = vf_set1(1.44269504088896341f);
    const vf minus_ln2_high = vf_set1(-0.693359375f); /* 9 bits: n·high is exact */
    const vf minus_ln2_low = vf_set1(2.12194440054690583e-4f);
    x = vf_max(vf_set1(-87.0f), x);
    vf n = vf_round(vf_mul(x, log2e));
    vf r = vf_fma(n, minus_ln2_high, x);
    r = vf_fma(n, minus_ln2_low, r);
    vf q = vf_set1(1.381461275741458e-3f);
    q = vf_fma(q, r, vf_set1(8.368710055947304e-3f));
    q = vf_fma(q, r, vf_set1(4.166838899254799e-2f));
    q = vf_fma(q, r, vf_set1(1.666652113199234e-1f));
    q = vf_fma(q, r, vf_set1(4.999999403953552e-1f));
    vf p = vf_add(vf_fma(q, vf_mul(r, r), r), vf_set1(1.0f));
    return vf_scale2(p, n);
}

/* ½ erf(x/√2) = x·P(x²)/Q(x²) on |x| ≤ 5.6, P and Q by least maximum relative error (2.2e-8 before
 * rounding), leaning out at the end so that the last step's cut at ±½ makes it exact beyond. */
static inline vf vector_gelu(vf x)
{
    const vf half = vf_set1(0.5f);
    vf z = vf_min(vf_set1(5.6f), vf_max(vf_set1(-5.6f), x));
    vf t = vf_mul(z, z);
    vf p = vf_set1(2.233259621675643e-8f);
    p = vf_fma(p, t, vf_set1(6.292369562288513e-6f));
    p = vf_fma(p, t, vf_set1(1.6884059004951268e-4f));
    p = vf_fma(p, t, vf_set1(4.676951095461845e-3f));
    p = vf_fma(p, t, vf_set1(3.391759470105171e-2f));
    p = vf_fma(p, t, vf_set1(3.989422619342804e-1f));
    vf q = vf_set1(1.180819708679337e-6f);
    q = vf_fma(q, t, vf_set1(7.333037501666695e-5f));
    q = vf_fma(q, t, vf_set1(1.885026111267507e-3f));
    q = vf_fma(q, t, vf_set1(2.867177501320839e-2f));
    q = vf_fma(q, t, vf_set1(2.5168514251708984e-1f));
    q = vf_fma(q, t, vf_set1(1.0f));
    vf erf_half = vf_div(vf_mul(z, p), q);
    erf_half = vf_min(half, vf_max(vf_set1(-0.5f), erf_half));
    /* -inf·0 would be NaN; below the cut the product is -0 for any finite x. */
    vf bounded = vf_max(vf_set1(-1e30f), x);
    return vf_mul(bounded, vf_add(half, erf_half));
}

/* x·σ(v). Beyond ±87 σ is 1 or so small that x·σ is nothing; -inf is cut, or it would be NaN. */
static inline vf vector_gated(vf x, vf v)
{
    vf e = vector_exp(vf_min(vf_set1(87.0f), vf_sub(vf_set1(0.0f), v)));
    vf bounded = vf_max(vf_set1(-1e30f), x);
    return vf_div(bounded, vf_add(vf_set1(1.0f), e));
}

/* ½x(1 + tanh(u)) = x·σ(2u); where x³ would overflow σ is long 0 or 1. */
static inline vf vector_gelu_tanh(vf x)
{
    vf z = vf_min(vf_set1(100.0f), vf_max(vf_set1(-100.0f), x));
    vf cubic = vf_fma(vf_mul(z, z), vf_set1(0.044715f), vf_set1(1.0f));
    return vector_gated(x, vf_mul(vf_mul(z, cubic), vf_set1(1.5957691216057308f)));
}

static void gelu(float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf_store(x + i, vector_gelu(vf_load(x + i)));
    }
    if (i < n) {
        vf_store_n(x + i, n - i, vector_gelu(vf_load_n(x + i, n - i)));
    }
}

/* One vector of an epilogue; `finish` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void finish_vector(enum finish finish,
                                                                const float *sums,
                                                                const float *bias,
                                                                const float *residual, float *out,
                                                                size_t n)
{
    vf v = vf_add(vf_load_n(sums, n), vf_load_n(bias, n));
    if (finish == FINISH_GELU) {
        v = vector_gelu(v);
    } else if (finish == FINISH_GELU_TANH) {
        v = vector_gelu_tanh(v);
    } else if (finish == FINISH_RELU) {
        v = vf_max(vf_set1(0.0f), v);
    } else if (finish == FINISH_SILU) {
        v = vector_gated(v, v);
    } else if (finish == FINISH_ADD) {
        v = vf_add(v, vf_load_n(residual, n));
    }
    vf_store_n(out, n, v);
}

static inline __attribute__((always_inline)) void finish_rows(enum finish finish,
                                                              const struct finish_args *args)
{
    for (size_t r = 0; r < args->rows; r++) {
        const float *sums = args->sums + r * args->sums_ld;
        const float *residual = finish == FINISH_ADD ? args->residual + r * args->residual_ld
                                                     : args->bias;
        float *out = args->out + r * args->out_ld;
        size_t c = 0;
        for (; c + LANES <= args->columns; c += LANES) {
            finish_vector(finish, sums + c, args->bias + c, residual + c, out + c, LANES);
        }
        if (c < args->columns) {
            finish_vector(finish, sums + c, args->bias + c, residual + c, out + c,
                          args->columns - c);
        }
    }
}

static void finish(const struct finish_args *args)
{
    switch (args->finish) {
    case FINISH_BIAS:
        finish_rows(FINISH_BIAS, args);
        break;
    case FINISH_GELU:
        finish_rows(FINISH_GELU, args);
        break;
    case FINISH_GELU_TANH:
        finish_rows(FINISH_GELU_TANH, args);
        break;
    case FINISH_RELU:
        finish_rows(FINISH_RELU, args);
        break;
    case FINISH_SILU:
        finish_rows(FINISH_SILU, args);
        break;
    case FINISH_ADD:
        finish_rows(FINISH_ADD, args);
        break;
    }
}

static void softmax(float *row, size_t n, float scale)
{
    const vf lowest = vf_set1(-INFINITY);
    const vf factor = vf_set1(scale);
    vf largest = lowest;
    size_t whole = n - n % LANES;
    size_t rest = n % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        largest = vf_max(largest, vf_load(row + i));
    }
    if (rest > 0) {
        vf tail = vf_select_n(rest, vf_load_n(row + whole, rest), lowest);
        largest = vf_max(largest, tail);
    }
    const vf minus_top = vf_set1(-vf_largest(largest) * scale);
    vf sum = vf_set1(0.0f);
    for (size_t i = 0; i < whole; i += LANES) {
        vf e = vector_exp(vf_fma(vf_load(row + i), factor, minus_top));
        vf_store(row + i, e);
        sum = vf_add(sum, e);
    }
    if (rest > 0) {
        vf e = vector_exp(vf_fma(vf_load_n(row + whole, rest), factor, minus_top));
        vf_store_n(row + whole, rest, e);
        sum = vf_add(sum, vf_select_n(rest, e, vf_set1(0.0f)));
    }
    const vf inverse = vf_set1(1.0f / vf_sum(sum));
    for (size_t i = 0; i < whole; i += LANES) {
        vf_store(row + i, vf_mul(vf_load(row + i), inverse));
    }
    if (rest > 0) {
        vf_store_n(row + whole, rest, vf_mul(vf_load_n(row + whole, rest), inverse));
    }
}

static float row_mean(const float *x, size_t width)
{
    vf sum = vf_set1(0.0f);
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        sum = vf_add(sum, vf_load(x + i));
    }
    if (i < width) {
        sum = vf_add(sum, vf_load_n(x + i, width - i));
    }
    return vf_sum(sum) / (float)width;
}

static float row_variance(const float *x, size_t width, float mean)
{
    const vf centre = vf_set1(mean);
    vf sum = vf_set1(0.0f);
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        vf d = vf_sub(vf_load(x + i), centre);
        sum = vf_fma(d, d, sum);
    }
    if (i < width) {
        vf d = vf_sub(vf_load_n(x + i, width - i), centre);
        d = vf_select_n(width - i, d, vf_set1(0.0f));
        sum = vf_fma(d, d, sum);
    }
    return vf_sum(sum) / (float)width;
}

static void layernorm(const struct layernorm_args *args)
{
    const float *x = args->x;
    float *out = args->out;
    size_t width = args->width;
    for (size_t r = 0; r < args->rows; r++, x += width, out += width) {
        float mean = row_mean(x, width);
        const vf centre = vf_set1(mean);
        const vf inverse = vf_set1(1.0f / sqrtf(row_variance(x, width, mean) + args->eps));
        for (size_t i = args->from; i < args->to; i += LANES) {
            size_t n = args->to - i < LANES ? args->to - i : LANES;
            vf d = vf_mul(vf_sub(vf_load_n(x + i, n), centre), inverse);
            vf_store_n(out + i, n,
                       vf_fma(d, vf_load_n(args->gamma + i, n), vf_load_n(args->beta + i, n)));
        }
    }
}

#endif
