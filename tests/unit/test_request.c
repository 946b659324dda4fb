/* Request bodies: what each route accepts, what it refuses and how it says so. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "api/request.h"
#include "base/buf.h"

static const struct api_limits limits = {
    .client_batch = 4, .hidden = 768, .max_length = 8, .vocab = 30522};

static struct arena arena;
static struct api_request request;
static struct problem problem;

static bool parse_bytes(enum api_kind kind, const char *body, size_t size)
{
    /* A copy of the exact size, so that ASan sees a read behind it. */
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, body, size);
    arena_done(&arena);
    arena_init(&arena, 1 << 20);
    problem = (struct problem){0};
    bool good = request_parse(kind, copy, size, &limits, &arena, &request, &problem);
    free(copy);
    assert_int_equal(good, problem.kind == PROBLEM_NONE);
    return good;
}

static bool parse(enum api_kind kind, const char *body)
{
    return parse_bytes(kind, body, strlen(body));
}

static void assert_good(enum api_kind kind, const char *body)
{
    if (!parse(kind, body)) {
        fail_msg("%s: %s (%s)", body, problem.text, problem.param);
    }
}

static void assert_problem(enum api_kind kind, const char *body, enum problem_kind expected,
                           const char *param)
{
    if (parse(kind, body)) {
        fail_msg("%s was accepted", body);
    }
    if (problem.kind != expected || strcmp(problem.param, param) != 0) {
        fail_msg("%s: %s, param \"%s\": %s", body, problem_row(problem.kind)->code, problem.param,
                 problem.text);
    }
    assert_true(problem.text[0] != '\0');
}

static void assert_text(size_t i, const char *expected)
{
    assert_true(i < request.n);
    assert_null(request.inputs[i].ids);
    assert_int_equal(request.inputs[i].size, strlen(expected));
    assert_memory_equal(request.inputs[i].text, expected, strlen(expected));
}

static void test_one_text(void **state)
{
    (void)state;
    for (int kind = API_EMBED; kind <= API_TOKENIZE; kind++) {
        assert_good((enum api_kind)kind,
                    kind == API_OPENAI ? "{\"input\":\"Hello\"}" : "{\"inputs\":\"Hello\"}");
        assert_int_equal(request.kind, kind);
        assert_int_equal(request.n, 1);
        assert_text(0, "Hello");
        assert_true(request.single && request.truncate && request.normalize);
        assert_true(request.special_tokens && !request.raw_scores && !request.truncate_left);
        assert_int_equal(request.tasks, 7);
        assert_int_equal(request.dimensions, 0);
        assert_int_equal(request.top_k, 0);
        assert_false(request.base64);
    }
}

static void test_many_texts(void **state)
{
    (void)state;
    assert_good(API_EMBED, "{\"inputs\":[\"a\",\"\",\"\\u0000\\ud83d\\ude00\"]}");
    assert_int_equal(request.n, 3);
    assert_false(request.single);
    assert_text(0, "a");
    assert_text(1, "");
    assert_int_equal(request.inputs[2].size, 5);
    assert_memory_equal(request.inputs[2].text, "\0\xf0\x9f\x98\x80", 5);
    assert_good(API_EMBED, "{\"inputs\":[\"a\",\"b\",\"c\",\"d\"]}");
    assert_problem(API_EMBED, "{\"inputs\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", PROBLEM_TOO_MANY,
                   "inputs");
    assert_problem(API_EMBED, "{\"inputs\":[]}", PROBLEM_EMPTY_INPUTS, "inputs");
}

static void test_fields_of_embed(void **state)
{
    (void)state;
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"normalize\":false,\"truncate\":false,"
                           "\"truncation_direction\":\"Left\",\"dimensions\":768,"
                           "\"prompt_name\":null,\"encoding_format\":\"float\"}");
    assert_false(request.normalize || request.truncate);
    assert_true(request.truncate_left);
    assert_int_equal(request.dimensions, 768);
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"truncation_direction\":\"right\"}");
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"truncation_direction\":\"Right\"}");
    assert_false(request.truncate_left);
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"truncation_direction\":\"left\"}");
    assert_true(request.truncate_left);
}

/* huggingface_hub 0.26 and 0.27 send the fields of feature_extraction one level down. */
static void test_embed_parameters(void **state)
{
    (void)state;
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"parameters\":{\"normalize\":false,"
                           "\"truncate\":false,\"truncation_direction\":\"Left\","
                           "\"prompt_name\":null,\"dimensions\":3}}");
    assert_false(request.normalize || request.truncate);
    assert_true(request.truncate_left);
    assert_int_equal(request.dimensions, 3);
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"parameters\":{\"top_k\":3}}",
                   PROBLEM_FIELD_UNKNOWN, "parameters.top_k");
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"parameters\":{\"normalize\":1}}",
                   PROBLEM_FIELD_TYPE, "parameters.normalize");
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"parameters\":[]}", PROBLEM_FIELD_TYPE,
                   "parameters");
    assert_problem(API_EMBED, "{\"parameters\":{\"inputs\":\"a\"}}", PROBLEM_FIELD_UNKNOWN,
                   "parameters.inputs");
}

