/* The one source of every table in kernels.h: each kernel_<set>.c includes it after naming its
 * TABLE and WIDTH, and is compiled with that set's flags. Loops without a carried sum are left to
 * the compiler's vectorizer; sums go through vectors of WIDTH lanes. */
#include <math.h>

#include "train/network/kernels/kernels.h"

typedef float lanes_f __attribute__((vector_size(4 * WIDTH)));

static inline lanes_f lanes_load(const float *x)
{
    lanes_f v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline float lanes_sum(const lanes_f *v)
{
    float part[WIDTH];
    memcpy(part, v, sizeof part);
    for (size_t half = WIDTH / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            part[i] += part[i + half];
        }
    }
    return part[0];
}

/* exp(x) for x ≤ 88, 0 below -87.3: 2^k · 2^f with f in [-1/2, 1/2], 2^f by a minimax polynomial
 * (relative error 2e-9 before rounding). */
static inline float fast_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds to an integer */
    float t = x < -87.3f ? -87.3f : x;
    t = t > 88.0f ? 88.0f : t;
    float k = t * 1.44269504f + magic;
    uint32_t bits;
    memcpy(&bits, &k, sizeof bits);
    k -= magic;
    /* ln 2 in two pieces: the first times k is exact. */
    float r = t - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    float f = r * 1.44269504f;
    float p = 1.5345804e-4f;
    p = p * f + 1.3399931e-3f;
    p = p * f + 9.6184891e-3f;
    p = p * f + 5.5503286e-2f;
    p = p * f + 2.4022646e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    uint32_t power = (bits << 23) + 0x3f800000u;
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return x < -87.3f ? 0.0f : p * scale;
}

/* erf(x), absolute error below 1.2e-7: x · P(x²) up to 1, 1 - exp(-Q(|x|)) above, both fitted by
 * minimax; 1 from 4 on. Both sides are computed, so that the loop around stays a vector. */
static inline float fast_erf(float x)
{
    float s = x * x;
    float p = 7.8891164e-5f;
    p = p * s - 8.0208405e-4f;
    p = p * s + 5.1895352e-3f;
    p = p * s - 2.6854444e-2f;
    p = p * s + 1.1283600e-1f;
    p = p * s - 3.7612626e-1f;
    p = p * s + 1.1283791f;
    float small = p * x;

    float t = fabsf(x);
    t = t > 4.0f ? 4.0f : t;
    float q = -1.5998206e-6f;
    q = q * t + 4.5298122e-5f;
    q = q * t - 5.9020345e-4f;
    q = q * t + 4.7276895e-3f;
    q = q * t - 2.6327526e-2f;
    q = q * t + 1.0990974e-1f;
    q = q * t + 6.3201344e-1f;
    q = q * t + 1.1301197f;
    q = q * t - 2.9102681e-4f;
    float large = copysignf(1.0f - fast_exp(-q), x);
    return t > 1.0f ? large : small;
}

static void gelu(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = 0.5f * x[i] * (1.0f + fast_erf(x[i] * 0.70710678f));
    }
}

static void gelu_backward(const float *x, size_t n, float *dy)
{
    for (size_t i = 0; i < n; i++) {
        float cdf = 0.5f * (1.0f + fast_erf(x[i] * 0.70710678f));
        float pdf = 0.39894228f * fast_exp(-0.5f * x[i] * x[i]);
        dy[i] *= cdf + x[i] * pdf;
    }
}

static float row_sum(const float *x, size_t n)
{
    lanes_f sum = {0};
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        sum += lanes_load(x + i);
    }
    float rest = 0;
    for (; i < n; i++) {
        rest += x[i];
    }
    return lanes_sum(&sum) + rest;
}

static void norm(const float *x, size_t n, float eps, const float *w, const float *b, float *y,
                 float *ret_mean, float *ret_rstd)
{
    float mean = row_sum(x, n) / (float)n;
    lanes_f sum = {0};
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        lanes_f d = lanes_load(x + i) - mean;
        sum += d * d;
    }
    float rest = 0;
    for (; i < n; i++) {
        rest += (x[i] - mean) * (x[i] - mean);
    }
    float rstd = 1.0f / sqrtf((lanes_sum(&sum) + rest) / (float)n + eps);
    for (size_t j = 0; j < n; j++) {
        y[j] = (x[j] - mean) * rstd * w[j] + b[j];
    }
    *ret_mean = mean;
    *ret_rstd = rstd;
}

static void norm_backward(const float *dy, const float *x, float mean, float rstd, const float *w,
                          size_t n, float *dx)
{
    lanes_f sum = {0};   /* of the gradient of the normalized row */
    lanes_f along = {0}; /* of that times the normalized row */
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        lanes_f d = lanes_load(dy + i) * lanes_load(w + i);
        sum += d;
        along += d * ((lanes_load(x + i) - mean) * rstd);
    }
    float rest = 0;
    float rest_along = 0;
    for (; i < n; i++) {
        rest += dy[i] * w[i];
        rest_along += dy[i] * w[i] * ((x[i] - mean) * rstd);
    }
    float mean_d = (lanes_sum(&sum) + rest) / (float)n;
    float mean_along = (lanes_sum(&along) + rest_along) / (float)n;
    for (size_t j = 0; j < n; j++) {
        float hat = (x[j] - mean) * rstd;
        dx[j] = (dy[j] * w[j] - mean_d - hat * mean_along) * rstd;
    }
}

