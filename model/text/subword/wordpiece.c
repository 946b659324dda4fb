/* WordPiece: the longest word of the vocabulary again and again; all or nothing. */
#include "base/utf8.h"
#include "model/text/subword/subword.h"

bool wordpiece_split(const struct subword *subword, const char *text, size_t size,
                     struct subword_scratch *scratch)
{
    /* No text has more characters than bytes, so most pieces need no counting. */
    bool fits = size <= subword->max_chars || utf8_length(text, size) <= subword->max_chars;
    size_t at = 0;
    while (fits && at < size) {
        size_t found = 0;
        int32_t id = TRIE_NONE;
        if (at == 0 || subword->continues) {
            id = trie_longest(&subword->trie, at ? subword->continuing : 0, text + at, size - at,
                              &found);
        }
        if (id == TRIE_NONE) {
            break;
        }
        if (!subword_put(scratch, id, at, at + found)) {
            return false;
        }
        at += found;
    }
    if (at < size) {
        scratch->n = 0;
        return subword_put(scratch, subword->unk, 0, size);
    }
    return true;
}