static void test_null_is_absent(void **state)
{
    (void)state;
    assert_good(API_EMBED, "{\"inputs\":\"a\",\"normalize\":null,\"truncate\":null,"
                           "\"truncation_direction\":null,\"dimensions\":null,"
                           "\"prompt_name\":null,\"encoding_format\":null,\"parameters\":null}");
    assert_true(request.normalize && request.truncate && request.single);
    assert_good(API_CLASSIFY, "{\"inputs\":\"a\",\"raw_scores\":null,\"top_k\":null,"
                              "\"parameters\":null}");
    assert_true(request.single);
    assert_good(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":null,\"raw_scores\":null}");
    assert_int_equal(request.tasks, 7);
    assert_good(API_TOKENIZE,
                "{\"inputs\":\"a\",\"add_special_tokens\":null,\"prompt_name\":null}");
    assert_good(API_OPENAI, "{\"input\":\"a\",\"model\":null,\"user\":null,\"dimensions\":null,"
                            "\"encoding_format\":null}");
    assert_problem(API_EMBED, "{\"inputs\":null}", PROBLEM_FIELD_MISSING, "inputs");
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"nonsense\":null}", PROBLEM_FIELD_UNKNOWN,
                   "nonsense");
}

static void test_wrong_fields(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum problem_kind kind;
        const char *param;
    } cases[] = {
        {"{}", PROBLEM_FIELD_MISSING, "inputs"},
        {"{\"inputs\":1}", PROBLEM_FIELD_TYPE, "inputs"},
        {"{\"inputs\":{}}", PROBLEM_FIELD_TYPE, "inputs"},
        {"{\"inputs\":[\"a\",\"b\",\"c\",7]}", PROBLEM_FIELD_TYPE, "inputs[3]"},
        {"{\"inputs\":[null]}", PROBLEM_FIELD_TYPE, "inputs[0]"},
        {"{\"inputs\":[[\"a\"]]}", PROBLEM_FIELD_TYPE, "inputs[0]"},
        {"{\"inputs\":[true,2]}", PROBLEM_FIELD_TYPE, "inputs[0]"},
        {"{\"inputs\":\"a\",\"normalize\":\"yes\"}", PROBLEM_FIELD_TYPE, "normalize"},
        {"{\"inputs\":\"a\",\"truncate\":0}", PROBLEM_FIELD_TYPE, "truncate"},
        {"{\"inputs\":\"a\",\"truncation_direction\":\"up\"}", PROBLEM_FIELD_VALUE,
         "truncation_direction"},
        {"{\"inputs\":\"a\",\"truncation_direction\":\"left\\u0000\"}", PROBLEM_FIELD_VALUE,
         "truncation_direction"},
        {"{\"inputs\":\"a\",\"truncation_direction\":1}", PROBLEM_FIELD_TYPE,
         "truncation_direction"},
        {"{\"inputs\":\"a\",\"dimensions\":0}", PROBLEM_FIELD_RANGE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":769}", PROBLEM_FIELD_RANGE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":-1}", PROBLEM_FIELD_RANGE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":5.5}", PROBLEM_FIELD_TYPE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":\"5\"}", PROBLEM_FIELD_TYPE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":true}", PROBLEM_FIELD_TYPE, "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":99999999999999999999}", PROBLEM_FIELD_RANGE,
         "dimensions"},
        {"{\"inputs\":\"a\",\"dimensions\":1e999}", PROBLEM_FIELD_RANGE, ""},
        {"{\"inputs\":\"a\",\"prompt_name\":1}", PROBLEM_FIELD_TYPE, "prompt_name"},
        {"{\"inputs\":\"a\",\"encoding_format\":\"base64\"}", PROBLEM_FIELD_VALUE,
         "encoding_format"},
        {"{\"inputs\":\"a\",\"top_k\":3}", PROBLEM_FIELD_UNKNOWN, "top_k"},
        {"{\"inputs\":\"a\",\"Normalize\":true}", PROBLEM_FIELD_UNKNOWN, "Normalize"},
        {"{\"inputs\":\"a\",\"\":true}", PROBLEM_FIELD_UNKNOWN, ""},
        {"[\"a\"]", PROBLEM_FIELD_TYPE, ""},
        {"\"a\"", PROBLEM_FIELD_TYPE, ""},
        {"null", PROBLEM_FIELD_TYPE, ""},
        {"7", PROBLEM_FIELD_TYPE, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_problem(API_EMBED, cases[i].body, cases[i].kind, cases[i].param);
    }
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const bodies[] = {" ",
                                         "{",
                                         "{\"inputs\":\"a\"",
                                         "inputs",
                                         "{'a':1}",
                                         "{\"inputs\":\"a\"} {}",
                                         "[1,]",
                                         "{\"a\":NaN}",
                                         "{\"inputs\":\"\\ud800\"}",
                                         "\"a\nb\"",
                                         "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        assert_problem(API_EMBED, bodies[i], PROBLEM_NOT_JSON, "");
    }
    assert_false(parse_bytes(API_EMBED, "", 0));
    assert_int_equal(problem.kind, PROBLEM_EMPTY_BODY);
    assert_false(parse_bytes(API_EMBED, "{\"inputs\":\"\xff\"}", 14));
    assert_int_equal(problem.kind, PROBLEM_NOT_UTF8);
    assert_false(parse_bytes(API_EMBED, "{\"inputs\":\"a\"}\0", 15));
    assert_int_equal(problem.kind, PROBLEM_NOT_JSON);
}

