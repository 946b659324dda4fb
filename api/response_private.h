/* Shared by response.c and response_heads.c alone. */
#ifndef ORTHRUS_API_RESPONSE_PRIVATE_H
#define ORTHRUS_API_RESPONSE_PRIVATE_H

#include "api/response.h"

void append_text(struct buf *out, const char *text);
void append_float(struct buf *out, float value);
/* [f32,…], printed in place. */
void append_row(struct buf *out, const float *row, size_t width);

/* order [K]: classes best first; NaN is worse than anything; equal scores keep the labels' order.
 */
void rank_classes(const float *scores, size_t classes, size_t *order);

/* A place in a text, by bytes and by scalars. */
struct place {
    size_t byte;
    size_t scalar;
};
/* A token's text as JSON: its word where it is special, else what it covers of the text; *start is
 * where the token before it began. */
void append_token_text(struct buf *out, const struct response_token *token, const char *text,
                       size_t size, struct place *start);

#endif
