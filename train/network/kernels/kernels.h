/* The element-wise and row-wise pieces of training, forward beside backward: what is left between
 * the matrix products. Pure functions, one table per instruction set, chosen once at run time.
 *
 * A result depends on its own row or element alone, never on how the rows were shared out. */
#ifndef ORTHRUS_TRAIN_KERNELS_KERNELS_H
#define ORTHRUS_TRAIN_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* One stream of random numbers: the key and three of the four counter words of Philox 4x32-10
 * (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); the fourth counts on. */
struct philox_stream {
    uint32_t key[2];
    uint32_t counter[3];
};

/* What one optimizer step does to every element of a tensor; see train/optimize/optimizer.h. */
struct adam_coefficients {
    float grad_scale; /* the clip factor, 1 for none */
    float l2;         /* Adam's weight decay: l2 · p is added to the gradient */
    float decay;      /* AdamW's: p ← p · decay first; 1 for none */
    float one_minus_beta1, beta2, one_minus_beta2;
    float step_size;           /* lr / (1 - β₁ᵗ) */
    float bias_correction2_rt; /* √(1 - β₂ᵗ) */
    float eps;
};

struct train_kernels {
    /* y = x · Φ(x), Φ by erf. Hendrycks & Gimpel 2016; reference: torch.nn.GELU. */
    void (*gelu)(const float *x, size_t n, float *y);
    /* dy ← dy · (Φ(x) + x · φ(x)) */
    void (*gelu_backward)(const float *x, size_t n, float *dy);

    /* One row of LayerNorm (Ba et al. 2016): y = (x - mean) · rstd · w + b, with mean and rstd
     * kept for the way back. */
    void (*norm)(const float *x, size_t n, float eps, const float *w, const float *b, float *y,
                 float *ret_mean, float *ret_rstd);
    /* One row: dx. dx may be dy. */
    void (*norm_backward)(const float *dy, const float *x, float mean, float rstd, const float *w,
                          size_t n, float *dx);
    /* One row's part of the weights' gradients: dw += dy · (x - mean) · rstd, db += dy. */
    void (*norm_backward_weights)(const float *dy, const float *x, float mean, float rstd, size_t n,
                                  float *dw, float *db);

    /* One row in place: x ← softmax(scale · x). */
    void (*softmax)(float *x, size_t n, float scale);
    /* One row in place: dp ← the gradient of x in softmax(scale · x) = p. */
    void (*softmax_backward)(const float *p, size_t n, float scale, float *dp);

    /* y += x */
    void (*add)(const float *x, size_t n, float *y);
    double (*sum_squares)(const float *x, size_t n);

    /* One row in place: each element is zeroed where its random number is below threshold, else
     * multiplied by scale. The same stream gives the same mask. */
    void (*dropout)(float *x, size_t n, uint32_t threshold, float scale,
                    const struct philox_stream *stream);

    /* One optimizer step on n elements: parameters p, their gradient g, moments m and v. */
    void (*adam)(const struct adam_coefficients *c, const float *g, size_t n, float *p, float *m,
                 float *v);
};

/* The best table this machine can run; process lifetime. Thread-safe. */
const struct train_kernels *train_kernels_get(void);

/* For tests: the table of one level, or NULL where it was not built or this machine can't run it.
 * 0 generic, 1 AVX2, 2 AVX-512. */
const struct train_kernels *train_kernels_level(unsigned level);

extern const struct train_kernels train_kernels_generic;
#if defined(__x86_64__)
extern const struct train_kernels train_kernels_avx2;
extern const struct train_kernels train_kernels_avx512;
#endif

#endif
