/* vocab.txt → a constant table of words, and the trie that WordPiece looks them up in. */
#ifndef ORTHRUS_MODEL_VOCAB_H
#define ORTHRUS_MODEL_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { VOCAB_FILE_MAX = 32 * 1024 * 1024, VOCAB_WORDS_MAX = 1 << 22, VOCAB_NONE = -1 };

/* Process lifetime, immutable: any number of threads may read it. */
struct vocab;

/* Reads a file of one word a line, id = line number from 0. As the reference does: white space at
 * a line's end is no part of the word, and of equal words the last one's id counts. Errors:
 * ERR_NOT_FOUND, ERR_IO, ERR_INVALID (not UTF-8, a NUL; names the line), ERR_LIMIT (over
 * VOCAB_FILE_MAX bytes or VOCAB_WORDS_MAX words), ERR_NOMEM. */
CHECK_RESULT enum err_code vocab_read(const char *path, struct vocab **ret_vocab, struct err *err);
/* The same from memory: data is malloc'ed, has a NUL at data[size], and belongs to the vocabulary
 * from here on, on failure too. label stands for the path in errors. */
CHECK_RESULT enum err_code vocab_parse(char *data, size_t size, const char *label,
                                       struct vocab **ret_vocab, struct err *err);
/* NULL is fine. */
void vocab_destroy(struct vocab *vocab);

/* How many lines the file has. */
size_t vocab_size(const struct vocab *vocab);
/* The word of an id below vocab_size, NUL-terminated, borrowed. */
const char *vocab_word(const struct vocab *vocab, int32_t id);
/* The id of a word, or VOCAB_NONE: so too for one longer than any word of a text can be. */
int32_t vocab_find(const struct vocab *vocab, const char *word);

enum vocab_place { VOCAB_BEGINS, VOCAB_CONTINUES };

/* The longest word that text begins with: its id and its size, at least 1; VOCAB_NONE when there is
 * none. VOCAB_CONTINUES looks for words written "##…". Linear in the word found. */
int32_t vocab_longest(const struct vocab *vocab, enum vocab_place place, const char *text,
                      size_t size, size_t *ret_size);

#endif
