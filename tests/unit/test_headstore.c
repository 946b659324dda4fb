/* The heads in service: swaps and their refusals, what is kept, what persists, what is watched. */
#include "server/heads/headstore.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/check.h"
#include "model/model.h"
#include "server/metrics/metrics.h"
#include "server/settings.h"
#include "tests/support/heads_file.h"
#include "tests/support/testing.h"

#define TINY  ORTHRUS_TEST_DATA "/golden/tiny-bert"
#define HEADS TINY "/heads.safetensors"

enum { CLASSES = 6, MOODS = 3 };

static struct model *model;

/* One store and what it was made of. */
struct fixture {
    struct settings settings;
    struct metrics *metrics;
    struct headstore *store;
    struct scratch scratch;
    char dir[512];
};

static int load_model(void **state)
{
    (void)state;
    const struct encoder_options options = {
        .precision = PRECISION_FP32, .isa = cpu_detect(), .threads = 1};
    struct err err = ERR_INIT;
    if (model_load(TINY, &options, &model, &err) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

static int unload_model(void **state)
{
    (void)state;
    model_destroy(model);
    return 0;
}

static void open_store(struct fixture *fixture)
{
    struct err err = ERR_INIT;
    fixture->metrics = metrics_create("test", NULL);
    assert_non_null(fixture->metrics);
    enum err_code code = headstore_create(&fixture->settings, model, POOLING_MEAN, 2,
                                          fixture->metrics, &fixture->store, &err);
    if (code != ERR_OK) {
        fail_msg("%s", err.text);
    }
}

static void close_store(struct fixture *fixture)
{
    headstore_destroy(fixture->store);
    metrics_destroy(fixture->metrics);
    fixture->store = NULL;
    fixture->metrics = NULL;
}

/* Each test has a folder of its own, fixture.dir. */
static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    scratch_make(&fixture->scratch);
    (void)snprintf(fixture->dir, sizeof fixture->dir, "%s", scratch_path(&fixture->scratch, "d"));
    fixture->settings.heads_path = HEADS;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    close_store(fixture);
    scratch_remove(&fixture->scratch);
    free(fixture);
    return 0;
}

static struct buf make_heads(size_t classes, size_t moods, float value, const char *encoder)
{
    return heads_file_make(model->config.hidden, classes, moods, value, encoder);
}

static struct buf usual_file(float value)
{
    return make_heads(CLASSES, MOODS, value, NULL);
}

/* The outcome of one call; releases what it was given. */
struct outcome {
    enum swap_result result;
    uint64_t version, previous;
    char sha256[65], source_sha256[65];
    struct err err;
};

static void note(struct outcome *outcome, struct heads_version *now, struct heads_version *previous)
{
    if (outcome->result == SWAP_OK) {
        outcome->version = now->version;
        outcome->previous = previous->version;
        memcpy(outcome->sha256, now->heads->sha256, sizeof outcome->sha256);
        memcpy(outcome->source_sha256, now->source_sha256, sizeof outcome->source_sha256);
        heads_version_release(now);
        heads_version_release(previous);
    }
}

static struct outcome put_with(struct fixture *fixture, struct buf file, const char *if_match,
                               bool dry_run)
{
    struct outcome outcome = {.err = ERR_INIT};
    struct heads_version now = {0};
    struct heads_version previous = {0};
    outcome.result = headstore_put(fixture->store, file.data, file.size, if_match, dry_run, "ops",
                                   &now, &previous, &outcome.err);
    note(&outcome, &now, &previous);
    buf_done(&file);
    return outcome;
}

static struct outcome put(struct fixture *fixture, struct buf file)
{
    return put_with(fixture, file, NULL, false);
}

static struct outcome rollback_with(struct fixture *fixture, uint64_t version, const char *if_match,
                                    bool dry_run)
{
    struct outcome outcome = {.err = ERR_INIT};
    struct heads_version now = {0};
    struct heads_version previous = {0};
    outcome.result = headstore_rollback(fixture->store, version, if_match, dry_run, "ops", &now,
                                        &previous, &outcome.err);
    note(&outcome, &now, &previous);
    return outcome;
}

static struct outcome rollback(struct fixture *fixture, uint64_t version)
{
    return rollback_with(fixture, version, NULL, false);
}

static uint64_t active_version(struct fixture *fixture)
{
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    heads_version_release(&version);
    return version.version;
}

/* The first classifier weight of what serves: tells files of make_heads apart. */
static float active_value(struct fixture *fixture)
{
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    float value = version.heads ? heads_find(version.heads, "classifier")->weight[0] : NAN;
    heads_version_release(&version);
    return value;
}

static size_t list_versions(struct fixture *fixture, uint64_t out[HEADSTORE_KEPT])
{
    struct heads_version versions[HEADSTORE_KEPT];
    size_t n = headstore_list(fixture->store, versions, NULL);
    for (size_t i = 0; i < n; i++) {
        out[i] = versions[i].version;
        heads_version_release(&versions[i]);
    }
    return n;
}

static void take_refusal(struct fixture *fixture, char refusal[ERR_TEXT_MAX])
{
    struct heads_version versions[HEADSTORE_KEPT];
    size_t n = headstore_list(fixture->store, versions, refusal);
    for (size_t i = 0; i < n; i++) {
        heads_version_release(&versions[i]);
    }
}

static unsigned swaps(struct fixture *fixture, const char *result)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    metrics_write(fixture->metrics, &(struct metrics_now){0}, &text);
    char key[128];
    (void)snprintf(key, sizeof key, "orthrus_heads_swaps_total{result=\"%s\"} ", result);
    const char *at = strstr(text.data, key);
    assert_non_null(at);
    unsigned count = (unsigned)strtoul(at + strlen(key), NULL, 10);
    buf_done(&text);
    return count;
}

