#include <stdio.h>
#include <time.h>

#include "base/file.h"
#include "model/text/tokenizer.h"
#include "tests/support/testing.h"

/* --- A small tokenizer.json, of which cases change one member -----------------------------------
 */

#define ADDED(id, content)                                                               \
    "{\"id\":" id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false," \
    "\"rstrip\":false,\"normalized\":false,\"special\":true}"
#define WORDPIECE                                                                                  \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3," \
    "\"[MASK]\":4,\"the\":5,\"##m\":6}}"
#define SPECIALS                                                                       \
    "[" ADDED("0", "[PAD]") "," ADDED("1", "[UNK]") "," ADDED("2", "[CLS]") "," ADDED( \
        "3", "[SEP]") "," ADDED("4", "[MASK]") "]"
#define BERT                                                                          \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
    "\"strip_accents\":null,\"lowercase\":true}"
#define FRAME "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}"

static const char *const members[][2] = {
    {"version", "\"1.0\""},
    {"added_tokens", SPECIALS},
    {"normalizer", BERT},
    {"pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}"},
    {"post_processor", FRAME},
    {"decoder", "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}"},
    {"model", WORDPIECE},
};

enum { MEMBERS = sizeof members / sizeof *members };

/* Writes the file with one member another one, or one more. */
static void write_json(struct scratch *scratch, const char *key, const char *value)
{
    static char text[1 << 16];
    size_t used = (size_t)snprintf(text, sizeof text, "{");
    bool replaced = false;
    for (size_t i = 0; i < MEMBERS; i++) {
        bool same = strcmp(members[i][0], key) == 0;
        replaced = replaced || same;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\":%s", i ? "," : "",
                                 members[i][0], same ? value : members[i][1]);
    }
    if (!replaced && *key) {
        used += (size_t)snprintf(text + used, sizeof text - used, ",\"%s\":%s", key, value);
    }
    (void)snprintf(text + used, sizeof text - used, "}");
    scratch_text(scratch, "tokenizer.json", text);
}

static enum err_code open_with(struct scratch *scratch, const char *key, const char *value,
                               struct tokenizer **ret_tokenizer, struct err *err)
{
    struct tokenizer_options options = tokenizer_options_default();
    write_json(scratch, key, value);
    scratch_path(scratch, "");
    return tokenizer_open(scratch->path, &options, ret_tokenizer, err);
}

static struct tokenizer *tokenizer_with(struct scratch *scratch, const char *key, const char *value)
{
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    if (open_with(scratch, key, value, &tokenizer, &err) != ERR_OK) {
        fail_msg("%s: %s", key, err.text);
    }
    return tokenizer;
}

/* --- Refusals and warnings ----------------------------------------------------------------------
 */

