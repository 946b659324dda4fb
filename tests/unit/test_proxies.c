/* Whose X-Forwarded-For is believed. */
#include "server/exchange/proxies.h"

#include <string.h>

#include "tests/support/testing.h"

static bool trusts(const char *list, const char *remote)
{
    struct proxies proxies;
    struct err err = ERR_INIT;
    if (proxies_parse(list, &proxies, &err) != ERR_OK) {
        fail_msg("%s: %s", list, err.text);
    }
    return proxies_trust(&proxies, remote);
}

static void test_networks(void **state)
{
    (void)state;
    assert_false(trusts(NULL, "127.0.0.1:1"));
    assert_false(trusts("", "127.0.0.1:1"));
    assert_true(trusts("127.0.0.1", "127.0.0.1:4711"));
    assert_false(trusts("127.0.0.1", "127.0.0.2:4711"));
    assert_true(trusts("10.0.0.0/8,192.168.4.0/23", "192.168.5.255:80"));
    assert_false(trusts("10.0.0.0/8,192.168.4.0/23", "192.168.6.0:80"));
    assert_true(trusts("10.1.2.3/8", "10.255.0.1:80"));
    assert_true(trusts("0.0.0.0/0", "203.0.113.9:80"));
    assert_false(trusts("0.0.0.0/0", "[2001:db8::1]:80"));
    assert_true(trusts("::/0", "203.0.113.9:80"));
    assert_true(trusts("fd00::/8", "[fdab::1]:80"));
    assert_false(trusts("fd00::/8", "[fe80::1]:80"));
    assert_true(trusts("2001:db8::/33", "[2001:db8:7fff::1]:80"));
    assert_false(trusts("2001:db8::/33", "[2001:db8:8000::1]:80"));
    /* A dual-stack listener names IPv4 peers so. */
    assert_true(trusts("10.0.0.0/8", "[::ffff:10.1.2.3]:80"));
    assert_true(trusts("unix", "unix"));
    assert_false(trusts("0.0.0.0/0,::/0", "unix"));
    assert_false(trusts("unix", "127.0.0.1:1"));
}

static void test_refused_lists(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "proxy",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0/8",
        "fd00::/129",
        "10.0.0.1,,",
        "10.0.0.1 ,10.0.0.2",
        "/8",
        "10.0.0.0/0x8",
        "10.0.0.0/8/8",
        ",",
        "00000000000000000000000000000000000000000000000000000000000000000000::1",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct proxies proxies;
        struct err err = ERR_INIT;
        if (proxies_parse(wrong[i], &proxies, &err) == ERR_OK) {
            fail_msg("%s was taken", wrong[i]);
        }
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.text, "--trusted-proxies"));
    }
    char many[PROXIES_MAX * 8 + 9] = "";
    for (size_t i = 0; i <= PROXIES_MAX; i++) {
        memcpy(many + i * 8, "1.1.1.1,", 9);
    }
    struct proxies proxies;
    struct err err = ERR_INIT;
    assert_int_equal(proxies_parse(many, &proxies, &err), ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_refused_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
