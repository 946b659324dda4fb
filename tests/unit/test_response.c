/* Response bodies, byte for byte where they are a contract. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/response.h"
#include "base/jval.h"

static struct buf out;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_done(&out);
    return 0;
}

static void assert_body(const char *expected)
{
    assert_false(buf_failed(&out));
    assert_string_equal(out.data, expected);
    struct jval *body = NULL;
    assert_int_equal(jval_parse(out.data, out.size, &body, NULL), ERR_OK);
    jval_free(body);
    buf_clear(&out);
}

static const float vectors[2 * 3] = {0.5f, -0.25f, 1.0f, 0.1f, 3e-7f, 0.0f};

static void test_embed(void **state)
{
    (void)state;
    response_embed(vectors, 2, 3, 3, &out);
    assert_body("[[0.5,-0.25,1.0],[0.1,3e-7,0.0]]");
    response_embed(vectors, 2, 2, 3, &out);
    assert_body("[[0.5,-0.25],[0.1,3e-7]]");
    response_embed(vectors, 1, 1, 3, &out);
    assert_body("[[0.5]]");
}

static void test_not_finite_is_null(void **state)
{
    (void)state;
    const float bad[3] = {NAN, INFINITY, -1.0f};
    response_embed(bad, 1, 3, 3, &out);
    assert_body("[[null,null,-1.0]]");
}

static void test_embed_raw(void **state)
{
    (void)state;
    response_embed_raw(vectors, 2, 2, 3, &out);
    static const unsigned char expected[16] = {0,    0,    0,    0x3f, 0,    0,    0x80, 0xbe,
                                               0xcd, 0xcc, 0xcc, 0x3d, 0xb0, 0x0f, 0xa1, 0x34};
    assert_int_equal(out.size, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
}

static const char *const labels[3] = {"Neutral", "Posi\"tive", "N\xc3\xa9gatif"};

static void test_classify(void **state)
{
    (void)state;
    const float scores[2 * 3] = {0.25f, 0.5f, 0.25f, 0.125f, 0.125f, 0.75f};
    const struct response_head head = {labels, 3, scores};
    response_classify(&head, 1, 0, true, &out);
    assert_body(
        "[{\"label\":\"Posi\\\"tive\",\"score\":0.5},{\"label\":\"Neutral\",\"score\":0.25},"
        "{\"label\":\"N\xc3\xa9gatif\",\"score\":0.25}]");
    response_classify(&head, 2, 1, false, &out);
    assert_body("[[{\"label\":\"Posi\\\"tive\",\"score\":0.5}],"
                "[{\"label\":\"N\xc3\xa9gatif\",\"score\":0.75}]]");
    response_classify(&head, 1, 99, false, &out);
    assert_body("[[{\"label\":\"Posi\\\"tive\",\"score\":0.5},"
                "{\"label\":\"Neutral\",\"score\":0.25},"
                "{\"label\":\"N\xc3\xa9gatif\",\"score\":0.25}]]");
}

static void test_classify_nan_is_last(void **state)
{
    (void)state;
    const float scores[3] = {NAN, -1.0f, 2.0f};
    const struct response_head head = {labels, 3, scores};
    response_classify(&head, 1, 0, true, &out);
    assert_body("[{\"label\":\"N\xc3\xa9gatif\",\"score\":2.0},"
                "{\"label\":\"Posi\\\"tive\",\"score\":-1.0},"
                "{\"label\":\"Neutral\",\"score\":null}]");
}

static void test_analyze(void **state)
{
    (void)state;
    static const char *const two[2] = {"A", "B"};
    const float scores[4] = {0.25f, 0.75f, 0.5f, 0.5f};
    const uint32_t tokens[2] = {4, 128};
    const bool truncated[2] = {false, true};
    struct response_analyze analyze = {
        .encoder = "0123456789ab-fp32",
        .heads = "v1-ba9876543210",
        .precision = "fp32",
        .tokens = tokens,
        .truncated = truncated,
        .embeddings = vectors,
        .hidden = 3,
        .classify = {two, 2, scores},
        .sentiment = {two, 2, scores},
        .total_tokens = 132,
    };
    response_analyze(&analyze, 1, &out);
    assert_body(
        "{\"model\":{\"encoder\":\"0123456789ab-fp32\",\"heads\":\"v1-ba9876543210\","
        "\"precision\":\"fp32\"},\"results\":[{\"tokens\":4,\"truncated\":false,"
        "\"embedding\":[0.5,-0.25,1.0],"
        "\"classify\":{\"label\":\"B\",\"score\":0.75,\"scores\":{\"A\":0.25,\"B\":0.75}},"
        "\"sentiment\":{\"label\":\"B\",\"score\":0.75,\"scores\":{\"A\":0.25,\"B\":0.75}}}],"
        "\"usage\":{\"tokens\":132}}");
    analyze.embeddings = NULL;
    analyze.heads = NULL;
    analyze.classify.classes = 0;
    response_analyze(&analyze, 2, &out);
    assert_body(
        "{\"model\":{\"encoder\":\"0123456789ab-fp32\",\"heads\":null,"
        "\"precision\":\"fp32\"},\"results\":[{\"tokens\":4,\"truncated\":false,"
        "\"sentiment\":{\"label\":\"B\",\"score\":0.75,\"scores\":{\"A\":0.25,\"B\":0.75}}},"
        "{\"tokens\":128,\"truncated\":true,"
        "\"sentiment\":{\"label\":\"A\",\"score\":0.5,\"scores\":{\"A\":0.5,\"B\":0.5}}}],"
        "\"usage\":{\"tokens\":132}}");
}

static void test_openai(void **state)
{
    (void)state;
    response_openai(vectors, 2, 2, 3, false, "a \"model\"", 7, &out);
    assert_body("{\"object\":\"list\",\"data\":["
                "{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-0.25]},"
                "{\"object\":\"embedding\",\"index\":1,\"embedding\":[0.1,3e-7]}],"
                "\"model\":\"a \\\"model\\\"\","
                "\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}");
    /* One, two and three floats: every length of padding. */
    static const char *const base64[3] = {"AAAAPw==", "AAAAPwAAgL4=", "AAAAPwAAgL4AAIA/"};
    for (size_t width = 1; width <= 3; width++) {
        struct buf expected;
        buf_init(&expected, 4096);
        buf_printf(&expected,
                   "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                   "\"embedding\":\"%s\"}],\"model\":\"m\","
                   "\"usage\":{\"prompt_tokens\":2,\"total_tokens\":2}}",
                   base64[width - 1]);
        response_openai(vectors, 1, width, 3, true, "m", 2, &out);
        assert_body(expected.data);
        buf_done(&expected);
    }
}

