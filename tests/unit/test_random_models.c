/* Models of random shapes, odd ones above all: on every instruction set of this machine and at
 * every precision a text has the same bits alone, in any batch and in any team. Six models; a
 * hundred where ORTHRUS_FULL is 1; on arm64, which qemu emulates, six. ORTHRUS_MODELS=FROM-TO tries
 * those instead, TO left out: a slow machine takes a hundred in pieces. */
#include <pthread.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/dispatch.h"
#include "model/encoder/encoder.h"
#include "tests/support/kernels_testing.h"

enum {
    MODELS = 6,
#if defined(__aarch64__)
    MODELS_FULL = MODELS,
#else
    MODELS_FULL = 100,
#endif
    VOCAB = 60,
    LENGTH_MAX = 40,
    TEXTS = 9,
    ROUNDS = 6,
    WIDTH_MAX = 5,
    LAYERS_MAX = 3,
    TENSORS_MAX = 5 + 16 * LAYERS_MAX,
    TOKENS_MAX = TEXTS * LENGTH_MAX,
};

struct model {
    struct checkpoint checkpoint;
    struct layer_tensors layers[LAYERS_MAX];
    struct tensor tensors[TENSORS_MAX];
    float *values[TENSORS_MAX];
    size_t n;
    uint32_t seed;
};

/* from … to */
static size_t pick(uint32_t *seed, size_t from, size_t to)
{
    size_t n = from + (size_t)(fabsf(test_random(seed)) * (float)(to - from + 1));
    return size_min(n, to);
}

/* Around `centre`, a few columns far larger than the others, as trained models have them. */
static const struct tensor *add_tensor(struct model *model, size_t rows, size_t columns,
                                       float centre, float reach)
{
    CHECK(model->n < TENSORS_MAX);
    float *values = test_floats(rows * columns, &model->seed);
    for (size_t i = 0; i < rows * columns; i++) {
        values[i] = centre + reach * values[i] * (i % columns % 37 == 5 ? 6.0f : 1.0f);
    }
    model->values[model->n] = values;
    model->tensors[model->n] = tensor_of_floats(values, rows, columns);
    return &model->tensors[model->n++];
}

static void add_layer(struct model *model, struct layer_tensors *layer)
{
    size_t hidden = model->checkpoint.config.hidden;
    size_t inner = model->checkpoint.config.intermediate;
    const struct tensor **square[] = {&layer->query_w, &layer->key_w, &layer->value_w,
                                      &layer->attention_out_w};
    const struct tensor **biases[] = {&layer->query_b, &layer->key_b, &layer->value_b,
                                      &layer->attention_out_b};
    for (size_t i = 0; i < 4; i++) {
        *square[i] = add_tensor(model, hidden, hidden, 0.0f, 1.5f / sqrtf((float)hidden));
        *biases[i] = add_tensor(model, 1, hidden, 0.0f, 0.1f);
    }
    layer->attention_ln_w = add_tensor(model, 1, hidden, 1.0f, 0.3f);
    layer->attention_ln_b = add_tensor(model, 1, hidden, 0.0f, 0.3f);
    layer->ffn_in_w = add_tensor(model, inner, hidden, 0.0f, 1.5f / sqrtf((float)hidden));
    layer->ffn_in_b = add_tensor(model, 1, inner, 0.0f, 0.1f);
    layer->ffn_out_w = add_tensor(model, hidden, inner, 0.0f, 1.5f / sqrtf((float)inner));
    layer->ffn_out_b = add_tensor(model, 1, hidden, 0.0f, 0.1f);
    layer->ffn_ln_w = add_tensor(model, 1, hidden, 1.0f, 0.3f);
    layer->ffn_ln_b = add_tensor(model, 1, hidden, 0.0f, 0.3f);
}