static const struct {
    const char *key, *value;
    enum err_code code;
    const char *words[4]; /* what the message names */
} refusals[] = {
    {"version", "\"2.0\"", ERR_UNSUPPORTED, {"version", "2.0", "1.0"}},
    {"model",
     "{\"type\":\"WordLevel\",\"vocab\":{}}",
     ERR_UNSUPPORTED,
     {"model.type", "WordLevel", "Unigram"}},
    {"model", "3", ERR_INVALID, {"model", "found 3", "object"}},
    {"model",
     "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}",
     ERR_INVALID,
     {"merges[0]"}},
    {"model",
     "{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{},\"merges\":[]}",
     ERR_UNSUPPORTED,
     {"dropout", "0.1"}},
    {"model",
     "{\"type\":\"BPE\",\"unk_token\":\"x\",\"vocab\":{\"a\":0},\"merges\":[]}",
     ERR_INVALID,
     {"unk_token"}},
    {"model",
     "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}",
     ERR_CONFLICT,
     {"id 0"}},
    {"model", "{\"type\":\"BPE\",\"vocab\":{\"a\":4194304},\"merges\":[]}", ERR_LIMIT, {"4194304"}},
    {"model",
     "{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[[\"a\",0]]}",
     ERR_INVALID,
     {"unk_id"}},
    {"model",
     "{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}",
     ERR_INVALID,
     {"unk_id", "found 1"}},
    {"model",
     "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}",
     ERR_INVALID,
     {"vocab[0]", "score"}},
    {"normalizer", "{\"type\":\"Nmt\"}", ERR_UNSUPPORTED, {"normalizer.type", "Nmt", "NFKC"}},
    {"normalizer",
     "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"\\u0001\"}]}",
     ERR_UNSUPPORTED,
     {"normalizer.normalizers[1].type", "a string"}},
    {"normalizer",
     "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a+\"},\"content\":\"\"}",
     ERR_UNSUPPORTED,
     {"normalizer.pattern.Regex", "a+", " {2,}"}},
    {"normalizer",
     "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}",
     ERR_INVALID,
     {"precompiled_charsmap"}},
    {"normalizer",
     "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}",
     ERR_INVALID,
     {"trie"}},
    {"pre_tokenizer",
     "{\"type\":\"Digits\"}",
     ERR_UNSUPPORTED,
     {"pre_tokenizer.type", "Digits", "Metaspace"}},
    {"pre_tokenizer",
     "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}",
     ERR_INVALID,
     {"replacement", "one character"}},
    {"pre_tokenizer",
     "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}",
     ERR_UNSUPPORTED,
     {"prepend_scheme", "last", "first"}},
    {"post_processor",
     "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",70]}",
     ERR_INVALID,
     {"post_processor.cls", "vocabulary"}},
    {"post_processor",
     "{\"type\":\"Sequence\",\"processors\":[" FRAME "," FRAME "]}",
     ERR_UNSUPPORTED,
     {"post_processor.processors[1]"}},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],\"special_tokens\":{}}",
     ERR_UNSUPPORTED,
     {"single", "A once"}},
    {"added_tokens",
     "[{\"id\":9,\"content\":\"x\"}]",
     ERR_INVALID,
     {"added_tokens[0].single_word"}},
    {"added_tokens", "[7]", ERR_INVALID, {"added_tokens[0]", "object"}},
};

static void test_refusals_name_the_member(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct tokenizer *tokenizer = NULL;
        struct err err = ERR_INIT;
        enum err_code code = open_with(&scratch, refusals[i].key, refusals[i].value, &tokenizer,
                                       &err);
        if (code != refusals[i].code) {
            fail_msg("case %zu: %s: \"%s\"", i, err_name(code), err.text);
        }
        expect_error(&err, code, refusals[i].code, refusals[i].words);
        assert_non_null(strstr(err.text, "tokenizer.json"));
        assert_null(tokenizer);
    }
    scratch_remove(&scratch);
}

static void test_unknown_members_warn(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *warning;
    } cases[] = {
        {"", "", NULL},
        {"truncation", "{\"max_length\":3}", NULL},
        {"padding", "{\"strategy\":\"BatchLongest\"}", NULL},
        {"surprise", "1", "surprise: unknown"},
        {"pre_tokenizer", "{\"type\":\"BertPreTokenizer\",\"more\":1}", "pre_tokenizer.more"},
        {"decoder", "{\"type\":\"CTC\"}", "/decode is off"},
        {"added_tokens", "[" ADDED("99", "[SUBJ]") "]", "says id 99, its id is 7"},
    };
    struct scratch scratch;
    scratch_make(&scratch);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tokenizer = tokenizer_with(&scratch, cases[i].key, cases[i].value);
        assert_int_equal(tokenizer_warnings(tokenizer), cases[i].warning != NULL);
        if (cases[i].warning) {
            assert_non_null(strstr(tokenizer_warning(tokenizer, 0), cases[i].warning));
        }
        assert_true(tokenizer_can_decode(tokenizer) == (strcmp(cases[i].key, "decoder") != 0));
        tokenizer_destroy(tokenizer);
    }
    scratch_remove(&scratch);
}

/* An added token that is looked for in normalized text is called as it reads there. */
static void test_the_word_of_a_normalized_token(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    struct tokenizer *tokenizer = tokenizer_with(
        &scratch, "added_tokens",
        "[{\"id\":3,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":true,\"special\":true}," ADDED("2", "[CLS]") "]");
    assert_string_equal(tokenizer_word(tokenizer, 3), "[sep]");
    assert_string_equal(tokenizer_word(tokenizer, 2), "[CLS]");
    tokenizer_destroy(tokenizer);
    scratch_remove(&scratch);
}

