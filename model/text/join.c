#include "model/text/join.h"

#include <stdlib.h>

#include "model/text/tokenizer_private.h"

bool tokenizer_join(const struct tokenizer *tokenizer, const struct tokenizer_text *tokens,
                    size_t n, struct buf *out)
{
    struct word *words = calloc(n ? n : 1, sizeof *words);
    for (size_t i = 0; words && i < n; i++) {
        words[i] = (struct word){tokens[i].text, (uint32_t)tokens[i].size};
    }
    bool joined = words && decoder_apply(&tokenizer->rules.decoder, words, n, out);
    free(words);
    return joined;
}

bool tokenizer_marks_subwords(const struct tokenizer *tokenizer)
{
    const struct subword *subword = &tokenizer->rules.pipeline.subword;
    return subword->kind == SUBWORD_WORDPIECE && subword->prefix[0];
}

int32_t tokenizer_unknown_id(const struct tokenizer *tokenizer)
{
    return tokenizer->rules.pipeline.subword.unk;
}
