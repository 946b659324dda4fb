/* Each kind of model folder with each place that allocates failing in turn, from its files to a
 * vector, logits, spans' words and the embedding space: it works or ends with ERR_NOMEM, nothing
 * leaks (LeakSanitizer looks), and what worked gave the same bytes as the one that lacked nothing.
 * jansson's own allocations are left alone: its lexer ignores some failures and would read a
 * shortened text. */
#include "model/model.h"
#include "model/space.h"
#include "tests/fault/chaos.h"
#include "tests/support/testing.h"

enum { PATH_SIZE = 512, OUT_MAX = 1 << 20, TOKENS_MAX = 64 };

/* Added tokens, marks out of order, capitals, unknown characters. */
#define FIRST  "The end of it, [MASK] caf\xc3\xa9 e\xcc\x81\xcc\xa3 <s> \xef\xac\x81 \xe6\x97\xa5 x"
#define SECOND "b, of it"

static const struct row {
    const char *folder;
    enum precision precision;
} rows[] = {
    {"golden/tiny-bert", PRECISION_FP32},       {"golden/tiny-bert", PRECISION_BF16},
    {"golden/tiny-bert", PRECISION_INT8},       {"models/plain-sharded", PRECISION_FP32},
    {"models/seq-distilbert", PRECISION_FP32},  {"models/seq-multilabel", PRECISION_FP32},
    {"models/seq-pairs", PRECISION_FP32},       {"models/seq-roberta", PRECISION_FP32},
    {"models/seq-score", PRECISION_FP32},       {"models/st-dense", PRECISION_FP32},
    {"models/st-distilbert", PRECISION_FP32},   {"models/st-gelu_new", PRECISION_FP32},
    {"models/st-prompts", PRECISION_FP32},      {"models/st-roberta", PRECISION_FP32},
    {"models/tokens-six", PRECISION_FP32},      {"tokenizers/added", PRECISION_FP32},
    {"tokenizers/byte-level", PRECISION_FP32},  {"tokenizers/cased", PRECISION_FP32},
    {"tokenizers/normalizers", PRECISION_FP32}, {"tokenizers/unigram", PRECISION_FP32},
    {"tokenizers/wordpiece", PRECISION_FP32},
};

enum { ROWS = sizeof rows / sizeof *rows };

static enum err_code no_room(struct err *err)
{
    return err_nomem(err, 1);
}

/* Ids of a pair and of a text, and their text again. */
static enum err_code use_tokenizer(const struct tokenizer *tokenizer, struct tokens *tokens,
                                   struct buf *out, struct err *err)
{
    const struct tokenizer_text pair[2] = {{FIRST, sizeof FIRST - 1}, {SECOND, sizeof SECOND - 1}};
    const struct encode_options options = {
        .max_length = TOKENS_MAX, .add_special_tokens = true, .offsets = true};
    enum err_code code = tokenizer_encode_pair(tokenizer, pair, &options, tokens, err);
    if (code == ERR_OK && !buf_append(out, tokens->ids, tokens->n * sizeof *tokens->ids)) {
        return no_room(err);
    }
    if (code == ERR_OK) {
        code = tokenizer_encode(tokenizer, FIRST, sizeof FIRST - 1, &options, tokens, err);
    }
    if (code == ERR_OK && !buf_append(out, tokens->ids, tokens->n * sizeof *tokens->ids)) {
        return no_room(err);
    }
    if (code == ERR_OK && tokenizer_can_decode(tokenizer)) {
        code = tokenizer_decode(tokenizer, tokens->ids, tokens->n, false, out, err);
    }
    return code;
}

/* The vector of one text. */
static enum err_code use_encoder(const struct model *model, const struct tokens *tokens,
                                 struct buf *out, struct err *err)
{
    struct workspace *workspace = NULL;
    struct batch batch = {0};
    const struct batch_text text = {.ids = tokens->ids, .types = tokens->types, .n = tokens->n};
    float *row = calloc(vector_room(model->vector), sizeof *row);
    enum err_code code = ERR_OK;
    if (!row || !batch_init(&batch, 1, TOKENS_MAX)) {
        code = no_room(err);
    } else {
        code = workspace_create(model->encoder, 1, TOKENS_MAX, &workspace, err);
    }
    if (code == ERR_OK) {
        assert_true(batch_add_text(&batch, &text));
        encoder_forward_together(model->encoder, workspace, &batch, model->config.pooling, 2,
                                 &(struct outputs){.pooled = row});
        if (!vector_apply(model->vector, row, 1) ||
            !buf_append(out, row, vector_out(model->vector) * sizeof *row)) {
            code = no_room(err);
        }
    }
    workspace_destroy(workspace);
    batch_done(&batch);
    free(row);
    return code;
}

