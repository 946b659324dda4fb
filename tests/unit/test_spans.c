/* Spans: items by every strategy, groups by their tags, words and offsets; hidden states that are
 * the logits themselves (an identity for a head) say what each token is. */
#include "model/heads/spans.h"

#include <math.h>

#include "tests/support/testing.h"

enum { K = 5, TOKENS_MAX = 32 };
enum { O, B_PER, I_PER, B_LOC, PLAIN };

static char label_texts[K][8] = {"O", "B-PER", "I-PER", "B-LOC", "LOC"};
static char *labels[K] = {label_texts[0], label_texts[1], label_texts[2], label_texts[3],
                          label_texts[4]};
static float identity[K * K];
static const float zeros[K];
static const struct head head = {.name = "tags",
                                 .type = HEAD_TOKENS,
                                 .input = HEAD_INPUT_TOKENS,
                                 .width = K,
                                 .classes = K,
                                 .weight = identity,
                                 .bias = zeros,
                                 .labels = labels,
                                 .temperature = 1};

static struct tokenizer *tokenizer;
static struct tokens tokens;
static float hidden[TOKENS_MAX * K];

static int open_tokenizer(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tokenizer_options options = tokenizer_options_default();
    for (size_t k = 0; k < K; k++) {
        identity[k * K + k] = 1;
    }
    return tokenizer_open(ORTHRUS_TEST_DATA "/golden/tiny-bert", &options, &tokenizer, &err) ==
                   ERR_OK
               ? 0
               : -1;
}

static int close_tokenizer(void **state)
{
    (void)state;
    tokens_done(&tokens);
    tokenizer_destroy(tokenizer);
    return 0;
}

/* The text's tokens, each with a logit of its own for one label: says[t] for the t-th real one. */
static struct spans_text say(const char *text, const int *says, const float *sure, size_t n)
{
    const struct encode_options options = {
        .max_length = TOKENS_MAX, .add_special_tokens = true, .offsets = true};
    struct err err = ERR_INIT;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &tokens, &err),
                     ERR_OK);
    assert_int_equal(tokens.n, n + 2);
    memset(hidden, 0, sizeof hidden);
    hidden[PLAIN] = 9; /* the template's tokens say something, and nobody hears it */
    hidden[(n + 1) * K + PLAIN] = 9;
    for (size_t t = 0; t < n; t++) {
        hidden[(t + 1) * K + (size_t)says[t]] = sure ? sure[t] : 3;
    }
    return (struct spans_text){.tokenizer = tokenizer,
                               .text = text,
                               .size = strlen(text),
                               .ids = tokens.ids,
                               .starts = tokens.starts,
                               .stops = tokens.stops,
                               .parts = tokens.parts,
                               .n = tokens.n};
}

struct expected {
    const char *label;
    uint32_t start, end;
    const char *word;
};

static void expect_spans(const struct spans_text *text, enum spans_strategy strategy,
                         const struct expected *expected, size_t n)
{
    struct span_item items[TOKENS_MAX];
    struct span spans[TOKENS_MAX];
    size_t n_items = spans_items(&head, text, hidden, strategy, false, items);
    assert_true(n_items <= text->n);
    size_t count = spans_group(&head, text, items, n_items, strategy, spans);
    for (size_t i = 0; i < count && i < n; i++) {
        struct buf word;
        buf_init(&word, 256);
        assert_true(span_word(text, items, &spans[i], strategy, &word));
        assert_true(buf_append_char(&word, '\0'));
        assert_string_equal(span_label(&head, &items[spans[i].first], strategy), expected[i].label);
        assert_int_equal(spans[i].start, expected[i].start);
        assert_int_equal(spans[i].end, expected[i].end);
        assert_string_equal(word.data, expected[i].word);
        assert_true(spans[i].score > 0 && spans[i].score <= 1);
        buf_done(&word);
    }
    assert_int_equal(count, n);
}

static void test_tags_make_groups(void **state)
{
    (void)state;
    static const int says[] = {B_PER, I_PER, B_PER, O, PLAIN, B_LOC};
    const struct spans_text text = say("the end of it was not", says, NULL, 6);
    static const struct expected simple[] = {{"PER", 0, 7, "the end"},
                                             {"PER", 8, 10, "of"},
                                             {"O", 11, 13, "it"},
                                             {"LOC", 14, 17, "was"},
                                             {"LOC", 18, 21, "not"}};
    expect_spans(&text, SPANS_SIMPLE, simple, 5);
    static const struct expected none[] = {{"B-PER", 0, 3, "the"}, {"I-PER", 4, 7, "end"},
                                           {"B-PER", 8, 10, "of"}, {"O", 11, 13, "it"},
                                           {"LOC", 14, 17, "was"}, {"B-LOC", 18, 21, "not"}};
    expect_spans(&text, SPANS_NONE, none, 6);
}

