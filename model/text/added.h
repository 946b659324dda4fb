/* Added tokens: words that are found in a text before anything else looks at it.
 * Reference: huggingface/tokenizers, AddedVocabulary. */
#ifndef ORTHRUS_MODEL_ADDED_H
#define ORTHRUS_MODEL_ADDED_H

#include <stdbool.h>

#include "base/err.h"
#include "model/text/aligned.h"
#include "model/text/subword/trie.h"
#include "model/text/unicode/scalars.h"

enum { ADDED_MAX = 1 << 14, ADDED_BYTES_MAX = 512 };

struct added_token {
    int32_t id;
    char *content; /* NUL-terminated, owned */
    size_t size;
    char *decoded; /* what it decodes to: normalized where normalized is set; owned */
    size_t decoded_size;
    bool single_word; /* only where no word character is beside it */
    bool lstrip;      /* takes the white space before it */
    bool rstrip;      /* takes the white space behind it */
    bool normalized;  /* looked for in the normalized text, else in the original one */
    bool special;
    bool skipped; /* decodes to a special token's content; set by added_ready */
};

/* Process lifetime, immutable once added_ready was called. Zero-initialize. */
struct added {
    struct added_token *tokens; /* [n], by id; owned */
    size_t n, room;
    struct trie original;   /* of tokens that are not normalized: ids are indices into tokens */
    struct trie normalized; /* of those that are */
};

/* Zeroed structs are fine. */
void added_done(struct added *added);

/* Puts a copy of a token in, in the place of one with the same id. Errors: ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code added_put(struct added *added, const struct added_token *token,
                                     struct err *err);
/* NULL where no token has the id, or the content. */
const struct added_token *added_find(const struct added *added, int32_t id);
const struct added_token *added_find_content(const struct added *added, const char *content,
                                             size_t size);

/* Builds both tries; decoded is set by now where a token is normalized. Errors: ERR_CONFLICT (two
 * tokens read alike), ERR_INVALID (one reads as nothing), ERR_NOMEM. */
CHECK_RESULT enum err_code added_ready(struct added *added, struct err *err);

/* A stretch of a text: a token where there is one. */
struct added_stretch {
    size_t from, to;
    const struct added_token *token; /* NULL: text */
};

/* A walk over a text. Lifetime: the caller's stack. */
struct added_walk {
    const struct added *added;
    const struct trie *trie;
    const struct scalar_pages *properties;
    const char *text;
    size_t size;
    size_t at;                   /* where the next match is looked for */
    size_t given;                /* up to here stretches were given */
    size_t white_from, white_to; /* the last stretch of white space that a token took behind it */
    struct added_stretch next;   /* a token that waits behind the text before it */
    bool waits;
};

struct added_walk added_walk(const struct added *added, bool normalized,
                             const struct scalar_pages *properties, const char *text, size_t size);
/* Gives the next stretch that is not empty; false at the end. Linear over the text. */
bool added_next(struct added_walk *walk, struct added_stretch *ret);

#endif
