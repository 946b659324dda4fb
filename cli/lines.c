#include "cli/lines.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/utf8.h"

static const size_t INPUT_MAX = (size_t)64 << 30;

static size_t count_lines(const char *data, size_t size)
{
    size_t n = 0;
    for (const char *p = data, *end = data + size; p < end; n++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
    }
    return n;
}

static enum err_code split(struct lines *lines, const char *label, const char *data, size_t size,
                           struct err *err)
{
    lines->n = count_lines(data, size);
    lines->at = calloc(lines->n ? lines->n : 1, sizeof *lines->at);
    if (!lines->at) {
        return err_nomem(err, lines->n * sizeof *lines->at);
    }
    const char *p = data;
    for (size_t i = 0; i < lines->n; i++) {
        size_t left = (size_t)(data + size - p);
        const char *newline = memchr(p, '\n', left);
        size_t length = newline ? (size_t)(newline - p) : left;
        const char *next = p + length + (newline != NULL);
        if (length && p[length - 1] == '\r') {
            length--;
        }
        if (!utf8_valid(p, length)) {
            return err_set(err, ERR_INVALID, "%s:%zu: not valid UTF-8", label, i + 1);
        }
        lines->at[i] = (struct line){p, length};
        p = next;
    }
    return ERR_OK;
}

enum err_code lines_read(const char *path, struct lines *ret_lines, struct err *err)
{
    struct lines lines = {0};
    bool standard_input = !path || strcmp(path, "-") == 0;
    const char *label = standard_input ? "standard input" : path;
    struct stat st;
    enum err_code code;
    if (!standard_input && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        code = file_map_open(path, INPUT_MAX, &lines.map, err);
        if (code == ERR_OK) {
            code = split(&lines, label, (const char *)lines.map.data, lines.map.size, err);
        }
    } else {
        size_t size = 0;
        code = file_read(standard_input ? "/dev/stdin" : path, INPUT_MAX, &lines.data, &size, err);
        if (code == ERR_OK) {
            code = split(&lines, label, lines.data, size, err);
        }
    }
    if (code != ERR_OK) {
        lines_done(&lines);
        return code;
    }
    *ret_lines = lines;
    return ERR_OK;
}

void lines_done(struct lines *lines)
{
    free(lines->at);
    free(lines->data);
    file_map_close(&lines->map);
    *lines = (struct lines){0};
}