static void test_depth(void **state)
{
    (void)state;
    assert_problem(API_EMBED, "{\"inputs\":[[[[[[[1]]]]]]]}", PROBLEM_FIELD_TYPE, "inputs[0]");
    assert_problem(API_EMBED, "{\"inputs\":[[[[[[[[1]]]]]]]]}", PROBLEM_TOO_DEEP, "");
    assert_good(API_EMBED, "{\"inputs\":\"[[[[[[[[[[[[{{{{\"}");
}

static void test_duplicates(void **state)
{
    (void)state;
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"inputs\":\"b\"}", PROBLEM_FIELD_DUPLICATE,
                   "inputs");
    assert_problem(API_EMBED, "{\"truncation_direction\" : \"left\", \"truncation_direction\"\n:1}",
                   PROBLEM_FIELD_DUPLICATE, "truncation_direction");
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"\\u0069nputs\":\"b\"}", PROBLEM_FIELD_DUPLICATE,
                   "inputs");
    assert_problem(API_OPENAI, "{\"a\\\"b\":1,\"a\\\"b\":2}", PROBLEM_FIELD_DUPLICATE, "a\"b");
    assert_problem(API_OPENAI, "{\"input\":\"a\",\"x\":{\"\\u001b[2J\":1,\"\\u001b[2J\":2}}",
                   PROBLEM_FIELD_DUPLICATE, "");
    assert_problem(API_OPENAI, "{\"a\\\\\":1,\"a\\\\\":2}", PROBLEM_FIELD_DUPLICATE, "a\\");
    assert_problem(API_OPENAI, "{\"\":1,\"\":2}", PROBLEM_FIELD_DUPLICATE, "");
}

/* Values never come back; names only where they can do no harm. */
static void test_nothing_is_echoed(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"inputs\":\"a\",\"SECRET\\n\":1}",
        "{\"inputs\":\"a\",\"SECRET\\u00e9\":1}",
        "{\"inputs\":\"a\",\"SECRET\\u007f\":1}",
        "{\"inputs\":\"a\",\"SECRET\\u0000\":1}",
        "{\"inputs\":\"a\",\"SECRET7890123456789012345678901234567890123456789012345678901234\":1,"
        "\"SECRET78901234567890123456789012345678901234567890123456789012345\":1}",
        "{\"inputs\":\"a\",\"truncation_direction\":\"SECRET\"}",
        "{\"inputs\":\"a\",\"encoding_format\":\"SECRET\"}",
        "{\"inputs\":\"a\",\"prompt_name\":[\"SECRET\"]}",
        "{\"inputs\":{\"SECRET\":1}}",
        "{\"inputs\":\"a\" SECRET}",
        "SECRET",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        assert_false(parse(API_EMBED, bodies[i]));
        if (i != 4) {
            assert_null(strstr(problem.text, "SECRET"));
        }
    }
    /* 64 characters are named, 65 are not. */
    struct buf body;
    buf_init(&body, 1000);
    for (size_t size = 63; size <= 66; size++) {
        buf_clear(&body);
        buf_printf(&body, "{\"inputs\":\"a\",\"%0*d\":1}", (int)size, 7);
        assert_false(parse(API_EMBED, body.data));
        assert_int_equal(problem.kind, PROBLEM_FIELD_UNKNOWN);
        assert_int_equal(strlen(problem.param), size <= 64 ? size : 0);
    }
    buf_done(&body);
}

static void test_classify(void **state)
{
    (void)state;
    assert_good(API_SENTIMENT, "{\"inputs\":[\"a\",\"b\"],\"raw_scores\":true,\"top_k\":2,"
                               "\"truncate\":false,\"truncation_direction\":\"left\"}");
    assert_int_equal(request.n, 2);
    assert_true(request.raw_scores && request.truncate_left && !request.truncate);
    assert_int_equal(request.top_k, 2);
    assert_problem(API_CLASSIFY, "{\"inputs\":\"a\",\"top_k\":0}", PROBLEM_FIELD_RANGE, "top_k");
    assert_good(API_CLASSIFY, "{\"inputs\":\"a\",\"top_k\":2147483647}");
    assert_problem(API_CLASSIFY, "{\"inputs\":\"a\",\"top_k\":2147483648}", PROBLEM_FIELD_RANGE,
                   "top_k");
    assert_problem(API_CLASSIFY, "{\"inputs\":\"a\",\"normalize\":true}", PROBLEM_FIELD_UNKNOWN,
                   "normalize");
}

