/* What a folder's JSON files may say, and how a wrong one is refused. */
#include "model/files/config.h"

#include "tests/support/testing.h"

#define REQUIRED                                                             \
    "\"hidden_size\":32,\"num_attention_heads\":4,\"intermediate_size\":64," \
    "\"num_hidden_layers\":2,\"vocab_size\":413,\"max_position_embeddings\":64"
#define BERT "{\"model_type\":\"bert\"," REQUIRED
#define MODULE(type, path) \
    "{\"idx\":0,\"name\":\"0\",\"path\":\"" path "\",\"type\":\"sentence_transformers." type "\"}"
#define TRANSFORMER MODULE("models.Transformer", "")
#define POOLING     MODULE("models.Pooling", "1_Pooling")
#define NORMALIZE   MODULE("models.Normalize", "2_Normalize")

/* One file of the folder gets the text, the others are good or absent. */
struct refusal {
    const char *file;
    const char *text;
    enum err_code code;
    const char *words[5]; /* NULL-terminated */
};

static const struct refusal refusals[] = {
    {"config.json", "{", ERR_INVALID, {"config.json", "JSON"}},
    {"config.json", "[]", ERR_INVALID, {"config.json", "object"}},
    {"config.json", BERT ",\"hidden_size\":32}", ERR_INVALID, {"config.json", "JSON"}},
    {"config.json", "{" REQUIRED "}", ERR_UNSUPPORTED, {"model_type", "nothing", "one of bert,"}},
    {"config.json", "{\"architectures\":[]," REQUIRED "}", ERR_UNSUPPORTED, {"model_type"}},
    {"config.json", "{\"architectures\":[1]," REQUIRED "}", ERR_UNSUPPORTED, {"architectures"}},
    {"config.json",
     "{\"architectures\":[\"BertModel\",\"RobertaModel\"]," REQUIRED "}",
     ERR_UNSUPPORTED,
     {"architectures", "one family"}},
    {"config.json",
     "{\"architectures\":[\"JinaBertModel\"]," REQUIRED "}",
     ERR_UNSUPPORTED,
     {"architectures"}},
    {"config.json",
     "{\"architectures\":[\"BertForTeleportation\"]," REQUIRED "}",
     ERR_UNSUPPORTED,
     {"architectures", "ForMaskedLM"}},
    {"config.json",
     BERT ",\"architectures\":[\"RobertaModel\"]}",
     ERR_UNSUPPORTED,
     {"architectures", "roberta", "model_type is bert"}},
    {"config.json",
     "{\"model_type\":\"nomic_bert\"," REQUIRED "}",
     ERR_UNSUPPORTED,
     {"model_type", "a string", "bert, distilbert, roberta, xlm-roberta"}},
    {"config.json",
     "{\"model_type\":\"roberta\",\"pad_token_id\":62," REQUIRED "}",
     ERR_INVALID,
     {"pad_token_id", "62", "from 0 to 61"}},
    {"config.json",
     "{\"model_type\":\"roberta\",\"pad_token_id\":null," REQUIRED "}",
     ERR_INVALID,
     {"pad_token_id", "null"}},
    {"config.json", BERT ",\"auto_map\":{\"AutoModel\":\"x.Y\"}}", ERR_UNSUPPORTED, {"auto_map"}},
    {"config.json", BERT ",\"pruned_heads\":{\"0\":[1]}}", ERR_UNSUPPORTED, {"pruned_heads"}},
    {"config.json",
     BERT ",\"quantization_config\":{\"bits\":4}}",
     ERR_UNSUPPORTED,
     {"quantization_config"}},
    {"config.json", BERT ",\"embedding_size\":16}", ERR_UNSUPPORTED, {"embedding_size", "16"}},
    {"config.json", BERT ",\"problem_type\":\"x\"}", ERR_UNSUPPORTED, {"problem_type"}},
    {"config.json", BERT ",\"id2label\":{\"0\":\"a\",\"2\":\"b\"}}", ERR_INVALID, {"id2label"}},
    {"config.json", BERT ",\"id2label\":{\"0\":\"a\",\"00\":\"b\"}}", ERR_INVALID, {"id2label"}},
    {"config.json", BERT ",\"id2label\":{\"0\":\"\"}}", ERR_INVALID, {"id2label"}},
    {"config.json", BERT ",\"id2label\":[\"a\"]}", ERR_INVALID, {"id2label"}},
    {"config.json", BERT ",\"num_labels\":0}", ERR_INVALID, {"num_labels"}},
    {"config.json", "{\"model_type\":7," REQUIRED "}", ERR_UNSUPPORTED, {"model_type", "7"}},
    {"config.json",
     BERT ",\"hidden_act\":\"quick_gelu\"}",
     ERR_UNSUPPORTED,
     {"hidden_act", "\"gelu\""}},
    {"config.json", BERT ",\"hidden_act\":\"relu6\"}", ERR_UNSUPPORTED, {"hidden_act"}},
    {"config.json", BERT ",\"hidden_act\":{}}", ERR_UNSUPPORTED, {"hidden_act", "an object"}},
    {"config.json",
     BERT ",\"position_embedding_type\":\"relative_key\"}",
     ERR_UNSUPPORTED,
     {"position_embedding_type", "\"absolute\""}},
    {"config.json", BERT ",\"is_decoder\":true}", ERR_UNSUPPORTED, {"is_decoder", "true"}},
    {"config.json", BERT ",\"is_decoder\":1}", ERR_UNSUPPORTED, {"is_decoder", "1", "false"}},
    {"config.json", BERT ",\"layer_norm_eps\":0}", ERR_INVALID, {"layer_norm_eps", "found 0"}},
    {"config.json", BERT ",\"layer_norm_eps\":-1}", ERR_INVALID, {"layer_norm_eps", "-1"}},
    {"config.json", BERT ",\"layer_norm_eps\":\"x\"}", ERR_INVALID, {"layer_norm_eps", "a string"}},
    {"config.json", BERT ",\"hidden_dropout_prob\":1}", ERR_INVALID, {"hidden_dropout_prob"}},
    {"config.json",
     BERT ",\"attention_probs_dropout_prob\":-0.1}",
     ERR_INVALID,
     {"attention_probs_dropout_prob", "-0.1"}},
    {"config.json",
     BERT ",\"type_vocab_size\":0}",
     ERR_INVALID,
     {"type_vocab_size", "found 0", "from 1 to 256"}},
    {"config.json", BERT ",\"type_vocab_size\":257}", ERR_INVALID, {"type_vocab_size", "257"}},
    {"tokenizer_config.json", "[]", ERR_INVALID, {"tokenizer_config.json", "object"}},
    {"tokenizer_config.json",
     "{\"do_lower_case\":\"yes\"}",
     ERR_INVALID,
     {"tokenizer_config.json", "do_lower_case", "a string", "true or false"}},
    {"tokenizer_config.json", "{\"strip_accents\":0}", ERR_INVALID, {"strip_accents", "found 0"}},
    {"tokenizer_config.json",
     "{\"tokenize_chinese_chars\":[]}",
     ERR_INVALID,
     {"tokenize_chinese_chars", "an array"}},
    {"sentence_bert_config.json",
     "{\"max_seq_length\":1}",
     ERR_INVALID,
     {"sentence_bert_config.json", "max_seq_length", "found 1", "from 2"}},
    {"sentence_bert_config.json",
     "{\"max_seq_length\":128.5}",
     ERR_INVALID,
     {"max_seq_length", "128.5"}},
    {"sentence_bert_config.json", "{\"max_seq_length\":-128}", ERR_INVALID, {"-128"}},
    {"modules.json", "{}", ERR_INVALID, {"modules.json", "array"}},
    {"modules.json", "[]", ERR_INVALID, {"modules.json", "1 to 16"}},
    {"modules.json", "[" TRANSFORMER "]", ERR_UNSUPPORTED, {"modules.json", "no Pooling"}},
    {"modules.json",
     "[{\"type\":\"custom.Transformer\",\"path\":\"\"}," POOLING "]",
     ERR_UNSUPPORTED,
     {"module 0", "sentence_transformers"}},
    {"modules.json", "[1,2]", ERR_INVALID, {"module 0", "strings"}},
    {"modules.json", "[" POOLING "," TRANSFORMER "]", ERR_UNSUPPORTED, {"module 0"}},
    {"modules.json", "[" TRANSFORMER "," NORMALIZE "]", ERR_UNSUPPORTED, {"module 1"}},
    {"modules.json",
     "[" TRANSFORMER "," POOLING "," MODULE("models.Dense", "2_Dense") "]",
     ERR_NOT_FOUND,
     {"2_Dense/config.json"}},
    {"modules.json",
     "[" TRANSFORMER "," POOLING "," MODULE("models.LSTM", "2_LSTM") "]",
     ERR_UNSUPPORTED,
     {"module 2", "models.LSTM", "Normalize"}},
    {"modules.json",
     "[" MODULE("base.modules.router.Router", "") "]",
     ERR_UNSUPPORTED,
     {"module 0", "type sentence_transformers.base.modules.router.Router"}},
    {"modules.json",
     "[" MODULE("models.Transformer", "0_Transformer") "," POOLING "]",
     ERR_NOT_FOUND,
     {"0_Transformer/config.json"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "") "]",
     ERR_UNSUPPORTED,
     {"module 1", "folder of its own"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "/etc") "]",
     ERR_INVALID,
     {"module 1", "path", "relative"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "..") "]",
     ERR_INVALID,
     {"module 1", "path"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "a/../../b") "]",
     ERR_INVALID,
     {"module 1", "path"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "a/..") "]",
     ERR_INVALID,
     {"module 1", "path"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "..\\\\x") "]",
     ERR_INVALID,
     {"module 1", "path"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "a\\u0000b") "]",
     ERR_INVALID,
     {"module 1", "path"}},
    {"modules.json",
     "[" TRANSFORMER "," MODULE("models.Pooling", "absent") "]",
     ERR_NOT_FOUND,
     {"absent/config.json"}},
    {"1_Pooling/config.json", "[]", ERR_INVALID, {"1_Pooling/config.json", "object"}},
    {"1_Pooling/config.json",
     "{\"pooling_mode\":\"mode\"}",
     ERR_UNSUPPORTED,
     {"pooling_mode", "weightedmean"}},
    {"1_Pooling/config.json", "{\"pooling_mode\":[]}", ERR_UNSUPPORTED, {"pooling_mode"}},
    {"1_Pooling/config.json", "{\"pooling_mode\":\"mean,max\"}", ERR_UNSUPPORTED, {"pooling_mode"}},
    {"1_Pooling/config.json",
     "{\"pooling_mode\":[\"cls\",\"cls\",\"cls\",\"cls\",\"cls\",\"cls\",\"cls\"]}",
     ERR_UNSUPPORTED,
     {"pooling_mode", "1 to 6"}},
    {"1_Pooling/config.json",
     "{\"pooling_mode_mean_tokens\":1}",
     ERR_INVALID,
     {"pooling_mode_mean_tokens", "found 1"}},
    {"1_Pooling/config.json",
     "{\"pooling_mode_mean_tokens\":true,\"word_embedding_dimension\":384}",
     ERR_MISMATCH,
     {"word_embedding_dimension", "384", "32"}},
};