static void test_put_and_rollback(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    struct heads_version first;
    headstore_acquire(fixture->store, &first);
    assert_int_equal(first.version, 1);
    assert_string_equal(first.source, HEADS);
    assert_memory_equal(first.id, "v1-", 3);
    assert_memory_equal(first.id + 3, first.heads->sha256, 12);

    struct buf file = usual_file(2);
    char sha256[65];
    sha256_of(file.data, file.size, sha256);
    struct outcome outcome = put(fixture, file);
    assert_int_equal(outcome.result, SWAP_OK);
    assert_int_equal(outcome.version, 2);
    assert_int_equal(outcome.previous, 1);
    assert_string_equal(outcome.sha256, sha256);
    assert_string_equal(outcome.source_sha256, sha256);
    assert_true(active_value(fixture) == 2);

    outcome = rollback(fixture, 0);
    assert_int_equal(outcome.result, SWAP_OK);
    assert_int_equal(outcome.version, 1);
    assert_int_equal(outcome.previous, 2);
    assert_string_equal(outcome.sha256, first.heads->sha256);
    outcome = rollback(fixture, 2);
    assert_int_equal(outcome.version, 2);
    outcome = rollback(fixture, 9);
    assert_int_equal(outcome.result, SWAP_UNKNOWN);
    assert_int_equal(active_version(fixture), 2);
    assert_int_equal(swaps(fixture, "ok"), 3);
    assert_int_equal(swaps(fixture, "unknown"), 1);
    heads_version_release(&first);
}

static void test_one_head_is_merged(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    assert_int_equal(put(fixture, usual_file(2)).result, SWAP_OK);
    struct outcome outcome = put(fixture, make_heads(2, 0, 3, NULL));
    assert_int_equal(outcome.result, SWAP_OK);
    assert_string_not_equal(outcome.sha256, outcome.source_sha256);
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    assert_int_equal(heads_find(version.heads, "classifier")->classes, 2);
    assert_string_equal(heads_find(version.heads, "classifier")->labels[1], "green");
    assert_int_equal(heads_find(version.heads, "sentiment")->classes, MOODS);
    assert_true(heads_find(version.heads, "classifier")->weight[0] == 3);
    assert_true(heads_find(version.heads, "sentiment")->weight[0] == 2);
    char sha256[65];
    sha256_of(version.heads->file, version.heads->file_size, sha256);
    assert_string_equal(outcome.sha256, sha256);
    heads_version_release(&version);
}

