/* The rules that every BERT vocabulary has in common, written and recognized. */
#include <string.h>

#include "model/text/bert/text.h"
#include "model/text/rules/rules.h"

static const char prefix[] = "##";

enum err_code rules_of_bert(const struct tokenizer_options *options, struct rules *rules,
                            struct err *err)
{
    struct pipeline *pipeline = &rules->pipeline;
    struct subword *subword = &pipeline->subword;
    subword->kind = SUBWORD_WORDPIECE;
    memcpy(subword->prefix, prefix, sizeof prefix);
    subword->prefix_size = sizeof prefix - 1;
    subword->max_chars = TEXT_WORD_CHARS;
    pipeline->normalizer.n = 1;
    pipeline->normalizer.steps[0] = (struct normalizer_step){
        .kind = NORMALIZER_BERT,
        .clean = true,
        .chinese = options->tokenize_chinese_chars,
        .strip_accents = options->strip_accents,
        .lowercase = options->lower_case,
    };
    pipeline->pretokenizer.n = 1;
    pipeline->pretokenizer.steps[0].kind = PRETOKENIZER_BERT;
    rules->decoder.n = 1;
    struct decoder_step *step = &rules->decoder.steps[0];
    *step = (struct decoder_step){
        .kind = DECODER_WORDPIECE, .text_size = sizeof prefix - 1, .cleanup = true};
    memcpy(step->text, prefix, sizeof prefix);
    int32_t ids[TEXT_SPECIALS] = {0};
    enum err_code code = ERR_OK;
    for (enum text_special i = 0; i < TEXT_SPECIALS && code == ERR_OK; i++) {
        char *word = (char *)(uintptr_t)text_special_word(i); /* copied */
        size_t size = strlen(word);
        ids[i] = words_find(&subword->words, word, size);
        struct added_token token = {.id = ids[i],
                                    .content = word,
                                    .size = size,
                                    .decoded = word,
                                    .decoded_size = size,
                                    .special = true};
        code = added_put(&pipeline->added, &token, err);
    }
    subword->unk = ids[TEXT_UNK];
    template_bert(&rules->template, ids[TEXT_CLS], ids[TEXT_SEP]);
    return code;
}

/* The five special strings, and nothing else, are split off before anything. */
static bool adds_specials_only(const struct pipeline *pipeline)
{
    const struct added *added = &pipeline->added;
    for (enum text_special i = 0; i < TEXT_SPECIALS; i++) {
        const char *word = text_special_word(i);
        if (!added_find_content(added, word, strlen(word))) {
            return false;
        }
    }
    for (size_t i = 0; i < added->n; i++) {
        const struct added_token *token = &added->tokens[i];
        int32_t id = words_find(&pipeline->subword.words, token->content, token->size);
        if (token->single_word || token->lstrip || token->rstrip || token->normalized ||
            id != token->id) {
            return false;
        }
    }
    return added->n == TEXT_SPECIALS;
}

bool rules_are_bert(const struct rules *rules, struct tokenizer_options *ret_options)
{
    const struct pipeline *pipeline = &rules->pipeline;
    const struct subword *subword = &pipeline->subword;
    const struct normalizer_step *step = &pipeline->normalizer.steps[0];
    const struct word unk = words_at(&subword->words, subword->unk);
    *ret_options = (struct tokenizer_options){
        .lower_case = step->lowercase,
        .strip_accents = step->strip_accents,
        .tokenize_chinese_chars = step->chinese,
    };
    return subword->kind == SUBWORD_WORDPIECE && subword->max_chars == TEXT_WORD_CHARS &&
           subword->prefix_size == sizeof prefix - 1 &&
           memcmp(subword->prefix, prefix, sizeof prefix - 1) == 0 && unk.size &&
           strcmp(unk.bytes, text_special_word(TEXT_UNK)) == 0 && pipeline->normalizer.n == 1 &&
           step->kind == NORMALIZER_BERT && step->clean && pipeline->pretokenizer.n == 1 &&
           pipeline->pretokenizer.steps[0].kind == PRETOKENIZER_BERT && pipeline->n_trims == 0 &&
           adds_specials_only(pipeline);
}