/* Fields that must be there, each with its bounds. */
static const struct {
    const char *field;
    long long min;
    long long max;
} sizes[] = {
    {"hidden_size", 1, CONFIG_HIDDEN_MAX},
    {"num_attention_heads", 1, CONFIG_HIDDEN_MAX},
    {"intermediate_size", 1, CONFIG_INTERMEDIATE_MAX},
    {"num_hidden_layers", 1, CONFIG_LAYERS_MAX},
    {"vocab_size", 1, CONFIG_VOCAB_MAX},
    {"max_position_embeddings", 2, CONFIG_POSITIONS_MAX},
};

static int set_up(void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    scratch_make(scratch);
    scratch_text(scratch, "config.json", BERT "}");
    scratch_mkdir(scratch, "1_Pooling");
    *state = scratch;
    return 0;
}

/* What load() gave in this test: freed with the folder. */
static struct config loaded[64];
static size_t n_loaded;

static int tear_down(void **state)
{
    while (n_loaded > 0) {
        config_done(&loaded[--n_loaded]);
    }
    scratch_remove(*state);
    free(*state);
    return 0;
}

static struct config load(struct scratch *scratch)
{
    struct config config;
    struct err err = ERR_INIT;
    if (config_load(scratch->dir, &config, &err) != ERR_OK) {
        fail_msg("%s", err.text);
    }
    assert_true(n_loaded < sizeof loaded / sizeof *loaded);
    loaded[n_loaded++] = config;
    return config;
}

