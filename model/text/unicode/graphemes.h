/* Where a text's extended grapheme clusters end.
 * Source: Unicode Standard Annex #29, rules GB3 to GB999; reference: the crate
 * unicode-segmentation. */
#ifndef ORTHRUS_MODEL_GRAPHEMES_H
#define ORTHRUS_MODEL_GRAPHEMES_H

#include "model/text/unicode/scalars.h"

/* Bytes of the cluster that the text begins with; size > 0. */
size_t grapheme_size(const struct scalar_pages *properties, const char *text, size_t size);

#endif
