#include "model/text/bert/bert.h"

static enum err_code find_specials(struct bert *bert, const char *label, struct err *err)
{
    for (enum text_special i = 0; i < TEXT_SPECIALS; i++) {
        bert->specials[i] = vocab_find(bert->vocab, text_special_word(i));
        if (bert->specials[i] == VOCAB_NONE) {
            return err_set(err, ERR_INVALID, "%s: the word %s is missing", label,
                           text_special_word(i));
        }
    }
    return ERR_OK;
}

enum err_code bert_init(struct bert *bert, struct vocab *vocab, const char *label,
                        const struct tokenizer_options *options, struct err *err)
{
    *bert = (struct bert){.vocab = vocab};
    enum err_code code = find_specials(bert, label, err);
    return code == ERR_OK ? unicode_init(&bert->unicode, options, err) : code;
}

void bert_done(struct bert *bert)
{
    unicode_done(&bert->unicode);
    vocab_destroy(bert->vocab);
    bert->vocab = NULL;
}

/* One word's tokens. Worker's stack. */
struct pieces {
    size_t n;
    struct token tokens[TEXT_WORD_CHARS];
};

static void set_piece(struct pieces *pieces, size_t i, int32_t id, uint32_t start, uint32_t stop)
{
    pieces->tokens[i] = (struct token){id, start, stop};
    pieces->n = i + 1;
}

/* WordPiece: the longest word of the vocabulary again and again; all or nothing. */
static void split_word(const struct bert *bert, const struct text_word *word, struct pieces *pieces)
{
    pieces->n = 0;
    size_t at = 0;
    while (word->chars <= TEXT_WORD_CHARS && at < word->size) {
        size_t size = 0;
        int32_t id = vocab_longest(bert->vocab, at ? VOCAB_CONTINUES : VOCAB_BEGINS,
                                   word->bytes + at, word->size - at, &size);
        if (id == VOCAB_NONE) {
            break;
        }
        set_piece(pieces, pieces->n, id, word->source[at], word->source[at + size - 1] + 1);
        at += size;
    }
    if (word->chars > TEXT_WORD_CHARS || at < word->size) {
        set_piece(pieces, 0, bert->specials[TEXT_UNK], word->start, word->stop);
    }
}

enum err_code bert_encode(const struct bert *bert, const char *text, size_t size,
                          struct token_sink *sink, struct err *err)
{
    struct text_cursor cursor = {.unicode = &bert->unicode, .text = text, .size = size};
    struct text_word word;
    struct pieces pieces;
    bool full = false;
    while (!full) {
        enum text_found found = text_next(&cursor, &word);
        if (found == TEXT_END) {
            break;
        }
        if (found == TEXT_SPECIAL) {
            set_piece(&pieces, 0, bert->specials[word.special], word.start, word.stop);
        } else {
            split_word(bert, &word, &pieces);
        }
        enum err_code code = token_sink_add(sink, pieces.tokens, pieces.n, &full, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    return ERR_OK;
}