static void test_refusals(void **state)
{
    struct scratch *scratch = *state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        scratch_text(scratch, "config.json", BERT "}");
        scratch_text(scratch, "1_Pooling/config.json", "{\"pooling_mode_mean_tokens\":true}");
        scratch_text(scratch, refusals[i].file, refusals[i].text);
        struct config config = {.hidden = 7};
        struct err err = ERR_INIT;
        enum err_code code = config_load(scratch->dir, &config, &err);
        if (code != refusals[i].code) {
            print_message("%s: %s\n", refusals[i].file, refusals[i].text);
        }
        expect_error(&err, code, refusals[i].code, refusals[i].words);
        assert_non_null(strstr(err.text, scratch->dir));
        assert_int_equal(config.hidden, 7);
        assert_int_equal(unlink(scratch_path(scratch, refusals[i].file)), 0);
    }
}

/* config.json with one of the required sizes written as the text says; NULL leaves it out. */
static void write_size(struct scratch *scratch, size_t changed, const char *text)
{
    char json[1024] = "{\"model_type\":\"bert\"";
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t used = strlen(json);
        if (i != changed) {
            (void)snprintf(json + used, sizeof json - used, ",\"%s\":%d", sizes[i].field, 4);
        } else if (text) {
            (void)snprintf(json + used, sizeof json - used, ",\"%s\":%s", sizes[i].field, text);
        }
    }
    size_t used = strlen(json);
    (void)snprintf(json + used, sizeof json - used, "}");
    scratch_text(scratch, "config.json", json);
}

