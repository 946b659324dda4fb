/* Lines of labelled text: what is read, what is refused and how that is said; label sets; scores
 * out of a confusion matrix. */
#include <math.h>

#include "base/buf.h"
#include "base/jval.h"
#include "tests/support/testing.h"
#include "train/dataset.h"
#include "train/loss.h"
#include "train/metrics.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

struct fixture {
    struct tokenizer *tokenizer;
    struct arena arena;
    struct label_set sets[HEAD_COUNT];
    struct scratch scratch;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct tokenizer_options options = tokenizer_options_default();
    struct err err = ERR_INIT;
    jval_global_init();
    assert_int_equal(tokenizer_create(TINY "/vocab.txt", &options, &fixture.tokenizer, &err),
                     ERR_OK);
    arena_init(&fixture.arena, 1 << 20);
    assert_int_equal(label_sets_make(NULL, 0, NULL, &fixture.arena, fixture.sets, &err), ERR_OK);
    scratch_make(&fixture.scratch);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    tokenizer_destroy(fixture->tokenizer);
    arena_done(&fixture->arena);
    scratch_remove(&fixture->scratch);
    return 0;
}

static enum err_code load(struct fixture *fixture, const char *text, struct dataset *ret_data,
                          struct err *err)
{
    scratch_text(&fixture->scratch, "data.jsonl", text);
    return dataset_load(scratch_path(&fixture->scratch, "data.jsonl"), fixture->tokenizer, 16,
                        fixture->sets, ret_data, err);
}

static void test_reads(void **state)
{
    struct fixture *fixture = *state;
    struct dataset data;
    struct err err = ERR_INIT;
    const char *text = "{\"text\": \"one\", \"classifier\": \"Riddle\", \"sentiment\": 2}\n"
                       "\n"
                       "  {\"text\": \"\", \"classifier\": null, \"id\": [7]}\r\n"
                       "{\"sentiment\": \"Positive\", \"text\": \"three\\u0000four\"}";
    assert_int_equal(load(fixture, text, &data, &err), ERR_OK);
    assert_int_equal(data.n, 3);
    assert_int_equal(data.labels[HEAD_CLASSIFIER][0], 3);
    assert_int_equal(data.labels[HEAD_SENTIMENT][0], 2);
    assert_int_equal(data.labels[HEAD_CLASSIFIER][1], LABEL_NONE);
    assert_int_equal(data.labels[HEAD_SENTIMENT][1], LABEL_NONE);
    assert_int_equal(data.labels[HEAD_SENTIMENT][2], 1);
    assert_int_equal(data.labelled[HEAD_CLASSIFIER], 1);
    assert_int_equal(data.labelled[HEAD_SENTIMENT], 2);
    assert_int_equal(dataset_length(&data, 1), 2); /* [CLS][SEP] */
    size_t tokens;
    assert_int_equal(dataset_batch_tokens(&data, 2, &tokens, &err), ERR_OK);
    assert_int_equal(tokens, dataset_length(&data, 0) + dataset_length(&data, 2));
    dataset_done(&data);
}

