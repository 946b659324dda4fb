/* The text of a float: reads back as the same bits, and none shorter does. A sample by default;
 * with ORTHRUS_FULL=1 ten million random bit patterns and every float of every exponent's edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/float_text.h"

#ifdef __aarch64__ /* emulated */
enum { SAMPLE = 30000 };
#else
enum { SAMPLE = 300000 };
#endif
enum { SAMPLE_FULL = 10000000 };

static bool full(void)
{
    const char *value = getenv("ORTHRUS_FULL");
    return value && strcmp(value, "1") == 0;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static const char *text_of(float value, char out[FLOAT_TEXT_MAX + 1])
{
    memset(out, '#', FLOAT_TEXT_MAX + 1);
    size_t size = float_text(value, out);
    assert_in_range(size, 3, FLOAT_TEXT_MAX);
    out[size] = '\0';
    return out;
}

static void assert_text(float value, const char *expected)
{
    char text[FLOAT_TEXT_MAX + 1];
    assert_string_equal(text_of(value, text), expected);
}

/* -?digits.digits or -?digit(.digits)?e-?digits, no superfluous zero. */
static void assert_grammar(const char *text)
{
    const char *c = text + (*text == '-');
    size_t whole = strspn(c, "0123456789");
    assert_true(whole >= 1 && (whole == 1 || *c != '0'));
    c += whole;
    if (*c == '.') {
        size_t digits = strspn(c + 1, "0123456789");
        assert_true(digits >= 1);
        c += 1 + digits;
    } else {
        assert_int_equal(*c, 'e');
    }
    if (*c == 'e') {
        assert_int_equal(whole, 1);
        c += c[1] == '-' ? 2 : 1;
        assert_true(*c >= '1' && *c <= '9');
        c += strspn(c, "0123456789");
    }
    assert_int_equal(*c, '\0');
}

static int significant_digits(const char *text)
{
    int digits = 0;
    int zeros = 0; /* behind the last digit that is none */
    for (const char *c = text; *c && *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9' && (digits || *c != '0')) {
            digits++;
            zeros = *c == '0' ? zeros + 1 : 0;
        }
    }
    return digits - zeros;
}

/* The fewest digits with which printf's correctly rounded text reads back. Schubfach may do with
 * fewer still: of the shortest texts printf's is not always inside the interval. */
static int printf_digits(float value, char *out, size_t size)
{
    for (int digits = 1;; digits++) {
        (void)snprintf(out, size, "%.*e", digits - 1, (double)value);
        if (strtof(out, NULL) == value) {
            return digits;
        }
    }
}

static void check(uint32_t bits)
{
    float value = from_bits(bits);
    if ((bits & 0x7f800000) == 0x7f800000 || (bits << 1) == 0) {
        return;
    }
    char text[FLOAT_TEXT_MAX + 1];
    text_of(value, text);
    assert_grammar(text);
    float back = strtof(text, NULL);
    assert_memory_equal(&back, &value, sizeof(value));
    char reference[32];
    int least = printf_digits(value, reference, sizeof(reference));
    int ours = significant_digits(text);
    assert_true(ours <= least);
    if (ours == least) {
        /* As short, hence the nearest: exactly printf's, but for ties. */
        double distance = strtod(text, NULL) - (double)value;
        double theirs = strtod(reference, NULL) - (double)value;
        assert_true((distance < 0 ? -distance : distance) <= (theirs < 0 ? -theirs : theirs));
    }
}

static void test_forms(void **state)
{
    (void)state;
    assert_text(0.0f, "0.0");
    assert_text(-0.0f, "-0.0");
    assert_text(1.0f, "1.0");
    assert_text(-1.0f, "-1.0");
    assert_text(10.0f, "10.0");
    assert_text(0.1f, "0.1");
    assert_text(0.3f, "0.3");
    assert_text(0.0123f, "0.0123");
    assert_text(12.5f, "12.5");
    assert_text(16777216.0f, "16777216.0");
    assert_text(123456789.0f, "123456790.0");
    assert_text(1e8f, "100000000.0");
    assert_text(1e9f, "1e9");
    assert_text(1.5e10f, "1.5e10");
    assert_text(0.0001f, "0.0001");
    assert_text(0.00001f, "1e-5");
    assert_text(1.25e-7f, "1.25e-7");
    assert_text(3.4028235e38f, "3.4028235e38");
    assert_text(-1.1754944e-38f, "-1.1754944e-38");
    assert_text(from_bits(1), "1e-45");
    assert_text(from_bits(0x7f800000), "null");
    assert_text(from_bits(0xff800000), "null");
    assert_text(from_bits(0x7fc00000), "null");
}

/* Powers of two have a nearer lower neighbour; fractions at the edges make the ends even and odd.
 */
static void test_every_exponent(void **state)
{
    (void)state;
    static const uint32_t edges[] = {0,        1,        2,        3,        0x3fffff,
                                     0x400000, 0x400001, 0x7ffffd, 0x7ffffe, 0x7fffff};
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
            check(exponent << 23 | edges[i]);
            check(0x80000000 | exponent << 23 | edges[i]);
        }
        uint32_t step = full() ? 997 : 99991;
        for (uint32_t fraction = 0; fraction < 0x800000; fraction += step) {
            check(exponent << 23 | fraction);
        }
    }
}

static void test_random_bits(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252ull;
    for (long i = 0, n = full() ? SAMPLE_FULL : SAMPLE; i < n; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        check((uint32_t)(seed >> 32));
    }
}

/* What embeddings hold: 24-bit fractions around zero. */
static void test_small_numbers(void **state)
{
    (void)state;
    for (int i = -20000; i <= 20000; i++) {
        float value = (float)i / 65536.0f * 1.7f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        check(bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_every_exponent),
        cmocka_unit_test(test_random_bits),
        cmocka_unit_test(test_small_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