/* Where tokenizer_config.json disagrees, one warning names both files and the field. */
static void test_what_disagrees_warns(void **state)
{
    (void)state;
#define DECODER(id, content, more) \
    "{\"added_tokens_decoder\":{\"" id "\":{\"content\":\"" content "\"" more "}}}"
    static const char *const lower = "{\"type\":\"Lowercase\"}";
    static const char *const bytes = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                                     "\"trim_offsets\":true,\"use_regex\":true}";
    const struct {
        const char *config, *key, *value, *warning;
    } cases[] = {
        {"{\"do_lower_case\":false,\"strip_accents\":null}", "", "", "do_lower_case is false"},
        {"{\"do_lower_case\":true}", "normalizer", "null", "do_lower_case is true"},
        {"{\"do_lower_case\":false}", "normalizer", lower, "do_lower_case is false"},
        {"{\"do_lower_case\":true}", "normalizer", lower, NULL},
        {"{\"add_prefix_space\":false}", "pre_tokenizer", bytes, "add_prefix_space is false"},
        {"{\"add_prefix_space\":true}", "pre_tokenizer", bytes, NULL},
        {DECODER("2", "[CLS]", ",\"special\":true"), "", "", NULL},
        {DECODER("7", "[SUBJ]", ""), "", "", "added_tokens_decoder"},
        {DECODER("5", "[CLS]", ""), "", "", "of token 5"},
        {DECODER("4", "[MASK]", ",\"lstrip\":true"), "", "", "of token 4"},
    };
#undef DECODER
    struct scratch scratch;
    scratch_make(&scratch);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(&scratch, "tokenizer_config.json", cases[i].config);
        struct tokenizer *tokenizer = tokenizer_with(&scratch, cases[i].key, cases[i].value);
        if (tokenizer_warnings(tokenizer) != (cases[i].warning != NULL)) {
            fail_msg("case %zu: %zu warnings", i, tokenizer_warnings(tokenizer));
        }
        if (cases[i].warning) {
            const char *said = tokenizer_warning(tokenizer, 0);
            assert_non_null(strstr(said, cases[i].warning));
            assert_non_null(strstr(said, "tokenizer_config.json: "));
            assert_non_null(strstr(said, "tokenizer.json says otherwise"));
        }
        tokenizer_destroy(tokenizer);
    }
    scratch_remove(&scratch);
}

/* --- Digest -------------------------------------------------------------------------------------
 */

static void test_digest_is_of_the_rules(void **state)
{
    (void)state;
    /* What changes ids or types, each in one place. */
    static const char *const changes[][2] = {
        {"normalizer", "null"},
        {"normalizer", "{\"type\":\"Lowercase\"}"},
        {"normalizer", "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":"
                       "true,\"strip_accents\":false,\"lowercase\":true}"},
        {"pre_tokenizer", "null"},
        {"pre_tokenizer", "{\"type\":\"Whitespace\"}"},
        {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\"}"},
        {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"split\":false}"},
        {"post_processor", "null"},
        {"post_processor",
         "{\"type\":\"BertProcessing\",\"sep\":[\"[CLS]\",2],\"cls\":[\"[CLS]\",2]}"},
        {"added_tokens", "[]"},
        {"added_tokens", "[" ADDED("7", "[SUBJ]") "]"},
        {"model", "{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"[PAD]\",0],[\"[UNK]\",0],"
                  "[\"[CLS]\",0],[\"[SEP]\",-1],[\"[MASK]\",-2]]}"},
        {"model", "{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"[PAD]\",0],[\"[UNK]\",0],"
                  "[\"[CLS]\",0],[\"[SEP]\",-1],[\"[MASK]\",-3]]}"},
        {"model", "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":"
                  "\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,"
                  "\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"the\":6,\"##m\":5}}"},
    };
    enum { CHANGES = sizeof changes / sizeof *changes };
    struct scratch scratch;
    char digests[CHANGES + 1][65];
    scratch_make(&scratch);
    for (size_t i = 0; i <= CHANGES; i++) {
        struct tokenizer *tokenizer = i ? tokenizer_with(&scratch, changes[i - 1][0],
                                                         changes[i - 1][1])
                                        : tokenizer_with(&scratch, "", "");
        assert_int_equal(strlen(tokenizer_digest(tokenizer)), 64);
        (void)snprintf(digests[i], sizeof digests[i], "%s", tokenizer_digest(tokenizer));
        for (size_t k = 0; k < i; k++) {
            if (strcmp(digests[k], digests[i]) == 0) {
                fail_msg("changes %zu and %zu have one digest", k, i);
            }
        }
        tokenizer_destroy(tokenizer);
    }
    /* What changes neither. */
    static const char *const same[][2] = {
        {"decoder", "null"},
        {"padding", "{}"},
        {"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[" BERT "]}"},
        {"post_processor",
         "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"c\",\"type_id\":"
         "0}},"
         "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"s\",\"type_id\":"
         "0}}],"
         "\"pair\":[{\"SpecialToken\":{\"id\":\"c\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
         "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"s\",\"type_id\":0}},{\"Sequence\":{\"id\":"
         "\"B\","
         "\"type_id\":1}},{\"SpecialToken\":{\"id\":\"s\",\"type_id\":1}}],\"special_tokens\":{"
         "\"c\":"
         "{\"id\":\"c\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},\"s\":{\"id\":\"s\",\"ids\":[3],"
         "\"tokens\":[\"[SEP]\"]}}}"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct tokenizer *tokenizer = tokenizer_with(&scratch, same[i][0], same[i][1]);
        assert_string_equal(tokenizer_digest(tokenizer), digests[0]);
        tokenizer_destroy(tokenizer);
    }
    /* The same vocabulary as a vocab.txt. */
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    scratch_text(&scratch, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##m\n");
    assert_int_equal(tokenizer_create(scratch.path, &options, &tokenizer, &err), ERR_OK);
    assert_string_equal(tokenizer_digest(tokenizer), digests[0]);
    tokenizer_destroy(tokenizer);
    scratch_remove(&scratch);
}

/* --- Tokens beside a vocab.txt ------------------------------------------------------------------
 */

static void expect_ids(const struct tokenizer *tokenizer, const char *text, const int32_t *ids,
                       size_t n)
{
    const struct encode_options options = {.max_length = SIZE_MAX};
    struct tokens tokens = {0};
    struct err err = ERR_INIT;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &tokens, &err),
                     ERR_OK);
    assert_int_equal(tokens.n, n);
    assert_memory_equal(tokens.ids, ids, n * sizeof *ids);
    tokens_done(&tokens);
}