/* What serving needs to know of the folder. Heads that found no memory end it; those that do not
 * fit are none. */
static enum err_code use_model(const struct model *model, struct buf *out, struct err *err)
{
    struct space space;
    struct heads *heads = NULL;
    char *source = NULL;
    size_t skip = 0;
    struct err warning = ERR_INIT;
    enum pooling pooling = model->config.pooling;
    enum err_code code = model_default_heads(model, pooling, NULL, &heads, &source, &warning, err);
    if (code == ERR_OK && heads && !buf_append_str(out, heads->sha256)) {
        code = no_room(err);
    }
    if (code == ERR_OK) {
        code = model_prompt_skip(model, "query: ", TOKENS_MAX, &skip, err);
    }
    if (code == ERR_OK) {
        code = space_make(model, pooling, model->config.max_length, &space, err);
    }
    if (code == ERR_OK && !buf_append_str(out, space.id)) {
        code = no_room(err);
    }
    free(source);
    heads_release(heads);
    return code;
}

static enum err_code use(const struct row *row, struct buf *out, struct err *err)
{
    char dir[PATH_SIZE];
    (void)snprintf(dir, sizeof dir, ORTHRUS_TEST_DATA "/%s", row->folder);
    bool whole = strncmp(row->folder, "tokenizers", 10) != 0;
    const struct encoder_options options = {
        .precision = row->precision, .isa = cpu_detect(), .threads = 2};
    const struct tokenizer_options plain = tokenizer_options_default();
    struct tokens tokens = {0};
    struct model *model = NULL;
    struct tokenizer *alone = NULL;
    enum err_code code = whole ? model_load(dir, &options, &model, err)
                               : tokenizer_open(dir, &plain, &alone, err);
    if (code == ERR_OK) {
        code = use_tokenizer(whole ? model->tokenizer : alone, &tokens, out, err);
    }
    if (code == ERR_OK && whole) {
        code = use_encoder(model, &tokens, out, err);
    }
    if (code == ERR_OK && whole) {
        code = use_model(model, out, err);
    }
    tokens_done(&tokens);
    tokenizer_destroy(alone);
    model_destroy(model);
    return code;
}

static void test_folder(void **state)
{
    const struct row *row = &rows[*(const size_t *)*state];
    struct buf expected;
    struct buf got;
    buf_init(&expected, OUT_MAX);
    buf_init(&got, OUT_MAX);
    struct err err = ERR_INIT;
    enum err_code code = use(row, &expected, &err);
    if (code == ERR_UNSUPPORTED && row->precision != PRECISION_FP32) {
        print_message("%s\n", err.text);
    } else if (code != ERR_OK) {
        fail_msg("%s", err.text);
    }
    size_t failures = 0;
    for (bool failed = code == ERR_OK; failed; failures += failed) {
        err = (struct err)ERR_INIT;
        buf_clear(&got);
        chaos_fail_new();
        code = use(row, &got, &err);
        failed = chaos_failed();
        chaos_fail_at(0);
        if (code != ERR_OK
                ? !failed || code != ERR_NOMEM || err.code != ERR_NOMEM
                : got.size != expected.size || memcmp(got.data, expected.data, got.size) != 0) {
            fail_msg("place %zu: %s: %s", failures, err_name(code), err.text);
        }
    }
    print_message("%s: %zu places that had not failed before\n", row->folder, failures);
    buf_done(&got);
    buf_done(&expected);
}

int main(void)
{
    static size_t which[ROWS];
    chaos_count_threads(); /* who helps that can't be had: the others do it */
    struct CMUnitTest tests[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        which[i] = i;
        tests[i] = (struct CMUnitTest){
            .name = rows[i].folder, .test_func = test_folder, .initial_state = &which[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
