/* base/file and base/sha256. */
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/mapped.h"
#include "base/sha256.h"
#include "tests/support/testing.h"

static int set_up(void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    assert_non_null(scratch);
    scratch_make(scratch);
    *state = scratch;
    return 0;
}

static int tear_down(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

static void test_map(void **state)
{
    struct scratch *scratch = *state;
    scratch_text(scratch, "file", "hello");
    struct file_map map;
    struct err err = ERR_INIT;
    assert_int_equal(file_map_open(scratch_path(scratch, "file"), 5, &map, &err), ERR_OK);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    file_map_close(&map);
    assert_null(map.data);
    file_map_close(&map);
    file_map_close(NULL);
    scratch_text(scratch, "empty", "");
    assert_int_equal(file_map_open(scratch_path(scratch, "empty"), 5, &map, &err), ERR_OK);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    file_map_close(&map);
}

static void test_map_refuses(void **state)
{
    struct scratch *scratch = *state;
    struct file_map map = {.size = 9};
    scratch_text(scratch, "file", "hello");
    struct err err = ERR_INIT;
    enum err_code code = file_map_open(scratch_path(scratch, "file"), 4, &map, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("/file", "5 bytes", "4"));
    err = ERR_INIT;
    code = file_map_open(scratch_path(scratch, "none"), 4, &map, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("/none"));
    err = ERR_INIT;
    code = file_map_open(scratch_path(scratch, "file/below"), 4, &map, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("/file/below"));
    err = ERR_INIT;
    code = file_map_open(scratch->dir, 4, &map, &err);
    expect_error(&err, code, ERR_INVALID, WORDS(scratch->dir, "regular"));
    assert_int_equal(mkfifo(scratch_path(scratch, "fifo"), 0600), 0);
    err = ERR_INIT;
    code = file_map_open(scratch_path(scratch, "fifo"), 4, &map, &err); /* and does not wait */
    expect_error(&err, code, ERR_INVALID, WORDS("/fifo", "regular"));
    assert_int_equal(map.size, 9);
}

/* What is written into a mapped file is seen; what takes its place, or its name away, is not it. */
static void test_map_unchanged(void **state)
{
    struct scratch *scratch = *state;
    scratch_text(scratch, "file", "hello");
    struct file_map map;
    struct err err = ERR_INIT;
    char path[512];
    (void)snprintf(path, sizeof path, "%s", scratch_path(scratch, "file"));
    assert_int_equal(file_map_open(path, 5, &map, &err), ERR_OK);
    assert_int_equal(file_map_unchanged(&map, path, &err), ERR_OK);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    expect_error(&err, file_map_unchanged(&map, path, &err), ERR_IO, WORDS("/file", "written to"));
    file_map_close(&map);
    err = ERR_INIT;
    assert_int_equal(file_map_open(path, 5, &map, &err), ERR_OK);
    assert_int_equal(truncate(path, 4), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    expect_error(&err, file_map_unchanged(&map, path, &err), ERR_IO, WORDS("/file", "written to"));
    err = ERR_INIT;
    scratch_text(scratch, "other", "other");
    assert_int_equal(rename(scratch_path(scratch, "other"), path), 0);
    assert_int_equal(file_map_unchanged(&map, path, &err), ERR_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(file_map_unchanged(&map, path, &err), ERR_OK);
    file_map_close(&map);
}

/* What a child writes to stderr; *ret_status as wait's. */
static void run_child(void (*child)(const char *path), const char *path, char out[512],
                      int *ret_status)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        mapped_tell();
        child(path);
        _exit(99);
    }
    (void)close(ends[1]);
    size_t size = 0;
    ssize_t got;
    while ((got = read(ends[0], out + size, 511 - size)) > 0) {
        size += (size_t)got;
    }
    out[size] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, ret_status, 0), pid);
}

static void read_what_is_cut(const char *path)
{
    struct file_map first;
    struct file_map map;
    if (file_map_open(path, SIZE_MAX, &first, NULL) != ERR_OK ||
        file_map_open(path, SIZE_MAX, &map, NULL) != ERR_OK || truncate(path, 0) != 0) {
        return;
    }
    file_map_close(&first);
    const volatile unsigned char *data = map.data;
    (void)data[map.size - 1];
}

