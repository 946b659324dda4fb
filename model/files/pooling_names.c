/* The names of pooling modes, one or several. */
#include <stdio.h>
#include <string.h>

#include "model/files/config.h"

enum { DIGIT_BITS = 4, DIGIT = 15 };

static const char *const names[] = {
    [POOLING_MEAN] = "mean",
    [POOLING_CLS] = "cls",
    [POOLING_MAX] = "max",
    [POOLING_MEAN_SQRT] = "mean_sqrt_len_tokens",
    [POOLING_WEIGHTEDMEAN] = "weightedmean",
    [POOLING_LASTTOKEN] = "lasttoken",
};

size_t pooling_count(enum pooling pooling)
{
    size_t n = 0;
    for (unsigned rest = pooling; rest; rest >>= DIGIT_BITS) {
        n++;
    }
    return n;
}

enum pooling pooling_mode(enum pooling pooling, size_t i)
{
    return (enum pooling)(((unsigned)pooling >> (DIGIT_BITS * i)) & DIGIT);
}

enum pooling pooling_append(enum pooling pooling, enum pooling mode)
{
    size_t n = pooling_count(pooling);
    return n == POOLING_LIST_MAX
               ? 0
               : (enum pooling)((unsigned)pooling | (unsigned)mode << (DIGIT_BITS * n));
}

const char *pooling_name(enum pooling pooling, char out[POOLING_TEXT_SIZE])
{
    size_t used = 0;
    for (size_t i = 0; i < pooling_count(pooling); i++) {
        int size = snprintf(out + used, POOLING_TEXT_SIZE - used, "%s%s", i ? "," : "",
                            names[pooling_mode(pooling, i)]);
        used += (size_t)size;
    }
    return out;
}

enum err_code pooling_parse(const char *text, enum pooling *ret_pooling, struct err *err)
{
    enum pooling pooling = 0;
    for (const char *at = text;;) {
        size_t length = strcspn(at, ",");
        enum pooling mode = POOLING_LASTTOKEN;
        while (mode && (strlen(names[mode]) != length || memcmp(names[mode], at, length) != 0)) {
            mode--;
        }
        pooling = mode ? pooling_append(pooling, mode) : 0;
        if (!pooling) {
            return err_set(err, ERR_USAGE,
                           "pooling: mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken "
                           "or up to %d of them, by commas, are allowed",
                           POOLING_LIST_MAX);
        }
        if (!at[length]) {
            *ret_pooling = pooling;
            return ERR_OK;
        }
        at += length + 1;
    }
}