static void expect_size_refused(struct scratch *scratch, size_t field, const char *text,
                                const char *found)
{
    write_size(scratch, field, text);
    struct config config;
    struct err err = ERR_INIT;
    char bounds[64];
    (void)snprintf(bounds, sizeof bounds, "from %lld to %lld", sizes[field].min, sizes[field].max);
    enum err_code code = config_load(scratch->dir, &config, &err);
    expect_error(&err, code, ERR_INVALID, WORDS("config.json", sizes[field].field, found, bounds));
}

static void test_sizes(void **state)
{
    struct scratch *scratch = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char number[32];
        expect_size_refused(scratch, i, NULL, "found nothing");
        expect_size_refused(scratch, i, "null", "found null");
        expect_size_refused(scratch, i, "\"4\"", "found a string");
        expect_size_refused(scratch, i, "4.5", "found 4.5");
        expect_size_refused(scratch, i, "true", "found true");
        expect_size_refused(scratch, i, "-4", "found -4");
        (void)snprintf(number, sizeof number, "%lld", sizes[i].min - 1);
        expect_size_refused(scratch, i, number, number);
        (void)snprintf(number, sizeof number, "%lld", sizes[i].max + 1);
        expect_size_refused(scratch, i, number, number);
    }
    write_size(scratch, 1, "3");
    struct config config;
    struct err err = ERR_INIT;
    enum err_code code = config_load(scratch->dir, &config, &err);
    expect_error(&err, code, ERR_INVALID, WORDS("hidden_size 4", "num_attention_heads 3"));
}

static void test_absent_folder(void **state)
{
    (void)state;
    struct config config;
    struct err err = ERR_INIT;
    enum err_code code = config_load("/nonexistent-folder", &config, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("/nonexistent-folder/config.json"));
}