/* A word that a line of a vocab.txt could not hold does not take another one's place. */
static void test_words_that_are_no_lines(void **state)
{
    (void)state;
    static const char *const words[] = {"the\\u3000", "the ", "the\\nm"};
    struct scratch scratch;
    scratch_make(&scratch);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char model[1024];
        (void)snprintf(model, sizeof model,
                       "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                       "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
                       "\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,"
                       "\"[MASK]\":4,\"the\":5,\"%s\":6}}",
                       words[i]);
        struct tokenizer *tokenizer = tokenizer_with(&scratch, "model", model);
        expect_ids(tokenizer, "the", (const int32_t[]){5}, 1);
        tokenizer_destroy(tokenizer);
    }
    scratch_remove(&scratch);
}

static void test_tokens_beside_a_vocabulary(void **state)
{
    (void)state;
    struct scratch scratch;
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    scratch_make(&scratch);
    scratch_text(&scratch, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##m\n");
    scratch_text(&scratch, "tokenizer_config.json",
                 "{\"added_tokens_decoder\":{\"7\":{\"content\":\"[SUBJ]\",\"special\":true}}}");
    scratch_text(&scratch, "added_tokens.json", "{\"covid19\":8}");
    scratch_text(&scratch, "special_tokens_map.json",
                 "{\"cls_token\":\"[CLS]\",\"additional_special_tokens\":[\"[OBJ]\"]}");
    scratch_path(&scratch, "");
    assert_int_equal(tokenizer_open(scratch.path, &options, &tokenizer, &err), ERR_OK);
    const int32_t ids[] = {7, 5, 8, 9, 5, 6};
    expect_ids(tokenizer, "[SUBJ] the COVID19[OBJ]them", ids, 0 + sizeof ids / sizeof *ids);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 10);
    assert_true(tokenizer_is_special(tokenizer, 7) && !tokenizer_is_special(tokenizer, 8));
    assert_string_equal(tokenizer_word(tokenizer, 8), "covid19");
    tokenizer_destroy(tokenizer);
    scratch_text(&scratch, "added_tokens.json", "{\"covid19\":5}");
    scratch_path(&scratch, "");
    tokenizer = NULL;
    enum err_code code = tokenizer_open(scratch.path, &options, &tokenizer, &err);
    expect_error(&err, code, ERR_CONFLICT, WORDS("added_tokens.json", "id 5"));
    scratch_text(&scratch, "tokenizer_config.json",
                 "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}");
    scratch_path(&scratch, "");
    err = ERR_INIT;
    code = tokenizer_open(scratch.path, &options, &tokenizer, &err);
    expect_error(&err, code, ERR_UNSUPPORTED, WORDS("tokenizer_class", "BertJapaneseTokenizer"));
    scratch_text(&scratch, "tokenizer_config.json", "{\"cls_token\":{\"content\":\"<s>\"}}");
    scratch_path(&scratch, "");
    err = ERR_INIT;
    code = tokenizer_open(scratch.path, &options, &tokenizer, &err);
    expect_error(&err, code, ERR_UNSUPPORTED, WORDS("tokenizer_config.json", "cls_token"));
    static const char *const files[] = {"vocab.txt", "tokenizer_config.json", "added_tokens.json",
                                        "special_tokens_map.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(remove(scratch_path(&scratch, files[i])), 0);
    }
    scratch_path(&scratch, "");
    err = ERR_INIT;
    code = tokenizer_open(scratch.path, &options, &tokenizer, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("tokenizer.json", "vocab.txt"));
    scratch_remove(&scratch);
}