static void test_refusals_change_nothing(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    struct buf garbage;
    buf_init(&garbage, 100);
    assert_true(buf_append_str(&garbage, "not safetensors"));
    assert_int_equal(put(fixture, garbage).result, SWAP_INVALID);
    assert_int_equal(put(fixture, usual_file(NAN)).result, SWAP_INVALID);
    /* Finite weights, but their product with an embedding is not. */
    struct outcome outcome = put(fixture, usual_file(3e38f));
    assert_int_equal(outcome.result, SWAP_INVALID);
    assert_non_null(strstr(outcome.err.text, "probe"));
    static const char other[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_int_equal(put(fixture, make_heads(2, MOODS, 1, other)).result, SWAP_OTHER);
    assert_int_equal(put(fixture, make_heads(2, MOODS, 1, model->encoder_sha256)).result, SWAP_OK);
    assert_int_equal(active_version(fixture), 2);
    assert_int_equal(swaps(fixture, "refused"), 3);
    assert_int_equal(swaps(fixture, "other_encoder"), 1);
}

static void test_preconditions_and_dry_runs(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    struct heads_version first;
    headstore_acquire(fixture->store, &first);
    assert_int_equal(put_with(fixture, usual_file(1), "0000", false).result, SWAP_PRECONDITION);
    struct outcome outcome = put_with(fixture, usual_file(1), first.heads->sha256, true);
    assert_int_equal(outcome.result, SWAP_OK);
    assert_int_equal(outcome.version, 2);
    assert_int_equal(outcome.previous, 1);
    assert_int_equal(active_version(fixture), 1);
    assert_int_equal(put_with(fixture, usual_file(NAN), NULL, true).result, SWAP_INVALID);
    assert_int_equal(put_with(fixture, usual_file(1), first.heads->sha256, false).result, SWAP_OK);
    assert_int_equal(put_with(fixture, usual_file(1), "*", false).version, 3);
    assert_int_equal(swaps(fixture, "dry_run"), 1);
    heads_version_release(&first);
}

static void test_rollback_tried_and_guarded(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    assert_int_equal(rollback_with(fixture, 1, "*", true).version, 1);
    assert_int_equal(put(fixture, usual_file(2)).version, 2);
    struct outcome outcome = rollback_with(fixture, 0, NULL, true);
    assert_int_equal(outcome.result, SWAP_OK);
    assert_int_equal(outcome.version, 1);
    assert_int_equal(outcome.previous, 2);
    assert_int_equal(active_version(fixture), 2);
    assert_int_equal(rollback_with(fixture, 9, NULL, true).result, SWAP_UNKNOWN);
    /* The guard is the active set's digest, not the target's. */
    assert_int_equal(rollback_with(fixture, 0, outcome.sha256, false).result, SWAP_PRECONDITION);
    assert_int_equal(active_version(fixture), 2);
    struct heads_version active;
    headstore_acquire(fixture->store, &active);
    assert_int_equal(rollback_with(fixture, 0, active.heads->sha256, false).version, 1);
    heads_version_release(&active);
    assert_int_equal(swaps(fixture, "dry_run"), 2);
    assert_int_equal(swaps(fixture, "precondition"), 1);
}

static void test_eight_are_kept_and_the_active_one_stays(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    for (int i = 2; i <= 8; i++) {
        assert_int_equal(put(fixture, usual_file((float)i)).version, i);
    }
    assert_int_equal(rollback(fixture, 1).result, SWAP_OK); /* the oldest becomes the newest */
    for (int i = 9; i <= 12; i++) {
        assert_int_equal(put(fixture, usual_file((float)i)).version, i);
    }
    uint64_t versions[HEADSTORE_KEPT];
    assert_int_equal(list_versions(fixture, versions), HEADSTORE_KEPT);
    static const uint64_t expected[HEADSTORE_KEPT] = {12, 11, 10, 9, 1, 8, 7, 6};
    assert_memory_equal(versions, expected, sizeof expected);
    assert_int_equal(rollback(fixture, 2).result, SWAP_UNKNOWN);
}

static void test_start_without_heads(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_path = NULL;
    free(model->dir); /* the same model in a folder without heads */
    model->dir = strdup(fixture->scratch.dir);
    open_store(fixture);
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    assert_null(version.heads);
    assert_string_equal(version.id, "");
    assert_int_equal(rollback(fixture, 0).result, SWAP_UNKNOWN);
    assert_int_equal(put_with(fixture, usual_file(1), "*", false).result, SWAP_PRECONDITION);
    struct outcome outcome = put(fixture, make_heads(CLASSES, 0, 1, NULL));
    assert_int_equal(outcome.version, 1);
    assert_int_equal(outcome.previous, 0);
    free(model->dir);
    model->dir = strdup(TINY);
}

static void test_explicit_file_must_fit(void **state)
{
    struct fixture *fixture = *state;
    scratch_text(&fixture->scratch, "bad.safetensors", "no heads");
    fixture->settings.heads_path = scratch_path(&fixture->scratch, "bad.safetensors");
    struct err err = ERR_INIT;
    assert_int_not_equal(
        headstore_create(&fixture->settings, model, POOLING_MEAN, 2, NULL, &fixture->store, &err),
        ERR_OK);
    assert_non_null(strstr(err.text, "bad.safetensors"));
}

static void write_heads(struct fixture *fixture, const char *name, struct buf file)
{
    scratch_write(&fixture->scratch, name, file.data, file.size);
    buf_done(&file);
}

static void test_reload(void **state)
{
    struct fixture *fixture = *state;
    write_heads(fixture, "mine.safetensors", usual_file(1));
    char path[512];
    (void)snprintf(path, sizeof path, "%s", scratch_path(&fixture->scratch, "mine.safetensors"));
    fixture->settings.heads_path = path;
    open_store(fixture);
    headstore_reload(fixture->store);
    assert_int_equal(active_version(fixture), 1); /* unchanged */
    write_heads(fixture, "mine.safetensors", usual_file(2));
    headstore_reload(fixture->store);
    assert_int_equal(active_version(fixture), 2);
    assert_true(active_value(fixture) == 2);
    write_heads(fixture, "mine.safetensors", usual_file(NAN));
    headstore_reload(fixture->store);
    assert_int_equal(active_version(fixture), 2);
    assert_int_equal(swaps(fixture, "refused"), 1);
}

static unsigned count_files(const char *dir, const char *part)
{
    unsigned n = 0;
    DIR *folder = opendir(dir);
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        n += strstr(entry->d_name, part) != NULL;
    }
    assert_int_equal(closedir(folder), 0);
    return n;
}

