/* SentencePiece's precompiled character map: a double-array trie and the texts it replaces by.
 * Reference: the crate spm_precompiled, whose oddities are kept: the shortest match of a grapheme
 * replaces all of it. */
#ifndef ORTHRUS_MODEL_CHARSMAP_H
#define ORTHRUS_MODEL_CHARSMAP_H

#include "base/err.h"
#include "model/text/aligned.h"
#include "model/text/unicode/scalars.h"

/* Process lifetime, immutable. */
struct charsmap {
    unsigned char *data; /* the map as it was decoded, owned */
    size_t size;
    size_t units;      /* of the trie, 32 bits each, from byte 4 */
    const char *texts; /* NUL-terminated ones, in data */
    size_t texts_size;
};

enum { CHARSMAP_MAX = 8 << 20 };

/* Decodes base64. label stands for the file and field in errors. Errors: ERR_INVALID, ERR_LIMIT,
 * ERR_NOMEM. */
CHECK_RESULT enum err_code charsmap_init(struct charsmap *map, const char *base64, size_t size,
                                         const char *label, struct err *err);
/* Zeroed structs are fine. */
void charsmap_done(struct charsmap *map);

/* True where the map has an entry for a beginning of the text. */
bool charsmap_knows(const struct charsmap *map, const char *text);

/* Rewrites from into to; false where nothing matched, and to is of no use then. */
bool charsmap_apply(const struct charsmap *map, const struct scalar_pages *properties,
                    struct aligned_view from, struct aligned *to);

#endif
