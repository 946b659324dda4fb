/* What stands beside a vocab.txt and adds tokens to it: added_tokens_decoder and
 * additional_special_tokens of tokenizer_config.json, added_tokens.json, special_tokens_map.json.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/text/rules/rules.h"

enum { EXTRAS_FILE_MAX = 16 << 20 };

/* Puts a token in: a word of the vocabulary keeps its id, another one has the id asked for, or the
 * next free one where asked is below 0. */
static enum err_code add(const struct members *members, struct pipeline *pipeline,
                         struct added_token *token, int64_t asked)
{
    const struct words *words = &pipeline->subword.words;
    const struct added *added = &pipeline->added;
    const struct added_token *known = added_find_content(added, token->content, token->size);
    int64_t id = known ? known->id : words_find(words, token->content, token->size);
    int64_t next = (int64_t)words->ids;
    if (added->n && added->tokens[added->n - 1].id >= next) {
        next = added->tokens[added->n - 1].id + 1;
    }
    id = id != WORDS_NONE ? id : asked >= 0 ? asked : next;
    const struct added_token *other = added_find(added, (int32_t)id);
    bool taken = !known && (other || (words_at(words, id).bytes &&
                                      words_find(words, token->content, token->size) != id));
    if ((asked >= 0 && asked != id) || taken || id >= WORDS_MAX) {
        return err_set(members->err, ERR_CONFLICT,
                       "%s: %s: an added token has the id %lld, the vocabulary says otherwise",
                       members->file, members->way, (long long)asked);
    }
    token->id = (int32_t)id;
    return added_put(&pipeline->added, token, members->err);
}

static void set_content(struct added_token *token, const char *content, size_t size)
{
    token->content = token->decoded = (char *)(uintptr_t)content; /* copied by added_put */
    token->size = token->decoded_size = size;
}

/* A token as an object, as transformers writes AddedToken. */
static enum err_code add_object(const struct members *members, struct pipeline *pipeline,
                                bool special, int64_t id)
{
    const char *content = NULL;
    size_t size = 0;
    struct added_token token = {.special = special, .normalized = !special};
    enum err_code code = members_string(members, "content", true, ADDED_BYTES_MAX, &content, &size);
    code = code == ERR_OK ? members_bool(members, "special", false, &token.special) : code;
    token.normalized = !token.special;
    code = code == ERR_OK ? members_bool(members, "normalized", false, &token.normalized) : code;
    code = code == ERR_OK ? members_bool(members, "single_word", false, &token.single_word) : code;
    code = code == ERR_OK ? members_bool(members, "lstrip", false, &token.lstrip) : code;
    code = code == ERR_OK ? members_bool(members, "rstrip", false, &token.rstrip) : code;
    if (code != ERR_OK || size == 0) {
        return code;
    }
    set_content(&token, content, size);
    return add(members, pipeline, &token, id);
}

/* {"30522": {"content": "[SUBJ]", …}, …} */
static enum err_code read_decoder(const struct members *file, struct pipeline *pipeline)
{
    struct members list;
    if (members_absent(file, "added_tokens_decoder")) {
        return ERR_OK;
    }
    enum err_code code = members_enter(file, "added_tokens_decoder", &list);
    const char *key;
    const struct jval *value;
    void *at = code == ERR_OK ? jval_object_next(list.object, NULL, &key, &value) : NULL;
    for (; at && code == ERR_OK; at = jval_object_next(list.object, at, &key, &value)) {
        char *end;
        long id = strtol(key, &end, 10);
        struct members token;
        if (*end || end == key || id < 0 || id >= WORDS_MAX) {
            return err_set(file->err, ERR_INVALID, "%s: added_tokens_decoder: a key that is no id",
                           file->file);
        }
        code = members_enter_at(file, "added_tokens_decoder", value, (size_t)id, &token);
        code = code == ERR_OK ? add_object(&token, pipeline, false, id) : code;
    }
    return code;
}

/* A special token: its content, or an object. */
static enum err_code add_special(const struct members *file, const char *key,
                                 const struct jval *value, struct pipeline *pipeline)
{
    const char *content;
    size_t size;
    struct members token;
    if (jval_is_null(value)) {
        return ERR_OK;
    }
    if (!jval_string(value, &content, &size)) {
        enum err_code code = members_enter_at(file, key, value, 0, &token);
        return code == ERR_OK ? add_object(&token, pipeline, true, -1) : code;
    }
    const struct added_token *known = added_find_content(&pipeline->added, content, size);
    if (size == 0 || (known && known->special)) {
        return ERR_OK; /* it is there, as another file describes it */
    }
    struct added_token plain = {.special = true};
    set_content(&plain, content, size);
    return add(file, pipeline, &plain, -1);
}