static void make_model(struct model *model, size_t number)
{
    static const enum activation activations[] = {ACTIVATION_GELU, ACTIVATION_GELU_TANH,
                                                  ACTIVATION_RELU, ACTIVATION_SILU};
    *model = (struct model){.seed = 1000 + (uint32_t)number};
    struct config *config = &model->checkpoint.config;
    config->heads = pick(&model->seed, 1, 7);
    config->hidden = config->heads * pick(&model->seed, 1, 45);
    config->intermediate = pick(&model->seed, 1, 420);
    config->layers = pick(&model->seed, 1, LAYERS_MAX);
    config->vocab = VOCAB;
    config->positions = LENGTH_MAX;
    config->position_rows = LENGTH_MAX;
    config->types = 1 + number % 2;
    config->activation = activations[number % 4];
    config->layer_norm_eps = 1e-12f;
    size_t hidden = config->hidden;
    model->checkpoint.layers = model->layers;
    model->checkpoint.word = add_tensor(model, VOCAB, hidden, 0.0f, 1.0f);
    model->checkpoint.position = add_tensor(model, LENGTH_MAX, hidden, 0.0f, 0.3f);
    model->checkpoint.type = add_tensor(model, config->types, hidden, 0.0f, 0.3f);
    model->checkpoint.embeddings_ln_w = add_tensor(model, 1, hidden, 1.0f, 0.3f);
    model->checkpoint.embeddings_ln_b = add_tensor(model, 1, hidden, 0.0f, 0.3f);
    for (size_t l = 0; l < config->layers; l++) {
        add_layer(model, &model->layers[l]);
    }
}

static void drop_model(struct model *model)
{
    for (size_t i = 0; i < model->n; i++) {
        free(model->values[i]);
    }
}

struct pass {
    struct encoder *encoder;
    struct workspace *workspace;
    struct batch batch;
    struct team team;
    float *out;
};

struct member {
    struct pass *pass;
    unsigned number;
    pthread_t thread;
};

static void *assist(void *argument)
{
    struct member *member = argument;
    struct pass *pass = member->pass;
    struct scratch *scratch = NULL;
    struct err err = ERR_INIT;
    CHECK(scratch_create(pass->encoder, TOKENS_MAX, &scratch, &err) == ERR_OK);
    encoder_assist(pass->encoder, pass->workspace, &pass->batch, POOLING_MEAN, &pass->team,
                   member->number, scratch, &(struct outputs){.pooled = pass->out});
    scratch_destroy(scratch);
    return NULL;
}

static void forward(struct pass *pass, unsigned width, float *out)
{
    struct member members[WIDTH_MAX];
    team_init(&pass->team, width);
    pass->out = out;
    for (unsigned i = 1; i < width; i++) {
        members[i] = (struct member){.pass = pass, .number = i};
        assert_int_equal(pthread_create(&members[i].thread, NULL, assist, &members[i]), 0);
    }
    encoder_forward(pass->encoder, pass->workspace, &pass->batch, POOLING_MEAN, &pass->team,
                    &(struct outputs){.pooled = out});
    for (unsigned i = 1; i < width; i++) {
        assert_int_equal(pthread_join(members[i].thread, NULL), 0);
    }
}

struct texts {
    int32_t ids[TEXTS][LENGTH_MAX];
    size_t lengths[TEXTS];
};

static void make_texts(struct texts *texts, uint32_t seed)
{
    for (size_t i = 0; i < TEXTS; i++) {
        texts->lengths[i] = i < 2 ? i + 1 : pick(&seed, 1, LENGTH_MAX);
        for (size_t t = 0; t < texts->lengths[i]; t++) {
            texts->ids[i][t] = (int32_t)pick(&seed, 0, VOCAB - 1);
        }
    }
}

/* OpenBLAS, the generic set's, adds in an order that the number of rows decides. */
static void expect_same(enum isa isa, const float *a, const float *b, size_t n)
{
    if (isa != ISA_GENERIC) {
        assert_true(same_bits(a, b, n));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(fabsf(a[i] - b[i]) <= 2e-5f);
    }
}

