/* Every field of a folder's JSON files with a value of every kind in its place, and under another
 * name: the folder is served as the files say, or refused with an error that names the file or what
 * it leads to. Nothing ends the process, and nothing is lost (the sanitizers look). */
#include <dirent.h>
#include <unistd.h>

#include "model/files/checkpoint.h"
#include "model/heads/own.h"
#include "model/heads/vector.h"
#include "model/model.h"
#include "tests/support/testing.h"

/* Every value, or where a sanitizer watches every third. */
#ifdef __SANITIZE_ADDRESS__
enum { SLOW = 3 };
#else
enum { SLOW = 1 };
#endif
enum { LARGE = 100000 };
enum { PATH_SIZE = 1024, PLACES_MAX = 4000, SEEN = 1 << 16, WIDE = 24, FILE_MAX = 1 << 20 };

/* One place of a file: bytes from … to. */
struct place {
    size_t from, to;
    uint64_t path;
    bool key;
};

struct places {
    const char *text;
    size_t at, n;
    struct place list[PLACES_MAX];
};

static uint64_t mix(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211U;
    }
    return hash;
}

static void skip_space(struct places *places)
{
    places->at += strspn(places->text + places->at, " \t\r\n");
}

static void skip_string(struct places *places)
{
    for (places->at++; places->text[places->at] != '"'; places->at++) {
        places->at += places->text[places->at] == '\\';
    }
    places->at++;
}

static void walk(struct places *places, uint64_t path, bool noted);

static void note(struct places *places, size_t from, uint64_t path, bool key)
{
    if (places->n < PLACES_MAX) {
        places->list[places->n++] = (struct place){from, places->at, path, key};
    }
}

/* What kind of object begins here decides how its members are read. */
static uint64_t kind_of(const struct places *places, uint64_t path)
{
    struct places inner = {.text = places->text, .at = places->at};
    for (skip_space(&inner); inner.text[inner.at] == '"'; skip_space(&inner)) {
        size_t key = inner.at;
        skip_string(&inner);
        size_t size = inner.at - key;
        skip_space(&inner);
        inner.at++;
        skip_space(&inner);
        size_t value = inner.at;
        walk(&inner, 0, false);
        if ((size == 6 && strncmp(inner.text + key, "\"type\"", 6) == 0) ||
            (size == 12 && strncmp(inner.text + key, "\"model_type\"", 12) == 0)) {
            return mix(path, inner.text + value, inner.at - value);
        }
        skip_space(&inner);
        inner.at += inner.text[inner.at] == ',';
    }
    return path;
}

/* Of a valid file. Of what is long and alike (vocabularies, merges) the first members are noted. */
static void walk(struct places *places, uint64_t path, bool noted)
{
    skip_space(places);
    size_t from = places->at;
    char c = places->text[from];
    if (c == '{' || c == '[') {
        places->at++;
        path = c == '{' && noted ? kind_of(places, path) : path;
        skip_space(places);
        for (size_t i = 0; places->text[places->at] != '}' && places->text[places->at] != ']';
             i++) {
            uint64_t inner = mix(path, c == '{' ? "." : "[", 1);
            bool all = noted && (c == '{' ? i < WIDE : i < 3);
            if (c == '{') {
                size_t key = places->at;
                skip_string(places);
                inner = mix(inner, places->text + key, places->at - key);
                if (all) {
                    note(places, key, inner, true);
                }
                skip_space(places);
                places->at++;
            }
            walk(places, inner, all);
            skip_space(places);
            places->at += places->text[places->at] == ',';
            skip_space(places);
        }
        places->at++;
    } else if (c == '"') {
        skip_string(places);
    } else {
        places->at += strcspn(places->text + places->at, ",]} \t\r\n");
    }
    if (noted) {
        note(places, from, path, false);
    }
}

static const char *const values[] = {
    "null",
    "true",
    "false",
    "7",
    "0",
    "-1",
    "0.5",
    "1e30",
    "\"\"",
    "\"x\"",
    "\"a\\u0000b\"",
    "[]",
    "{}",
    "[[1]]",
    "[null, \"x\"]",
    "{\"type\": \"x\"}",
    "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "\"",
};

enum { VALUES = sizeof values / sizeof *values };

static uint64_t seen[SEEN];

static bool is_new(uint64_t hash)
{
    for (size_t at = hash % SEEN;; at = (at + 1) % SEEN) {
        if (seen[at] == hash || !seen[at]) {
            bool fresh = !seen[at];
            seen[at] = hash;
            return fresh;
        }
    }
}

static struct scratch scratch;
static size_t tried, served;

/* The files of a start, and what it needs of them, but for the encoder. */
static enum err_code open_model(const char *dir, struct err *err)
{
    struct checkpoint *checkpoint = NULL;
    struct tokenizer *tokenizer = NULL;
    struct vector *vector = NULL;
    struct heads *heads = NULL;
    enum err_code code = checkpoint_open(dir, 1, &checkpoint, err);
    if (code == ERR_OK) {
        code = model_open_tokenizer(dir, &checkpoint->config, &tokenizer, err);
    }
    if (code == ERR_OK) {
        code = vector_open(dir, &checkpoint->config, &vector, err);
    }
    if (code == ERR_OK) {
        const struct heads_fit fit = {.hidden = checkpoint->config.hidden};
        code = heads_of_folder(checkpoint, &fit, &heads, err);
    }
    heads_release(heads);
    vector_destroy(vector);
    tokenizer_destroy(tokenizer);
    checkpoint_close(checkpoint);
    return code;
}

