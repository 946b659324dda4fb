/* What a tokenizer is made of, for the files that build, use and digest one. */
#ifndef ORTHRUS_MODEL_TOKENIZER_PRIVATE_H
#define ORTHRUS_MODEL_TOKENIZER_PRIVATE_H

#include "base/sha256.h"
#include "model/text/bert.h"
#include "model/text/template.h"

enum { TOKENIZER_WARNINGS_MAX = 16 };

struct tokenizer {
    struct bert bert;
    struct template template;
    char *source; /* path of the file with the vocabulary, owned */
    char digest[SHA256_HEX_SIZE + 1];
    char *warnings[TOKENIZER_WARNINGS_MAX]; /* owned */
    size_t n_warnings;
};

#endif
