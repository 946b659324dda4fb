/* The shortest decimal text that reads back as the same float32, in JSON's grammar. */
#ifndef ORTHRUS_API_FLOAT_TEXT_H
#define ORTHRUS_API_FLOAT_TEXT_H

#include <stddef.h>

enum { FLOAT_TEXT_MAX = 16 };

/* Writes value (finite) without a NUL; returns the bytes written, at most FLOAT_TEXT_MAX. */
size_t float_text(float value, char out[FLOAT_TEXT_MAX]);

#endif