static enum err_code open_tokenizer(const char *dir, struct err *err)
{
    const struct tokenizer_options options = tokenizer_options_default();
    struct tokenizer *tokenizer = NULL;
    enum err_code code = tokenizer_open(dir, &options, &tokenizer, err);
    tokenizer_destroy(tokenizer);
    return code;
}

/* As the file says that is read. */
static enum err_code open_folder(const char *name, struct err *err)
{
    return strcmp(name, "tokenizer.json") == 0 ? open_tokenizer(scratch.dir, err)
                                               : open_model(scratch.dir, err);
}

static void try_text(const char *folder, const char *name, const char *text, size_t size)
{
    struct err err = ERR_INIT;
    scratch_write(&scratch, name, text, size);
    enum err_code code = open_folder(name, &err);
    bool refused = code == ERR_INVALID || code == ERR_UNSUPPORTED || code == ERR_MISMATCH ||
                   code == ERR_LIMIT || code == ERR_NOT_FOUND || code == ERR_CONFLICT;
    if (code != ERR_OK && (!refused || !strstr(err.text, scratch.dir))) {
        fail_msg("%s/%s: %s: %s\n%.*s", folder, name, err_name(code), err.text,
                 (int)(size < 600 ? size : 600), text);
    }
    tried++;
    served += code == ERR_OK;
}

static void try_file(const char *folder, const char *name)
{
    static struct places places;
    char path[4 * PATH_SIZE];
    char *text;
    size_t size;
    struct err err = ERR_INIT;
    (void)snprintf(path, sizeof path, ORTHRUS_TEST_DATA "/%s/%s", folder, name);
    assert_int_equal(file_read(path, FILE_MAX, &text, &size, &err), ERR_OK);
    const char *full = getenv("ORTHRUS_FULL"); /* "0" in ./test without --full */
    uint64_t all = full && strcmp(full, "1") == 0 ? mix(1, folder, strlen(folder)) : 1;
    uint64_t root = mix(all, name, strlen(name));
    if (is_new(mix(root, text, size) | 1)) {
        places.text = text;
        places.at = places.n = 0;
        walk(&places, root, true);
        size_t step = size > LARGE ? 4 : SLOW;
        char *changed = malloc(size + 1000);
        assert_non_null(changed);
        for (size_t i = 0; i < places.n; i++) {
            const struct place *place = &places.list[i];
            for (size_t v = place->key ? 0 : i % step; v < (place->key ? 1 : VALUES); v += step) {
                const char *value = place->key ? "\"another_name\"" : values[v];
                if (is_new((mix(place->path, value, strlen(value)) + place->key) | 1)) {
                    int put = snprintf(changed, size + 1000, "%.*s%s%s", (int)place->from, text,
                                       value, text + place->to);
                    try_text(folder, name, changed, (size_t)put);
                }
            }
        }
        free(changed);
    }
    scratch_write(&scratch, name, text, size);
    free(text);
}

/* A copy of the folder, whose JSON files are tried one by one. */
static void visit(const char *folder, const char *under, bool copy)
{
    char dir[PATH_SIZE];
    (void)snprintf(dir, sizeof dir, ORTHRUS_TEST_DATA "/%s/%s", folder, under);
    DIR *listing = opendir(dir);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        char name[2 * PATH_SIZE];
        char from[4 * PATH_SIZE];
        (void)snprintf(name, sizeof name, "%s%s", under, entry->d_name);
        (void)snprintf(from, sizeof from, "%s%s", dir, entry->d_name);
        const char *end = strrchr(name, '.');
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (entry->d_type == DT_DIR) {
            if (copy) {
                scratch_mkdir(&scratch, name);
            }
            (void)snprintf(from, sizeof from, "%s/", name);
            visit(folder, from, copy);
        } else if (copy) {
            scratch_copy(&scratch, from, name);
        } else if (end && strcmp(end, ".json") == 0 && strcmp(name, "texts.json") != 0) {
            try_file(folder, name);
        }
    }
    (void)closedir(listing);
}

static void test_folder(void **state)
{
    const char *folder = *state;
    struct err err = ERR_INIT;
    scratch_make(&scratch);
    visit(folder, "", true);
    bool alone = strncmp(folder, "tokenizers", 10) == 0;
    if ((alone ? open_tokenizer(scratch.dir, &err) : open_model(scratch.dir, &err)) != ERR_OK) {
        fail_msg("%s: %s", folder, err.text);
    }
    tried = served = 0;
    visit(folder, "", false);
    print_message("%s: %zu changes, %zu served\n", folder, tried, served);
    scratch_remove(&scratch);
}

static const char *const folders[] = {
    "tokenizers/wordpiece",  "tokenizers/added",       "tokenizers/byte-level",
    "tokenizers/cased",      "tokenizers/normalizers", "tokenizers/unigram",
    "golden/tiny-bert",      "models/plain-sharded",   "models/seq-distilbert",
    "models/seq-multilabel", "models/seq-pairs",       "models/seq-roberta",
    "models/seq-score",      "models/st-dense",        "models/st-distilbert",
    "models/st-gelu_new",    "models/st-prompts",      "models/st-roberta",
    "models/tokens-six",
};

enum { FOLDERS = sizeof folders / sizeof *folders };

int main(void)
{
    struct CMUnitTest tests[FOLDERS];
    for (size_t i = 0; i < FOLDERS; i++) {
        tests[i] = (struct CMUnitTest){.name = folders[i],
                                       .test_func = test_folder,
                                       .initial_state = (void *)(uintptr_t)folders[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
