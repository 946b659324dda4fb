/* Lines of labelled text: what is read, what is refused and how that is said; label sets; scores
 * out of a confusion matrix. */
#include <math.h>

#include "base/buf.h"
#include "base/jval.h"
#include "tests/support/tasks.h"
#include "tests/support/testing.h"
#include "train/data/dataset.h"
#include "train/measure/loss.h"
#include "train/measure/metrics.h"

#define TINY ORTHRUS_TEST_DATA "/golden/tiny-bert"

struct fixture {
    struct tokenizer *tokenizer;
    struct arena arena;
    struct tasks tasks;
    struct rows_columns columns;
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

/* words NULL: the default heads. */
static enum err_code load_file(struct fixture *fixture, const char *path,
                               const struct task_words *words, struct dataset *ret_data,
                               struct err *err)
{
    static const struct task_words none;
    enum err_code code = tasks_make(words ? words : &none, NULL, &fixture->arena, &fixture->tasks,
                                    err);
    if (code != ERR_OK) {
        return code;
    }
    fixture->columns = (struct rows_columns){.text = "text", .n = fixture->tasks.n};
    for (size_t i = 0; i < fixture->tasks.n; i++) {
        fixture->columns.labels[i] = fixture->tasks.at[i].name;
    }
    const struct dataset_options options = {.path = path,
                                            .columns = &fixture->columns,
                                            .tokenizer = fixture->tokenizer,
                                            .max_length = 16};
    return dataset_load(&options, &fixture->tasks, &fixture->arena, ret_data, err);
}

static enum err_code load(struct fixture *fixture, const char *text, struct dataset *ret_data,
                          struct err *err)
{
    scratch_text(&fixture->scratch, "data.jsonl", text);
    return load_file(fixture, scratch_path(&fixture->scratch, "data.jsonl"), NULL, ret_data, err);
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
    assert_int_equal(data.labels[CLASSIFIER][0], 3);
    assert_int_equal(data.labels[SENTIMENT][0], 2);
    assert_int_equal(data.labels[CLASSIFIER][1], LABEL_NONE);
    assert_int_equal(data.labels[SENTIMENT][1], LABEL_NONE);
    assert_int_equal(data.labels[SENTIMENT][2], 1);
    assert_int_equal(data.labelled[CLASSIFIER], 1);
    assert_int_equal(data.labelled[SENTIMENT], 2);
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
        {"{\"text\": \"a\", \"sentiment\": \"Neutral\"}\n"
         "{\"text\": \"a\", \"sentiment\": \"Happy\"}",
         {"data.jsonl:2:", "sentiment", "Neutral, Positive, Negative"}},
        {"{\"text\": \"a\", \"sentiment\": \"Happy\"}", {"data.jsonl", "sentiment", "one label"}},
        {"{\"text\": \"a\", \"sentiment\": 3}", {"data.jsonl:1:", "0 to 2"}},
        {"{\"text\": \"a\", \"classifier\": -1}", {"data.jsonl:1:", "classifier"}},
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
    expect_error(&err, load_file(fixture, "/nowhere/x.jsonl", NULL, &data, &err), ERR_NOT_FOUND,
                 WORDS("/nowhere/x.jsonl"));
}

static void test_own_labels(void **state)
{
    struct fixture *fixture = *state;
    struct tasks tasks;
    struct err err = ERR_INIT;
    const char *const flag[] = {"classifier=Ham,Spam"};
    struct task_words words = {.labels = flag, .n_labels = 1};
    assert_int_equal(tasks_make(&words, NULL, &fixture->arena, &tasks, &err), ERR_OK);
    assert_int_equal(tasks.at[CLASSIFIER].labels.n, 2);
    assert_string_equal(tasks.at[CLASSIFIER].labels.at[1], "Spam");
    assert_int_equal(tasks.at[SENTIMENT].labels.n, 3);
    static const char *const bad[] = {"classifier=Ham", "classifier=Ham,Ham", "classifier=,",
                                      "tone=a,b", "classifier"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = ERR_INIT;
        words.labels = &bad[i];
        assert_int_not_equal(tasks_make(&words, NULL, &fixture->arena, &tasks, &err), ERR_OK);
        assert_non_null(strstr(err.text, "--labels"));
    }
}

/* One file of one kind of head: its labels as they were inferred, joined by commas. */
static void expect_labels(struct fixture *fixture, const char *head, const char *file,
                          const char *text, const char *labels)
{
    struct dataset data;
    struct err err = ERR_INIT;
    struct task_words words = {.heads = &head, .n_heads = 1};
    char joined[256];
    scratch_text(&fixture->scratch, file, text);
    if (load_file(fixture, scratch_path(&fixture->scratch, file), &words, &data, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    label_set_text(&fixture->tasks.at[0].labels, joined, sizeof joined);
    assert_string_equal(joined, labels);
    dataset_done(&data);
}

static void test_infers_labels(void **state)
{
    struct fixture *fixture = *state;
    expect_labels(
        fixture, "topic", "a.jsonl",
        "{\"text\": \"x\", \"topic\": \"sport\"}\n{\"text\": \"y\", \"topic\": \"art\"}\n",
        "art, sport");
    expect_labels(fixture, "topic", "a.jsonl",
                  "{\"text\": \"x\", \"topic\": 2}\n{\"text\": \"y\", \"topic\": 0}\n", "0, 1, 2");
    expect_labels(fixture, "topic", "a.csv", "topic,text\n10,\"a, \"\"b\"\"\nc\"\n9,d\n,e\n",
                  "9, 10");
    expect_labels(fixture, "tags:sigmoid", "a.tsv", "text\ttags\na\tx|y\nb\tz\nc\t\n", "x, y, z");
    expect_labels(fixture, "tags:sigmoid", "a.jsonl",
                  "{\"text\": \"x\", \"tags\": [\"b\", \"a\"]}\n{\"text\": \"y\", \"tags\": []}\n",
                  "a, b");
    expect_labels(fixture, "stars:score", "a.csv", "text,stars\na,0.5\nb,1\n", "stars");
    assert_false(fixture->tasks.at[0].identity);
    expect_labels(fixture, "stars:score", "a.csv", "text,stars\na,-3\n", "stars");
    assert_true(fixture->tasks.at[0].identity);
}

static void test_ambiguous_integers(void **state)
{
    struct fixture *fixture = *state;
    const char *const heads[] = {"stars"};
    const char *const labels[] = {"stars=1,2,3,4,5"};
    struct task_words words = {.heads = heads, .n_heads = 1, .labels = labels, .n_labels = 1};
    struct dataset data;
    struct err err = ERR_INIT;
    scratch_text(&fixture->scratch, "i.jsonl", "{\"text\": \"x\", \"stars\": 3}\n");
    const char *path = scratch_path(&fixture->scratch, "i.jsonl");
    expect_error(&err, load_file(fixture, path, &words, &data, &err), ERR_INVALID,
                 WORDS("i.jsonl:1:", "stars", "whole number"));
    scratch_text(&fixture->scratch, "i.jsonl", "{\"text\": \"x\", \"stars\": \"3\"}\n");
    err = ERR_INIT;
    assert_int_equal(load_file(fixture, path, &words, &data, &err), ERR_OK);
    assert_int_equal(data.labels[0][0], 2);
    dataset_done(&data);
    words.n_labels = 0;
    scratch_text(&fixture->scratch, "i.jsonl",
                 "{\"text\": \"x\", \"stars\": 1}\n{\"text\": \"x\", \"stars\": 5}\n");
    expect_error(&err, load_file(fixture, path, &words, &data, &err), ERR_INVALID,
                 WORDS("i.jsonl:2:", "stars", "--labels"));
}

static void test_csv_refuses(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *text;
        const char *const words[4];
    } cases[] = {
        {"", {"c.csv", "text"}},
        {"a,b\n1,2\n", {"c.csv:1:", "\"text\""}},
        {"text,b\n1\n", {"c.csv:2:", "1 columns", "2"}},
        {"text\n\"open\n", {"c.csv:2:", "quote"}},
        {"text,weight\na,-1\n", {"c.csv:2:", "weight"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct err err = ERR_INIT;
        scratch_text(&fixture->scratch, "c.csv", cases[i].text);
        expect_error(
            &err, load_file(fixture, scratch_path(&fixture->scratch, "c.csv"), NULL, &data, &err),
            ERR_INVALID, cases[i].words);
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
    (void)state;
    static const int32_t labels[] = {0, 0, 0, 1, 1, 2, LABEL_NONE};
    static const int32_t predicted[] = {0, 0, 1, 1, 0, 0, 2};
    char names_text[3][16] = {"Neutral", "Positive", "Negative"};
    char *names[] = {names_text[0], names_text[1], names_text[2]};
    const struct label_set sentiment = {3, names};
    struct tally tally;
    struct err err = ERR_INIT;
    assert_int_equal(tally_init(&tally, HEAD_SOFTMAX, 3, &err), ERR_OK);
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
    assert_true(tally_append_json(&tally, &sentiment, &json));
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
        cmocka_unit_test(test_infers_labels),
        cmocka_unit_test(test_ambiguous_integers),
        cmocka_unit_test(test_csv_refuses),
        cmocka_unit_test(test_scores),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