/* "anonymous ##ly": a word of two tokens, where each strategy lets another one decide. */
static void test_words(void **state)
{
    (void)state;
    static const int says[] = {B_PER, B_LOC, O};
    static const float sure[] = {2, 5, 3};
    const struct spans_text text = say("anonymously it", says, sure, 3);
    static const struct expected first[] = {{"PER", 0, 11, "anonymously"}, {"O", 12, 14, "it"}};
    static const struct expected other[] = {{"LOC", 0, 11, "anonymously"}, {"O", 12, 14, "it"}};
    static const struct expected simple[] = {
        {"PER", 0, 9, "anonymous"}, {"LOC", 9, 11, "##ly"}, {"O", 12, 14, "it"}};
    expect_spans(&text, SPANS_FIRST, first, 2);
    expect_spans(&text, SPANS_MAX, other, 2);
    expect_spans(&text, SPANS_AVERAGE, other, 2);
    /* Token by token, "##ly" is a group of its own. */
    expect_spans(&text, SPANS_SIMPLE, simple, 3);
}

/* Offsets are code points of the text, whatever its bytes and its normalization. */
static void test_offsets_are_code_points(void **state)
{
    (void)state;
    static const int says[] = {B_PER, B_LOC, O};
    const struct spans_text text = say("\xc3\x89 \xe6\x9d\xb1 it", says, NULL, 3);
    struct span_item items[TOKENS_MAX];
    struct span spans[TOKENS_MAX];
    size_t n = spans_items(&head, &text, hidden, SPANS_SIMPLE, false, items);
    assert_int_equal(spans_group(&head, &text, items, n, SPANS_SIMPLE, spans), 3);
    assert_true(spans[0].start == 0 && spans[0].end == 1);
    assert_true(spans[1].start == 2 && spans[1].end == 3);
    assert_true(spans[2].start == 4 && spans[2].end == 6);
    /* What the vocabulary does not have is told by the text itself. */
    struct buf word;
    buf_init(&word, 64);
    assert_true(span_word(&text, items, &spans[1], SPANS_SIMPLE, &word));
    assert_true(word.size == 3 && memcmp(word.data, "\xe6\x9d\xb1", 3) == 0);
    buf_done(&word);
}

static void test_scores(void **state)
{
    (void)state;
    static const int says[] = {B_PER, I_PER, O};
    static const float sure[] = {1, 4, 2};
    const struct spans_text text = say("the end it", says, sure, 3);
    struct span_item items[TOKENS_MAX];
    struct span spans[TOKENS_MAX];
    size_t n = spans_items(&head, &text, hidden, SPANS_SIMPLE, false, items);
    double one = exp(1) / (exp(1) + 4);
    double two = exp(4) / (exp(4) + 4);
    assert_true(fabs((double)items[0].score - one) < 1e-6);
    assert_int_equal(spans_group(&head, &text, items, n, SPANS_SIMPLE, spans), 2);
    assert_true(fabs((double)spans[0].score - (one + two) / 2) < 1e-6);
    /* Raw ones are the logits. */
    n = spans_items(&head, &text, hidden, SPANS_SIMPLE, true, items);
    assert_true(n == 3 && items[1].score == 4);
}

static void test_nothing_and_nonsense(void **state)
{
    (void)state;
    struct spans_text text = say("", NULL, NULL, 0);
    struct span_item items[TOKENS_MAX];
    struct span spans[TOKENS_MAX];
    assert_int_equal(spans_items(&head, &text, hidden, SPANS_MAX, false, items), 0);
    assert_int_equal(spans_group(&head, &text, items, 0, SPANS_MAX, spans), 0);
    static const int says[] = {O, O};
    text = say("the end", says, NULL, 2);
    hidden[2 * K + 1] = NAN;
    for (unsigned strategy = SPANS_NONE; strategy <= SPANS_MAX; strategy++) {
        assert_true(spans_items(&head, &text, hidden, (enum spans_strategy)strategy, false,
                                items) == SIZE_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags_make_groups),        cmocka_unit_test(test_words),
        cmocka_unit_test(test_offsets_are_code_points), cmocka_unit_test(test_scores),
        cmocka_unit_test(test_nothing_and_nonsense),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