static void test_swaps_survive_a_restart(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.state_dir = fixture->dir;
    open_store(fixture);
    assert_int_equal(put(fixture, usual_file(2)).version, 2);
    assert_int_equal(put(fixture, usual_file(3)).version, 3);
    assert_int_equal(rollback(fixture, 2).result, SWAP_OK);
    close_store(fixture);

    /* What a crash between two writes may leave. */
    scratch_text(&fixture->scratch, "d/heads-4-0123456789ab.safetensors", "torn");
    scratch_text(&fixture->scratch, "d/state.json.tmp-abcdef", "torn");
    scratch_text(&fixture->scratch, "d/heads-4-0123456789ab.safetensors.tmp-abcdef", "torn");
    static const char *const others[] = {
        "notes.txt",
        "heads-x-0123456789ab.safetensors",
        "heads-4_0123456789ab.safetensors",
        "heads-4-0123.safetensors",
        "heads-4-0123456789ab.json",
        "heads-4-0123456789ab.safetensors~",
        "heads-99999999999999999999-0123456789ab.safetensors",
    };
    enum { OTHERS = sizeof others / sizeof *others };
    for (size_t i = 0; i < OTHERS; i++) {
        char name[128];
        (void)snprintf(name, sizeof name, "d/%s", others[i]);
        scratch_text(&fixture->scratch, name, "not ours");
    }
    open_store(fixture);
    for (size_t i = 0; i < OTHERS; i++) {
        char name[128];
        (void)snprintf(name, sizeof name, "d/%s", others[i]);
        assert_int_equal(unlink(scratch_path(&fixture->scratch, name)), 0);
    }
    assert_int_equal(active_version(fixture), 2);
    assert_true(active_value(fixture) == 2);
    uint64_t versions[HEADSTORE_KEPT];
    assert_int_equal(list_versions(fixture, versions), 3);
    assert_int_equal(versions[1], 3);
    assert_int_equal(versions[2], 1);
    assert_int_equal(count_files(fixture->dir, "heads-"), 3);
    assert_int_equal(count_files(fixture->dir, ".tmp-"), 0);
    assert_int_equal(put(fixture, usual_file(4)).version, 4);
    for (int i = 5; i <= 12; i++) {
        assert_int_equal(put(fixture, usual_file((float)i)).version, i);
    }
    assert_int_equal(count_files(fixture->dir, "heads-"), HEADSTORE_KEPT);
    headstore_reload(fixture->store); /* the last event wins, after a restart too */
    assert_int_equal(active_version(fixture), 13);
    close_store(fixture);
    open_store(fixture);
    assert_int_equal(active_version(fixture), 13);
}

