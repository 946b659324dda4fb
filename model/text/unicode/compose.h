/* NFC, NFD, NFKC and NFKD with the reference's alignments, in linear time.
 * Source: Unicode Standard Annex #15; reference: the crate unicode-normalization-alignments. */
#ifndef ORTHRUS_MODEL_COMPOSE_H
#define ORTHRUS_MODEL_COMPOSE_H

#include "model/text/aligned.h"
#include "model/text/unicode/scalars.h"

/* A character and its change, as aligned_put takes it. */
struct compose_item {
    uint32_t scalar;
    int32_t change;
    unsigned class;
};

struct compose_items {
    struct compose_item *at; /* owned */
    size_t n, room;
};

/* Scratch of one thread; zero-initialize, compose_scratch_done frees. */
struct compose_scratch {
    struct compose_items run;    /* decomposed characters that are not in order yet */
    struct compose_items sorted; /* room for them in order */
    struct compose_items behind; /* marks that wait behind the starter that may take the next one */
};

void compose_scratch_done(struct compose_scratch *scratch);

/* One normalization's way. Lifetime: the caller's stack. */
struct compose {
    const struct scalar_pages *properties;
    const struct scalar_map *decompositions;
    bool composes; /* NFC and NFKC */
    struct compose_scratch *scratch;
    /* Where the characters go. */
    void (*put)(void *context, uint32_t scalar, ptrdiff_t change);
    void *context;
    struct compose_item starter;
    bool has_starter;
    int last_class; /* of the marks behind the starter; -1 without */
    bool failed;    /* memory is out */
};

/* Gives the characters of size bytes, normalized, to put. */
void compose_text(struct compose *compose, const char *bytes, size_t size);

#endif
