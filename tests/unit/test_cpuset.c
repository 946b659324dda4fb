/* Threads by affinity and cgroup quota, against made-up /proc and /sys trees. */
#include "server/queue/cpuset.h"

#include <pthread.h>
#include <sched.h>

#include "tests/support/shell.h"
#include "tests/support/testing.h"

static void put_file(struct scratch *scratch, const char *name, const char *text)
{
    assert_int_equal(shell("mkdir -p \"$(dirname '%s')\"", scratch_path(scratch, name)), 0);
    scratch_text(scratch, name, text);
}

static double quota(struct scratch *scratch)
{
    struct cpuset set;
    cpuset_read(scratch->dir, &set);
    assert_true(set.n >= 1);
    return set.quota;
}

static int setup(void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    scratch_make(scratch);
    *state = scratch;
    return 0;
}

static int teardown(void **state)
{
    struct scratch *scratch = *state;
    scratch_remove(scratch);
    free(scratch);
    return 0;
}

static void test_no_cgroups_no_limit(void **state)
{
    struct scratch *scratch = *state;
    assert_true(quota(scratch) == 0);
    put_file(scratch, "proc/self/cgroup", "0::/\nnonsense\n:\n");
    assert_true(quota(scratch) == 0);
    put_file(scratch, "sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_true(quota(scratch) == 0);
    put_file(scratch, "sys/fs/cgroup/cpu.max", "garbage");
    assert_true(quota(scratch) == 0);
}

static void test_version_2(void **state)
{
    struct scratch *scratch = *state;
    put_file(scratch, "proc/self/cgroup", "0::/pod/app\n");
    put_file(scratch, "sys/fs/cgroup/pod/app/cpu.max", "300000 100000\n");
    assert_true(quota(scratch) == 3);
    put_file(scratch, "sys/fs/cgroup/pod/cpu.max", "150000 100000\n"); /* the parent's is less */
    assert_true(quota(scratch) == 1.5);
}

static void test_version_2_namespace(void **state)
{
    struct scratch *scratch = *state;
    put_file(scratch, "proc/self/cgroup", "0::/\n");
    put_file(scratch, "sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_true(quota(scratch) == 2);
}

static void test_version_1(void **state)
{
    struct scratch *scratch = *state;
    put_file(scratch, "proc/self/cgroup",
             "7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n");
    put_file(scratch, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    put_file(scratch, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    assert_true(quota(scratch) == 0);
    put_file(scratch, "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n");
    assert_true(quota(scratch) == 0.5);
}

static void test_version_1_host_path_inside_a_container(void **state)
{
    struct scratch *scratch = *state;
    put_file(scratch, "proc/self/cgroup", "4:cpuacct,cpu:/docker/abc\n");
    put_file(scratch, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
    put_file(scratch, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_true(quota(scratch) == 4);
}

static void test_threads(void **state)
{
    (void)state;
    struct cpuset set = {.n = 8};
    assert_int_equal(cpuset_threads(&set), 8);
    set.quota = 2.9;
    assert_int_equal(cpuset_threads(&set), 2);
    set.quota = 0.5;
    assert_int_equal(cpuset_threads(&set), 1);
    set.quota = 100;
    assert_int_equal(cpuset_threads(&set), 8);
}

/* On a whole machine others run too: there the kernel must be able to move a thread away. */
static void test_pinned_only_on_cpus_set_aside(void **state)
{
    (void)state;
    const struct cpuset part = {.n = 2, .machine = 8};
    const struct cpuset whole = {.n = 8, .machine = 8};
    assert_true(cpuset_exclusive(&part, 2));
    assert_false(cpuset_exclusive(&part, 1));
    assert_false(cpuset_exclusive(&part, 3));
    assert_false(cpuset_exclusive(&whole, 8));
    assert_false(cpuset_exclusive(&whole, 2));
}

static void *pin_self(void *argument)
{
    struct cpuset *set = argument;
    assert_true(cpuset_pin(set, set->n - 1));
    cpu_set_t now;
    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof now, &now), 0);
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_true(CPU_ISSET(set->cpu[set->n - 1], &now));
    return NULL;
}

static void test_pin(void **state)
{
    (void)state;
    struct cpuset set;
    cpuset_read("", &set);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pin_self, &set), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_cgroups_no_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_2_namespace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_1_host_path_inside_a_container, setup,
                                        teardown),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_pinned_only_on_cpus_set_aside),
        cmocka_unit_test(test_pin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