static void test_damaged_state_is_set_aside(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.state_dir = fixture->dir;
#define SHA "0123456789012345678901234567890123456789012345678901234567890123"
#define ENTRY(version, wall, source, sha)                                         \
    "{\"version\":" version ",\"loaded_wall_ns\":" wall ",\"source\":" source "," \
    "\"source_sha256\":\"x\",\"sha256\":\"" sha "\"}"
#define STATE(next, entries) "{\"next_version\":" next ",\"versions\":[" entries "]}"
    static const char *const damages[] = {
        "",
        "{",
        "[]",
        "{\"next_version\":3,\"versions\":[]}",
        "{\"next_version\":3,\"versions\":[{\"version\":2}]}",
        STATE("3", ENTRY("2", "1", "\"x\"", "../../../etc/passwd")),
        STATE("3", ENTRY("2", "1", "\"x\"", "0123")),
        STATE("3", ENTRY("2", "1", "\"a\\u0000b\"", SHA)),
        STATE("3", ENTRY("2", "1", "7", SHA)),
        STATE("3", ENTRY("2", "0", "\"x\"", SHA)),
        STATE("3", ENTRY("0", "1", "\"x\"", SHA)),
        STATE("3", ENTRY("3", "1", "\"x\"", SHA)),
        STATE("true", ENTRY("2", "1", "\"x\"", SHA)),
        STATE("3", ENTRY("2", "1", "\"x\"", SHA) "," ENTRY("2", "1", "\"x\"", SHA)),
        STATE("3", "1,1,1,1,1,1,1,1,1")};
    unsigned n = sizeof damages / sizeof damages[0];
    for (unsigned i = 0; i < n; i++) {
        open_store(fixture);
        assert_int_equal(put(fixture, usual_file((float)i)).result, SWAP_OK);
        uint64_t before = active_version(fixture);
        close_store(fixture);
        scratch_text(&fixture->scratch, "d/state.json", damages[i]);
        open_store(fixture);
        assert_int_equal(count_files(fixture->dir, "state.json.damaged-"), i + 1);
        struct heads_version version;
        headstore_acquire(fixture->store, &version);
        assert_string_equal(version.source, HEADS);
        assert_true(version.version > before); /* a number never means two sets */
        heads_version_release(&version);
        close_store(fixture);
    }
}

/* A file that can't be read is not a damaged one: it stays, and the start ends. */
static void test_state_that_cant_be_read_ends_the_start(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"state.json", "heads-2-"};
    fixture->settings.state_dir = fixture->dir;
    open_store(fixture);
    assert_int_equal(put(fixture, usual_file(2)).result, SWAP_OK);
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    char heads_name[64];
    (void)snprintf(heads_name, sizeof heads_name, "heads-2-%.12s.safetensors",
                   version.heads->sha256);
    heads_version_release(&version);
    close_store(fixture);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *name = i == 0 ? names[0] : heads_name;
        char path[700];
        char aside[700];
        (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, name);
        (void)snprintf(aside, sizeof aside, "%s/aside", fixture->dir);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(symlink(name, path), 0); /* ELOOP, also for root */
        struct err err = ERR_INIT;
        fixture->metrics = metrics_create("test", NULL);
        assert_int_equal(headstore_create(&fixture->settings, model, POOLING_MEAN, 2,
                                          fixture->metrics, &fixture->store, &err),
                         ERR_IO);
        assert_non_null(strstr(err.text, "--state-dir"));
        assert_non_null(strstr(err.text, names[i]));
        metrics_destroy(fixture->metrics);
        fixture->metrics = NULL;
        assert_int_equal(count_files(fixture->dir, "damaged"), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rename(aside, path), 0);
    }
    open_store(fixture);
    assert_true(active_value(fixture) == 2);
}

static void test_damaged_heads_are_set_aside(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.state_dir = fixture->dir;
    open_store(fixture);
    struct outcome outcome = put(fixture, usual_file(2));
    assert_int_equal(outcome.result, SWAP_OK);
    close_store(fixture);
    char name[128];
    (void)snprintf(name, sizeof name, "d/heads-2-%.12s.safetensors", outcome.sha256);
    scratch_text(&fixture->scratch, name, "damaged");
    open_store(fixture);
    struct heads_version version;
    headstore_acquire(fixture->store, &version);
    assert_int_equal(version.version, 3);
    assert_string_equal(version.source, HEADS);
    heads_version_release(&version);
    assert_int_equal(count_files(fixture->dir, "safetensors.damaged-1"), 1);
    uint64_t versions[HEADSTORE_KEPT];
    assert_int_equal(list_versions(fixture, versions), 2);
    assert_int_equal(versions[1], 1);
}

