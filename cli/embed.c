/* orthrus embed: bulk embedding of a file of lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/float_text.h"
#include "base/buf.h"
#include "base/size.h"
#include "cli/bulk.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/progress.h"

struct embed_flags {
    struct bulk_flags bulk;
    const char *input;
    const char *output;
    const char *format;
    bool normalize;
};

/* NumPy's format 1.0: magic, header size, a Python literal padded to a multiple of 64 bytes.
 * Source: numpy.lib.format. */
static bool write_npy_header(FILE *to, size_t rows, size_t columns)
{
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = sizeof header - 10;
    header[9] = 0;
    char literal[112];
    int size = snprintf(literal, sizeof literal,
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows,
                        columns);
    memcpy(header + 10, literal, (size_t)size);
    header[sizeof header - 1] = '\n';
    return fwrite(header, sizeof header, 1, to) == 1;
}

static bool write_row_json(FILE *to, const float *row, size_t columns, struct buf *line)
{
    buf_clear(line);
    buf_append_char(line, '[');
    for (size_t i = 0; i < columns; i++) {
        char text[FLOAT_TEXT_MAX];
        buf_append(line, ",", i != 0);
        buf_append(line, text, float_text(row[i], text));
    }
    buf_append_str(line, "]\n");
    return !buf_failed(line) && fwrite(line->data, line->size, 1, to) == 1;
}

static bool write_rows(FILE *to, bool npy, const float *rows, size_t n, size_t columns,
                       struct buf *line)
{
    if (npy) {
        return fwrite(rows, columns * sizeof *rows, n, to) == n;
    }
    for (size_t i = 0; i < n; i++) {
        if (!write_row_json(to, rows + i * columns, columns, line)) {
            return false;
        }
    }
    return true;
}

static enum err_code embed_lines(struct bulk *bulk, const struct lines *lines,
                                 const struct embed_flags *flags, FILE *to, float *rows,
                                 struct buf *line, struct err *err)
{
    size_t hidden = bulk->model->config.hidden;
    bool npy = strcmp(flags->format, "npy") == 0;
    const char *label = flags->output ? flags->output : "standard output";
    if (npy && !write_npy_header(to, lines->n, hidden)) {
        return err_set_errno(err, ERR_IO, errno, "%s", label);
    }
    struct progress progress;
    progress_start(&progress, "embedding", "sentences", lines->n);
    for (size_t done = 0; done < lines->n;) {
        size_t n = size_min(lines->n - done, BULK_CHUNK_TEXTS);
        enum err_code code = bulk_embed(bulk, lines->at + done, n, rows, err);
        if (code != ERR_OK) {
            return code;
        }
        if (flags->normalize) {
            embeddings_normalize(rows, n, hidden);
        }
        if (!write_rows(to, npy, rows, n, hidden, line)) {
            return err_set_errno(err, ERR_IO, errno, "%s", label);
        }
        done += n;
        progress_update(&progress, done);
    }
    progress_end(&progress, lines->n);
    return fflush(to) == 0 ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", label);
}

static enum err_code embed_to(struct bulk *bulk, const struct embed_flags *flags, struct err *err)
{
    struct lines lines;
    enum err_code code = lines_read(flags->input, &lines, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t hidden = bulk->model->config.hidden;
    float *rows = calloc((size_t)BULK_CHUNK_TEXTS * hidden, sizeof *rows);
    FILE *to = flags->output ? fopen(flags->output, "wb") : stdout;
    struct buf line;
    buf_init(&line, hidden * (FLOAT_TEXT_MAX + 1) + 8);
    if (!to) {
        code = err_set_errno(err, ERR_IO, errno, "%s", flags->output);
    } else if (!rows) {
        code = err_nomem(err, BULK_CHUNK_TEXTS * hidden * sizeof *rows);
    } else {
        code = embed_lines(bulk, &lines, flags, to, rows, &line, err);
    }
    if (to && to != stdout && fclose(to) != 0 && code == ERR_OK) {
        code = err_set_errno(err, ERR_IO, errno, "%s", flags->output);
    }
    buf_done(&line);
    free(rows);
    lines_done(&lines);
    return code;
}

int command_embed(int argc, char **argv)
{
    struct embed_flags f = {.format = "ndjson"};
    const struct flag flags[] = {
        BULK_FLAG_MODEL(f.bulk),
        {"input", 'i', FLAG_STRING, &f.input, "FILE", "standard input", "one text a line, UTF-8", 0,
         0, false},
        {"output", 'o', FLAG_STRING, &f.output, "FILE", "standard output", "where the vectors go",
         0, 0, false},
        {"format", 0, FLAG_STRING, &f.format, "F", "ndjson",
         "ndjson: one JSON array a line; npy: one NumPy float32 array [N,H]", 0, 0, false},
        {"normalize", 0, FLAG_BOOL, &f.normalize, NULL, "off",
         "divide each vector by its Euclidean norm", 0, 0, false},
        BULK_FLAGS_ENCODER(f.bulk),
        {0},
    };
    const struct command command = {
        .name = "embed",
        .arguments = "",
        .summary = "Embeds every line of a file; the vectors keep the lines' order.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    if (strcmp(f.format, "ndjson") != 0 && strcmp(f.format, "npy") != 0) {
        err_set(&err, ERR_USAGE, "--format: ndjson or npy is allowed");
        return command_fail("embed", &err);
    }
    struct bulk bulk;
    enum err_code code = bulk_open(&f.bulk, &bulk, &err);
    if (code == ERR_OK) {
        code = embed_to(&bulk, &f, &err);
        bulk_close(&bulk);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("embed", &err);
}