static void test_defaults(void **state)
{
    struct config config = load(*state);
    assert_int_equal(config.hidden, 32);
    assert_int_equal(config.heads, 4);
    assert_int_equal(config.intermediate, 64);
    assert_int_equal(config.layers, 2);
    assert_int_equal(config.vocab, 413);
    assert_int_equal(config.positions, 64);
    assert_int_equal(config.types, 2);
    assert_true(config.layer_norm_eps == 1e-12f);
    assert_true(config.hidden_dropout == 0.1f);
    assert_true(config.attention_dropout == 0.1f);
    assert_true(config.tokenizer.lower_case);
    assert_true(config.tokenizer.strip_accents);
    assert_true(config.tokenizer.tokenize_chinese_chars);
    assert_int_equal(config.pooling, POOLING_MEAN);
    assert_false(config.folder_normalize);
    assert_int_equal(config.max_length, 64); /* 128 is above the positions */
}

static void test_values(void **state)
{
    struct scratch *scratch = *state;
    scratch_text(scratch, "config.json",
                 "{\"architectures\":[\"BertForMaskedLM\"],\"model_type\":null," REQUIRED
                 ",\"hidden_act\":\"gelu_python\",\"type_vocab_size\":1,\"layer_norm_eps\":1e-5,"
                 "\"hidden_dropout_prob\":0,\"attention_probs_dropout_prob\":0.25,"
                 "\"position_embedding_type\":\"absolute\",\"unknown\":{\"a\":[]}}");
    struct config config = load(scratch);
    assert_int_equal(config.types, 1);
    assert_true(config.layer_norm_eps == 1e-5f);
    assert_true(config.hidden_dropout == 0.0f);
    assert_true(config.attention_dropout == 0.25f);
}

static void test_tokenizer_config(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        const char *text;
        bool lower, strip, chinese;
    } cases[] = {
        {"{}", true, true, true},
        {"{\"do_lower_case\":false}", false, false, true},
        {"{\"do_lower_case\":false,\"strip_accents\":null}", false, false, true},
        {"{\"do_lower_case\":true,\"strip_accents\":false}", true, false, true},
        {"{\"do_lower_case\":false,\"strip_accents\":true}", false, true, true},
        {"{\"tokenize_chinese_chars\":false,\"model_max_length\":1e30}", true, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(scratch, "tokenizer_config.json", cases[i].text);
        struct config config = load(scratch);
        assert_int_equal(config.tokenizer.lower_case, cases[i].lower);
        assert_int_equal(config.tokenizer.strip_accents, cases[i].strip);
        assert_int_equal(config.tokenizer.tokenize_chinese_chars, cases[i].chinese);
    }
    /* sentence-transformers' own lower-casing comes before whatever the tokenizer does. */
    scratch_text(scratch, "sentence_bert_config.json", "{\"do_lower_case\":true}");
    assert_true(load(scratch).tokenizer.lower_case_first);
}

