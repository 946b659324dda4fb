#include "model/encoder/attention.h"
#include "model/encoder/pages.h"
#include "tests/support/kernels_testing.h"

static const size_t lengths[] = {1, 2, 5, 6, 7, 13, 14, 15, 16, 17, 31, 32, 33, 64, 130};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };

struct shape {
    size_t heads;
    size_t width;
};
static const struct shape shapes[] = {{1, 1}, {3, 5}, {4, 8}, {2, 32}, {2, 64}, {1, 33}};

static void fill_batch(struct batch *batch, size_t first, size_t n)
{
    int32_t ids[256] = {0};
    assert_true(batch_init(batch, N_LENGTHS, 1024));
    for (size_t i = first; i < first + n; i++) {
        assert_true(batch_add(batch, ids, lengths[i]));
    }
}

static void run(enum isa isa, enum precision precision, const float *qkv, const struct batch *batch,
                struct shape shape, unsigned width, float *out)
{
    const struct tile_kernel *tile = attention_tile(isa, precision);
    size_t bytes = attention_scratch_bytes(tile, 130, shape.width);
    void *scratch = pages_alloc(bytes);
    assert_non_null(scratch);
    const struct attention_call call = {.ops = dispatch_kernels(isa),
                                        .tile = tile,
                                        .qkv = qkv,
                                        .batch = batch,
                                        .heads = shape.heads,
                                        .head_width = shape.width,
                                        .out = out};
    struct team team;
    team_init(&team, width);
    for (unsigned member = 0; member < width; member++) {
        attention_run(&call, &team, member, scratch);
    }
    pages_free(scratch, bytes);
}

/* Token t of a text whose rows start at qkv. */
static void check_token(const float *qkv, size_t n, size_t t, struct shape shape, const float *out,
                        double tolerance)
{
    size_t hidden = shape.heads * shape.width;
    double weights[256];
    for (size_t head = 0; head < shape.heads; head++) {
        const float *base = qkv + head * shape.width;
        double sum = 0.0;
        for (size_t s = 0; s < n; s++) {
            double dot = 0.0;
            for (size_t d = 0; d < shape.width; d++) {
                dot += (double)base[t * 3 * hidden + d] * (double)base[s * 3 * hidden + hidden + d];
            }
            weights[s] = exp(dot / sqrt((double)shape.width));
            sum += weights[s];
        }
        for (size_t d = 0; d < shape.width; d++) {
            double expected = 0.0;
            for (size_t s = 0; s < n; s++) {
                expected += weights[s] / sum * (double)base[s * 3 * hidden + 2 * hidden + d];
            }
            assert_true(fabs((double)out[head * shape.width + d] - expected) <= tolerance);
        }
    }
}

/* bf16: four roundings of 2^-9 each, of numbers below 1, the scores' multiplied by √D. */
static void try_shape(enum isa isa, enum precision precision, struct shape shape)
{
    double tolerance = precision == PRECISION_BF16 ? 0.02 : 3e-6;
    size_t hidden = shape.heads * shape.width;
    uint32_t seed = 21;
    struct batch batch;
    fill_batch(&batch, 0, N_LENGTHS);
    float *qkv = test_floats(batch.total * 3 * hidden, &seed);
    float *out = test_floats(batch.total * hidden, &seed);
    run(isa, precision, qkv, &batch, shape, 1, out);
    for (size_t i = 0; i < batch.n; i++) {
        size_t start = batch.starts[i];
        for (size_t t = 0; t < lengths[i]; t++) {
            check_token(qkv + start * 3 * hidden, lengths[i], t, shape, out + (start + t) * hidden,
                        tolerance);
        }
    }
    float *other = test_floats(batch.total * hidden, &seed);
    for (unsigned width = 2; width <= 3; width++) {
        run(isa, precision, qkv, &batch, shape, width, other);
        assert_true(same_bits(other, out, batch.total * hidden));
    }
    for (size_t i = 0; i < batch.n; i++) {
        struct batch alone;
        fill_batch(&alone, i, 1);
        run(isa, precision, qkv + batch.starts[i] * 3 * hidden, &alone, shape, 1, other);
        assert_true(same_bits(other, out + batch.starts[i] * hidden, alone.total * hidden));
        batch_done(&alone);
    }
    free(other);
    free(out);
    free(qkv);
    batch_done(&batch);
}

static void try_isa(enum isa isa)
{
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        try_shape(isa, PRECISION_FP32, shapes[s]);
        if (attention_tile(isa, PRECISION_BF16) != attention_tile(isa, PRECISION_FP32)) {
            try_shape(isa, PRECISION_BF16, shapes[s]);
        }
    }
}

static void test_against_double_alone_and_in_batches(void **state)
{
    (void)state;
    for_each_isa(try_isa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double_alone_and_in_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
