#include "base/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"

/* PATIENCE_MS: a writer that only just was woken up gets this long to go on. */
enum { PIECE = 256 * 1024, PATIENCE_MS = 3 };
enum { MARK = 3 }; /* bytes of a byte order mark */

enum err_code reader_open(const char *path, struct reader *ret_reader, struct err *err)
{
    bool standard_input = !path || strcmp(path, "-") == 0;
    struct reader reader = {.label = standard_input ? "standard input" : path, .opened = true};
    reader.fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (reader.fd < 0 || fstat(reader.fd, &st) != 0) {
        enum err_code code = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
        err_set_errno(err, code, errno, "%s", reader.label);
        reader_close(&reader);
        return code;
    }
    if (S_ISDIR(st.st_mode)) {
        err_set(err, ERR_INVALID, "%s: is a folder, must be a file", reader.label);
        reader_close(&reader);
        return ERR_INVALID;
    }
    off_t at = S_ISREG(st.st_mode) ? lseek(reader.fd, 0, SEEK_CUR) : -1;
    reader.regular = at >= 0;
    reader.offset = at >= 0 ? (uint64_t)at : 0;
    *ret_reader = reader;
    return ERR_OK;
}

void reader_close(struct reader *reader)
{
    if (reader->opened && reader->fd == STDIN_FILENO && reader->regular) {
        (void)lseek(reader->fd, (off_t)(reader->offset - (reader->size - reader->from)), SEEK_SET);
    } else if (reader->opened && reader->fd > STDIN_FILENO) {
        (void)close(reader->fd);
    }
    free(reader->data);
    sha256_destroy(reader->sha);
    *reader = (struct reader){0};
}

enum err_code reader_digest(struct reader *reader, struct err *err)
{
    reader->sha = sha256_create();
    return reader->sha ? ERR_OK : err_nomem(err, SHA256_SIZE);
}

void reader_digest_text(struct reader *reader, char out[SHA256_HEX_SIZE + 1])
{
    unsigned char digest[SHA256_SIZE];
    CHECK(reader->sha);
    sha256_finish(reader->sha, digest);
    reader->sha = NULL;
    sha256_hex(digest, out);
}

uint64_t reader_file_size(const struct reader *reader)
{
    struct stat st;
    return reader->regular && fstat(reader->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Room for one more piece behind what is there. */
static enum err_code make_room(struct reader *reader, struct err *err)
{
    if (reader->from > 0) {
        memmove(reader->data, reader->data + reader->from, reader->size - reader->from);
        reader->size -= reader->from;
        reader->from = 0;
    }
    if (reader->room - reader->size >= PIECE) {
        return ERR_OK;
    }
    if (reader->size > READER_LINE_MAX) {
        return err_set(err, ERR_LIMIT, "%s:%llu: longer than %d bytes", reader->label,
                       (unsigned long long)reader->line + 1, READER_LINE_MAX);
    }
    size_t room = reader->size * 2 + PIECE;
    char *data = realloc(reader->data, room);
    if (!data) {
        return err_nomem(err, room);
    }
    reader->data = data;
    reader->room = room;
    return ERR_OK;
}

/* One read. *ret_nothing: there is nothing yet and the caller won't wait. */
static enum err_code read_more(struct reader *reader, bool wait, bool *ret_nothing, struct err *err)
{
    enum err_code code = make_room(reader, err);
    *ret_nothing = false;
    while (code == ERR_OK) {
        char *to = reader->data + reader->size;
        struct pollfd poller = {.fd = reader->fd, .events = POLLIN};
        if (!reader->regular && !wait && poll(&poller, 1, PATIENCE_MS) == 0) {
            *ret_nothing = true;
            return ERR_OK;
        }
        ssize_t got = reader->regular ? pread(reader->fd, to, PIECE, (off_t)reader->offset)
                                      : read(reader->fd, to, PIECE);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            (void)poll(&poller, 1, -1); /* somebody set O_NONBLOCK on what we share */
            continue;
        }
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return err_set_errno(err, ERR_IO, errno, "%s", reader->label);
        }
        if (reader->sha) {
            sha256_update(reader->sha, to, (size_t)got);
        }
        reader->end = got == 0;
        reader->size += (size_t)got;
        reader->offset += (uint64_t)got;
        return ERR_OK;
    }
    return code;
}

/* Excel's and Notepad's files begin so. */
static bool has_mark(const struct reader *reader, const char *text, size_t size)
{
    return reader->line == 0 && size >= MARK && memcmp(text, "\xef\xbb\xbf", MARK) == 0;
}

static enum err_code give(struct reader *reader, size_t size, size_t step, struct line *ret_line,
                          struct err *err)
{
    const char *text = reader->data + reader->from;
    bool marked = has_mark(reader, text, size);
    reader->line++;
    reader->from += step;
    if (size > 0 && text[size - 1] == '\r' && step > size) {
        size--;
    }
    if (size > READER_LINE_MAX) {
        return err_set(err, ERR_LIMIT, "%s:%llu: longer than %d bytes", reader->label,
                       (unsigned long long)reader->line, READER_LINE_MAX);
    }
    if (!utf8_valid(text, size)) {
        return err_set(err, ERR_INVALID, "%s:%llu: not valid UTF-8", reader->label,
                       (unsigned long long)reader->line);
    }
    if (marked) {
        text += MARK;
        size -= MARK;
    }
    *ret_line = (struct line){text, size};
    return ERR_OK;
}

enum err_code reader_next(struct reader *reader, bool wait, enum reader_state *ret_state,
                          struct line *ret_line, struct err *err)
{
    size_t searched = 0;
    for (;;) {
        size_t there = reader->size - reader->from;
        const char *at = there > 0 ? reader->data + reader->from : NULL;
        const char *newline = there > searched ? memchr(at + searched, '\n', there - searched)
                                               : NULL;
        if (reader->end && there == MARK && !newline && has_mark(reader, at, there)) {
            reader->from = reader->size; /* and nothing behind it: no line */
            there = 0;
        }
        if (newline || (reader->end && there > 0)) {
            size_t size = newline ? (size_t)(newline - at) : there;
            *ret_state = READER_LINE;
            return give(reader, size, size + (newline != NULL), ret_line, err);
        }
        if (reader->end) {
            *ret_state = READER_END;
            return ERR_OK;
        }
        searched = there;
        bool nothing;
        enum err_code code = read_more(reader, wait, &nothing, err);
        if (code != ERR_OK) {
            return code;
        }
        if (nothing) {
            *ret_state = READER_NOTHING_YET;
            return ERR_OK;
        }
    }
}