/* A file with the content of another version is damaged; one that is not there is left out. */
static void test_heads_that_are_others(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.state_dir = fixture->dir;
    open_store(fixture);
    struct outcome second = put(fixture, usual_file(2));
    struct outcome third = put(fixture, usual_file(3));
    close_store(fixture);
    char from[700];
    char to[700];
    (void)snprintf(from, sizeof from, "%s/heads-2-%.12s.safetensors", fixture->dir, second.sha256);
    (void)snprintf(to, sizeof to, "%s/heads-3-%.12s.safetensors", fixture->dir, third.sha256);
    assert_int_equal(rename(from, to), 0);
    open_store(fixture);
    assert_int_equal(count_files(fixture->dir, "damaged-1"), 1);
    uint64_t versions[HEADSTORE_KEPT] = {0};
    assert_int_equal(list_versions(fixture, versions), 2); /* of --heads, and of before */
    assert_int_equal(active_version(fixture), 4);
    assert_int_equal(versions[1], 1);
}

static void test_failed_persistence_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.state_dir = fixture->dir;
    open_store(fixture);
    assert_int_equal(put(fixture, usual_file(2)).result, SWAP_OK);
    char moved[600];
    (void)snprintf(moved, sizeof moved, "%s-moved", fixture->dir);
    assert_int_equal(rename(fixture->dir, moved), 0);
    assert_int_equal(put(fixture, usual_file(3)).result, SWAP_FAILED);
    assert_int_equal(active_version(fixture), 2);
    assert_int_equal(rename(moved, fixture->dir), 0);
    assert_int_equal(put(fixture, usual_file(4)).version, 3);
    assert_int_equal(swaps(fixture, "failed"), 1);
}

/* Waits until the store serves that value. */
static bool comes_to(struct fixture *fixture, float value)
{
    for (int i = 0; i < 500; i++) {
        if (active_value(fixture) == value) {
            return true;
        }
        (void)usleep(10 * 1000);
    }
    return false;
}

static void test_watched_folder(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    write_heads(fixture, "d/a.safetensors", usual_file(1));
    write_heads(fixture, "d/b.safetensors", usual_file(2));
    open_store(fixture);
    assert_true(headstore_managed(fixture->store));
    assert_true(active_value(fixture) == 2); /* the greatest name */
    assert_int_equal(put(fixture, usual_file(9)).result, SWAP_MANAGED);
    assert_int_equal(rollback(fixture, 0).result, SWAP_MANAGED);

    write_heads(fixture, "d/c.safetensors", usual_file(3));
    assert_true(comes_to(fixture, 3));
    char refusal[ERR_TEXT_MAX];
    take_refusal(fixture, refusal);
    assert_string_equal(refusal, "");

    scratch_text(&fixture->scratch, "d/d.safetensors", "not heads");
    for (int i = 0; i < 500 && !refusal[0]; i++) {
        (void)usleep(10 * 1000);
        take_refusal(fixture, refusal);
    }
    assert_non_null(strstr(refusal, "d.safetensors"));
    assert_int_equal(swaps(fixture, "refused"), 1);
    assert_true(active_value(fixture) == 3);

    assert_int_equal(unlink(scratch_path(&fixture->scratch, "d/c.safetensors")), 0);
    assert_true(comes_to(fixture, 2)); /* the greatest valid name now */
    write_heads(fixture, "d/d.safetensors", usual_file(4));
    assert_true(comes_to(fixture, 4));
    take_refusal(fixture, refusal);
    assert_string_equal(refusal, "");
}

/* However many files there are, the greatest name counts, wherever the folder lists it. */
static void test_a_folder_of_thousands(void **state)
{
    enum { FILES = 2100 }; /* more than are sorted at once */
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    write_heads(fixture, "d/00000.safetensors", usual_file(1));
    write_heads(fixture, "d/99999.safetensors", usual_file(2));
    for (int i = 1; i < FILES; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "d/%05d.safetensors", i);
        scratch_text(&fixture->scratch, name, "old");
    }
    open_store(fixture);
    assert_true(active_value(fixture) == 2);
    write_heads(fixture, "d/99999a.safetensors", usual_file(3));
    assert_true(comes_to(fixture, 3));
}

