#include "cli/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/facts.h"
#include "base/file.h"

enum { FACTS_MAX = 1024 * 1024, PIECE = 1024 * 1024, SEND_BYTES = 8 * 1024 * 1024 };

static bool is_stdout(const char *path)
{
    return !path || strcmp(path, "-") == 0;
}

static char *with_suffix(const char *path, const char *suffix)
{
    size_t size = strlen(path) + strlen(suffix) + 1;
    char *out = malloc(size);
    if (out) {
        (void)snprintf(out, size, "%s%s", path, suffix);
    }
    return out;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return S_ISREG(a->st_mode) && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool target_is_file(const struct target_options *options, int fd)
{
    struct stat input, output;
    if (fstat(fd, &input) != 0) {
        return false;
    }
    if (is_stdout(options->path)) {
        return fstat(STDOUT_FILENO, &output) == 0 && same_file(&input, &output);
    }
    char *partial = with_suffix(options->path, ".partial");
    bool same = (stat(options->path, &output) == 0 && same_file(&input, &output)) ||
                (partial && stat(partial, &output) == 0 && same_file(&input, &output));
    free(partial);
    return same;
}

/* ---- going on ---- */

/* Compares FILE.partial.json with this run. Errors: ERR_NOT_FOUND where there is none. */
static enum err_code check_facts(const struct target *target, struct err *err)
{
    struct jval *then;
    struct err why = ERR_INIT;
    enum err_code code = jval_read_file(target->facts_path, FACTS_MAX, &then, &why);
    if (code == ERR_NOT_FOUND) {
        return code;
    }
    if (code != ERR_OK) {
        return err_set(err, code, "--resume: %s", why.text);
    }
    code = facts_check(then, target->options.facts, target->partial, err);
    jval_free(then);
    return code;
}

/* Whole JSON lines from the start of the file, and where the last of them ends. */
static enum err_code count_lines(const struct target *target, uint64_t *ret_rows, off_t *ret_end,
                                 struct err *err)
{
    char *piece = malloc(PIECE);
    if (!piece) {
        return err_nomem(err, PIECE);
    }
    off_t at = 0;
    ssize_t got;
    *ret_rows = 0;
    *ret_end = 0;
    while ((got = pread(target->fd, piece, PIECE, at)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (piece[i] == '\n') {
                ++*ret_rows;
                *ret_end = at + i + 1;
            }
        }
        at += got;
    }
    free(piece);
    return got == 0 ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", target->partial);
}

static enum err_code find_end(struct target *target, struct err *err)
{
    const struct target_options *options = &target->options;
    off_t end = 0;
    if (options->format == VECTOR_NDJSON) {
        enum err_code code = count_lines(target, &target->rows, &end, err);
        if (code != ERR_OK) {
            return code;
        }
    } else {
        off_t size = lseek(target->fd, 0, SEEK_END);
        size_t row = vector_row_bytes(options->dtype, options->width);
        target->rows = size > VECTOR_NPY_HEADER ? (uint64_t)(size - VECTOR_NPY_HEADER) / row : 0;
        end = target->rows > 0 ? (off_t)(VECTOR_NPY_HEADER + target->rows * row) : 0;
    }
    if (ftruncate(target->fd, end) != 0 || lseek(target->fd, end, SEEK_SET) < 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", target->partial);
    }
    return ERR_OK;
}

/* True if the output stands there finished, made as it would be now: a retried job is done. */
static bool is_complete(const struct target *target)
{
    struct jval *manifest;
    struct stat st;
    int64_t bytes;
    if (file_exists(target->partial) || stat(target->options.path, &st) != 0 ||
        jval_read_file(target->manifest, FACTS_MAX, &manifest, NULL) != ERR_OK) {
        return false;
    }
    bool complete = jval_int(jval_get(manifest, "bytes"), &bytes) && bytes == st.st_size &&
                    facts_check(jval_get(manifest, "settings"), target->options.facts,
                                target->manifest, NULL) == ERR_OK;
    jval_free(manifest);
    return complete;
}

/* ---- opening ---- */

/* Replaces a file beside the output. The temporary one has one name, so that a run that was killed
 * leaves nothing that the next doesn't use up; the lock on FILE.partial makes it ours alone. */
static enum err_code write_beside(const char *path, const void *data, size_t size, struct err *err)
{
    char *temporary = with_suffix(path, ".new");
    if (!temporary) {
        return err_nomem(err, strlen(path));
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool written = fd >= 0 && file_put(fd, data, size) && fsync(fd) == 0;
    enum err_code code = written ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", temporary);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (code == ERR_OK) {
        code = file_rename(temporary, path, err);
    }
    free(temporary);
    return code;
}

static enum err_code open_partial(struct target *target, bool fresh, struct err *err)
{
    target->fd = open(target->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (target->fd < 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", target->partial);
    }
    target->opened = true;
    if (flock(target->fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? err_set(err, ERR_CONFLICT,
                                              "%s: another process is writing it", target->partial)
                                    : err_set_errno(err, ERR_IO, errno, "%s", target->partial);
    }
    if (fresh) {
        /* In this order a death in between never leaves facts beside rows of another run. */
        (void)unlink(target->facts_path);
        if (ftruncate(target->fd, 0) != 0) {
            return err_set_errno(err, ERR_IO, errno, "%s", target->partial);
        }
        return write_beside(target->facts_path, target->options.facts,
                            strlen(target->options.facts), err);
    }
    return find_end(target, err);
}

static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

/* A FIFO or a device is written as a pipe is. */
static enum err_code open_special(struct target *target, struct err *err)
{
    if (target->options.resume) {
        return err_set(err, ERR_USAGE, "--resume: %s is no regular file", target->label);
    }
    target->fd = open(target->options.path, O_WRONLY | O_CLOEXEC);
    target->opened = target->fd >= 0;
    return target->opened ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", target->label);
}

static enum err_code open_file(struct target *target, struct err *err)
{
    const char *path = target->options.path;
    target->partial = with_suffix(path, ".partial");
    target->facts_path = with_suffix(path, ".partial.json");
    target->manifest = with_suffix(path, ".manifest.json");
    if (!target->partial || !target->facts_path || !target->manifest) {
        return err_nomem(err, strlen(path));
    }
    if (is_special(target->manifest)) { /* else known when all is computed */
        return err_set(err, ERR_IO, "%s: stands in the manifest's place and is no file",
                       target->manifest);
    }
    target->seekable = true;
    bool fresh = true;
    if (target->options.resume) {
        enum err_code code = check_facts(target, err);
        if (code != ERR_OK && code != ERR_NOT_FOUND) {
            return code;
        }
        fresh = code == ERR_NOT_FOUND;
        target->complete = fresh && is_complete(target);
        if (target->complete) {
            return ERR_OK;
        }
        /* Facts without rows to go on from: the end was reached, all but the manifest. */
        if (!fresh && !file_exists(target->partial) && file_exists(path) &&
            rename(path, target->partial) != 0) {
            return err_set_errno(err, ERR_IO, errno, "%s", path);
        }
    }
    return open_partial(target, fresh, err);
}

static enum err_code open_stdout(struct target *target, struct err *err)
{
    if (target->options.resume) {
        return err_set(err, ERR_USAGE, "--resume: needs --output FILE");
    }
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    struct stat st;
    target->fd = STDOUT_FILENO;
    if (flags >= 0 && !(flags & O_APPEND) && fstat(STDOUT_FILENO, &st) == 0 &&
        S_ISREG(st.st_mode)) {
        target->start = lseek(STDOUT_FILENO, 0, SEEK_CUR);
        target->seekable = target->start >= 0;
    }
    return ERR_OK;
}

enum err_code target_open(const struct target_options *options, struct target *ret_target,
                          struct err *err)
{
    bool standard_output = is_stdout(options->path);
    struct target target = {
        .options = *options,
        .label = standard_output ? "standard output" : options->path,
    };
    enum err_code code = standard_output             ? open_stdout(&target, err)
                         : is_special(options->path) ? open_special(&target, err)
                                                     : open_file(&target, err);
    if (code != ERR_OK) {
        target_close(&target);
        return code;
    }
    *ret_target = target;
    return ERR_OK;
}

void target_close(struct target *target)
{
    if (target->opened) {
        (void)close(target->fd);
    }
    sha256_destroy(target->sha);
    free(target->partial);
    free(target->facts_path);
    free(target->manifest);
    *target = (struct target){0};
}

/* ---- writing ---- */

static enum err_code put(struct target *target, const void *data, size_t size, struct err *err)
{
    return file_put(target->fd, data, size)
               ? ERR_OK
               : err_set_errno(err, ERR_IO, errno, "%s: write",
                               target->partial ? target->partial : target->label);
}

enum err_code target_header(struct target *target, uint64_t rows, struct err *err)
{
    char header[VECTOR_NPY_HEADER];
    vector_npy_header(target->options.dtype, rows, target->options.width, header);
    return put(target, header, sizeof header, err);
}

/* Digests what the file holds behind what is digested already. */
static enum err_code digest(struct target *target, struct err *err)
{
    char *piece = malloc(PIECE);
    if (!target->sha) {
        target->sha = sha256_create();
    }
    if (!target->sha || !piece) {
        free(piece);
        return err_nomem(err, PIECE);
    }
    ssize_t got;
    while ((got = pread(target->fd, piece, PIECE, target->digested)) > 0) {
        sha256_update(target->sha, piece, (size_t)got);
        target->digested += got;
    }
    int number = errno;
    free(piece);
    return got == 0 ? ERR_OK : err_set_errno(err, ERR_IO, number, "%s", target->partial);
}

/* What the end would have to wait for is begun while threads compute: the way to the disk, and the
 * digest where nothing written changes any more (npy's header does). */
static enum err_code begin_end(struct target *target, size_t size, struct err *err)
{
    target->unsent += size;
    if (!target->partial || target->unsent < SEND_BYTES) {
        return ERR_OK;
    }
    target->unsent = 0;
    /* Only a hint; where it fails, fsync at the end does it all. */
    (void)sync_file_range(target->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return target->options.format == VECTOR_NDJSON ? digest(target, err) : ERR_OK;
}

enum err_code target_put(struct target *target, const struct buf *rows, uint64_t n, struct err *err)
{
    enum err_code code = put(target, rows->data, rows->size, err);
    if (code == ERR_OK) {
        target->rows += n;
        code = begin_end(target, rows->size, err);
    }
    return code;
}

enum err_code target_finish(struct target *target, char ret_sha256[SHA256_HEX_SIZE + 1],
                            struct err *err)
{
    if (target->options.format == VECTOR_NPY && target->seekable) {
        char header[VECTOR_NPY_HEADER];
        vector_npy_header(target->options.dtype, target->rows, target->options.width, header);
        if (pwrite(target->fd, header, sizeof header, target->start) != sizeof header) {
            return err_set_errno(err, ERR_IO, errno, "%s: write", target->label);
        }
    }
    ret_sha256[0] = '\0';
    if (!target->partial) {
        return ERR_OK;
    }
    enum err_code code = digest(target, err);
    if (code == ERR_OK) {
        unsigned char bytes[SHA256_SIZE];
        sha256_finish(target->sha, bytes);
        target->sha = NULL;
        sha256_hex(bytes, ret_sha256);
    }
    if (code == ERR_OK && fsync(target->fd) != 0) {
        code = err_set_errno(err, ERR_IO, errno, "%s: fsync", target->partial);
    }
    if (code == ERR_OK) {
        (void)unlink(target->manifest); /* an earlier output's */
        code = file_rename(target->partial, target->options.path, err);
    }
    return code;
}

enum err_code target_manifest(struct target *target, const struct buf *json, struct err *err)
{
    if (!target->manifest) {
        return ERR_OK;
    }
    enum err_code code = write_beside(target->manifest, json->data, json->size, err);
    if (code == ERR_OK && unlink(target->facts_path) != 0 && errno != ENOENT) {
        code = err_set_errno(err, ERR_IO, errno, "%s", target->facts_path);
    }
    return code;
}
