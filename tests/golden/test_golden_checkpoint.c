/* The same encoder in every naming and dtype: tensors bound alike, digests as an independent
 * program (Python's hashlib and struct over the files) gives them. */
#include <math.h>

#include "model/files/checkpoint.h"
#include "tests/support/testing.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert/"

static const char f32_digest[] = "ce561ced16a83dc73ab32f3381c3304af9977966102858eb51ebf41da4bfe029";

static struct checkpoint *open_variant(const char *file)
{
    struct scratch scratch;
    scratch_make(&scratch);
    char path[512];
    (void)snprintf(path, sizeof path, TINY "%s", file);
    scratch_copy(&scratch, path, "model.safetensors");
    scratch_copy(&scratch, TINY "config.json", "config.json");
    struct checkpoint *checkpoint = NULL;
    struct err err = ERR_INIT;
    if (checkpoint_open(scratch.dir, 2, &checkpoint, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    scratch_remove(&scratch); /* the mapping stays */
    return checkpoint;
}

static float *values_of(const struct checkpoint *checkpoint, size_t index, size_t *ret_count)
{
    struct checkpoint_param param;
    checkpoint_param(&checkpoint->config, checkpoint, index, &param);
    *ret_count = param.tensor->count;
    float *values = calloc(*ret_count, sizeof *values);
    assert_non_null(values);
    tensor_to_f32(param.tensor, 0, *ret_count, values);
    return values;
}

static void test_namings(void **state)
{
    (void)state;
    static const char *const files[] = {"model.safetensors",
                                        "variant-bert-prefix-gamma-beta.safetensors",
                                        "variant-multitask-whole.safetensors"};
    struct checkpoint *plain = open_variant(files[0]);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct checkpoint *variant = open_variant(files[f]);
        assert_string_equal(variant->encoder_sha256, f32_digest);
        for (size_t i = 0; i < checkpoint_param_count(&plain->config); i++) {
            size_t count;
            size_t other;
            float *expected = values_of(plain, i, &count);
            float *found = values_of(variant, i, &other);
            assert_int_equal(count, other);
            assert_memory_equal(expected, found, count * sizeof *found);
            free(expected);
            free(found);
        }
        checkpoint_close(variant);
    }
    checkpoint_close(plain);
}

/* The 16-bit files are PyTorch's rounding of the fp32 one: half a step away at most. */
static void expect_rounded(const char *file, const char *digest, int mantissa_bits, int least)
{
    struct checkpoint *plain = open_variant("model.safetensors");
    struct checkpoint *variant = open_variant(file);
    assert_string_equal(variant->encoder_sha256, digest);
    for (size_t i = 0; i < checkpoint_param_count(&plain->config); i++) {
        size_t count;
        size_t other;
        float *exact = values_of(plain, i, &count);
        float *rounded = values_of(variant, i, &other);
        assert_int_equal(count, other);
        for (size_t k = 0; k < count; k++) {
            int exponent;
            (void)frexpf(exact[k], &exponent);
            exponent = exponent - 1 < least ? least : exponent - 1;
            assert_true(fabsf(exact[k] - rounded[k]) <= ldexpf(0.5f, exponent - mantissa_bits));
        }
        free(exact);
        free(rounded);
    }
    checkpoint_close(variant);
    checkpoint_close(plain);
}

static void test_f16(void **state)
{
    (void)state;
    expect_rounded("variant-f16.safetensors",
                   "4f7507fa3d280b2ed54c2e595b6e07d4c1c823fb948b36126ac582265a79fbe9", 10, -14);
}

static void test_bf16(void **state)
{
    (void)state;
    expect_rounded("variant-bf16.safetensors",
                   "a1c1a9e35e09697ea35792b0723a656ead58e5f43e304d7043a512877a098659", 7, -126);
}

/* Both sources of bert-base-uncased hold the same encoder. */
static void test_real_model(void **state)
{
    (void)state;
    const char *dir = getenv("ORTHRUS_TEST_MODEL");
    if (!dir) {
        print_message("ORTHRUS_TEST_MODEL is not set: no real model to try\n");
        skip();
    }
    struct checkpoint *checkpoint = NULL;
    struct err err = ERR_INIT;
    if (checkpoint_open(dir, 2, &checkpoint, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(checkpoint->encoder_sha256,
                        "f29c6ea7a75eecfa9336bc9089ed22f1c02dddc1b31a3bc979056202fd4c9305");
    checkpoint_close(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_namings),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