/* A FIFO by a heads file's name would be waited for for ever, and the exit with it. */
static void test_a_fifo_in_the_folder(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    write_heads(fixture, "d/a.safetensors", usual_file(1));
    assert_int_equal(mkfifo(scratch_path(&fixture->scratch, "d/b.safetensors"), 0644), 0);
    open_store(fixture);
    assert_true(active_value(fixture) == 1);
    char refusal[ERR_TEXT_MAX];
    take_refusal(fixture, refusal);
    assert_non_null(strstr(refusal, "b.safetensors"));
    assert_non_null(strstr(refusal, "not a regular file"));
    write_heads(fixture, "d/c.safetensors", usual_file(3));
    assert_true(comes_to(fixture, 3));
}

/* Whatever is wrong, its file is named once: also where the name has what a text never shows. */
static void test_a_refusal_names_its_file_once(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    scratch_text(&fixture->scratch, "d/a\tb.safetensors", "not heads");
    open_store(fixture);
    char refusal[ERR_TEXT_MAX];
    take_refusal(fixture, refusal);
    assert_ptr_equal(strstr(refusal, "a?b.safetensors: "), refusal);
    assert_null(strstr(refusal + 1, "a?b.safetensors"));
    write_heads(fixture, "d/c.safetensors", usual_file(3e38f));
    for (int i = 0; i < 500 && refusal[0] != 'c'; i++) {
        (void)usleep(10 * 1000);
        take_refusal(fixture, refusal);
    }
    assert_ptr_equal(strstr(refusal, "c.safetensors: "), refusal);
    assert_non_null(strstr(refusal, "a probe text gets"));
    assert_null(strstr(refusal + 1, "c.safetensors"));
}

/* What was refused while the folder was away is not refused for ever. */
static void test_the_folder_comes_back(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    write_heads(fixture, "d/a.safetensors", usual_file(1));
    open_store(fixture);
    char away[600];
    char refusal[ERR_TEXT_MAX] = "";
    (void)snprintf(away, sizeof away, "%s", scratch_path(&fixture->scratch, "away"));
    assert_int_equal(rename(fixture->dir, away), 0);
    for (int i = 0; i < 500 && !refusal[0]; i++) {
        (void)usleep(10 * 1000);
        take_refusal(fixture, refusal);
    }
    assert_non_null(strstr(refusal, "--heads-dir"));
    assert_int_equal(rename(away, fixture->dir), 0);
    /* The folder is found again by the slow poll. */
    for (int i = 0; i < 2000 && refusal[0]; i++) {
        (void)usleep(10 * 1000);
        take_refusal(fixture, refusal);
    }
    assert_string_equal(refusal, "");
    assert_true(active_value(fixture) == 1);
}

enum { RACES = 10 };

struct race {
    struct fixture *fixture;
    _Atomic float wanted; /* negative: time to end */
    atomic_uint torn;
};

/* Sees versions and refusal as GET /admin/heads does: the new heads never with the old refusal. */
static void *look_on(void *argument)
{
    struct race *race = argument;
    for (;;) {
        float wanted = race->wanted;
        if (wanted < 0) {
            return NULL;
        }
        struct heads_version versions[HEADSTORE_KEPT];
        char refusal[ERR_TEXT_MAX];
        size_t n = headstore_list(race->fixture->store, versions, refusal);
        /* Once other heads are wanted a refusal of theirs may stand beside these. */
        bool new = n &&versions[0].heads->list[0].weight[0] == wanted && race->wanted == wanted;
        race->torn += new &&refusal[0];
        for (size_t i = 0; i < n; i++) {
            heads_version_release(&versions[i]);
        }
    }
}

