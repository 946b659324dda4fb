/* What freezes, how fast each part learns, and the rate over the steps. */
#include <math.h>

#include "tests/support/tasks.h"
#include "tests/support/testing.h"
#include "train/network/plan.h"
#include "train/optimize/schedule.h"

enum { LAYERS = 12 };

static void near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-12)) {
        fail_msg("%.17g, expected %.17g", found, expected);
    }
}

/* What a name in --freeze may mean. */
static struct tasks two;

static void test_freeze_words(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t lowest; /* see plan_lowest */
        size_t frozen_layers;
        bool embeddings, classifier, sentiment;
    } cases[] = {
        {"all", LAYERS + 1, LAYERS, true, true, true},
        {"backbone", LAYERS + 1, LAYERS, true, false, false},
        {"embeddings", 1, 0, true, false, false},
        {"layers:0-7", 0, 8, false, false, false},
        {"layers:11", 0, 1, false, false, false},
        {"classifier", 0, 0, false, true, false},
        {"sentiment", 0, 0, false, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan plan = {.layer_decay = 1};
        struct err err = ERR_INIT;
        assert_int_equal(plan_freeze(&plan, cases[i].what, LAYERS, &two, &err), ERR_OK);
        size_t frozen = 0;
        for (size_t layer = 0; layer < LAYERS; layer++) {
            frozen += !plan_trains(&plan, PLAN_LAYER, layer);
        }
        assert_int_equal(frozen, cases[i].frozen_layers);
        assert_int_equal(plan_trains(&plan, PLAN_EMBEDDINGS, 0), !cases[i].embeddings);
        assert_int_equal(plan_trains(&plan, PLAN_HEAD, CLASSIFIER), !cases[i].classifier);
        assert_int_equal(plan_trains(&plan, PLAN_HEAD, SENTIMENT), !cases[i].sentiment);
        assert_int_equal(plan_lowest(&plan, LAYERS), cases[i].lowest);
    }
}

static void test_lowest_layer(void **state)
{
    (void)state;
    struct plan plan = {.layer_decay = 1};
    struct err err = ERR_INIT;
    assert_int_equal(plan_freeze(&plan, "embeddings", LAYERS, &two, &err), ERR_OK);
    assert_int_equal(plan_freeze(&plan, "layers:0-7", LAYERS, &two, &err), ERR_OK);
    assert_int_equal(plan_lowest(&plan, LAYERS), 9);
}

static void test_freeze_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "everything",  "layers:",
                                      "layers:3-2", "layers:0-12", "layers:-1",
                                      "layers:1-",  "layers:a-b",  "layers:1-2x",
                                      "Backbone",   "layers: 1-2", "layers:99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct plan plan = {.layer_decay = 1};
        struct err err = ERR_INIT;
        expect_error(&err, plan_freeze(&plan, bad[i], LAYERS, &two, &err), ERR_USAGE,
                     WORDS("--freeze"));
    }
}

static void test_layer_decay(void **state)
{
    (void)state;
    struct plan plan = {.layer_decay = 0.9};
    near(plan_lr_scale(&plan, PLAN_HEAD, 0, LAYERS), 1);
    near(plan_lr_scale(&plan, PLAN_LAYER, 11, LAYERS), 0.9);
    near(plan_lr_scale(&plan, PLAN_LAYER, 0, LAYERS), pow(0.9, 12));
    near(plan_lr_scale(&plan, PLAN_EMBEDDINGS, 0, LAYERS), pow(0.9, 13));
}