static void compare(struct pass *pass, enum isa isa, const struct texts *texts, size_t hidden,
                    uint32_t seed)
{
    float *alone = test_floats(TEXTS * hidden, &seed);
    float *out = test_floats(TEXTS * hidden, &seed);
    for (size_t i = 0; i < TEXTS; i++) {
        batch_clear(&pass->batch);
        assert_true(batch_add(&pass->batch, texts->ids[i], texts->lengths[i]));
        forward(pass, 1, alone + i * hidden);
        for (size_t c = 0; c < hidden; c++) {
            assert_true(isfinite(alone[i * hidden + c]));
        }
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t n = round == 0 ? 1 : pick(&seed, 1, TEXTS);
        size_t picked[TEXTS];
        batch_clear(&pass->batch);
        for (size_t i = 0; i < n; i++) {
            picked[i] = pick(&seed, 0, TEXTS - 1);
            assert_true(batch_add(&pass->batch, texts->ids[picked[i]], texts->lengths[picked[i]]));
        }
        forward(pass, 1 + (round + 1) % WIDTH_MAX, out);
        for (size_t i = 0; i < n; i++) {
            expect_same(isa, out + i * hidden, alone + picked[i] * hidden, hidden);
        }
    }
    free(out);
    free(alone);
}

/* What decides an encoder's bits are its tables, and sets share some: the first that has them
 * stands for the others. */
static bool is_tried(enum isa isa, enum precision precision, enum precision attention)
{
    for (enum isa before = ISA_GENERIC; before < isa; before++) {
        if (cpu_has(before) && dispatch_kernels(before) == dispatch_kernels(isa) &&
            attention_tile(before, attention) == attention_tile(isa, attention) &&
            dispatch_tile(before, precision) == dispatch_tile(isa, precision)) {
            return true;
        }
    }
    return false;
}

/* False where the set can't multiply the precision. */
static bool try_model(const struct model *model, size_t number, enum isa isa,
                      enum precision precision, enum precision attention)
{
    struct pass pass;
    struct err err = ERR_INIT;
    const struct encoder_options options = {
        .isa = isa, .precision = precision, .attention = attention, .threads = 2};
    enum err_code code = encoder_create(&model->checkpoint, &options, &pass.encoder, &err);
    if (code == ERR_UNSUPPORTED) {
        return false;
    }
    assert_int_equal(code, ERR_OK);
    assert_int_equal(workspace_create(pass.encoder, TEXTS, TOKENS_MAX, &pass.workspace, &err),
                     ERR_OK);
    assert_true(batch_init(&pass.batch, TEXTS, TOKENS_MAX));
    struct texts texts;
    make_texts(&texts, 7 + (uint32_t)number);
    compare(&pass, isa, &texts, model->checkpoint.config.hidden, 11 + (uint32_t)number);
    batch_done(&pass.batch);
    workspace_destroy(pass.workspace);
    encoder_destroy(pass.encoder);
    return true;
}

static size_t try_isa(const struct model *model, size_t number, enum isa isa)
{
    size_t tried = 0;
    for (enum precision p = PRECISION_FP32; cpu_has(isa) && p <= PRECISION_INT8; p++) {
        tried += !is_tried(isa, p, PRECISION_FP32) &&
                 try_model(model, number, isa, p, PRECISION_FP32);
    }
    bool rounds = attention_tile(isa, PRECISION_BF16) != attention_tile(isa, PRECISION_FP32);
    tried += cpu_has(isa) && rounds && !is_tried(isa, PRECISION_INT8, PRECISION_BF16) &&
             try_model(model, number, isa, PRECISION_INT8, PRECISION_BF16);
    return tried;
}

static void numbers_of_models(size_t *ret_from, size_t *ret_to)
{
    const char *full = getenv("ORTHRUS_FULL");
    const char *some = getenv("ORTHRUS_MODELS");
    *ret_from = 0;
    *ret_to = full && strcmp(full, "1") == 0 ? MODELS_FULL : MODELS;
    if (some) {
        char *end;
        *ret_from = strtoul(some, &end, 10);
        CHECK(*end == '-');
        *ret_to = strtoul(end + 1, NULL, 10);
        CHECK(*ret_to > *ret_from);
    }
}

static void test_same_bits_whatever_the_shape(void **state)
{
    (void)state;
    size_t from;
    size_t to;
    numbers_of_models(&from, &to);
    size_t tried = 0;
    for (size_t number = from; number < to; number++) {
        struct model model;
        make_model(&model, number);
        for (enum isa isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
            tried += try_isa(&model, number, isa);
        }
        drop_model(&model);
    }
    print_message("%zu models, %zu encoders\n", to - from, tried);
    assert_true(tried >= to - from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_whatever_the_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
