/* float32 → the shortest decimal text that reads back as the same float32, in JSON's grammar.
 *
 * Of all shortest texts it is the one nearest to the value. Forms: "0.0", "-0.0", "1.0", "0.0123",
 * "123456790.0" for decimal exponents -4 … 8, else "1.5e-7", "3.4028235e38": always a point or an
 * exponent, so that a typed client reads a float and not an integer. NaN and infinities, which JSON
 * does not have, give "null".
 *
 * Source: R. Giulietti, "The Schubfach way to render doubles" (2020), with its sizes for float. */
#ifndef ORTHRUS_API_FLOAT_TEXT_H
#define ORTHRUS_API_FLOAT_TEXT_H

#include <stddef.h>

enum { FLOAT_TEXT_MAX = 16 };

/* Writes value without a NUL; may use all of out; returns the bytes of the text, at most
 * FLOAT_TEXT_MAX. Any thread. */
size_t float_text(float value, char out[FLOAT_TEXT_MAX]);

#endif
