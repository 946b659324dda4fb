/* Heads on disk: what --state-dir keeps. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jval.h"
#include "base/log.h"
#include "server/heads/headstore_parts.h"

/* The state names at most HEADSTORE_KEPT versions of a few hundred bytes each. */
enum { STATE_MAX = 64 * 1024, NAME_MAX_BYTES = 64, SET_ASIDE_MAX = 1000 };

static const char state_name[] = "state.json";

/* "heads-<version>-<12 hex>.safetensors": ours alone, nothing of it comes from a client. */
static void file_name(uint64_t version, const char *sha256, char out[NAME_MAX_BYTES])
{
    (void)snprintf(out, NAME_MAX_BYTES, "heads-%" PRIu64 "-%.12s.safetensors", version, sha256);
}

/* Renames a damaged file to <name>.damaged-N, so that a human can look at it and the next start
 * does not meet it again. */
static void set_aside(const char *dir, const char *name, const char *why)
{
    char *path = file_join(dir, name);
    char *aside = NULL;
    for (unsigned i = 1; path && i <= SET_ASIDE_MAX; i++) {
        char other[NAME_MAX_BYTES + 32];
        (void)snprintf(other, sizeof other, "%s.damaged-%u", name, i);
        free(aside);
        aside = file_join(dir, other);
        if (!aside || !file_exists(aside)) {
            break;
        }
    }
    bool renamed = path && aside && rename(path, aside) == 0;
    LOG(LOG_ERROR, "damaged file in --state-dir", LOG_S("file", path), LOG_S("error", why),
        LOG_S("set_aside", renamed ? aside : NULL));
    free(aside);
    free(path);
}

static bool get_string(const struct jval *object, const char *key, char *out, size_t size)
{
    const char *text;
    size_t length;
    if (!jval_string(jval_get(object, key), &text, &length) || length >= size ||
        memchr(text, '\0', length)) {
        return false;
    }
    memcpy(out, text, length + 1);
    return true;
}

static bool get_number(const struct jval *object, const char *key, uint64_t *ret)
{
    int64_t number;
    if (!jval_int(jval_get(object, key), &number) || number < 1) {
        return false;
    }
    *ret = (uint64_t)number;
    return true;
}

static bool is_sha256(const char *text)
{
    return strlen(text) == SHA256_HEX_SIZE && strspn(text, "0123456789abcdef") == SHA256_HEX_SIZE;
}

/* One version of the state, without its heads. */
struct entry {
    struct heads_version version;
    char sha256[SHA256_HEX_SIZE + 1];
};

struct state {
    uint64_t next_version;
    size_t n;
    struct entry entry[HEADSTORE_KEPT]; /* the active one first */
};

static bool read_entry(const struct jval *value, struct entry *ret)
{
    *ret = (struct entry){.sha256 = ""};
    struct heads_version *version = &ret->version;
    if (!get_number(value, "version", &version->version) ||
        !get_number(value, "loaded_wall_ns", &version->loaded_wall_ns) ||
        !get_string(value, "source", version->source, sizeof version->source) ||
        !get_string(value, "source_sha256", version->source_sha256,
                    sizeof version->source_sha256) ||
        !get_string(value, "sha256", ret->sha256, sizeof ret->sha256) || !is_sha256(ret->sha256)) {
        return false;
    }
    (void)snprintf(version->id, sizeof version->id, "v%" PRIu64 "-%.12s", version->version,
                   ret->sha256);
    return true;
}

static bool read_entries(const struct jval *root, struct state *ret_state)
{
    const struct jval *versions = jval_get(root, "versions");
    ret_state->n = jval_array_size(versions);
    if (!get_number(root, "next_version", &ret_state->next_version) || ret_state->n < 1 ||
        ret_state->n > HEADSTORE_KEPT) {
        return false;
    }
    for (size_t i = 0; i < ret_state->n; i++) {
        struct entry *entry = &ret_state->entry[i];
        if (!read_entry(jval_at(versions, i), entry) ||
            entry->version.version >= ret_state->next_version) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (ret_state->entry[j].version.version == entry->version.version) {
                return false;
            }
        }
    }
    return true;
}

/* ERR_NOT_FOUND where there is none yet; ERR_INVALID where it is damaged. */
static enum err_code read_state(const char *dir, struct state *ret_state, struct err *err)
{
    char *path = file_join(dir, state_name);
    if (!path) {
        return err_nomem(err, strlen(dir));
    }
    struct jval *root = NULL;
    char *text = NULL;
    size_t size;
    enum err_code code = file_read_regular(path, STATE_MAX, &text, &size, err);
    if (code == ERR_OK) {
        code = jval_parse(text, size, &root, err);
    }
    if (code == ERR_OK && !read_entries(root, ret_state)) {
        code = err_set(err, ERR_INVALID, "not a state that this program wrote");
    }
    jval_free(root);
    free(text);
    free(path);
    return code;
}

