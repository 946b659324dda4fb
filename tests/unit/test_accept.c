/* Raw floats only where they weigh more than JSON. */
#include "server/exchange/accept.h"

#include <string.h>

#include "tests/support/testing.h"

static bool octets(const char *first, const char *second)
{
    struct accept accept = {.octets = {0}};
    accept_take(&accept, first);
    if (second) {
        accept_take(&accept, second);
    }
    return accept_octets(&accept);
}

static void test_weights(void **state)
{
    (void)state;
    static const char *const raw[] = {
        "application/octet-stream",
        "Application/OCTET-Stream",
        "application/octet-stream;q=0.001",
        "text/html, application/octet-stream;q=0.5",
        "application/json;q=0.5, application/octet-stream",
        "application/json;q=0.899 , application/octet-stream ; Q=0.9",
        "application/json;q=0, */*;q=0.1",
        "application/octet-stream, */*;q=0.8",
        "application/octet-stream;q=0.9, application/*;q=0.8, */*",
        "application/json;profile=\",;q=1\";q=0.2, application/octet-stream;q=0.3",
        "application/octet-stream;v=\"a\\\",b\", text/plain",
        ",, application/octet-stream,,",
        "application/json;q=7, application/octet-stream",
    };
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        if (!octets(raw[i], NULL)) {
            fail_msg("JSON for %s", raw[i]);
        }
    }
    static const char *const json[] = {
        "",
        "*/*",
        "application/*",
        "text/html",
        "application/json",
        "application/json, application/octet-stream",
        "application/octet-stream, application/json",
        "application/octet-stream, */*",
        "application/octet-stream;q=0.5, */*",
        "application/octet-stream;q=0.8, application/json;q=0.9",
        "application/octet-stream;q=0",
        "application/octet-stream;q=0, */*",
        "application/octet-stream;q=1.001",
        "application/octet-stream;q=0.0000",
        "application/octet-stream;q=0.1234",
        "application/octet-stream;q=",
        "application/octet-stream;q=.5",
        "application/octet-stream;q=-1",
        "application/octet-stream-x",
        "xapplication/octet-stream",
        "\"application/octet-stream",
        "text/plain;v=\"x, application/octet-stream\"",
        ";,;,",
    };
    for (size_t i = 0; i < sizeof json / sizeof *json; i++) {
        if (octets(json[i], NULL)) {
            fail_msg("raw floats for %s", json[i]);
        }
    }
}

static void test_lines_are_one_list(void **state)
{
    (void)state;
    assert_true(octets("application/json;q=0.2", "application/octet-stream"));
    assert_false(octets("application/octet-stream;q=0.2", "application/json"));
    assert_false(octets("*/*;q=0.5", "application/octet-stream;q=0.4"));
}

static bool gzip(const char *first, const char *second)
{
    struct accept accept = {0};
    accept_take_codings(&accept, first);
    if (second) {
        accept_take_codings(&accept, second);
    }
    return accept_gzip(&accept);
}

static void test_codings(void **state)
{
    (void)state;
    static const char *const packed[] = {"gzip",
                                         "x-gzip",
                                         "GZip;q=1.0",
                                         "br, gzip, deflate",
                                         "*",
                                         "deflate;q=0, *;q=0.1",
                                         "gzip;q=0.5, *;q=0",
                                         "gzip, identity",
                                         "gzip;q=0.3,identity;q=0.3"};
    static const char *const plain[] = {"",
                                        "identity",
                                        "deflate, br",
                                        "gzip;q=0",
                                        "gzip;q=0, *",
                                        "*;q=0",
                                        "gzip;q=0.2, identity",
                                        "gzip;q=2",
                                        "gzipped",
                                        "\"gzip\"",
                                        ",;q=1"};
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
        if (!gzip(packed[i], NULL)) {
            fail_msg("plain for %s", packed[i]);
        }
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (gzip(plain[i], NULL)) {
            fail_msg("gzip for %s", plain[i]);
        }
    }
    assert_false(gzip("gzip;q=0.5", "identity"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_lines_are_one_list),
        cmocka_unit_test(test_codings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
