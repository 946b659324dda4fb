/* A folder's files → a tokenizer: tokenizer.json, else vocab.txt and what stands beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/text/tokenizer_private.h"

struct tokenizer_options tokenizer_options_default(void)
{
    return (struct tokenizer_options){
        .lower_case = true,
        .strip_accents = true,
        .tokenize_chinese_chars = true,
    };
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer) {
        warnings_done(&tokenizer->warnings);
        bert_done(&tokenizer->bert);
        rules_done(&tokenizer->rules);
        free(tokenizer->source);
        free(tokenizer);
    }
}

static struct tokenizer *make(const char *source, struct err *err)
{
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer) {
        tokenizer->source = strdup(source);
    }
    if (!tokenizer || !tokenizer->source) {
        (void)err_nomem(err, sizeof *tokenizer);
        tokenizer_destroy(tokenizer);
        return NULL;
    }
    return tokenizer;
}

/* Builds what is left to build once all rules are there. */
static enum err_code finish(struct tokenizer *tokenizer, struct err *err)
{
    struct pipeline *pipeline = &tokenizer->rules.pipeline;
    enum err_code code = tokenizer->is_bert ? added_ready(&pipeline->added, err)
                                            : pipeline_ready(pipeline, err);
    if (code != ERR_OK) {
        return err_prefix(err, "%s", tokenizer->source);
    }
    return rules_digest(&tokenizer->rules, tokenizer->digest, err);
}

static enum err_code give(struct tokenizer *tokenizer, enum err_code code,
                          struct tokenizer **ret_tokenizer)
{
    if (code != ERR_OK) {
        tokenizer_destroy(tokenizer);
        return code;
    }
    *ret_tokenizer = tokenizer;
    return ERR_OK;
}

/* --- tokenizer.json --------------------------------------------------------------------------- */

/* The words as lines of a vocab.txt; NULL where an id has none, or memory is out. */
static char *to_lines(const struct words *words, size_t *ret_size)
{
    char *lines = malloc(words->data_size + 1);
    size_t used = 0;
    for (size_t id = 0; id < words->ids && lines; id++) {
        struct word word = words_at(words, (int64_t)id);
        if (!word.size) {
            free(lines);
            return NULL;
        }
        memcpy(lines + used, word.bytes, word.size);
        used += word.size;
        lines[used++] = '\n';
    }
    if (lines) {
        lines[used] = '\0';
        *ret_size = used;
    }
    return lines;
}

/* A line loses white space at its end, and can't hold another one. */
static bool holds_the_same(const struct vocab *vocab, const struct words *words)
{
    bool same = vocab_size(vocab) == words->ids;
    for (size_t id = 0; same && id < words->ids; id++) {
        same = strcmp(vocab_word(vocab, (int32_t)id), words_at(words, (int64_t)id).bytes) == 0;
    }
    return same;
}

/* Takes the short way where it gives the same. */
static enum err_code try_bert(struct tokenizer *tokenizer, struct err *err)
{
    struct tokenizer_options options;
    const struct words *words = &tokenizer->rules.pipeline.subword.words;
    size_t size = 0;
    if (!rules_are_bert(&tokenizer->rules, &options)) {
        return ERR_OK;
    }
    char *lines = to_lines(words, &size);
    if (!lines) {
        return ERR_OK;
    }
    struct vocab *vocab;
    enum err_code code = vocab_parse(lines, size, tokenizer->source, &vocab, err);
    if (code == ERR_OK && !holds_the_same(vocab, words)) {
        vocab_destroy(vocab);
        return ERR_OK;
    }
    code = code == ERR_OK ? bert_init(&tokenizer->bert, vocab, tokenizer->source, &options, err)
                          : code;
    tokenizer->is_bert = code == ERR_OK;
    return code;
}

/* sentence-transformers' do_lower_case: a Lowercase before the other steps, where there is none. */
static enum err_code lower_first(struct tokenizer *tokenizer, struct err *err)
{
    struct normalizer *normalizer = &tokenizer->rules.pipeline.normalizer;
    for (size_t i = 0; i < normalizer->n; i++) {
        if (normalizer->steps[i].kind == NORMALIZER_LOWERCASE) {
            return ERR_OK;
        }
    }
    if (normalizer->n == NORMALIZER_STEPS_MAX) {
        return err_set(err, ERR_LIMIT, "%s: more than %d normalizers with do_lower_case",
                       tokenizer->source, NORMALIZER_STEPS_MAX - 1);
    }
    memmove(&normalizer->steps[1], &normalizer->steps[0],
            normalizer->n * sizeof *normalizer->steps);
    normalizer->steps[0] = (struct normalizer_step){.kind = NORMALIZER_LOWERCASE};
    normalizer->n++;
    return ERR_OK;
}

