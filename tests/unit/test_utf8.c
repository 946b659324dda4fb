/* UTF-8 validation and decoding, by exhaustion where that is possible. */
#include "base/utf8.h"
#include "tests/support/testing.h"

enum { LAST = 0x10ffff, SURROGATES = 0xd800, SURROGATES_END = 0xe000 };

static void test_every_scalar_goes_round(void **state)
{
    (void)state;
    for (uint32_t scalar = 0; scalar <= LAST; scalar++) {
        if (scalar == SURROGATES) {
            scalar = SURROGATES_END;
        }
        char bytes[4];
        size_t size = utf8_put(scalar, bytes);
        size_t expected = scalar < 0x80 ? 1 : scalar < 0x800 ? 2 : scalar < 0x10000 ? 3 : 4;
        assert_int_equal(size, expected);
        assert_true(utf8_valid(bytes, size));
        assert_int_equal(utf8_length(bytes, size), 1);
        size_t at = 0;
        assert_int_equal(utf8_next(bytes, size, &at), scalar);
        assert_int_equal(at, size);
        /* Cut short anywhere it is not valid. */
        for (size_t cut = 1; cut < size; cut++) {
            assert_false(utf8_valid(bytes, cut));
        }
    }
}

/* What RFC 3629's grammar allows, written the long way. */
static bool valid_4(const unsigned char *p)
{
    uint32_t scalar = (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 63) << 12 |
                      (uint32_t)(p[2] & 63) << 6 | (p[3] & 63);
    return (p[0] & 0xf8) == 0xf0 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80 &&
           (p[3] & 0xc0) == 0x80 && scalar >= 0x10000 && scalar <= LAST;
}

static bool valid_3(const unsigned char *p)
{
    uint32_t scalar = (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 |
                      (uint32_t)(p[2] & 63);
    return (p[0] & 0xf0) == 0xe0 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80 &&
           scalar >= 0x800 && !(scalar >= SURROGATES && scalar < SURROGATES_END);
}

static bool valid_2(const unsigned char *p)
{
    return (p[0] & 0xe0) == 0xc0 && (p[1] & 0xc0) == 0x80 && p[0] >= 0xc2;
}

/* Every pair of first bytes, with last bytes at the edges of what may follow. */
static void test_every_form(void **state)
{
    (void)state;
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    for (unsigned pair = 0; pair < 0x10000; pair++) {
        for (size_t i = 0; i < sizeof edges; i++) {
            for (size_t j = 0; j < sizeof edges; j++) {
                const unsigned char p[] = {(unsigned char)(pair >> 8), (unsigned char)pair,
                                           edges[i], edges[j]};
                const char *text = (const char *)p;
                assert_int_equal(utf8_valid(text, 2), valid_2(p) || (p[0] < 0x80 && p[1] < 0x80));
                if (p[0] >= 0xe0) {
                    assert_int_equal(utf8_valid(text, 3), valid_3(p));
                }
                if (p[0] >= 0xf0) {
                    assert_int_equal(utf8_valid(text, 4), valid_4(p));
                }
            }
        }
    }
}

/* A bad byte is found wherever it lies relative to the steps of eight. */
static void test_every_alignment(void **state)
{
    (void)state;
    char text[64];
    for (size_t size = 1; size <= sizeof text; size++) {
        for (size_t bad = 0; bad < size; bad++) {
            memset(text, 'a', sizeof text);
            assert_true(utf8_valid(text, size));
            text[bad] = (char)0x80;
            assert_false(utf8_valid(text, size));
            text[bad] = (char)0xff;
            assert_false(utf8_valid(text, size));
        }
    }
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("\0", 1));
}

static void test_length(void **state)
{
    (void)state;
    static const char text[] = "a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x91\x8dz";
    assert_int_equal(utf8_length(text, sizeof text - 1), 5);
    assert_int_equal(utf8_length("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scalar_goes_round),
        cmocka_unit_test(test_every_form),
        cmocka_unit_test(test_every_alignment),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