/* InferenceClient.text_classification takes the first of what it gets. */
static void test_hugging_face_parameters(void **state)
{
    (void)state;
    static const enum api_kind kinds[] = {API_CLASSIFY, API_SENTIMENT, API_PREDICT};
    for (size_t i = 0; i < 3; i++) {
        assert_good(kinds[i], "{\"parameters\":{},\"inputs\":\"a\"}");
        assert_false(request.single);
        assert_good(kinds[i], "{\"inputs\":\"a\",\"parameters\":{\"top_k\":1,"
                              "\"function_to_apply\":\"none\"}}");
        assert_false(request.single);
        assert_true(request.raw_scores);
        assert_int_equal(request.top_k, 1);
        assert_good(kinds[i], "{\"inputs\":\"a\",\"raw_scores\":true,"
                              "\"parameters\":{\"function_to_apply\":\"softmax\",\"top_k\":null}}");
        assert_false(request.raw_scores);
        assert_good(kinds[i],
                    "{\"inputs\":\"a\",\"parameters\":{\"function_to_apply\":\"sigmoid\"}}");
        assert_int_equal(request.function, API_FUNCTION_SIGMOID);
        assert_problem(kinds[i],
                       "{\"inputs\":\"a\",\"parameters\":{\"function_to_apply\":\"tanh\"}}",
                       PROBLEM_FIELD_VALUE, "parameters.function_to_apply");
        assert_problem(kinds[i], "{\"inputs\":\"a\",\"parameters\":{\"x\":1}}",
                       PROBLEM_FIELD_UNKNOWN, "parameters.x");
        assert_problem(kinds[i], "{\"inputs\":\"a\",\"function_to_apply\":\"none\"}",
                       PROBLEM_FIELD_UNKNOWN, "function_to_apply");
    }
}

static void test_predict(void **state)
{
    (void)state;
    assert_good(API_PREDICT, "{\"inputs\":[\"a\"]}");
    assert_true(request.single);
    assert_good(API_PREDICT, "{\"inputs\":[[\"a\"]]}");
    assert_false(request.single);
    assert_good(API_PREDICT, "{\"inputs\":[[\"a\"],[\"b\"]],\"raw_scores\":true}");
    assert_int_equal(request.n, 2);
    assert_text(1, "b");
    assert_null(request.inputs[0].second);
    assert_good(API_PREDICT, "{\"inputs\":[\"a\",\"\"]}");
    assert_true(request.single && request.n == 1);
    assert_non_null(request.inputs[0].second);
    assert_good(API_PREDICT, "{\"inputs\":[[\"a\"],[\"bc\",\"def\"]]}");
    assert_int_equal(request.n, 2);
    assert_text(1, "bc");
    assert_int_equal(request.inputs[1].second_size, 3);
    assert_memory_equal(request.inputs[1].second, "def", 3);
    assert_problem(API_PREDICT, "{\"inputs\":[\"a\",\"b\",\"c\"]}", PROBLEM_FIELD_TYPE, "inputs");
    assert_problem(API_PREDICT, "{\"inputs\":[]}", PROBLEM_EMPTY_INPUTS, "inputs");
    assert_problem(API_PREDICT, "{\"inputs\":[[]]}", PROBLEM_FIELD_TYPE, "inputs[0]");
    assert_problem(API_PREDICT, "{\"inputs\":[[\"a\",\"b\",\"c\"]]}", PROBLEM_FIELD_TYPE,
                   "inputs[0]");
    assert_problem(API_PREDICT, "{\"inputs\":[[\"a\"],\"b\"]}", PROBLEM_FIELD_TYPE, "inputs[1]");
    assert_problem(API_PREDICT, "{\"inputs\":[\"a\",1]}", PROBLEM_FIELD_TYPE, "inputs");
    assert_problem(API_PREDICT, "{\"inputs\":[1]}", PROBLEM_FIELD_TYPE, "inputs[0]");
    assert_problem(API_PREDICT, "{\"inputs\":[[\"a\"],[\"a\"],[\"a\"],[\"a\"],[\"a\"]]}",
                   PROBLEM_TOO_MANY, "inputs");
}