static enum err_code load_entry(const char *dir, const char *name, const struct heads_fit *fit,
                                const struct entry *entry, struct heads **ret_heads,
                                struct err *err)
{
    char *path = file_join(dir, name);
    if (!path) {
        return err_nomem(err, strlen(dir));
    }
    struct heads *heads = NULL;
    enum err_code code = heads_load(path, fit, true, &heads, err);
    if (code == ERR_OK && strcmp(heads->sha256, entry->sha256) != 0) {
        heads_release(heads);
        code = err_set(err, ERR_INVALID, "its sha256 is not the one in %s", state_name);
    } else if (code == ERR_OK) {
        *ret_heads = heads;
    }
    free(path);
    return code;
}

/* What a file holds is damaged; everything else that went wrong says nothing about it. */
static bool is_damage(enum err_code code)
{
    return code == ERR_INVALID || code == ERR_LIMIT;
}

/* Loads what the state names; *ret_whole tells whether all of it was there. An error where a file
 * can't be read, which is no damage: the next start may read it. */
static enum err_code load_entries(const char *dir, const struct heads_fit *fit, struct state *state,
                                  struct kept *kept, bool *ret_active, bool *ret_whole,
                                  struct err *err)
{
    *ret_whole = true;
    *ret_active = false;
    for (size_t i = 0; i < state->n; i++) {
        struct entry *entry = &state->entry[i];
        char name[NAME_MAX_BYTES];
        file_name(entry->version.version, entry->sha256, name);
        struct err why = ERR_INIT;
        enum err_code code = load_entry(dir, name, fit, entry, &entry->version.heads, &why);
        if (code == ERR_OK) {
            kept->version[kept->n++] = entry->version;
            *ret_active = *ret_active || i == 0;
            continue;
        }
        *ret_whole = false;
        if (is_damage(code)) {
            set_aside(dir, name, why.text);
        } else if (code == ERR_CONFLICT || code == ERR_MISMATCH || code == ERR_NOT_FOUND) {
            LOG(LOG_ERROR, "heads in --state-dir can't be used", LOG_S("file", name),
                LOG_S("error", why.text));
        } else {
            return err_set(err, code, "--state-dir: %s", why.text);
        }
    }
    return ERR_OK;
}

/* Reads "heads-<version>-"; returns what stands behind it, or NULL. */
static const char *parse_name(const char *name, uint64_t *ret_version)
{
    static const char prefix[] = "heads-";
    size_t size = sizeof prefix - 1;
    if (strncmp(name, prefix, size) != 0 || name[size] < '0' || name[size] > '9') {
        return NULL;
    }
    char *end;
    errno = 0;
    unsigned long long version = strtoull(name + size, &end, 10);
    if (errno || *end != '-' || version >= INT64_MAX) {
        return NULL;
    }
    *ret_version = version;
    return end + 1;
}

/* True for names that persist_write or file_write_atomic made. */
static bool is_ours(const char *name)
{
    static const char suffix[] = ".safetensors";
    uint64_t version;
    const char *rest = parse_name(name, &version);
    if (!rest) {
        return strncmp(name, "state.json.tmp-", 15) == 0;
    }
    if (strspn(rest, "0123456789abcdef") != 12 ||
        strncmp(rest + 12, suffix, sizeof suffix - 1) != 0) {
        return false;
    }
    rest += 12 + sizeof suffix - 1;
    return *rest == '\0' || strncmp(rest, ".tmp-", 5) == 0;
}

/* Removes what a crash between two files left behind. */
static void clear_leftovers(const char *dir, const struct kept *kept)
{
    DIR *folder = opendir(dir);
    if (!folder) {
        return;
    }
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        bool named = !is_ours(entry->d_name);
        for (size_t i = 0; i < kept->n && !named; i++) {
            char name[NAME_MAX_BYTES];
            file_name(kept->version[i].version, kept->version[i].heads->sha256, name);
            named = strcmp(name, entry->d_name) == 0;
        }
        if (!named) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    (void)closedir(folder);
}

/* One more than the greatest version that a file's name tells of: numbers are not used twice even
 * where the state is lost. */
static enum err_code next_by_names(const char *dir, uint64_t *ret_next, struct err *err)
{
    uint64_t next = 1;
    DIR *folder = opendir(dir);
    if (!folder) {
        return err_set_errno(err, ERR_IO, errno, "--state-dir %s", dir);
    }
    errno = 0;
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        uint64_t version;
        if (parse_name(entry->d_name, &version) && version >= next) {
            next = version + 1;
        }
        errno = 0;
    }
    int number = errno;
    (void)closedir(folder);
    if (number) {
        return err_set_errno(err, ERR_IO, number, "--state-dir %s", dir);
    }
    *ret_next = next;
    return ERR_OK;
}

