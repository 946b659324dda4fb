/* GPT-2's splitting pattern, and its characters for bytes.
 * Reference: openai/gpt-2, encoder.py. */
#ifndef ORTHRUS_MODEL_BYTE_LEVEL_H
#define ORTHRUS_MODEL_BYTE_LEVEL_H

#include "model/text/unicode/scalars.h"

/* Size of the match of
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * at the text's begin: there always is one. size > 0. */
size_t byte_level_match(const struct scalar_pages *properties, const char *text, size_t size);

/* The character that stands for a byte in byte-level vocabularies. */
uint32_t byte_level_scalar(unsigned char byte);
/* The byte that a character stands for, or -1. */
int byte_level_byte(uint32_t scalar);

#endif