static void die_of_the_signal(const char *path)
{
    struct file_map map;
    if (file_map_open(path, SIZE_MAX, &map, NULL) == ERR_OK) {
        (void)raise(SIGBUS);
    }
}

/* A page that is gone is told by its file; the signal alone is what it was. */
static void test_a_page_that_is_gone(void **state)
{
    struct scratch *scratch = *state;
    static const char bytes[9000];
    scratch_write(scratch, "file", bytes, sizeof bytes);
    const char *path = scratch_path(scratch, "file");
    char out[512];
    int status;
    run_child(die_of_the_signal, path, out, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_string_equal(out, "");
    run_child(read_what_is_cut, path, out, &status);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
    assert_non_null(strstr(out, path));
    assert_non_null(strstr(out, "cut off"));
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
}

/* More mappings at once than are noted: all are fine. */
static void test_many_maps(void **state)
{
    enum { MANY = 600 };
    struct scratch *scratch = *state;
    scratch_text(scratch, "file", "hello");
    static struct file_map maps[MANY];
    struct err err = ERR_INIT;
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(file_map_open(scratch_path(scratch, "file"), 5, &maps[i], &err),
                             ERR_OK);
        }
        for (size_t i = 0; i < MANY; i++) {
            file_map_close(&maps[i]);
        }
    }
}

static void test_read(void **state)
{
    struct scratch *scratch = *state;
    enum { SIZE = 200000 };
    char *big = malloc(SIZE);
    assert_non_null(big);
    for (size_t i = 0; i < SIZE; i++) {
        big[i] = (char)(i * 31);
    }
    scratch_write(scratch, "big", big, SIZE);
    char *data = NULL;
    size_t size;
    struct err err = ERR_INIT;
    assert_int_equal(file_read(scratch_path(scratch, "big"), SIZE, &data, &size, &err), ERR_OK);
    assert_int_equal(size, SIZE);
    assert_memory_equal(data, big, SIZE);
    assert_int_equal(data[SIZE], 0);
    free(data);
    data = NULL;
    enum err_code code = file_read(scratch_path(scratch, "big"), SIZE - 1, &data, &size, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("/big", "199999"));
    err = ERR_INIT;
    code = file_read(scratch_path(scratch, "none"), 1, &data, &size, &err);
    expect_error(&err, code, ERR_NOT_FOUND, WORDS("/none"));
    err = ERR_INIT;
    code = file_read(scratch->dir, 1, &data, &size, &err);
    expect_error(&err, code, ERR_IO, WORDS(scratch->dir));
    err = ERR_INIT;
    assert_int_equal(mkfifo(scratch_path(scratch, "fifo"), 0600), 0);
    code = file_read_regular(scratch_path(scratch, "fifo"), 4, &data, &size,
                             &err); /* and does not wait */
    expect_error(&err, code, ERR_INVALID, WORDS("/fifo", "regular"));
    assert_null(data);
    err = ERR_INIT;
    assert_int_equal(truncate(scratch_path(scratch, "big"), 1L << 40), 0); /* is not read first */
    code = file_read_regular(scratch_path(scratch, "big"), SIZE, &data, &size, &err);
    expect_error(&err, code, ERR_LIMIT, WORDS("/big", "1099511627776 bytes", "200000"));
    assert_null(data);
    scratch_text(scratch, "empty", "");
    assert_int_equal(file_read(scratch_path(scratch, "empty"), 0, &data, &size, &err), ERR_OK);
    assert_int_equal(size, 0);
    assert_string_equal(data, "");
    free(data);
    free(big);
}

static size_t count_files(const char *dir)
{
    size_t n = 0;
    DIR *open = opendir(dir);
    assert_non_null(open);
    while (readdir(open)) {
        n++;
    }
    closedir(open);
    return n - 2; /* . and .. */
}

