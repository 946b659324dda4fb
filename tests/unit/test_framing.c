/* Which requests are plain: everything else must be doubtful, in whatever pieces it comes. */
#include <string.h>

#include "server/http/framing.h"
#include "tests/support/testing.h"

#define LINE  "POST /embed?a=b HTTP/1.1\r\n"
#define PLAIN LINE "Host: x\r\nContent-Length: 3\r\n\r\nabc"

struct sent {
    const char *bytes;
    size_t size;
};
#define SENT(text)             \
    {                          \
        text, sizeof(text) - 1 \
    }

/* Fed at once and byte by byte. */
static bool plain(struct sent sent, uint64_t request)
{
    struct framing whole = {0};
    struct framing pieces = {0};
    framing_feed(&whole, sent.bytes, sent.size);
    for (size_t i = 0; i < sent.size; i++) {
        framing_feed(&pieces, sent.bytes + i, 1);
    }
    assert_int_equal(framing_plain(&whole, request), framing_plain(&pieces, request));
    return framing_plain(&whole, request);
}

static void test_plain(void **state)
{
    (void)state;
    static const struct sent sound[] = {
        SENT("GET / HTTP/1.1\r\n\r\n"),
        SENT("GET / HTTP/1.0\r\nHost:x\r\n\r\n"),
        SENT("OPTIONS * HTTP/1.1\r\nHost: \t x \t\r\n\r\n"),
        SENT("GET http://x/y HTTP/1.1\r\nX-Empty:\r\nCookie: a=b; c=\"d\"\r\n\r\n"),
        SENT(LINE "CONTENT-LENGTH: 0003\r\n\r\nabc"),
        SENT(LINE "X-Latin: \xe9\r\n\r\n"),
        SENT(PLAIN),
    };
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        assert_true(plain(sound[i], 1));
        assert_false(plain(sound[i], 2)); /* nothing of it has been seen */
    }
}

static void test_doubtful(void **state)
{
    (void)state;
    static const struct sent odd[] = {
        SENT("\r\nGET / HTTP/1.1\r\n\r\n"),
        SENT(" GET / HTTP/1.1\r\n\r\n"),
        SENT("GET  / HTTP/1.1\r\n\r\n"),
        SENT("GET / HTTP/1.1 \r\n\r\n"),
        SENT("GET /a b HTTP/1.1\r\n\r\n"),
        SENT("GET /\xff HTTP/1.1\r\n\r\n"),
        SENT("GET / HTTP/2.0\r\n\r\n"),
        SENT("GET / HTTP/1.1\n\r\n"),
        SENT("GET /\r\n\r\n"),
        SENT(LINE "Host: x\n\r\n"),
        SENT(LINE "Host: x\r\n\n"),
        SENT(LINE "Host: x\r\n:\n"),
        SENT(LINE ": y\r\n\r\n"),
        SENT(LINE "\0\n"),
        SENT(LINE "X: a\0b\r\n\r\n"),
        SENT(LINE "X: a\0\n\r\n"),
        SENT(LINE "X: a\rb\r\n\r\n"),
        SENT(LINE "X: a\x7f\r\n\r\n"),
        SENT(LINE "X : a\r\n\r\n"),
        SENT(LINE "X\r\n\r\n"),
        SENT(LINE "X: a\r\n b\r\n\r\n"),
        SENT(LINE "Content-Length:\r\n 3\r\n\r\nabc"),
        SENT(LINE "Content-Length: 3 \r\n\r\nabc"),
        SENT(LINE "Content-Length: +3\r\n\r\nabc"),
        SENT(LINE "Content-Length: 3,3\r\n\r\nabc"),
        SENT(LINE "Content-Length:\r\n\r\n"),
        SENT(LINE "Content-Length: 1000000000000000000\r\n\r\n"),
        SENT(LINE "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        SENT(LINE "Content-Length-: 3\r\n\r\nabc"),
        SENT(LINE "Content-Length\0: 3\r\n\r\nabc"),
        SENT(LINE "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        SENT(LINE "transfer-encodings: chunked\r\n\r\n"),
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        assert_false(plain(odd[i], 1));
    }
}

static void test_doubt_is_of_one_request_and_what_follows(void **state)
{
    (void)state;
    static const struct sent two = SENT(PLAIN PLAIN "GET / HTTP/1.1\r\nX: a\n\r\n" PLAIN);
    assert_true(plain(two, 1));
    assert_true(plain(two, 2));
    assert_false(plain(two, 3));
    assert_false(plain(two, 4));
    /* A body's bytes are no request. */
    static const struct sent body = SENT(LINE "Content-Length: 5\r\n\r\n\n\0:\r\n" PLAIN);
    assert_true(plain(body, 1) && plain(body, 2));
    assert_false(plain(body, 3));
}

/* Wherever a header section holds it, behind other doubts too; a body's is none. */
static void test_nul(void **state)
{
    (void)state;
    static const struct sent with[] = {
        SENT("GET /embed\0x HTTP/1.1\r\n\r\n"),
        SENT("\r\n\r\nGET /embed\0x HTTP/1.1\r\n\r\n"),
        SENT("\n\nGET /embed\0x HTTP/1.1\r\n\r\n"),
        SENT("GET  /embed\0x HTTP/1.1\r\n\r\n"),
        SENT("G\tET /embed\0x HTTP/1.1\r\n\r\n"),
        SENT("GET / HTTP/1.1\0\r\n\r\n"),
        SENT(LINE "X: a\0b\r\n\r\n"),
        SENT(LINE "X\0: b\r\n\r\n"),
        SENT(LINE "Transfer-Encoding: chunked\r\nAuthorization: a\0b\r\n\r\n"),
        SENT(LINE "X: a\nY: a\0b\r\n\r\n"),
        SENT(LINE "X: a\r\r\nY: a\0b\r\n\r\n"),
    };
    static const struct sent without[] = {
        SENT(LINE "Content-Length: 3\r\n\r\na\0b"),
        SENT(LINE "Transfer-Encoding: chunked\r\n\r\n1\r\n\0\r\n"),
        SENT(LINE "Transfer-Encoding: chunked\r\nX: y\r\n\r\n1\r\n\0\r\n"),
        SENT(LINE "X: a\n\n\0"),
        SENT("\r\n" LINE "X: a\r\n\r\n\0"),
    };
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        struct framing framing = {0};
        framing_feed(&framing, PLAIN, sizeof PLAIN - 1);
        for (size_t at = 0; at < with[i].size; at++) {
            framing_feed(&framing, with[i].bytes + at, 1);
        }
        assert_true(framing_nul(&framing, 2));
        assert_false(framing_nul(&framing, 1));
    }
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        struct framing framing = {0};
        framing_feed(&framing, without[i].bytes, without[i].size);
        assert_false(framing_nul(&framing, 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_doubtful),
        cmocka_unit_test(test_doubt_is_of_one_request_and_what_follows),
        cmocka_unit_test(test_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