static void test_analyze(void **state)
{
    (void)state;
    assert_good(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"sentiment\",\"embed\"],"
                             "\"normalize\":false,\"raw_scores\":true,\"truncate\":false}");
    assert_int_equal(request.tasks, API_TASK_EMBED | API_TASK_SENTIMENT);
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[]}", PROBLEM_FIELD_RANGE, "tasks");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":\"embed\"}", PROBLEM_FIELD_TYPE,
                   "tasks");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"embed\",1]}", PROBLEM_FIELD_TYPE,
                   "tasks[1]");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"embed\",\"embed\"]}",
                   PROBLEM_FIELD_VALUE, "tasks[1]");
    assert_good(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"rank\",\"embed\",\"topics-2\"]}");
    assert_int_equal(request.tasks, API_TASK_EMBED);
    assert_int_equal(request.n_named, 2);
    assert_string_equal(request.named[1].text, "topics-2");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"rank\",\"rank\"]}",
                   PROBLEM_FIELD_VALUE, "tasks[1]");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"tasks\":[\"No head\"]}", PROBLEM_FIELD_VALUE,
                   "tasks[0]");
    assert_problem(API_ANALYZE, "{\"inputs\":\"a\",\"truncation_direction\":\"left\"}",
                   PROBLEM_FIELD_UNKNOWN, "truncation_direction");
}

static void test_openai_texts(void **state)
{
    (void)state;
    assert_good(API_OPENAI, "{\"input\":[\"a\",\"b\"],\"model\":\"any\",\"user\":\"u\","
                            "\"encoding_format\":\"base64\",\"dimensions\":12,"
                            "\"x\":[{\"y\":123456789012345678901234567890}]}");
    assert_int_equal(request.n, 2);
    assert_true(request.base64 && request.normalize);
    assert_int_equal(request.dimensions, 12);
    assert_text(1, "b");
    assert_problem(API_OPENAI, "{\"input\":\"\"}", PROBLEM_EMPTY_INPUTS, "input");
    assert_problem(API_OPENAI, "{\"input\":[\"a\",\"\"]}", PROBLEM_EMPTY_INPUTS, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[]}", PROBLEM_EMPTY_INPUTS, "input");
    assert_problem(API_OPENAI, "{\"inputs\":\"a\"}", PROBLEM_FIELD_MISSING, "input");
    assert_problem(API_OPENAI, "{\"input\":\"a\",\"model\":7}", PROBLEM_FIELD_TYPE, "model");
    assert_problem(API_OPENAI, "{\"input\":\"a\",\"encoding_format\":\"int8\"}",
                   PROBLEM_FIELD_VALUE, "encoding_format");
    assert_problem(API_OPENAI, "{\"input\":{\"a\":1}}", PROBLEM_FIELD_TYPE, "input");
    assert_problem(API_OPENAI, "{\"input\":[{\"a\":1}]}", PROBLEM_FIELD_TYPE, "input");
    assert_problem(API_OPENAI, "{\"input\":[\"a\",1]}", PROBLEM_FIELD_TYPE, "input[1]");
}

/* jansson refuses names with U+0000, which are JSON; only names may be changed for its sake. */
static void test_openai_nul_in_names(void **state)
{
    (void)state;
    assert_good(API_OPENAI, "{\"a\\u0000b\" : {\"\\u0000\":1},\"input\":\"x\\u0000y\"}");
    assert_int_equal(request.inputs[0].size, 3);
    assert_memory_equal(request.inputs[0].text, "x\0y", 3);
    assert_good(API_OPENAI, "{\"\\u0000\":123456789012345678901234,\"input\":[5]}");
    assert_problem(API_OPENAI, "{\"\\u0000\":1}", PROBLEM_FIELD_MISSING, "input");
    assert_problem(API_OPENAI, "{\"input\\u0000\":\"a\"}", PROBLEM_FIELD_MISSING, "input");
    assert_problem(API_OPENAI, "{\"\\u0000\":1,\"\\u0000\":2}", PROBLEM_FIELD_DUPLICATE, "");
    assert_problem(API_OPENAI, "{\"\\\\u0000\":1,\"\\u0000\":1,", PROBLEM_NOT_JSON, "");
    assert_problem(API_EMBED, "{\"inputs\":\"a\",\"\\u0000\":1}", PROBLEM_FIELD_UNKNOWN, "");
}

