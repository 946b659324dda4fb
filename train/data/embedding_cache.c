#include "train/data/embedding_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jval.h"
#include "model/files/safetensors.h"

static const char rows_sha256[] = "rows.sha256";
static const char suffix[] = ".embeddings.safetensors";

/* DIR/<sha256 of everything that the rows depend on>.embeddings.safetensors; NULL without memory.
 */
static char *cache_path(const struct embedding_cache *cache, const struct dataset *dataset)
{
    struct sha256 *sha = sha256_create();
    if (!sha) {
        return NULL;
    }
    const char *const words[] = {"orthrus embeddings 2", cache->encoder_sha256, cache->pooling,
                                 cache->isa};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        sha256_update(sha, words[i], strlen(words[i]) + 1);
    }
    sha256_update(sha, dataset->starts, (dataset->n + 1) * sizeof *dataset->starts);
    sha256_update(sha, dataset->ids, dataset->starts[dataset->n] * sizeof *dataset->ids);
    unsigned char digest[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE + 1];
    char name[SHA256_HEX_SIZE + sizeof suffix];
    sha256_finish(sha, digest);
    sha256_hex(digest, hex);
    (void)snprintf(name, sizeof name, "%s%s", hex, suffix);
    return file_join(cache->dir, name);
}

/* The numbers are as they were written: their digest stands beside them. */
static bool intact(const struct safetensors *file, const float *rows, size_t n)
{
    const struct jval *kept = jval_get(safetensors_metadata(file), rows_sha256);
    const char *told;
    size_t size;
    char hex[SHA256_HEX_SIZE + 1];
    sha256_of(rows, n * sizeof *rows, hex);
    return jval_string(kept, &told, &size) && strcmp(told, hex) == 0;
}

bool embedding_cache_get(const struct embedding_cache *cache, const struct dataset *dataset,
                         float *out)
{
    struct safetensors *file;
    char *path = cache->dir ? cache_path(cache, dataset) : NULL;
    if (!path || safetensors_open(path, &file, NULL) != ERR_OK) {
        free(path);
        return false;
    }
    const struct tensor *rows = safetensors_find(file, "embeddings");
    bool good = rows && rows->dtype == DTYPE_F32 && rows->rank == 2 &&
                rows->shape[0] == dataset->n && rows->shape[1] == cache->hidden;
    if (good) {
        tensor_to_f32(rows, 0, rows->count, out);
        good = intact(file, out, rows->count);
    }
    safetensors_close(file);
    if (good) {
        (void)utimensat(AT_FDCWD, path, NULL, 0); /* used now */
    }
    free(path);
    return good;
}

/* Room for what a killed writer leaves, too: NAME.tmp-XXXXXX (base/file.h). */
enum { NAME_BYTES = SHA256_HEX_SIZE + sizeof suffix + sizeof ".tmp-XXXXXX" };

/* One file of the cache. */
struct entry {
    char name[NAME_BYTES];
    uint64_t bytes;
    int64_t used_s;
};

static int oldest_first(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return (x->used_s > y->used_s) - (x->used_s < y->used_s);
}

static bool is_ours(const char *name)
{
    const char *rest = name + SHA256_HEX_SIZE;
    if (strspn(name, "0123456789abcdef") != SHA256_HEX_SIZE || strlen(name) >= NAME_BYTES ||
        strncmp(rest, suffix, sizeof suffix - 1) != 0) {
        return false;
    }
    rest += sizeof suffix - 1;
    return *rest == '\0' || strncmp(rest, ".tmp-", 5) == 0;
}

/* Removes the oldest files until the rest fits. */
static void prune(int dir_fd, DIR *dir)
{
    enum { ENTRIES_MAX = 4096 };
    struct entry *entries = calloc(ENTRIES_MAX, sizeof *entries);
    size_t n = 0;
    uint64_t total = 0;
    const struct dirent *item;
    while (entries && n < ENTRIES_MAX && (item = readdir(dir)) != NULL) {
        struct stat st;
        if (is_ours(item->d_name) && fstatat(dir_fd, item->d_name, &st, 0) == 0) {
            (void)snprintf(entries[n].name, sizeof entries[n].name, "%s", item->d_name);
            entries[n].bytes = (uint64_t)st.st_size;
            entries[n++].used_s = st.st_mtim.tv_sec;
            total += (uint64_t)st.st_size;
        }
    }
    if (entries) {
        qsort(entries, n, sizeof *entries, oldest_first);
    }
    for (size_t i = 0; i < n && total > CACHE_BYTES_MAX; i++) {
        if (unlinkat(dir_fd, entries[i].name, 0) == 0) {
            total -= entries[i].bytes;
        }
    }
    free(entries);
}

enum err_code embedding_cache_put(const struct embedding_cache *cache,
                                  const struct dataset *dataset, const float *rows, struct err *err)
{
    if (!cache->dir || (uint64_t)dataset->n * cache->hidden * sizeof *rows > CACHE_BYTES_MAX) {
        return ERR_OK;
    }
    const struct tensor_source source = {
        .name = "embeddings", .rank = 2, .shape = {dataset->n, cache->hidden}, .data = rows};
    char hex[SHA256_HEX_SIZE + 1];
    sha256_of(rows, dataset->n * cache->hidden * sizeof *rows, hex);
    const struct metadata_source digest = {rows_sha256, hex};
    char *path = cache_path(cache, dataset);
    if (!path) {
        return err_nomem(err, strlen(cache->dir));
    }
    enum err_code code = file_make_folders(cache->dir, err);
    if (code == ERR_OK) {
        code = safetensors_write_file(path, &source, 1, &digest, 1, err);
    }
    free(path);
    DIR *dir = code == ERR_OK ? opendir(cache->dir) : NULL;
    if (dir) {
        prune(dirfd(dir), dir);
        (void)closedir(dir);
    }
    return code;
}
