/* Whole optimizer steps on the tiny model against torch.optim's formulas in double: norm and
 * clipping, both kinds of weight decay, each part's own learning rate, rows without gradient. */
#include <math.h>

#include "tests/support/tasks.h"
#include "tests/support/testing.h"
#include "train/optimize/learner.h"

enum { STEPS = 3, TEXTS = 2, TOKENS = 5 };

static const double lr = 1e-3;
static const double head_lr = 4e-3;

/* One parameter tensor in double. */
struct shadow {
    double *p, *m, *v;
};

struct fixture {
    struct checkpoint *checkpoint;
    struct learner *learner;
    struct shadow *shadows;
    struct batch batch;
};

static void open_learner(struct fixture *fixture, const struct optimizer_options *optimizer)
{
    struct err err = ERR_INIT;
    const struct plan plan = {.layer_decay = 0.8};
    struct tasks tasks = two_tasks(1, 1, NULL);
    struct learner_options options = {
        .plan = &plan,
        .optimizer = *optimizer,
        .max_texts = TEXTS,
        .max_tokens = TEXTS * TOKENS,
        .longest = TOKENS,
        .threads = 2,
    };
    assert_int_equal(
        checkpoint_open(ORTHRUS_TEST_DATA "/golden/tiny-bert", 1, &fixture->checkpoint, &err),
        ERR_OK);
    assert_int_equal(learner_create(&fixture->checkpoint->config, fixture->checkpoint, &tasks,
                                    &options, &fixture->learner, &err),
                     ERR_OK);
    assert_true(batch_init(&fixture->batch, TEXTS, TEXTS * TOKENS));
    struct params *params = learner_params(fixture->learner);
    params_init_heads(params, 5);
    fixture->shadows = calloc(params->n, sizeof *fixture->shadows);
    assert_non_null(fixture->shadows);
    for (size_t i = 0; i < params->n; i++) {
        struct shadow *shadow = &fixture->shadows[i];
        shadow->p = calloc(params->at[i].count, sizeof(double));
        shadow->m = calloc(params->at[i].count, sizeof(double));
        shadow->v = calloc(params->at[i].count, sizeof(double));
        assert_true(shadow->p && shadow->m && shadow->v);
        for (size_t j = 0; j < params->at[i].count; j++) {
            shadow->p[j] = (double)params->at[i].value[j];
        }
    }
}

static void close_learner(struct fixture *fixture)
{
    struct params *params = learner_params(fixture->learner);
    for (size_t i = 0; i < params->n; i++) {
        free(fixture->shadows[i].p);
        free(fixture->shadows[i].m);
        free(fixture->shadows[i].v);
    }
    free(fixture->shadows);
    batch_done(&fixture->batch);
    learner_destroy(fixture->learner);
    checkpoint_close(fixture->checkpoint);
}

/* The embeddings' exponent is L + 1 = 3, layer 1's is 1. */
static double rate_of(const struct param *param)
{
    return param->head                       ? head_lr
           : param->group == PLAN_EMBEDDINGS ? lr * 0.8 * 0.8 * 0.8
           : param->layer == 0               ? lr * 0.8 * 0.8
                                             : lr * 0.8;
}

/* torch.nn.utils.clip_grad_norm_ and one step of torch.optim.Adam or AdamW. */
static void reference_step(struct fixture *fixture, const struct optimizer_options *options, int t,
                           double *ret_norm)
{
    const struct params *params = learner_params(fixture->learner);
    double squares = 0;
    for (size_t i = 0; i < params->n; i++) {
        for (size_t j = 0; j < params->at[i].count; j++) {
            squares += (double)params->at[i].grad[j] * (double)params->at[i].grad[j];
        }
    }
    double clip = options->clip_norm > 0 ? options->clip_norm / (sqrt(squares) + 1e-6) : 1;
    clip = fmin(clip, 1);
    for (size_t i = 0; i < params->n; i++) {
        const struct shadow *s = &fixture->shadows[i];
        double rate = rate_of(&params->at[i]);
        for (size_t j = 0; j < params->at[i].count; j++) {
            double g = (double)params->at[i].grad[j] * clip;
            if (options->kind == OPTIMIZER_ADAMW) {
                s->p[j] *= 1 - rate * options->weight_decay;
            } else {
                g += options->weight_decay * s->p[j];
            }
            s->m[j] = 0.9 * s->m[j] + 0.1 * g;
            s->v[j] = 0.999 * s->v[j] + 0.001 * g * g;
            s->p[j] -= rate / (1 - pow(0.9, t)) * s->m[j] /
                       (sqrt(s->v[j]) / sqrt(1 - pow(0.999, t)) + 1e-8);
        }
    }
    *ret_norm = sqrt(squares);
}

/* Adam's first steps have the gradient's sign alone, so a gradient that is rounding only (a key's
 * bias) may go either way: such elements may differ by whole steps. */
static void compare(const struct fixture *fixture)
{
    const struct params *params = learner_params(fixture->learner);
    for (size_t i = 0; i < params->n; i++) {
        for (size_t j = 0; j < params->at[i].count; j++) {
            double found = (double)params->at[i].value[j];
            double expected = fixture->shadows[i].p[j];
            bool noise = sqrt(fixture->shadows[i].v[j]) < 1e-8;
            double tolerance = noise ? 2 * STEPS * head_lr : 2e-6;
            if (!(fabs(found - expected) <= tolerance)) {
                fail_msg("%s[%zu]: %.9g, expected %.9g", params->at[i].name, j, found, expected);
            }
        }
    }
}

static void check(struct optimizer_options options)
{
    static const int32_t texts[STEPS][TEXTS][TOKENS] = {
        {{2, 50, 51, 52, 3}, {2, 60, 61, 62, 3}},
        {{2, 70, 71, 72, 3}, {2, 50, 50, 51, 3}},
        {{2, 80, 81, 82, 3}, {2, 90, 91, 92, 3}},
    };
    static const int32_t classifier[TEXTS] = {1, 5};
    static const int32_t sentiment[TEXTS] = {2, LABEL_NONE};
    struct fixture fixture;
    open_learner(&fixture, &options);
    for (int t = 1; t <= STEPS; t++) {
        struct losses losses;
        struct lesson lesson = {
            .n = TEXTS, .batch = &fixture.batch, .labels = {.labels = {classifier, sentiment}}};
        double expected;
        batch_clear(&fixture.batch);
        for (size_t i = 0; i < TEXTS; i++) {
            assert_true(batch_add(&fixture.batch, texts[t - 1][i], TOKENS));
        }
        learner_gradients(fixture.learner, &lesson, &losses);
        reference_step(&fixture, &options, t, &expected);
        double norm = learner_update(fixture.learner, lr, head_lr);
        assert_true(fabs(norm - expected) <= 1e-6 * expected);
        compare(&fixture);
    }
    close_learner(&fixture);
}

static void test_adam(void **state)
{
    (void)state;
    check((struct optimizer_options){OPTIMIZER_ADAM, 0, 0});
}

static void test_adam_clipped(void **state)
{
    (void)state;
    check((struct optimizer_options){OPTIMIZER_ADAM, 0, 0.25});
}

static void test_adam_l2(void **state)
{
    (void)state;
    check((struct optimizer_options){OPTIMIZER_ADAM, 0.1, 0});
}

static void test_adamw(void **state)
{
    (void)state;
    check((struct optimizer_options){OPTIMIZER_ADAMW, 0.1, 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_adam_clipped),
        cmocka_unit_test(test_adam_l2),
        cmocka_unit_test(test_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
