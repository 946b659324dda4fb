/* What a tokenizer is made of, for the files that build and use one. */
#ifndef ORTHRUS_MODEL_TOKENIZER_PRIVATE_H
#define ORTHRUS_MODEL_TOKENIZER_PRIVATE_H

#include "model/text/bert/bert.h"
#include "model/text/rules/rules.h"

struct tokenizer {
    struct rules rules;
    struct bert bert; /* where the short way gives the same */
    bool is_bert;
    char *source; /* path of the file with the vocabulary, owned */
    char digest[SHA256_HEX_SIZE + 1];
    struct warnings warnings;
};

#endif