static void test_openai_ids(void **state)
{
    (void)state;
    assert_good(API_OPENAI, "{\"input\":[101,0,30521,102]}");
    assert_int_equal(request.n, 1);
    assert_true(request.single);
    assert_null(request.inputs[0].text);
    static const int32_t ids[] = {101, 0, 30521, 102};
    assert_int_equal(request.inputs[0].n_ids, 4);
    assert_memory_equal(request.inputs[0].ids, ids, sizeof(ids));
    assert_false(request.inputs[0].truncated);

    assert_good(API_OPENAI, "{\"input\":[[1],[1,2,3,4,5,6,7,8,9]]}");
    assert_int_equal(request.n, 2);
    assert_int_equal(request.inputs[0].n_ids, 1);
    assert_int_equal(request.inputs[1].n_ids, 8);
    assert_false(request.inputs[0].truncated);
    assert_true(request.inputs[1].truncated);

    assert_problem(API_OPENAI, "{\"input\":[1,30522]}", PROBLEM_FIELD_RANGE, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[-1]}", PROBLEM_FIELD_RANGE, "input[0]");
    assert_problem(API_OPENAI, "{\"input\":[[1],[2,4294967296]]}", PROBLEM_FIELD_RANGE,
                   "input[1][1]");
    assert_problem(API_OPENAI, "{\"input\":[1,2,3,4,5,6,7,8,9,99999]}", PROBLEM_FIELD_RANGE,
                   "input[9]");
    assert_problem(API_OPENAI, "{\"input\":[1,99999999999999999999]}", PROBLEM_FIELD_RANGE,
                   "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[1,2.5]}", PROBLEM_FIELD_TYPE, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[1.5]}", PROBLEM_FIELD_TYPE, "input");
    assert_problem(API_OPENAI, "{\"input\":[1,\"a\"]}", PROBLEM_FIELD_TYPE, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[[1],2]}", PROBLEM_FIELD_TYPE, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[[1],\"a\"]}", PROBLEM_FIELD_TYPE, "input[1]");
    assert_problem(API_OPENAI, "{\"input\":[[]]}", PROBLEM_EMPTY_INPUTS, "input[0]");
    assert_problem(API_OPENAI, "{\"input\":[[1],[1],[1],[1],[1]]}", PROBLEM_TOO_MANY, "input");
}

static void test_tokenize(void **state)
{
    (void)state;
    assert_good(API_TOKENIZE, "{\"inputs\":[\"a\"],\"add_special_tokens\":false}");
    assert_false(request.special_tokens);
    assert_problem(API_TOKENIZE, "{\"inputs\":\"a\",\"truncate\":true}", PROBLEM_FIELD_UNKNOWN,
                   "truncate");
    assert_good(API_TOKENIZE, "{\"inputs\":\"a\",\"prompt_name\":\"\"}");
    assert_int_equal(request.prompt, API_PROMPT_NONE);
    assert_problem(API_TOKENIZE, "{\"inputs\":\"a\",\"prompt_name\":\"q\"}", PROBLEM_FIELD_VALUE,
                   "prompt_name");
}

static void test_named_heads(void **state)
{
    (void)state;
    assert_good(API_HEAD, "{\"inputs\":[\"a\"],\"aggregation_strategy\":\"max\","
                          "\"ignore_labels\":[],\"long\":\"windows\",\"explain\":true}");
    assert_int_equal(request.aggregation, API_AGGREGATE_MAX);
    assert_true(request.ignore_said && request.windows && request.explain && !request.abstain);
    assert_good(API_HEAD, "{\"inputs\":\"a\",\"parameters\":{\"aggregation_strategy\":\"none\","
                          "\"ignore_labels\":[\"O\",\"X\"],\"stride\":null}}");
    assert_int_equal(request.n_ignore_labels, 2);
    assert_string_equal(request.ignore_labels[1].text, "X");
    assert_false(request.single);
    assert_problem(API_HEAD, "{\"inputs\":\"a\",\"aggregation_strategy\":\"mean\"}",
                   PROBLEM_FIELD_VALUE, "aggregation_strategy");
    assert_problem(API_HEAD, "{\"inputs\":\"a\",\"parameters\":{\"stride\":2}}",
                   PROBLEM_FIELD_VALUE, "parameters.stride");
    assert_problem(API_HEAD, "{\"inputs\":\"a\",\"long\":true}", PROBLEM_FIELD_TYPE, "long");
    assert_problem(API_PREDICT, "{\"inputs\":\"a\",\"long\":\"windows\"}", PROBLEM_FIELD_UNKNOWN,
                   "long");
    assert_problem(API_HEAD, "{\"inputs\":\"a\",\"ignore_labels\":[\"a\",1]}", PROBLEM_FIELD_TYPE,
                   "ignore_labels[1]");
    /* Hugging Face's older clients. */
    assert_good(API_HEAD, "{\"inputs\":[\"a\"],\"options\":{\"wait_for_model\":true}}");
    assert_good(API_EMBED, "{\"inputs\":[\"a\"],\"options\":{\"use_cache\":false}}");
    assert_problem(API_EMBED, "{\"inputs\":[\"a\"],\"options\":1}", PROBLEM_FIELD_TYPE, "options");
}

static void test_ids_of_embed(void **state)
{
    (void)state;
    assert_good(API_EMBED, "{\"inputs\":[5,6,7]}");
    assert_true(request.n == 1 && request.single);
    assert_int_equal(request.inputs[0].n_ids, 3);
    assert_good(API_EMBED_ALL, "{\"inputs\":[\"a\",[5,6],\"bc\"]}");
    assert_int_equal(request.n, 3);
    assert_text(2, "bc");
    assert_int_equal(request.inputs[1].ids[1], 6);
    assert_problem(API_EMBED, "{\"inputs\":[\"a\",5]}", PROBLEM_FIELD_TYPE, "inputs[1]");
    assert_problem(API_EMBED, "{\"inputs\":[5,\"a\"]}", PROBLEM_FIELD_TYPE, "inputs[1]");
    assert_problem(API_EMBED, "{\"inputs\":[\"a\",[]]}", PROBLEM_EMPTY_INPUTS, "inputs[1]");
    assert_problem(API_CLASSIFY, "{\"inputs\":[5,6,7]}", PROBLEM_FIELD_TYPE, "inputs[0]");
}