/* The ids with a space between. */
static void expect_ids_text(const struct tokenizer *tokenizer, const char *text,
                            const char *expected, size_t number)
{
    const struct encode_options options = {.max_length = SIZE_MAX};
    struct tokens tokens = {0};
    struct err err = ERR_INIT;
    char got[256] = "";
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &tokens, &err),
                     ERR_OK);
    for (size_t i = 0, used = 0; i < tokens.n && used < sizeof got; i++) {
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%d", i ? " " : "",
                                 (int)tokens.ids[i]);
    }
    if (strcmp(got, expected) != 0) {
        fail_msg("case %zu: %s instead of %s", number, got, expected);
    }
    tokens_done(&tokens);
}

/* Each of the three files in each of its forms: the ids of one text, or an error that names file
 * and field. */
static void test_files_beside_a_vocabulary(void **state)
{
    (void)state;
#define DECODER(key, token) "{\"added_tokens_decoder\":{\"" key "\":" token "}}"
    static const char *const config = "tokenizer_config.json";
    static const char *const added = "added_tokens.json";
    static const char *const map = "special_tokens_map.json";
    static const char *const text = "the [X] x[Y]the";
    const struct {
        const char *name, *content;
        enum err_code code;
        const char *expected; /* ids, or what the error names beside the file */
    } cases[] = {
        {config, DECODER("7", "{\"content\":\"[X]\"}"), ERR_OK, "5 7 1 1 1 1 5"},
        {config, DECODER("7", "{\"content\":\"[X]\",\"special\":false,\"normalized\":false}"),
         ERR_OK, "5 7 1 1 1 1 5"},
        {config,
         DECODER("9", "{\"content\":\"[Y]\",\"lstrip\":true,\"rstrip\":true,\"special\":true}"),
         ERR_OK, "5 1 1 1 1 9 5"},
        {config, DECODER("7", "{\"content\":\"[Y]\",\"single_word\":true,\"special\":true}"),
         ERR_OK, "5 1 1 1 1 1 1 1 5"},
        {config, DECODER("7", "{\"content\":\"\"}"), ERR_OK, "5 1 1 1 1 1 1 1 5"},
        {config, DECODER("5", "{\"content\":\"the\",\"special\":true}"), ERR_OK,
         "5 1 1 1 1 1 1 1 5"},
        {config, "{\"added_tokens_decoder\":null,\"unk_token\":null}", ERR_OK, "5 1 1 1 1 1 1 1 5"},
        {config, DECODER("x", "{\"content\":\"[X]\"}"), ERR_INVALID, "no id"},
        {config, DECODER("", "{\"content\":\"[X]\"}"), ERR_INVALID, "no id"},
        {config, DECODER("-7", "{\"content\":\"[X]\"}"), ERR_INVALID, "no id"},
        {config, DECODER("99999999999", "{\"content\":\"[X]\"}"), ERR_INVALID, "no id"},
        {config, DECODER("5", "{\"content\":\"[X]\"}"), ERR_CONFLICT, "id 5"},
        {config, DECODER("7", "{\"content\":\"the\"}"), ERR_CONFLICT, "id 7"},
        {config, DECODER("7", "7"), ERR_INVALID, "added_tokens_decoder[7]"},
        {config, DECODER("7", "{}"), ERR_INVALID, "content"},
        {config, DECODER("7", "{\"content\":7}"), ERR_INVALID, "content"},
        {config, DECODER("7", "{\"content\":\"a\",\"special\":1}"), ERR_INVALID, "special"},
        {config, DECODER("7", "{\"content\":\"a\",\"lstrip\":1}"), ERR_INVALID, "lstrip"},
        {config, DECODER("7", "{\"content\":\"a\",\"rstrip\":1}"), ERR_INVALID, "rstrip"},
        {config, DECODER("7", "{\"content\":\"a\",\"normalized\":1}"), ERR_INVALID, "normalized"},
        {config, DECODER("7", "{\"content\":\"a\",\"single_word\":1}"), ERR_INVALID, "single_word"},
        {config, "{\"added_tokens_decoder\":7}", ERR_INVALID, "added_tokens_decoder"},
        {config, "{\"tokenizer_class\":\"BertTokenizerFast\"}", ERR_OK, "5 1 1 1 1 1 1 1 5"},
        {config, "{\"tokenizer_class\":\"Fast\"}", ERR_UNSUPPORTED, "tokenizer_class"},
        {config, "{\"tokenizer_class\":7}", ERR_INVALID, "tokenizer_class"},
        {config,
         "{\"additional_special_tokens\":[\"[X]\",{\"content\":\"[Y]\"},null,\"\",\"[X]\"]}",
         ERR_OK, "5 7 1 8 5"},
        {config, "{\"extra_special_tokens\":{\"first\":\"[X]\",\"none\":null,\"second\":\"[Y]\"}}",
         ERR_OK, "5 7 1 8 5"},
        {config, "{\"additional_special_tokens\":[7]}", ERR_INVALID, "special_tokens"},
        {config, "{\"extra_special_tokens\":{\"a\":[]}}", ERR_INVALID, "special_tokens"},
        {config, "{\"mask_token\":{\"content\":\"[X]\"}}", ERR_OK, "5 7 1 1 1 1 5"},
        {config, "{\"unk_token\":\"<unk>\"}", ERR_UNSUPPORTED, "unk_token"},
        {added, "{\"[X]\":7,\"[Y]\":8}", ERR_OK, "5 7 1 8 5"},
        {added, "{\"[X]\":7,\"[Y]\":7}", ERR_CONFLICT, "id 7"},
        {added, "{\"[X]\":99999999999}", ERR_CONFLICT, "id 99999999999"},
        {added, "{\"[X]\":-1}", ERR_INVALID, "added_tokens.json"},
        {added, "{\"[X]\":\"7\"}", ERR_INVALID, "added_tokens.json"},
        {added, "{\"\":7}", ERR_INVALID, "added_tokens.json"},
        {added, "[", ERR_INVALID, "added_tokens.json"},
        {map, "{\"sep_token\":\"</s>\"}", ERR_UNSUPPORTED, "sep_token"},
        {map, "{\"pad_token\":\"[X]\"}", ERR_OK, "5 7 1 1 1 1 5"},
        {map, "{\"additional_special_tokens\":[{}]}", ERR_INVALID, "content"},
    };
#undef DECODER
    struct tokenizer_options options = tokenizer_options_default();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scratch scratch;
        struct tokenizer *tokenizer = NULL;
        struct err err = ERR_INIT;
        scratch_make(&scratch);
        scratch_text(&scratch, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##m\n");
        scratch_text(&scratch, cases[i].name, cases[i].content);
        enum err_code code = tokenizer_open(scratch.dir, &options, &tokenizer, &err);
        if (code != cases[i].code) {
            fail_msg("case %zu: %s: %s", i, err_name(code), err.text);
        }
        if (code == ERR_OK) {
            expect_ids_text(tokenizer, text, cases[i].expected, i);
        } else {
            expect_error(&err, code, cases[i].code, WORDS(cases[i].name, cases[i].expected));
        }
        tokenizer_destroy(tokenizer);
        scratch_remove(&scratch);
    }
}