static void test_write_atomic(void **state)
{
    struct scratch *scratch = *state;
    struct err err = ERR_INIT;
    char path[512];
    (void)snprintf(path, sizeof path, "%s", scratch_path(scratch, "file"));
    assert_int_equal(file_write_atomic(path, "first", 5, &err), ERR_OK);
    assert_int_equal(file_write_atomic(path, "second one", 10, &err), ERR_OK);
    assert_int_equal(file_write_atomic(scratch_path(scratch, "empty"), NULL, 0, &err), ERR_OK);
    char *data;
    size_t size;
    assert_int_equal(file_read(path, 100, &data, &size, &err), ERR_OK);
    assert_string_equal(data, "second one");
    free(data);
    assert_int_equal(count_files(scratch->dir), 2); /* no temporary file is left */
    enum err_code code = file_write_atomic(scratch_path(scratch, "no/such/folder"), "x", 1, &err);
    expect_error(&err, code, ERR_IO, WORDS("no/such/folder"));
    scratch_mkdir(scratch, "dir");
    err = ERR_INIT;
    code = file_write_atomic(scratch_path(scratch, "dir"), "x", 1, &err);
    expect_error(&err, code, ERR_IO, WORDS("/dir"));
    assert_int_equal(count_files(scratch->dir), 3);
}

static void test_paths(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        const char *dir;
        const char *name;
        const char *path;
    } cases[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"a", "b/c", "a/b/c"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = file_join(cases[i].dir, cases[i].name);
        assert_string_equal(path, cases[i].path);
        free(path);
    }
    assert_false(!file_exists(scratch->dir));
    assert_true(!file_exists(scratch_path(scratch, "none")));
}

/* The vectors of FIPS 180-4's examples. */
static void test_sha256(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char hex[SHA256_HEX_SIZE + 1];
        size_t size = strlen(cases[i].text);
        sha256_of(cases[i].text, size, hex);
        assert_string_equal(hex, cases[i].hex);
        struct sha256 *sha = sha256_create();
        assert_non_null(sha);
        for (size_t k = 0; k < size; k++) {
            sha256_update(sha, cases[i].text + k, 1);
        }
        unsigned char digest[SHA256_SIZE];
        sha256_finish(sha, digest);
        sha256_hex(digest, hex);
        assert_string_equal(hex, cases[i].hex);
    }
    sha256_destroy(sha256_create());
    sha256_destroy(NULL);
}

/* Several digests at once, over lengths that are whole blocks at first and then are not, are those
 * of one after the other. */
static void test_sha256_each(void **state)
{
    (void)state;
    enum { SIZE_MAX_ONE = 1200, STEPS = 5, TRIES = 300 };
    static unsigned char bytes[SHA256_LANES * SIZE_MAX_ONE];
    static const size_t edges[] = {0, 64, 55, 56, 1088}; /* around what the padding takes */
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof bytes; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(random >> 24);
    }
    for (size_t try = 0; try < TRIES; try++) {
        struct sha256 *together[SHA256_LANES];
        struct sha256 *alone[SHA256_LANES];
        size_t n = 1 + try % SHA256_LANES;
        for (size_t i = 0; i < n; i++) {
            together[i] = sha256_create();
            alone[i] = sha256_create();
            assert_true(together[i] && alone[i]);
        }
        for (size_t step = 0; step < STEPS; step++) {
            random = random * 1664525 + 1013904223;
            size_t size = (random >> 8) % SIZE_MAX_ONE;
            size = step < 3 ? size - size % SHA256_BLOCK : size;
            size = try < TRIES / 2 ? edges[(try + step) % 5] : size;
            const void *data[SHA256_LANES];
            for (size_t i = 0; i < n; i++) {
                data[i] = bytes + ((random >> 4) + i * 977) % (sizeof bytes - SIZE_MAX_ONE);
                sha256_update(alone[i], data[i], size);
            }
            sha256_update_each(together, data, n, size);
        }
        for (size_t i = 0; i < n; i++) {
            unsigned char expected[SHA256_SIZE];
            unsigned char found[SHA256_SIZE];
            sha256_finish(alone[i], expected);
            sha256_finish(together[i], found);
            assert_memory_equal(found, expected, SHA256_SIZE);
        }
    }
}

#define FOLDER_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(test_map),           FOLDER_TEST(test_map_refuses),
        FOLDER_TEST(test_map_unchanged), FOLDER_TEST(test_a_page_that_is_gone),
        FOLDER_TEST(test_many_maps),     FOLDER_TEST(test_read),
        FOLDER_TEST(test_write_atomic),  FOLDER_TEST(test_paths),
        cmocka_unit_test(test_sha256),   cmocka_unit_test(test_sha256_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
