/* The budget of what clients hold, and what it is where nobody says. */
#include "server/queue/client_bytes.h"

#include <unistd.h>

#include "tests/support/shell.h"
#include "tests/support/testing.h"

enum { MIB = 1024 * 1024, BODY = 16 * MIB };

static void test_accounts(void **state)
{
    (void)state;
    struct client_bytes budget;
    struct metrics *metrics = metrics_create("0", NULL);
    assert_non_null(metrics);
    client_bytes_init(&budget, metrics);
    client_bytes_limit(&budget, 100);
    struct account a = {.budget = &budget};
    struct account b = {.budget = &budget};
    assert_int_equal(account_hold(&a, 60), ACCOUNT_OK);
    assert_int_equal(account_hold(&b, 41), ACCOUNT_FULL);
    assert_int_equal(b.bytes, 0);
    assert_int_equal(account_hold(&b, 40), ACCOUNT_OK);
    assert_int_equal(account_hold(&a, 61), ACCOUNT_FULL);
    assert_int_equal(account_hold(&a, 101), ACCOUNT_NEVER);
    assert_int_equal(account_hold(&a, 10), ACCOUNT_OK);
    assert_int_equal(account_hold(&b, 90), ACCOUNT_OK);
    account_shrink(&a, 0);
    account_shrink(&b, 0);
    assert_int_equal(atomic_load(&budget.used), 0);
    struct account uncounted = {0};
    assert_int_equal(account_hold(&uncounted, SIZE_MAX), ACCOUNT_OK);
    metrics_destroy(metrics);
}

static void put_file(struct scratch *scratch, const char *name, const char *text)
{
    assert_int_equal(shell("mkdir -p \"$(dirname '%s')\"", scratch_path(scratch, name)), 0);
    scratch_text(scratch, name, text);
}

static void test_default(void **state)
{
    (void)state;
    struct scratch scratch;
    scratch_make(&scratch);
    size_t ram = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    size_t least = (size_t)CLIENT_BYTES_BODIES * BODY;
    /* No cgroup: of the machine. */
    assert_int_equal(client_bytes_default(scratch.dir, 0, BODY), ram / 2);
    /* Version 1, as it is seen from inside a container. */
    put_file(&scratch, "proc/self/cgroup", "5:memory:/docker/0a\n0::/\n");
    put_file(&scratch, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(client_bytes_default(scratch.dir, 0, BODY), ram / 2);
    put_file(&scratch, "sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    assert_int_equal(client_bytes_default(scratch.dir, 524 * MIB, BODY), 250 * MIB);
    /* Version 2; a parent's limit binds too. */
    put_file(&scratch, "proc/self/cgroup", "0::/a/b\n");
    put_file(&scratch, "sys/fs/cgroup/a/b/memory.max", "max\n");
    put_file(&scratch, "sys/fs/cgroup/a/memory.max", "629145600\n");
    assert_int_equal(client_bytes_default(scratch.dir, 400 * MIB, BODY), 100 * MIB);
    /* Never less than what a few bodies take. */
    assert_int_equal(client_bytes_default(scratch.dir, 599 * MIB, BODY), least);
    assert_int_equal(client_bytes_default(scratch.dir, 700 * MIB, BODY), least);
    scratch_remove(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