/* TEI's: the text a token covers, not the vocabulary's word. */
static void test_tokens(void **state)
{
    (void)state;
    const char *text = "H\xc3\xa9llo, W\xc3\xb6rld";
    const struct response_token tokens[] = {
        {101, "[CLS]", true, 0, 0},    {7592, "hello", false, 0, 5}, {1010, ",", false, 5, 6},
        {2088, "world", false, 7, 12}, {102, "[SEP]", true, 0, 0},
    };
    response_tokens(tokens, 5, text, strlen(text), &out);
    assert_body("[{\"id\":101,\"text\":\"[CLS]\",\"special\":true,\"start\":null,\"stop\":null},"
                "{\"id\":7592,\"text\":\"H\xc3\xa9llo\",\"special\":false,\"start\":0,\"stop\":5},"
                "{\"id\":1010,\"text\":\",\",\"special\":false,\"start\":5,\"stop\":6},"
                "{\"id\":2088,\"text\":\"W\xc3\xb6rld\",\"special\":false,\"start\":7,\"stop\":12},"
                "{\"id\":102,\"text\":\"[SEP]\",\"special\":true,\"start\":null,\"stop\":null}]");
    response_tokens(NULL, 0, "", 0, &out);
    assert_body("[]");
}

/* Tokens made of one character share its place. */
static void test_tokens_sharing_a_character(void **state)
{
    (void)state;
    const char *text = "a\xc2\xbd";
    const struct response_token tokens[] = {
        {1, "a", false, 0, 1}, {2, "1", false, 1, 2}, {3, "##2", false, 1, 2}};
    response_tokens(tokens, 3, text, strlen(text), &out);
    assert_body("[{\"id\":1,\"text\":\"a\",\"special\":false,\"start\":0,\"stop\":1},"
                "{\"id\":2,\"text\":\"\xc2\xbd\",\"special\":false,\"start\":1,\"stop\":2},"
                "{\"id\":3,\"text\":\"\xc2\xbd\",\"special\":false,\"start\":1,\"stop\":2}]");
}

/* Offsets from anywhere never lead outside the text. */
static void test_tokens_outside_the_text(void **state)
{
    (void)state;
    const struct response_token tokens[] = {
        {1, "a", false, 3, 9}, {2, "b", false, 2, 1}, {3, "c", false, 0, UINT32_MAX}};
    response_tokens(tokens, 3, "abc", 3, &out);
    assert_body("[{\"id\":1,\"text\":\"\",\"special\":false,\"start\":3,\"stop\":9},"
                "{\"id\":2,\"text\":\"\",\"special\":false,\"start\":2,\"stop\":1},"
                "{\"id\":3,\"text\":\"abc\",\"special\":false,\"start\":0,\"stop\":4294967295}]");
}

/* Every ceiling either fails or gives the whole body. */
static void test_ceilings(void **state)
{
    (void)state;
    const float scores[3] = {0.25f, 0.5f, 0.25f};
    const struct response_head head = {labels, 3, scores};
    response_openai(vectors, 2, 3, 3, true, "m", 7, &out);
    size_t whole = out.size;
    for (size_t ceiling = 0; ceiling < whole + 100; ceiling++) {
        struct buf small;
        buf_init(&small, ceiling);
        response_embed(vectors, 2, 3, 3, &small);
        assert_true(buf_failed(&small) ||
                    strcmp(small.data, "[[0.5,-0.25,1.0],[0.1,3e-7,0.0]]") == 0);
        buf_clear(&small);
        response_classify(&head, 1, 0, false, &small);
        assert_true(small.size <= ceiling);
        buf_clear(&small);
        response_openai(vectors, 2, 3, 3, true, "m", 7, &small);
        assert_true(small.size <= ceiling);
        assert_int_equal(buf_failed(&small), ceiling < whole);
        buf_done(&small);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_embed),
        TEST(test_not_finite_is_null),
        TEST(test_embed_raw),
        TEST(test_classify),
        TEST(test_classify_nan_is_last),
        TEST(test_analyze),
        TEST(test_openai),
        TEST(test_tokens),
        TEST(test_tokens_sharing_a_character),
        TEST(test_tokens_outside_the_text),
        TEST(test_ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