static void test_pairs_and_sentences(void **state)
{
    (void)state;
    assert_good(API_RERANK, "{\"texts\":[\"a\",\"bc\"],\"query\":\"q\",\"return_text\":true}");
    assert_int_equal(request.n, 2);
    assert_text(0, "q");
    assert_text(1, "q");
    assert_memory_equal(request.inputs[1].second, "bc", 2);
    assert_true(request.return_text);
    assert_problem(API_RERANK, "{\"texts\":[\"a\"]}", PROBLEM_FIELD_MISSING, "query");
    assert_problem(API_RERANK, "{\"query\":\"a\"}", PROBLEM_FIELD_MISSING, "texts");
    assert_problem(API_RERANK, "{\"query\":\"a\",\"texts\":[]}", PROBLEM_EMPTY_INPUTS, "texts");
    assert_problem(API_RERANK, "{\"query\":\"a\",\"texts\":[\"b\",1]}", PROBLEM_FIELD_TYPE,
                   "texts[1]");
    assert_good(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":\"s\",\"sentences\":[\"t\"]},"
                                "\"parameters\":{\"truncate\":false}}");
    assert_int_equal(request.n, 2);
    assert_text(0, "s");
    assert_text(1, "t");
    assert_false(request.truncate);
    assert_problem(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":\"s\",\"sentences\":[]}}",
                   PROBLEM_EMPTY_INPUTS, "inputs.sentences");
    assert_problem(API_SIMILARITY, "{\"inputs\":\"s\"}", PROBLEM_FIELD_TYPE, "inputs");
    assert_problem(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":\"s\"}}",
                   PROBLEM_FIELD_MISSING, "inputs.sentences");
    assert_problem(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":null,\"sentences\":[\"t\"]}}",
                   PROBLEM_FIELD_MISSING, "inputs.source_sentence");
    assert_problem(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":[],\"sentences\":[\"t\"]}}",
                   PROBLEM_FIELD_TYPE, "inputs.source_sentence");
    assert_problem(API_SIMILARITY, "{\"inputs\":{\"source_sentence\":\"s\",\"sentences\":\"t\"}}",
                   PROBLEM_FIELD_TYPE, "inputs.sentences");
    assert_problem(API_SIMILARITY,
                   "{\"inputs\":{\"source_sentence\":\"s\",\"sentences\":[\"t\"],\"normalise\":1}}",
                   PROBLEM_FIELD_UNKNOWN, "inputs.normalise");
    assert_good(API_DECODE, "{\"ids\":[[5],[6,7]],\"skip_special_tokens\":false}");
    assert_int_equal(request.n, 2);
    assert_false(request.skip_special);
    assert_good(API_DECODE, "{\"ids\":[5,6]}");
    assert_true(request.n == 1 && request.skip_special);
    assert_problem(API_DECODE, "{\"ids\":[]}", PROBLEM_EMPTY_INPUTS, "ids");
    assert_problem(API_DECODE, "{\"ids\":[-1]}", PROBLEM_FIELD_RANGE, "ids[0]");
}

/* A body of small values would otherwise take many times its size in the parser. */
static void test_number_of_values(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    struct buf body;
    buf_init(&body, 1 << 22);
    buf_append_str(&body, "{\"input\":\"a\",\"x\":[0");
    for (int i = 0; i < COUNT; i++) {
        buf_append_str(&body, ",0");
    }
    buf_append_str(&body, "]}");
    assert_problem(API_OPENAI, body.data, PROBLEM_TOO_MANY, "input");
    buf_clear(&body);
    buf_append_str(&body, "{\"inputs\":\"");
    for (int i = 0; i < COUNT; i++) {
        buf_append_str(&body, ",[");
    }
    buf_append_str(&body, "\"}");
    assert_good(API_EMBED, body.data);
    assert_int_equal(request.inputs[0].size, 2 * COUNT);
    buf_done(&body);
}

static void test_arena_ceilings(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *body;
    } cases[] = {
        {API_EMBED, "{\"inputs\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"b\"]}"},
        {API_PREDICT, "{\"inputs\":[[\"a\"],[\"b\"],[\"c\"]]}"},
        {API_OPENAI, "{\"input\":[[1,2,3],[4,5,6,7],[8]]}"},
        {API_OPENAI, "{\"input\":[1,2,3]}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool good = false;
        for (size_t ceiling = 0; !good; ceiling += 8) {
            assert_true(ceiling < 4096);
            arena_done(&arena);
            arena_init(&arena, ceiling);
            problem = (struct problem){0};
            good = request_parse(cases[i].kind, cases[i].body, strlen(cases[i].body), &limits,
                                 &arena, &request, &problem);
            assert_int_equal(problem.kind, good ? PROBLEM_NONE : PROBLEM_INTERNAL);
        }
    }
}

