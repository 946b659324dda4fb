/* The words of a tokenizer.json: word → id and id → word. */
#ifndef ORTHRUS_MODEL_WORDS_H
#define ORTHRUS_MODEL_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { WORDS_MAX = 1 << 22, WORDS_NONE = -1 };

struct word {
    const char *bytes; /* NUL-terminated, in the table's memory; NULL where no word has the id */
    uint32_t size;
};

/* Process lifetime, immutable once it is full. Zero-initialize. */
struct words {
    char *data; /* owned */
    size_t data_size, data_room;
    size_t *begins;  /* [room], 1 + begin of an id's word in data; 0 without one */
    uint32_t *sizes; /* [room] */
    size_t room;
    size_t ids;        /* every id is below it */
    size_t count;      /* different words */
    uint32_t *slots;   /* hash table: 1 + id */
    size_t slot_count; /* a power of two */
};

/* Zeroed structs are fine. */
void words_done(struct words *words);

/* Adds a word; a later equal one takes the word's look-up over. Errors: ERR_LIMIT (an id outside 0
 * … WORDS_MAX-1), ERR_CONFLICT (another word has the id), ERR_NOMEM. */
CHECK_RESULT enum err_code words_add(struct words *words, const char *bytes, size_t size,
                                     int64_t id, struct err *err);

/* The id of a word, or WORDS_NONE. */
int32_t words_find(const struct words *words, const char *bytes, size_t size);
/* The word of any id. */
struct word words_at(const struct words *words, int64_t id);

#endif