static enum err_code read_additional(const struct members *file, struct pipeline *pipeline)
{
    static const char *const keys[] = {"additional_special_tokens", "extra_special_tokens"};
    enum err_code code = ERR_OK;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const struct jval *list = jval_get(file->object, keys[k]);
        for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
            code = add_special(file, keys[k], jval_at(list, i), pipeline);
        }
        const char *name; /* newer files give each a name */
        const struct jval *value;
        void *at = jval_object_next(list, NULL, &name, &value);
        for (; at && code == ERR_OK; at = jval_object_next(list, at, &name, &value)) {
            code = add_special(file, keys[k], value, pipeline);
        }
    }
    return code;
}

/* A vocab.txt alone does not say how text is split; the classes that split as BERT's are known. */
static enum err_code check_class(const struct members *file)
{
    static const char *const classes[] = {"BertTokenizer",
                                          "DistilBertTokenizer",
                                          "ElectraTokenizer",
                                          "MobileBertTokenizer",
                                          "SqueezeBertTokenizer",
                                          "RetriBertTokenizer",
                                          "ConvBertTokenizer",
                                          "LayoutLMTokenizer",
                                          "DPRQuestionEncoderTokenizer",
                                          "DPRContextEncoderTokenizer",
                                          "PreTrainedTokenizer",
                                          "TokenizersBackend"};
    const char *name = NULL;
    size_t size = 0;
    enum err_code code = members_string(file, "tokenizer_class", false, SIZE_MAX, &name, &size);
    bool known = code != ERR_OK || !name;
    size_t bare = name && size > 4 && memcmp(name + size - 4, "Fast", 4) == 0 ? size - 4 : size;
    for (size_t i = 0; !known && i < sizeof classes / sizeof *classes; i++) {
        known = strlen(classes[i]) == bare && memcmp(classes[i], name, bare) == 0;
    }
    return known ? code
                 : members_wrong(file, "tokenizer_class", ERR_UNSUPPORTED,
                                 "BertTokenizer and its like, where there is no tokenizer.json");
}

/* The tokens by what they are for: those that are put around a text, or stand for an unknown word,
 * are BERT's own; the others are special. */
static enum err_code read_roles(const struct members *file, struct pipeline *pipeline)
{
    static const struct {
        const char *key;
        const char *only; /* NULL: any */
    } roles[] = {{"bos_token", NULL},    {"eos_token", NULL}, {"unk_token", "[UNK]"},
                 {"sep_token", "[SEP]"}, {"pad_token", NULL}, {"cls_token", "[CLS]"},
                 {"mask_token", NULL}};
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < sizeof roles / sizeof *roles && code == ERR_OK; i++) {
        const struct jval *value = jval_get(file->object, roles[i].key);
        const struct jval *content = jval_is_string(value) ? value : jval_get(value, "content");
        const char *text = NULL;
        size_t size;
        if (roles[i].only && jval_string(content, &text, &size) &&
            strcmp(text, roles[i].only) != 0) {
            code = members_wrong(file, roles[i].key, ERR_UNSUPPORTED,
                                 "BERT's own [UNK], [SEP] and [CLS], where there is no "
                                 "tokenizer.json");
        } else if (!members_absent(file, roles[i].key)) {
            code = add_special(file, roles[i].key, value, pipeline);
        }
    }
    return code;
}

static enum err_code read_config(const struct members *file, struct pipeline *pipeline)
{
    enum err_code code = check_class(file);
    code = code == ERR_OK ? read_decoder(file, pipeline) : code;
    code = code == ERR_OK ? read_roles(file, pipeline) : code;
    return code == ERR_OK ? read_additional(file, pipeline) : code;
}

/* {"[SUBJ]": 30522, …} */
static enum err_code read_added(const struct members *file, struct pipeline *pipeline)
{
    const char *key;
    const struct jval *value;
    enum err_code code = ERR_OK;
    void *at = jval_object_next(file->object, NULL, &key, &value);
    for (; at && code == ERR_OK; at = jval_object_next(file->object, at, &key, &value)) {
        int64_t id;
        struct added_token token = {.normalized = true};
        set_content(&token, key, strlen(key));
        if (!jval_int(value, &id) || id < 0 || token.size == 0) {
            return err_set(file->err, ERR_INVALID, "%s: not tokens with their ids", file->file);
        }
        if (!added_find_content(&pipeline->added, key, token.size)) {
            code = add(file, pipeline, &token, id);
        }
    }
    return code;
}

static enum err_code read_map(const struct members *file, struct pipeline *pipeline)
{
    enum err_code code = read_roles(file, pipeline);
    return code == ERR_OK ? read_additional(file, pipeline) : code;
}

/* --- Beside a tokenizer.json --------------------------------------------------------------------
 */

static void compare(const struct members *config, const char *key, bool ours,
                    const char *tokenizer_path)
{
    bool theirs;
    if (jval_bool(jval_get(config->object, key), &theirs) && theirs != ours) {
        warnings_add(config->warnings, "%s: %s is %s, but %s says otherwise, and counts",
                     config->file, key, theirs ? "true" : "false", tokenizer_path);
    }
}