/* Every allocation of the parser fails once: a problem, never a wrong request. jansson reports some
 * of them as bad tokens, and nobody can tell these apart; inside a number its own assertion fails,
 * so the bodies hold none. */
static size_t allocations_left;

static void *failing_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return malloc(size);
}

static void test_parser_out_of_memory(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *body;
    } cases[] = {
        {API_EMBED, "{\"inputs\":[\"a\",\"b\",\"c\"],\"parameters\":{},"
                    "\"truncation_direction\":\"left\",\"normalize\":true,\"truncate\":false}"},
        {API_OPENAI, "{\"input\":[\"a\",\"b\"],\"x\":[true,{\"y\":null}]}"},
    };
    json_malloc_t old_malloc;
    json_free_t old_free;
    json_get_alloc_funcs(&old_malloc, &old_free);
    json_set_alloc_funcs(failing_malloc, free);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool good = false;
        for (size_t n = 0; !good; n++) {
            assert_true(n < 1000);
            allocations_left = n;
            good = parse(cases[i].kind, cases[i].body);
            assert_true(good || problem.kind == PROBLEM_INTERNAL ||
                        problem.kind == PROBLEM_NOT_JSON);
            assert_true(!good || request.n >= 2);
        }
    }
    json_set_alloc_funcs(old_malloc, old_free);
}

static size_t heap_now, heap_most;

static void *counting_malloc(size_t size)
{
    void *memory = malloc(size);
    heap_now += memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
    heap_most = heap_now > heap_most ? heap_now : heap_most;
    return memory;
}

static void counting_free(void *memory)
{
    heap_now -= memory ? malloc_usable_size(memory) + sizeof(size_t) : 0;
    free(memory);
}

/* What is counted before a tree is made is what the tree takes, not much more and never less. */
static void test_bytes_of_the_tree(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static const char *const pieces[] = {"{}",         "[]",      "\"\"",     "1",
                                         "-1.5e3",     "true",    "[1]",      "{\"a\":1}",
                                         "\"a\\\"b\"", " \n 12 ", "[\"x\",2]"};
    const struct api_limits wide = {
        .client_batch = MANY, .hidden = 768, .max_length = 8, .vocab = 30522};
    json_malloc_t old_malloc;
    json_free_t old_free;
    json_get_alloc_funcs(&old_malloc, &old_free);
    json_set_alloc_funcs(counting_malloc, counting_free);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct buf body;
        buf_init(&body, 1 << 20);
        buf_append_str(&body, "{\"inputs\":[");
        for (size_t n = 0; n < MANY; n++) {
            buf_append_str(&body, n ? "," : "");
            buf_append_str(&body, pieces[i]);
        }
        buf_append_str(&body, "]}");
        assert_false(buf_failed(&body));
        arena_done(&arena);
        arena_init(&arena, 16 << 20);
        heap_most = heap_now;
        size_t before = heap_now;
        problem = (struct problem){0};
        bool good = request_parse(API_EMBED, body.data, body.size, &wide, &arena, &request,
                                  &problem);
        assert_int_equal(good, problem.kind == PROBLEM_NONE);
        size_t counted = request_tree_bytes(API_EMBED, body.data, body.size, &wide);
        size_t took = heap_most - before;
        print_message("%s: %zu bytes each, %zu counted\n", pieces[i], took / MANY, counted / MANY);
        assert_true(took <= counted + body.size + 4096);
        assert_true(counted <= 2 * took + 16 * MANY);
        /* What is refused before has no tree. */
        assert_int_equal(request_tree_bytes(API_CLASSIFY, body.data, body.size, &limits), 0);
        buf_done(&body);
    }
    json_set_alloc_funcs(old_malloc, old_free);
    assert_int_equal(request_tree_bytes(API_EMBED, "[[[[[[[[[1]]]]]]]]]", 19, &wide), 0);
}

static int teardown(void **state)
{
    (void)state;
    arena_done(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_text),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test(test_fields_of_embed),
        cmocka_unit_test(test_embed_parameters),
        cmocka_unit_test(test_null_is_absent),
        cmocka_unit_test(test_wrong_fields),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_nothing_is_echoed),
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_hugging_face_parameters),
        cmocka_unit_test(test_predict),
        cmocka_unit_test(test_analyze),
        cmocka_unit_test(test_openai_texts),
        cmocka_unit_test(test_openai_ids),
        cmocka_unit_test(test_openai_nul_in_names),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_named_heads),
        cmocka_unit_test(test_ids_of_embed),
        cmocka_unit_test(test_pairs_and_sentences),
        cmocka_unit_test(test_number_of_values),
        cmocka_unit_test(test_arena_ceilings),
        cmocka_unit_test(test_parser_out_of_memory),
        cmocka_unit_test(test_bytes_of_the_tree),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