static enum err_code open_json(const char *path, const char *dir,
                               const struct tokenizer_options *options,
                               struct tokenizer **ret_tokenizer, struct err *err)
{
    struct tokenizer *tokenizer = make(path, err);
    if (!tokenizer) {
        return ERR_NOMEM;
    }
    enum err_code code = rules_read(path, &tokenizer->rules, &tokenizer->warnings, err);
    code = code == ERR_OK ? rules_compare_config(dir, path, &tokenizer->rules.pipeline,
                                                 &tokenizer->warnings, err)
                          : code;
    if (code == ERR_OK && options->lower_case_first) {
        code = lower_first(tokenizer, err);
    }
    code = code == ERR_OK ? try_bert(tokenizer, err) : code;
    code = code == ERR_OK ? finish(tokenizer, err) : code;
    return give(tokenizer, code, ret_tokenizer);
}

/* --- vocab.txt -------------------------------------------------------------------------------- */

static enum err_code copy_words(const struct vocab *vocab, struct words *words, struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t id = 0; id < vocab_size(vocab) && code == ERR_OK; id++) {
        const char *word = vocab_word(vocab, (int32_t)id);
        code = words_add(words, word, strlen(word), (int64_t)id, err);
    }
    return code;
}

static enum err_code read_vocab(struct tokenizer *tokenizer,
                                const struct tokenizer_options *options, struct err *err)
{
    struct vocab *vocab;
    enum err_code code = vocab_read(tokenizer->source, &vocab, err);
    code = code == ERR_OK ? bert_init(&tokenizer->bert, vocab, tokenizer->source, options, err)
                          : code;
    code = code == ERR_OK ? copy_words(vocab, &tokenizer->rules.pipeline.subword.words, err) : code;
    return code == ERR_OK ? rules_of_bert(options, &tokenizer->rules, err) : code;
}

/* dir is NULL where nothing stands beside the file. */
static enum err_code open_vocab(const char *path, const char *dir,
                                const struct tokenizer_options *options,
                                struct tokenizer **ret_tokenizer, struct err *err)
{
    struct tokenizer *tokenizer = make(path, err);
    if (!tokenizer) {
        return ERR_NOMEM;
    }
    struct tokenizer_options same;
    enum err_code code = read_vocab(tokenizer, options, err);
    if (code == ERR_OK && dir) {
        code = rules_read_extras(dir, &tokenizer->rules.pipeline, &tokenizer->warnings, err);
    }
    if (code == ERR_OK && options->lower_case_first) {
        code = lower_first(tokenizer, err); /* the general way: not what bert.c does */
    }
    tokenizer->is_bert = code == ERR_OK && rules_are_bert(&tokenizer->rules, &same);
    code = code == ERR_OK ? finish(tokenizer, err) : code;
    return give(tokenizer, code, ret_tokenizer);
}

enum err_code tokenizer_create(const char *vocab_path, const struct tokenizer_options *options,
                               struct tokenizer **ret_tokenizer, struct err *err)
{
    return open_vocab(vocab_path, NULL, options, ret_tokenizer, err);
}

enum err_code tokenizer_open(const char *dir, const struct tokenizer_options *options,
                             struct tokenizer **ret_tokenizer, struct err *err)
{
    char *json = file_join(dir, "tokenizer.json");
    char *vocab = file_join(dir, "vocab.txt");
    enum err_code code = ERR_NOMEM;
    if (!json || !vocab) {
        (void)err_nomem(err, strlen(dir));
    } else if (file_exists(json)) {
        code = open_json(json, dir, options, ret_tokenizer, err);
    } else if (file_exists(vocab)) {
        code = open_vocab(vocab, dir, options, ret_tokenizer, err);
    } else {
        code = err_set(err, ERR_NOT_FOUND,
                       "%s: neither tokenizer.json nor vocab.txt is there (transformers' fast "
                       "tokenizers save a tokenizer.json)",
                       dir);
    }
    free(vocab);
    free(json);
    return code;
}