static void test_refuses(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *text;
        const char *const words[4];
    } cases[] = {
        {"", {"data.jsonl", "no example"}},
        {"\n\n", {"no example"}},
        {"{\"text\": \"a\"}\n[1]", {"data.jsonl:2:", "object"}},
        {"{\"text\": \"a\"}\n\n{\"text\"", {"data.jsonl:3:", "JSON"}},
        {"{\"text\": 3}", {"data.jsonl:1:", "\"text\"", "string"}},
        {"{\"classifier\": 1}", {"data.jsonl:1:", "\"text\""}},
        {"{\"text\": \"a\", \"text\": \"b\"}", {"data.jsonl:1:"}},
        {"{\"text\": \"\xff\"}", {"data.jsonl:1:"}},
        {"{\"text\": \"a\", \"sentiment\": \"Happy\"}",
         {"data.jsonl:1:", "sentiment", "Neutral, Positive, Negative"}},
        {"{\"text\": \"a\", \"sentiment\": 3}", {"data.jsonl:1:", "0 to 2"}},
        {"{\"text\": \"a\", \"classifier\": -1}", {"data.jsonl:1:", "0 to 5"}},
        {"{\"text\": \"a\", \"classifier\": 1.5}", {"data.jsonl:1:", "classifier"}},
        {"{\"text\": \"a\", \"classifier\": 4294967296}", {"data.jsonl:1:", "classifier"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct err err = ERR_INIT;
        expect_error(&err, load(fixture, cases[i].text, &data, &err), ERR_INVALID, cases[i].words);
    }
    struct dataset data;
    struct err err = ERR_INIT;
    expect_error(
        &err, dataset_load("/nowhere/x.jsonl", fixture->tokenizer, 16, fixture->sets, &data, &err),
        ERR_NOT_FOUND, WORDS("/nowhere/x.jsonl"));
}

static void test_own_labels(void **state)
{
    struct fixture *fixture = *state;
    struct label_set sets[HEAD_COUNT];
    struct err err = ERR_INIT;
    const char *const words[] = {"classifier=Ham,Spam"};
    assert_int_equal(label_sets_make(words, 1, NULL, &fixture->arena, sets, &err), ERR_OK);
    assert_int_equal(sets[HEAD_CLASSIFIER].n, 2);
    assert_string_equal(sets[HEAD_CLASSIFIER].at[1], "Spam");
    assert_int_equal(sets[HEAD_SENTIMENT].n, 3);
    static const char *const bad[] = {"classifier=Ham", "classifier=Ham,Ham", "classifier=,",
                                      "tone=a,b", "classifier"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = ERR_INIT;
        assert_int_not_equal(label_sets_make(&bad[i], 1, NULL, &fixture->arena, sets, &err),
                             ERR_OK);
        assert_non_null(strstr(err.text, "--labels"));
    }
}

static void near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-9)) {
        fail_msg("%.17g, expected %.17g", found, expected);
    }
}

/* Numbers from scikit-learn's classification_report. */
static void test_scores(void **state)
{
    struct fixture *fixture = *state;
    static const int32_t labels[] = {0, 0, 0, 1, 1, 2, LABEL_NONE};
    static const int32_t predicted[] = {0, 0, 1, 1, 0, 0, 2};
    struct tally tally;
    struct err err = ERR_INIT;
    assert_int_equal(tally_init(&tally, 3, &err), ERR_OK);
    tally_add(&tally, labels, predicted, 7, 3.0);
    struct tally_score score = tally_score(&tally);
    assert_int_equal(score.labelled, 6);
    near(score.loss, 0.5);
    near(score.accuracy, 0.5);
    near(score.macro_f1, (4.0 / 7 + 0.5 + 0) / 3);
    struct tally_class first = tally_class(&tally, 0);
    near(first.precision, 0.5);
    near(first.recall, 2.0 / 3);
    near(first.f1, 4.0 / 7);
    assert_int_equal(first.support, 3);
    near(tally_class(&tally, 2).f1, 0);

    struct buf json;
    struct jval *value;
    buf_init(&json, 1 << 16);
    assert_true(tally_append_json(&tally, &fixture->sets[HEAD_SENTIMENT], &json));
    assert_int_equal(jval_parse(json.data, json.size, &value, &err), ERR_OK);
    assert_int_equal(jval_array_size(jval_get(value, "confusion")), 3);
    jval_free(value);
    buf_done(&json);

    tally_clear(&tally);
    score = tally_score(&tally);
    near(score.macro_f1, 0);
    /* A class that occurs neither as label nor as prediction doesn't count in the mean. */
    tally_add(&tally, labels, labels, 5, 0);
    near(tally_score(&tally).macro_f1, 1);
    tally_done(&tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_own_labels),
        cmocka_unit_test(test_scores),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
