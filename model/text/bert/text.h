/* UTF-8 text → the words that BERT looks up: special strings split off first, then clean, CJK
 * spaced, NFD and Mn dropped, lower-cased, split on whitespace and punctuation.
 * Reference: huggingface/tokenizers, BertNormalizer and BertPreTokenizer. */
#ifndef ORTHRUS_MODEL_TEXT_H
#define ORTHRUS_MODEL_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "model/text/bert/unicode.h"

/* A word of more characters than this is unknown whatever it is, so no more are kept. */
enum { TEXT_WORD_CHARS = 100, TEXT_WORD_BYTES = 4 * TEXT_WORD_CHARS };

enum text_special {
    TEXT_CLS,
    TEXT_SEP,
    TEXT_PAD,
    TEXT_UNK,
    TEXT_MASK,
    TEXT_SPECIALS,
};

/* "[CLS]" and so on. */
const char *text_special_word(enum text_special special);

/* A normalized word. Positions are in code points of the original text. */
struct text_word {
    size_t chars; /* exact up to TEXT_WORD_CHARS, else just more; 0 for a special string */
    size_t size;  /* bytes of the first TEXT_WORD_CHARS characters */
    char bytes[TEXT_WORD_BYTES];
    uint32_t source[TEXT_WORD_BYTES]; /* where the character that a byte is of came from */
    uint32_t start;                   /* source of the first character */
    uint32_t stop;                    /* behind the source of the last one */
    enum text_special special;        /* where the text has a special string */
};

/* A place in a text. Lifetime: one encode. */
struct text_cursor {
    const struct unicode *unicode;
    const char *text; /* well-formed UTF-8, borrowed */
    size_t size;
    size_t at;      /* bytes behind us */
    uint32_t index; /* code points behind us */
};

enum text_found { TEXT_END, TEXT_WORD, TEXT_SPECIAL };

/* Takes the next word, or special string. The time of all calls over a text together is linear in
 * its size, the memory constant. */
enum text_found text_next(struct text_cursor *cursor, struct text_word *word);

#endif