static void test_heads_and_refusal_change_together(void **state)
{
    struct fixture *fixture = *state;
    struct race race = {.fixture = fixture, .wanted = 1};
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    write_heads(fixture, "d/0.safetensors", usual_file(1));
    open_store(fixture);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look_on, &race), 0);
    for (int i = 2; i <= RACES; i++) {
        char name[64];
        char refusal[ERR_TEXT_MAX] = "";
        (void)snprintf(name, sizeof name, "d/%05d.safetensors", i);
        race.wanted = 0; /* the old heads serve beside a refusal, and may */
        scratch_text(&fixture->scratch, name, "not heads");
        for (int wait = 0; wait < 1000 && !refusal[0]; wait++) {
            (void)usleep(5 * 1000);
            take_refusal(fixture, refusal);
        }
        assert_non_null(strstr(refusal, name + 2));
        race.wanted = (float)i;
        write_heads(fixture, name, usual_file((float)i));
        assert_true(comes_to(fixture, (float)i));
        assert_true(swaps(fixture, "ok") >= (unsigned)i - 1); /* seen is counted */
    }
    race.wanted = -1;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(race.torn, 0);
}

/* As the kubelet updates a ConfigMap: files are links through ..data, which is renamed over. */
static void test_config_map(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    scratch_mkdir(&fixture->scratch, "d");
    scratch_mkdir(&fixture->scratch, "d/..1");
    scratch_mkdir(&fixture->scratch, "d/..2");
    write_heads(fixture, "d/..1/heads.safetensors", usual_file(1));
    write_heads(fixture, "d/..2/heads.safetensors", usual_file(2));
    char data[600];
    (void)snprintf(data, sizeof data, "%s", scratch_path(&fixture->scratch, "d/..data"));
    assert_int_equal(symlink("..1", data), 0);
    assert_int_equal(
        symlink("..data/heads.safetensors", scratch_path(&fixture->scratch, "d/heads.safetensors")),
        0);
    open_store(fixture);
    assert_true(active_value(fixture) == 1);
    const char *next = scratch_path(&fixture->scratch, "d/..data_tmp");
    assert_int_equal(symlink("..2", next), 0);
    assert_int_equal(rename(next, data), 0);
    assert_true(comes_to(fixture, 2));
    assert_int_equal(active_version(fixture), 2);
}

static void test_folder_must_exist(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.heads_dir = fixture->dir;
    struct err err = ERR_INIT;
    assert_int_equal(
        headstore_create(&fixture->settings, model, POOLING_MEAN, 2, NULL, &fixture->store, &err),
        ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "--heads-dir"));
}

static atomic_bool stop_reading;

/* Every set is made so that all its numbers agree: a mixture would show. */
static void *read_heads(void *argument)
{
    struct fixture *fixture = argument;
    while (!atomic_load(&stop_reading)) {
        struct heads_version version;
        headstore_acquire(fixture->store, &version);
        const struct head *head = heads_find(version.heads, "classifier");
        const struct head *mood = heads_find(version.heads, "sentiment");
        CHECK(head->weight[0] == head->bias[CLASSES - 1] && head->weight[0] == mood->weight[0]);
        CHECK(memcmp(strchr(version.id, '-') + 1, version.heads->sha256, 12) == 0);
        heads_version_release(&version);
    }
    return NULL;
}

static atomic_uint put_ok, put_busy;

static void *write_heads_often(void *argument)
{
    struct fixture *fixture = argument;
    for (int i = 0; i < 200; i++) {
        struct outcome outcome = put(fixture, usual_file((float)(i % 7)));
        CHECK(outcome.result == SWAP_OK || outcome.result == SWAP_BUSY);
        (void)atomic_fetch_add(outcome.result == SWAP_OK ? &put_ok : &put_busy, 1);
    }
    return NULL;
}

static void test_swaps_under_readers(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    assert_int_equal(put(fixture, usual_file(1)).result, SWAP_OK);
    atomic_store(&stop_reading, false);
    pthread_t readers[4];
    pthread_t writers[2];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_heads, fixture), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&writers[i], NULL, write_heads_often, fixture), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(writers[i], NULL), 0);
    }
    atomic_store(&stop_reading, true);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&put_ok) + atomic_load(&put_busy), 400);
    assert_int_equal(active_version(fixture), 2 + atomic_load(&put_ok));
    assert_int_equal(swaps(fixture, "busy"), atomic_load(&put_busy));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_rollback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_head_is_merged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_preconditions_and_dry_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rollback_tried_and_guarded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eight_are_kept_and_the_active_one_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_start_without_heads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_explicit_file_must_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swaps_survive_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_state_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_heads_are_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heads_that_are_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_persistence_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watched_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_config_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_folder_of_thousands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fifo_in_the_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refusal_names_its_file_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_folder_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heads_and_refusal_change_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state_that_cant_be_read_ends_the_start, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_folder_must_exist, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swaps_under_readers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, load_model, unload_model);
}
