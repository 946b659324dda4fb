#include "server/http/framing.h"

#include <string.h>

/* A length of more digits is no length. */
enum { METHOD_MAX = 32, LENGTH_DIGITS_MAX = 18 };

static const char content_length[] = "content-length";
static const char transfer_encoding[] = "transfer-encoding";

/* RFC 9110 section 5.6.2: what names and methods are made of. */
static bool is_token(unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= 'a' && byte <= 'z') || (byte && strchr("!#$%&'*+-.^_`|~", byte));
}

static enum framing_state feed_method(struct framing *framing, unsigned char byte)
{
    if (byte == ' ' && framing->at) {
        framing->at = 0;
        return FRAMING_TARGET;
    }
    return is_token(byte) && framing->at++ < METHOD_MAX ? FRAMING_METHOD : FRAMING_DOUBT;
}

static enum framing_state feed_target(struct framing *framing, unsigned char byte)
{
    if (byte == ' ' && framing->at) {
        framing->at = 0;
        return FRAMING_VERSION;
    }
    framing->at++;
    return byte > ' ' && byte <= '~' ? FRAMING_TARGET : FRAMING_DOUBT;
}

static enum framing_state feed_version(struct framing *framing, unsigned char byte)
{
    static const unsigned char version[] = "HTTP/1.";
    size_t at = framing->at++;
    if (at < sizeof version - 1) {
        return byte == version[at] ? FRAMING_VERSION : FRAMING_DOUBT;
    }
    if (at == sizeof version - 1) {
        return byte == '0' || byte == '1' ? FRAMING_VERSION : FRAMING_DOUBT;
    }
    return byte == '\r' ? FRAMING_LINE_LF : FRAMING_DOUBT;
}

static enum framing_state feed_name(struct framing *framing, unsigned char byte)
{
    if (is_token(byte)) {
        if (framing->at < sizeof framing->name) {
            bool upper = byte >= 'A' && byte <= 'Z';
            framing->name[framing->at] = (char)(upper ? byte + ('a' - 'A') : byte);
        }
        framing->at++;
        return FRAMING_NAME;
    }
    if (byte != ':') {
        return FRAMING_DOUBT;
    }
    size_t size = framing->at;
    bool begins = size >= sizeof content_length - 1 &&
                  memcmp(framing->name, content_length, sizeof content_length - 1) == 0;
    framing->length_here = begins && size == sizeof content_length - 1;
    framing->at = 0;
    if ((begins && (!framing->length_here || framing->length_seen)) ||
        (size >= sizeof transfer_encoding - 1 &&
         memcmp(framing->name, transfer_encoding, sizeof transfer_encoding - 1) == 0)) {
        return FRAMING_DOUBT;
    }
    framing->length_seen |= framing->length_here;
    return FRAMING_VALUE;
}

/* Of Content-Length: blanks before the digits are counted apart, as none of them. */
static enum framing_state feed_length(struct framing *framing, unsigned char byte)
{
    if (byte == '\r') {
        return framing->at ? FRAMING_LINE_LF : FRAMING_DOUBT;
    }
    if ((byte == ' ' || byte == '\t') && framing->at == 0) {
        return FRAMING_VALUE;
    }
    if (byte < '0' || byte > '9' || framing->at++ >= LENGTH_DIGITS_MAX) {
        return FRAMING_DOUBT;
    }
    framing->body_left = framing->body_left * 10 + (byte - '0');
    return FRAMING_VALUE;
}

static enum framing_state feed_value(struct framing *framing, unsigned char byte)
{
    if (framing->length_here) {
        return feed_length(framing, byte);
    }
    if (byte == '\r') {
        return FRAMING_LINE_LF;
    }
    return (byte >= ' ' && byte != 0x7f) || byte == '\t' ? FRAMING_VALUE : FRAMING_DOUBT;
}

static enum framing_state next_request(struct framing *framing)
{
    framing->length_seen = false;
    return FRAMING_BETWEEN;
}

static enum framing_state feed(struct framing *framing, unsigned char byte)
{
    switch (framing->state) {
    case FRAMING_BETWEEN:
        framing->begun++;
        framing->at = 0;
        framing->body_left = 0;
        return feed_method(framing, byte);
    case FRAMING_METHOD:
        return feed_method(framing, byte);
    case FRAMING_TARGET:
        return feed_target(framing, byte);
    case FRAMING_VERSION:
        return feed_version(framing, byte);
    case FRAMING_NAME_FIRST:
        framing->at = 0;
        return byte == '\r'  ? FRAMING_LAST_LF
               : byte == ':' ? FRAMING_DOUBT
                             : feed_name(framing, byte);
    case FRAMING_NAME:
        return feed_name(framing, byte);
    case FRAMING_VALUE:
        return feed_value(framing, byte);
    case FRAMING_LINE_LF:
        return byte == '\n' ? FRAMING_NAME_FIRST : FRAMING_DOUBT;
    case FRAMING_LAST_LF:
        if (byte != '\n') {
            return FRAMING_DOUBT;
        }
        return framing->body_left ? FRAMING_BODY : next_request(framing);
    case FRAMING_BODY:
    case FRAMING_HEAD_DOUBT:
    case FRAMING_DOUBT:
        break;
    }
    return FRAMING_DOUBT;
}

/* Empty lines before the first one end nothing. */
static enum framing_state feed_doubt(struct framing *framing, unsigned char byte)
{
    if (byte == '\0') {
        framing->nul = true;
        return FRAMING_DOUBT;
    }
    if (byte == '\n') {
        if (!framing->at && framing->line_seen) {
            return FRAMING_DOUBT;
        }
        framing->line_seen |= framing->at > 0;
        framing->at = 0;
    } else if (byte != '\r') {
        framing->at++;
    }
    return FRAMING_HEAD_DOUBT;
}

static enum framing_state feed_head(struct framing *framing, unsigned char byte)
{
    enum framing_state before = framing->state;
    if (before != FRAMING_HEAD_DOUBT) {
        enum framing_state next = feed(framing, byte);
        if (next != FRAMING_DOUBT) {
            return next;
        }
        bool line_begins = before == FRAMING_BETWEEN || before == FRAMING_NAME_FIRST ||
                           before == FRAMING_LAST_LF;
        framing->at = !line_begins;
        framing->line_seen = before >= FRAMING_NAME_FIRST;
    }
    return feed_doubt(framing, byte);
}

void framing_feed(struct framing *framing, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    const unsigned char *end = at + size;
    while (at < end && framing->state != FRAMING_DOUBT) {
        if (framing->state != FRAMING_BODY) {
            framing->state = feed_head(framing, *at++);
            continue;
        }
        uint64_t here = (uint64_t)(end - at);
        uint64_t taken = here < framing->body_left ? here : framing->body_left;
        framing->body_left -= taken;
        at += taken;
        if (framing->body_left == 0) {
            framing->state = next_request(framing);
        }
    }
}

bool framing_plain(const struct framing *framing, uint64_t request)
{
    /* Doubt ends the count: the request in which it came up is the last that was begun. */
    return request < framing->begun ||
           (request == framing->begun && framing->state < FRAMING_HEAD_DOUBT);
}

bool framing_nul(const struct framing *framing, uint64_t request)
{
    return framing->nul && !framing_plain(framing, request);
}

bool framing_begins_tls(const void *bytes, size_t size)
{
    static const unsigned char handshake[] = {0x16, 0x03};
    return size >= sizeof handshake && memcmp(bytes, handshake, sizeof handshake) == 0;
}
