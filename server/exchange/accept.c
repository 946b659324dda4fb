#include "server/exchange/accept.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* A piece of the header's value. */
struct span {
    const char *at;
    size_t size;
};

static struct span trim(struct span span)
{
    while (span.size && strchr(" \t", span.at[0])) {
        span.at++;
        span.size--;
    }
    while (span.size && strchr(" \t", span.at[span.size - 1])) {
        span.size--;
    }
    return span;
}

/* The bytes before the next `end` that stands in no quoted string. */
static struct span until(struct span text, char end)
{
    bool quoted = false;
    for (size_t i = 0; i < text.size; i++) {
        if (quoted && text.at[i] == '\\') {
            i++;
        } else if (text.at[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && text.at[i] == end) {
            return (struct span){text.at, i};
        }
    }
    return text;
}

/* What follows a piece that `until` gave, without the byte that ended it. */
static struct span after(struct span text, struct span piece)
{
    size_t used = piece.size < text.size ? piece.size + 1 : piece.size;
    return (struct span){text.at + used, text.size - used};
}

static bool equals(struct span span, const char *word)
{
    return span.size == strlen(word) && strncasecmp(span.at, word, span.size) == 0;
}

/* qvalue: 0 or 1 with at most three decimals, at most 1. In thousandths, or -1. */
static int parse_weight(struct span text)
{
    if (text.size < 1 || text.size > 5 || (text.at[0] != '0' && text.at[0] != '1') ||
        (text.size > 1 && text.at[1] != '.')) {
        return -1;
    }
    int weight = (text.at[0] - '0') * 1000;
    int scale = 100;
    for (size_t i = 2; i < text.size; i++, scale /= 10) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return -1;
        }
        weight += (text.at[i] - '0') * scale;
    }
    return weight <= 1000 ? weight : -1;
}

/* The weight among an element's parameters: 1000 where there is none, -1 where it is malformed.
 * Other parameters do not make two forms of one type here, so they are not compared. */
static int find_weight(struct span parameters)
{
    while (parameters.size) {
        struct span one = until(parameters, ';');
        parameters = after(parameters, one);
        one = trim(one);
        if (one.size >= 2 && (one.at[0] == 'q' || one.at[0] == 'Q') && one.at[1] == '=') {
            return parse_weight((struct span){one.at + 2, one.size - 2});
        }
    }
    return 1000;
}

/* The most specific range decides; of two that are equally so, the greater weight. */
static void weigh(struct accept_weight *weight, int specificity, int thousandths)
{
    if (specificity > weight->specificity ||
        (specificity == weight->specificity && thousandths > weight->thousandths)) {
        *weight = (struct accept_weight){specificity, thousandths};
    }
}

/* The next element of a list that is well formed: what stands before its parameters, and its
 * weight. False at the end. */
static bool next_element(struct span *list, struct span *ret_range, int *ret_thousandths)
{
    while (list->size) {
        struct span element = until(*list, ',');
        *list = after(*list, element);
        struct span range = until(element, ';');
        *ret_range = trim(range);
        *ret_thousandths = find_weight(after(element, range));
        if (*ret_thousandths >= 0) {
            return true;
        }
    }
    return false;
}

void accept_take(struct accept *accept, const char *line)
{
    struct span list = {line, strlen(line)};
    struct span range;
    int thousandths;
    while (next_element(&list, &range, &thousandths)) {
        if (equals(range, "application/octet-stream")) {
            weigh(&accept->octets, 3, thousandths);
        } else if (equals(range, "application/json")) {
            weigh(&accept->json, 3, thousandths);
        } else if (equals(range, "application/*") || equals(range, "*/*")) {
            int specificity = range.at[0] == '*' ? 1 : 2;
            weigh(&accept->octets, specificity, thousandths);
            weigh(&accept->json, specificity, thousandths);
        }
    }
}

bool accept_octets(const struct accept *accept)
{
    return accept->octets.thousandths > accept->json.thousandths;
}

void accept_take_codings(struct accept *accept, const char *line)
{
    struct span list = {line, strlen(line)};
    struct span coding;
    int thousandths;
    while (next_element(&list, &coding, &thousandths)) {
        if (equals(coding, "gzip") || equals(coding, "x-gzip")) {
            weigh(&accept->gzip, 2, thousandths);
        } else if (equals(coding, "identity")) {
            weigh(&accept->identity, 2, thousandths);
        } else if (equals(coding, "*")) {
            weigh(&accept->gzip, 1, thousandths);
        }
    }
}

bool accept_gzip(const struct accept *accept)
{
    return accept->gzip.thousandths > 0 && accept->gzip.thousandths >= accept->identity.thousandths;
}
