/* The member "added_tokens" of a tokenizer.json, with the reference's rule for their ids: a word of
 * the model keeps its own, another token takes the next one behind the vocabulary. */
#include "model/text/rules/rules.h"

static enum err_code read_token(const struct members *members, struct added_token *token,
                                int64_t *ret_id)
{
    static const char *const known[] = {"id",     "content",    "single_word", "lstrip",
                                        "rstrip", "normalized", "special",     NULL};
    const char *content = "";
    size_t size = 0;
    members_known(members, known);
    enum err_code code = members_integer(members, "id", true, 0, WORDS_MAX - 1, ret_id);
    code = code == ERR_OK
               ? members_string(members, "content", true, ADDED_BYTES_MAX, &content, &size)
               : code;
    code = code == ERR_OK ? members_bool(members, "single_word", true, &token->single_word) : code;
    code = code == ERR_OK ? members_bool(members, "lstrip", true, &token->lstrip) : code;
    code = code == ERR_OK ? members_bool(members, "rstrip", true, &token->rstrip) : code;
    code = code == ERR_OK ? members_bool(members, "normalized", true, &token->normalized) : code;
    code = code == ERR_OK ? members_bool(members, "special", true, &token->special) : code;
    token->content = token->decoded = (char *)(uintptr_t)content; /* copied by added_put */
    token->size = token->decoded_size = size;
    return code;
}

static enum err_code add_token(const struct members *members, struct pipeline *pipeline,
                               struct added_token *token, int64_t asked, int32_t *next)
{
    const struct added_token *same = added_find_content(&pipeline->added, token->content,
                                                        token->size);
    token->id = same ? same->id : words_find(&pipeline->subword.words, token->content, token->size);
    if (token->id == WORDS_NONE) {
        token->id = (*next)++;
    }
    if (token->id != asked) {
        warnings_add(members->warnings, "%s: %s: says id %lld, its id is %d", members->file,
                     members->way, (long long)asked, token->id);
    }
    if (token->id >= WORDS_MAX) {
        return err_set(members->err, ERR_LIMIT, "%s: %s: id %d, at most %d is allowed",
                       members->file, members->way, token->id, WORDS_MAX - 1);
    }
    enum err_code code = added_put(&pipeline->added, token, members->err);
    return code == ERR_OK ? code : err_prefix(members->err, "%s: %s", members->file, members->way);
}

enum err_code rules_read_added(const struct members *file, struct pipeline *pipeline)
{
    const struct jval *list = NULL;
    enum err_code code = members_array(file, "added_tokens", false, &list);
    int32_t next = (int32_t)(pipeline->subword.kind == SUBWORD_UNIGRAM
                                 ? pipeline->subword.words.ids
                                 : pipeline->subword.words.count);
    for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
        struct members members;
        struct added_token token = {0};
        int64_t asked = 0;
        code = members_enter_at(file, "added_tokens", jval_at(list, i), i, &members);
        code = code == ERR_OK ? read_token(&members, &token, &asked) : code;
        if (code == ERR_OK && token.size) {
            code = add_token(&members, pipeline, &token, asked, &next);
        }
    }
    return code;
}