static void test_loss_weights(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct arena arena;
    struct tasks tasks;
    arena_init(&arena, 1 << 20);
    struct task_words words = {.loss_weights = "sentiment=0.25"};
    assert_int_equal(tasks_make(&words, NULL, &arena, &tasks, &err), ERR_OK);
    near(tasks.at[0].weight, 1);
    near(tasks.at[1].weight, 0.25);
    words.loss_weights = "classifier=2,sentiment=0";
    assert_int_equal(tasks_make(&words, NULL, &arena, &tasks, &err), ERR_OK);
    near(tasks.at[0].weight, 2);
    near(tasks.at[1].weight, 0);
    static const char *const bad[] = {"classifier",
                                      "classifier=",
                                      "tone=1",
                                      "classifier=-1",
                                      "classifier=nan",
                                      "classifier=1;sentiment=1",
                                      "=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = ERR_INIT;
        words.loss_weights = bad[i];
        expect_error(&err, tasks_make(&words, NULL, &arena, &tasks, &err), ERR_USAGE,
                     WORDS("--loss-weights"));
    }
    arena_done(&arena);
}

static void test_head_words(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct arena arena;
    struct tasks tasks;
    arena_init(&arena, 1 << 20);
    const char *const good[] = {"topic", "tags:sigmoid", "stars:score:dense=8,relu",
                                "tone:dense=64", "mood:dense=4,gelu:softmax"};
    struct task_words words = {.heads = good, .n_heads = 5};
    assert_int_equal(tasks_make(&words, NULL, &arena, &tasks, &err), ERR_OK);
    assert_int_equal(tasks.n, 5);
    assert_int_equal(tasks.at[1].type, HEAD_SIGMOID);
    assert_int_equal(tasks.at[2].type, HEAD_SCORE);
    assert_int_equal(tasks.at[2].inner, 8);
    assert_int_equal(tasks.at[2].activation, HEAD_RELU);
    assert_int_equal(tasks.at[3].activation, HEAD_TANH);
    assert_int_equal(tasks.at[4].activation, HEAD_GELU);
    static const char *const bad[] = {"",
                                      "Topic",
                                      "embed",
                                      "a:tokens",
                                      "a:dense",
                                      "a:dense=0",
                                      "a:dense=9999",
                                      "a:dense=4,sin",
                                      "a:sigmoid:",
                                      "a:score:sigmoid",
                                      "a:dense=4:dense=4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = ERR_INIT;
        words = (struct task_words){.heads = &bad[i], .n_heads = 1};
        expect_error(&err, tasks_make(&words, NULL, &arena, &tasks, &err), ERR_USAGE,
                     WORDS("--head"));
    }
    const char *const twice[] = {"a", "a"};
    words = (struct task_words){.heads = twice, .n_heads = 2};
    err = ERR_INIT;
    expect_error(&err, tasks_make(&words, NULL, &arena, &tasks, &err), ERR_USAGE, WORDS("twice"));
    arena_done(&arena);
}

/* transformers' get_linear_schedule_with_warmup and get_constant_schedule_with_warmup. */
static void test_schedules(void **state)
{
    (void)state;
    struct schedule linear = {SCHEDULE_LINEAR, 4, 20};
    near(schedule_factor(&linear, 0), 0);
    near(schedule_factor(&linear, 3), 0.75);
    near(schedule_factor(&linear, 4), 1);
    near(schedule_factor(&linear, 12), 0.5);
    near(schedule_factor(&linear, 19), 1.0 / 16);
    near(schedule_factor(&linear, 20), 0);
    struct schedule plain = {SCHEDULE_LINEAR, 0, 10};
    near(schedule_factor(&plain, 0), 1);
    near(schedule_factor(&plain, 9), 0.1);
    struct schedule constant = {SCHEDULE_CONSTANT, 2, 10};
    near(schedule_factor(&constant, 1), 0.5);
    near(schedule_factor(&constant, 2), 1);
    near(schedule_factor(&constant, 1000), 1);
    struct schedule only_warmup = {SCHEDULE_LINEAR, 30, 20};
    near(schedule_factor(&only_warmup, 15), 0.5);
    near(schedule_factor(&only_warmup, 30), 0);
}

int main(void)
{
    two = two_tasks(1, 1, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freeze_words),   cmocka_unit_test(test_lowest_layer),
        cmocka_unit_test(test_freeze_refuses), cmocka_unit_test(test_layer_decay),
        cmocka_unit_test(test_loss_weights),   cmocka_unit_test(test_head_words),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