enum err_code persist_open(const char *dir, const struct heads_fit *fit, struct kept *ret_kept,
                           bool *ret_active, uint64_t *ret_next_version, struct err *err)
{
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
        return err_set_errno(err, ERR_IO, errno, "--state-dir %s", dir);
    }
    struct stat st;
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode)) {
        return err_set_errno(err, ERR_IO, ENOTDIR, "--state-dir %s", dir);
    }
    if (access(dir, R_OK | W_OK | X_OK) != 0) {
        return err_set_errno(err, ERR_IO, errno, "--state-dir %s", dir);
    }
    struct state state = {.n = 0};
    struct err why = ERR_INIT;
    enum err_code code = read_state(dir, &state, &why);
    *ret_active = false;
    if (is_damage(code)) {
        set_aside(dir, state_name, why.text);
    }
    if (is_damage(code) || code == ERR_NOT_FOUND) {
        return next_by_names(dir, ret_next_version, err);
    }
    bool whole = false;
    if (code == ERR_OK) {
        *ret_next_version = state.next_version;
        code = load_entries(dir, fit, &state, ret_kept, ret_active, &whole, err);
    } else {
        err_set(err, code, "--state-dir: %s", why.text);
    }
    if (code == ERR_OK && whole) {
        clear_leftovers(dir, ret_kept);
    }
    return code;
}

/* Writes a version's file where there is none; *ret_made tells that it was not there before. */
static enum err_code write_heads(const char *dir, const struct heads_version *version,
                                 bool *ret_made, struct err *err)
{
    char name[NAME_MAX_BYTES];
    file_name(version->version, version->heads->sha256, name);
    char *path = file_join(dir, name);
    if (!path) {
        return err_nomem(err, strlen(dir));
    }
    /* A file of that name is whole: it came there by a rename, and its name tells its content. */
    *ret_made = access(path, F_OK) != 0;
    enum err_code code = !*ret_made ? ERR_OK
                                    : file_write_atomic(path, version->heads->file,
                                                        version->heads->file_size, err);
    free(path);
    return code;
}

static void append_field(struct buf *out, const char *key, const char *value)
{
    (void)buf_printf(out, "\"%s\":", key);
    (void)jval_append_string(out, value, strlen(value));
}

static void format_state(struct buf *out, const struct kept *kept, uint64_t next_version)
{
    buf_init(out, STATE_MAX);
    (void)buf_printf(out, "{\"next_version\":%" PRIu64 ",\"versions\":[", next_version);
    for (size_t i = 0; i < kept->n; i++) {
        const struct heads_version *version = &kept->version[i];
        (void)buf_printf(out, "%s\n{\"version\":%" PRIu64 ",\"loaded_wall_ns\":%" PRIu64 ",",
                         i ? "," : "", version->version, version->loaded_wall_ns);
        append_field(out, "sha256", version->heads->sha256);
        (void)buf_append_char(out, ',');
        append_field(out, "source_sha256", version->source_sha256);
        (void)buf_append_char(out, ',');
        append_field(out, "source", version->source);
        (void)buf_append_char(out, '}');
    }
    (void)buf_append_str(out, "\n]}\n");
}

/* Puts back what state.json held before; old NULL: there was none. */
static bool restore_state(const char *path, const char *old, size_t old_size)
{
    struct err why = ERR_INIT;
    bool replaced = false;
    return old ? file_replace(path, old, old_size, &replaced, &why) == ERR_OK || replaced
               : unlink(path) == 0;
}

static enum err_code write_state(const char *dir, const struct kept *kept, uint64_t next_version,
                                 struct err *err)
{
    char *path = file_join(dir, state_name);
    char *old = NULL;
    size_t old_size = 0;
    bool replaced = false;
    struct buf out;
    format_state(&out, kept, next_version);
    enum err_code code = ERR_OK;
    if (!path || buf_failed(&out)) {
        (void)err_nomem(err, out.size);
        code = ERR_NOMEM;
    } else if (file_exists(path)) {
        code = file_read_regular(path, STATE_MAX, &old, &old_size, err);
    }
    if (code == ERR_OK) {
        code = file_replace(path, out.data, out.size, &replaced, err);
    }
    if (code != ERR_OK && replaced && !restore_state(path, old, old_size)) {
        LOG_KEPT(LOG_ERROR, "the new heads are in service, but a crash may bring back the old ones",
                 LOG_S("error", err->text));
        code = ERR_OK;
        *err = (struct err)ERR_INIT;
    }
    free(old);
    free(path);
    buf_done(&out);
    return code;
}

enum err_code persist_write(const char *dir, const struct kept *kept, uint64_t next_version,
                            struct err *err)
{
    bool made[HEADSTORE_KEPT] = {false};
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < kept->n && code == ERR_OK; i++) {
        code = write_heads(dir, &kept->version[i], &made[i], err);
    }
    if (code == ERR_OK) {
        code = write_state(dir, kept, next_version, err);
    }
    /* On a full disk what was made in vain would be in the way of the next change. */
    for (size_t i = 0; i < kept->n && code != ERR_OK; i++) {
        if (made[i]) {
            persist_forget(dir, &kept->version[i]);
        }
    }
    return code;
}

void persist_forget(const char *dir, const struct heads_version *version)
{
    char name[NAME_MAX_BYTES];
    file_name(version->version, version->heads->sha256, name);
    char *path = file_join(dir, name);
    if (path) {
        (void)unlink(path);
        free(path);
    }
}
