/* UTF-8 (RFC 3629): strict validation and decoding. */
#ifndef ORTHRUS_BASE_UTF8_H
#define ORTHRUS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if text is well-formed: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_valid(const char *text, size_t size);

/* Bytes of the well-formed sequence that text begins with, 0 where it begins with none. */
size_t utf8_sequence(const char *text, size_t size);

/* Decodes the scalar at *at (of well-formed text with *at < size) and moves *at behind it. */
uint32_t utf8_next(const char *text, size_t size, size_t *at);

/* Writes a scalar's 1 to 4 bytes; returns how many. */
size_t utf8_put(uint32_t scalar, char out[4]);

/* Scalars in well-formed text. */
size_t utf8_length(const char *text, size_t size);

#endif