/* Whether text is lower-cased: 1 or 0; -1 where a table decides. */
static int lowers(const struct normalizer *normalizer)
{
    int found = 0;
    for (size_t i = 0; i < normalizer->n; i++) {
        const struct normalizer_step *step = &normalizer->steps[i];
        if (step->kind == NORMALIZER_PRECOMPILED) {
            return -1;
        }
        found |= step->kind == NORMALIZER_LOWERCASE ||
                 (step->kind == NORMALIZER_BERT && step->lowercase);
    }
    return found;
}

static void compare_steps(const struct members *config, const struct pipeline *pipeline,
                          const char *tokenizer_path)
{
    const struct normalizer *normalizer = &pipeline->normalizer;
    if (lowers(normalizer) >= 0) {
        compare(config, "do_lower_case", lowers(normalizer), tokenizer_path);
    }
    if (normalizer->n == 1 && normalizer->steps[0].kind == NORMALIZER_BERT) {
        compare(config, "strip_accents", normalizer->steps[0].strip_accents, tokenizer_path);
        compare(config, "tokenize_chinese_chars", normalizer->steps[0].chinese, tokenizer_path);
    }
    for (size_t i = 0; i < pipeline->pretokenizer.n; i++) {
        const struct pretokenizer_step *step = &pipeline->pretokenizer.steps[i];
        if (step->kind == PRETOKENIZER_BYTE_LEVEL) {
            compare(config, "add_prefix_space", step->add_prefix_space, tokenizer_path);
        }
    }
}

/* An added token that tokenizer.json does not have so: the first one is said. */
static void compare_added(const struct members *config, const struct pipeline *pipeline,
                          const char *tokenizer_path)
{
    const struct jval *list = jval_get(config->object, "added_tokens_decoder");
    const char *key;
    const struct jval *value;
    void *at = jval_object_next(list, NULL, &key, &value);
    for (; at; at = jval_object_next(list, at, &key, &value)) {
        const char *content;
        size_t size;
        if (!jval_string(jval_get(value, "content"), &content, &size)) {
            continue;
        }
        const struct added_token *known = added_find_content(&pipeline->added, content, size);
        const struct {
            const char *name;
            bool ours;
        } flags[] = {{"single_word", known && known->single_word},
                     {"lstrip", known && known->lstrip},
                     {"rstrip", known && known->rstrip},
                     {"normalized", known && known->normalized}};
        bool same = known && strtol(key, NULL, 10) == known->id;
        for (size_t i = 0; i < sizeof flags / sizeof *flags && same; i++) {
            bool theirs;
            same = !jval_bool(jval_get(value, flags[i].name), &theirs) || theirs == flags[i].ours;
        }
        if (!same) {
            warnings_add(config->warnings,
                         "%s: added_tokens_decoder: %s says otherwise of token %ld, and counts",
                         config->file, tokenizer_path, strtol(key, NULL, 10));
            return;
        }
    }
}

enum err_code rules_compare_config(const char *dir, const char *tokenizer_path,
                                   const struct pipeline *pipeline, struct warnings *warnings,
                                   struct err *err)
{
    char *path = file_join(dir, "tokenizer_config.json");
    struct jval *root = NULL;
    if (!path) {
        return err_nomem(err, strlen(dir));
    }
    /* What is wrong with that file itself is said by who reads it for its limit. */
    if (file_exists(path) && jval_read_file(path, EXTRAS_FILE_MAX, &root, NULL) == ERR_OK) {
        const struct members config = {
            .file = path, .object = root, .warnings = warnings, .err = err};
        compare_steps(&config, pipeline, tokenizer_path);
        compare_added(&config, pipeline, tokenizer_path);
    }
    jval_free(root);
    free(path);
    return ERR_OK;
}

/* --- Beside a vocab.txt -------------------------------------------------------------------------
 */

enum err_code rules_read_extras(const char *dir, struct pipeline *pipeline,
                                struct warnings *warnings, struct err *err)
{
    static const struct {
        const char *name;
        enum err_code (*read)(const struct members *, struct pipeline *);
    } files[] = {{"tokenizer_config.json", read_config},
                 {"added_tokens.json", read_added},
                 {"special_tokens_map.json", read_map}};
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && code == ERR_OK; i++) {
        char *path = file_join(dir, files[i].name);
        struct jval *root = NULL;
        if (!path) {
            return err_nomem(err, strlen(dir));
        }
        if (file_exists(path)) {
            code = jval_read_file(path, EXTRAS_FILE_MAX, &root, err);
            struct members file = {.file = path, .object = root, .warnings = warnings, .err = err};
            code = code == ERR_OK ? files[i].read(&file, pipeline) : code;
        }
        jval_free(root);
        free(path);
    }
    return code;
}