static void norm_backward_weights(const float *dy, const float *x, float mean, float rstd, size_t n,
                                  float *dw, float *db)
{
    for (size_t i = 0; i < n; i++) {
        dw[i] += dy[i] * ((x[i] - mean) * rstd);
        db[i] += dy[i];
    }
}

static void softmax(float *x, size_t n, float scale)
{
    float max = x[0];
    for (size_t i = 1; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = fast_exp((x[i] - max) * scale);
    }
    float inverse = 1.0f / row_sum(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] *= inverse;
    }
}

static void softmax_backward(const float *p, size_t n, float scale, float *dp)
{
    lanes_f sum = {0};
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        sum += lanes_load(p + i) * lanes_load(dp + i);
    }
    float rest = 0;
    for (; i < n; i++) {
        rest += p[i] * dp[i];
    }
    float dot = lanes_sum(&sum) + rest;
    for (size_t j = 0; j < n; j++) {
        dp[j] = p[j] * (dp[j] - dot) * scale;
    }
}

static void add(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

static double sum_squares(const float *x, size_t n)
{
    /* Short runs in fp32, their sums in double: fast, and exact enough for any tensor. */
    enum { RUN = 16 * WIDTH };
    double total = 0;
    size_t i = 0;
    for (; i + RUN <= n; i += RUN) {
        lanes_f sum = {0};
        for (size_t j = 0; j < RUN; j += WIDTH) {
            lanes_f v = lanes_load(x + i + j);
            sum += v * v;
        }
        total += (double)lanes_sum(&sum);
    }
    for (; i < n; i++) {
        total += (double)x[i] * (double)x[i];
    }
    return total;
}

enum { PHILOX_BLOCKS = 16, PHILOX_GROUP = 4 * PHILOX_BLOCKS };

/* PHILOX_BLOCKS blocks at once: word w of block first + i is out[w][i]. */
static void philox_group(const struct philox_stream *stream, uint32_t first,
                         uint32_t out[4][PHILOX_BLOCKS])
{
    for (size_t i = 0; i < PHILOX_BLOCKS; i++) {
        out[0][i] = first + (uint32_t)i;
        out[1][i] = stream->counter[0];
        out[2][i] = stream->counter[1];
        out[3][i] = stream->counter[2];
    }
    uint32_t key0 = stream->key[0];
    uint32_t key1 = stream->key[1];
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < PHILOX_BLOCKS; i++) {
            uint64_t a = (uint64_t)0xD2511F53u * out[0][i];
            uint64_t b = (uint64_t)0xCD9E8D57u * out[2][i];
            out[0][i] = (uint32_t)(b >> 32) ^ out[1][i] ^ key0;
            out[1][i] = (uint32_t)b;
            out[2][i] = (uint32_t)(a >> 32) ^ out[3][i] ^ key1;
            out[3][i] = (uint32_t)a;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

static void dropout(float *x, size_t n, uint32_t threshold, float scale,
                    const struct philox_stream *stream)
{
    uint32_t random[4][PHILOX_BLOCKS];
    for (size_t from = 0; from < n; from += PHILOX_GROUP) {
        philox_group(stream, (uint32_t)(from / 4), random);
        for (size_t w = 0; w < 4; w++) {
            size_t at = from + w * PHILOX_BLOCKS;
            size_t here = at >= n ? 0 : n - at < PHILOX_BLOCKS ? n - at : PHILOX_BLOCKS;
            for (size_t i = 0; i < here; i++) {
                x[at + i] = random[w][i] < threshold ? 0.0f : x[at + i] * scale;
            }
        }
    }
}

static void adam(const struct adam_coefficients *c, const float *g, size_t n, float *p, float *m,
                 float *v)
{
    const struct adam_coefficients k = *c;
    for (size_t i = 0; i < n; i++) {
        float parameter = p[i] * k.decay;
        float grad = g[i] * k.grad_scale + k.l2 * parameter;
        m[i] += (grad - m[i]) * k.one_minus_beta1;
        v[i] = v[i] * k.beta2 + k.one_minus_beta2 * (grad * grad);
        float denominator = sqrtf(v[i]) / k.bias_correction2_rt + k.eps;
        p[i] = parameter - k.step_size * (m[i] / denominator);
    }
}

const struct train_kernels TABLE = {
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .norm = norm,
    .norm_backward = norm_backward,
    .norm_backward_weights = norm_backward_weights,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .add = add,
    .sum_squares = sum_squares,
    .dropout = dropout,
    .adam = adam,
};