/* --- Long texts ---------------------------------------------------------------------------------
 */

static char *repeat(const char *unit, size_t size)
{
    size_t n = strlen(unit);
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t i = 0; i < size; i++) {
        text[i] = unit[i % n];
    }
    return text;
}

static struct tokenizer *open_data(const char *name)
{
    char path[512];
    struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    struct err err = ERR_INIT;
    (void)snprintf(path, sizeof path, "%s/tokenizers/%s", ORTHRUS_TEST_DATA, name);
    assert_int_equal(tokenizer_open(path, &options, &tokenizer, &err), ERR_OK);
    return tokenizer;
}

static const char *const kinds[] = {"unigram", "byte-level", "added", "normalizers"};
static const char *const units[] = {
    "a",  "the ", " ",       "\xc3\xa9", "\xcc\xa3\xcc\x81", "x\xcc\x81", "\xe6\x97\xa5",
    "'s", "<s>",  "[MASK] ", "qzxwvkj"};

enum { KINDS = sizeof kinds / sizeof *kinds, UNITS = sizeof units / sizeof *units };

/* The first tokens are the same whether all of a long text is looked at or not. */
static void test_long_texts_are_cut_where_it_makes_no_difference(void **state)
{
    (void)state;
    enum { SIZE = 300000, KEEP = 40 };
    for (size_t k = 0; k < KINDS; k++) {
        struct tokenizer *tokenizer = open_data(kinds[k]);
        for (size_t u = 0; u < UNITS; u++) {
            struct tokens whole = {0};
            struct tokens first = {0};
            struct err err = ERR_INIT;
            char *text = repeat(units[u], SIZE);
            const struct encode_options all = {.max_length = SIZE_MAX};
            const struct encode_options cut = {.max_length = KEEP};
            assert_int_equal(tokenizer_encode(tokenizer, text, SIZE / 12 * 12, &all, &whole, &err),
                             ERR_OK);
            assert_int_equal(tokenizer_encode(tokenizer, text, SIZE / 12 * 12, &cut, &first, &err),
                             ERR_OK);
            size_t n = whole.n < KEEP ? whole.n : KEEP;
            assert_int_equal(first.n, n);
            assert_true(first.truncated == (whole.n > n));
            assert_memory_equal(first.ids, whole.ids, n * sizeof *first.ids);
            tokens_done(&whole);
            tokens_done(&first);
            free(text);
        }
        tokenizer_destroy(tokenizer);
    }
}