/* As transformers' classes say, unless model_input_names does. */
static void test_token_types(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        const char *text;
        bool types;
    } cases[] = {
        {"{}", true},
        {"{\"tokenizer_class\":\"BertTokenizer\"}", true},
        {"{\"tokenizer_class\":\"BertTokenizerFast\"}", true},
        {"{\"tokenizer_class\":\"BertJapaneseTokenizer\"}", false},
        {"{\"tokenizer_class\":\"DPRReaderTokenizerFast\"}", true},
        {"{\"tokenizer_class\":\"TokenizersBackend\"}", false},
        {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", false},
        {"{\"tokenizer_class\":\"XLMRobertaTokenizer\"}", false},
        {"{\"tokenizer_class\":\"TokenizersBackend\",\"model_input_names\":[\"input_ids\","
         "\"token_type_ids\"]}",
         true},
        {"{\"tokenizer_class\":\"BertTokenizer\",\"model_input_names\":[\"input_ids\"]}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(scratch, "tokenizer_config.json", cases[i].text);
        if (load(scratch).token_types != cases[i].types) {
            fail_msg("%s", cases[i].text);
        }
    }
}

static void test_max_length(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {{"{\"max_seq_length\":48,\"do_lower_case\":false}", 48},
                 {"{\"max_seq_length\":2}", 2},
                 {"{\"max_seq_length\":512}", 64},
                 {"{\"max_seq_length\":null}", 64}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(scratch, "sentence_bert_config.json", cases[i].text);
        assert_int_equal(load(scratch).max_length, cases[i].length);
    }
    assert_int_equal(unlink(scratch_path(scratch, "sentence_bert_config.json")), 0);
    scratch_text(scratch, "config.json",
                 "{\"model_type\":\"bert\",\"hidden_size\":8,\"num_attention_heads\":2,"
                 "\"intermediate_size\":8,\"num_hidden_layers\":1,\"vocab_size\":9,"
                 "\"max_position_embeddings\":512}");
    assert_int_equal(load(scratch).max_length, 128);
}

static void test_sentence_transformers(void **state)
{
    struct scratch *scratch = *state;
    scratch_text(scratch, "1_Pooling/config.json",
                 "{\"word_embedding_dimension\":32,\"pooling_mode_cls_token\":true,"
                 "\"pooling_mode_mean_tokens\":false,\"pooling_mode_max_tokens\":false}");
    assert_int_equal(load(scratch).pooling, POOLING_CLS); /* without modules.json too */
    scratch_text(scratch, "modules.json", "[" TRANSFORMER "," POOLING "]");
    struct config config = load(scratch);
    assert_int_equal(config.pooling, POOLING_CLS);
    assert_false(config.folder_normalize);
    scratch_text(scratch, "modules.json", "[" TRANSFORMER "," POOLING "," NORMALIZE "]");
    assert_true(load(scratch).folder_normalize);
    /* Where the classes have moved inside the package, and another folder. */
    scratch_mkdir(scratch, "deep");
    scratch_mkdir(scratch, "deep/..pool");
    scratch_text(scratch, "deep/..pool/config.json", "{\"pooling_mode_mean_tokens\":true}");
    scratch_text(scratch, "modules.json",
                 "[" MODULE("base.modules.transformer.Transformer",
                            "") "," MODULE("models.pooling.Pooling", "deep/..pool") "]");
    assert_int_equal(load(scratch).pooling, POOLING_MEAN);
}

static void test_pooling_names(void **state)
{
    (void)state;
    enum pooling pooling = POOLING_CLS;
    struct err err = ERR_INIT;
    char name[POOLING_TEXT_SIZE];
    assert_string_equal(pooling_name(POOLING_MEAN, name), "mean");
    assert_string_equal(pooling_name(POOLING_CLS, name), "cls");
    assert_int_equal(pooling_parse("mean", &pooling, &err), ERR_OK);
    assert_int_equal(pooling, POOLING_MEAN);
    assert_int_equal(pooling_parse("cls", &pooling, &err), ERR_OK);
    assert_int_equal(pooling, POOLING_CLS);
    static const char all[] = "lasttoken,weightedmean,mean_sqrt_len_tokens,max,cls,mean";
    assert_int_equal(pooling_parse(all, &pooling, &err), ERR_OK);
    assert_string_equal(pooling_name(pooling, name), all);
    assert_int_equal(pooling_count(pooling), 6);
    assert_int_equal(pooling_mode(pooling, 3), POOLING_MAX);
    static const char *const wrong[] = {"",      "maximum", "mean,",
                                        ",mean", "Mean",    "cls,cls,cls,cls,cls,cls,cls"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err why = ERR_INIT;
        expect_error(&why, pooling_parse(wrong[i], &pooling, &why), ERR_USAGE,
                     WORDS("mean", "cls"));
    }
}

/* Each test has a folder of its own. */
#define FOLDER_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_refusals),
        FOLDER_TEST(test_sizes),
        FOLDER_TEST(test_absent_folder),
        FOLDER_TEST(test_defaults),
        FOLDER_TEST(test_values),
        FOLDER_TEST(test_tokenizer_config),
        FOLDER_TEST(test_token_types),
        FOLDER_TEST(test_max_length),
        FOLDER_TEST(test_sentence_transformers),
        FOLDER_TEST(test_pooling_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