static double seconds_of(const struct tokenizer *tokenizer, const char *text, size_t size,
                         struct tokens *tokens)
{
    const struct encode_options options = {.max_length = SIZE_MAX, .offsets = true};
    struct err err = ERR_INIT;
    struct timespec begin;
    struct timespec end;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    assert_int_equal(tokenizer_encode(tokenizer, text, size, &options, tokens, &err), ERR_OK);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/* Four times the text takes at most seven times the time, best of several: n log n has room in it,
 * quadratic code, sixteen times, has none. */
static void test_time_grows_as_n_log_n(void **state)
{
    (void)state;
#ifdef SANITIZED
    skip();
#endif
    enum { SIZE = 60000, TRIES = 12 };
    for (size_t k = 0; k < KINDS; k++) {
        struct tokenizer *tokenizer = open_data(kinds[k]);
        struct tokens tokens = {0};
        for (size_t u = 0; u < UNITS; u++) {
            char *text = repeat(units[u], 4 * SIZE);
            double quarter = 1e9;
            double whole = 1e9;
            for (size_t n = 0; n < TRIES && (n < 3 || whole > 7 * quarter); n++) {
                double seconds = seconds_of(tokenizer, text, SIZE, &tokens);
                quarter = seconds < quarter ? seconds : quarter;
                seconds = seconds_of(tokenizer, text, 4 * SIZE, &tokens);
                whole = seconds < whole ? seconds : whole;
            }
            if (whole > 7 * quarter) {
                fail_msg("%s, \"%s\": %.0f us, and %.0f us for four times as many", kinds[k],
                         units[u], 1e6 * quarter, 1e6 * whole);
            }
            free(text);
        }
        tokens_done(&tokens);
        tokenizer_destroy(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_name_the_member),
        cmocka_unit_test(test_unknown_members_warn),
        cmocka_unit_test(test_the_word_of_a_normalized_token),
        cmocka_unit_test(test_what_disagrees_warns),
        cmocka_unit_test(test_digest_is_of_the_rules),
        cmocka_unit_test(test_words_that_are_no_lines),
        cmocka_unit_test(test_tokens_beside_a_vocabulary),
        cmocka_unit_test(test_files_beside_a_vocabulary),
        cmocka_unit_test(test_long_texts_are_cut_where_it_makes_no_difference),
        cmocka_unit_test(test_time_grows_as_n_log_n),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
