#include "train/data/rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_MISSING = -1 };

enum err_code rows_format_parse(const char *word, enum rows_format *ret_format, struct err *err)
{
    static const struct {
        const char *word;
        enum rows_format format;
    } formats[] = {{"jsonl", ROWS_JSONL}, {"csv", ROWS_CSV}, {"tsv", ROWS_TSV}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(word, formats[i].word) == 0) {
            *ret_format = formats[i].format;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_USAGE, "--format: jsonl, csv or tsv is allowed");
}

enum err_code rows_bad(const struct rows *rows, struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s:%llu: %s", rows->reader.label,
                   (unsigned long long)rows->line, what);
}

static bool ends_with(const char *path, const char *end)
{
    size_t size = strlen(path);
    size_t tail = strlen(end);
    return size > tail && strcmp(path + size - tail, end) == 0;
}

/* ---- CSV ---- */

static bool add_field(struct rows *rows, size_t n, size_t start)
{
    if (n >= ROWS_COLUMNS_MAX) {
        return false;
    }
    rows->fields[n] = start;
    return true;
}

/* Splits one line that continues a record; open says whether a quote is open before and behind it.
 * Fields are appended to record, each with a NUL behind it. False: too many columns. */
static bool split_line(struct rows *rows, const struct line *line, bool *open, size_t *n)
{
    char comma = rows->format == ROWS_TSV ? '\t' : ',';
    struct buf *out = &rows->record;
    for (size_t i = 0; i < line->size; i++) {
        char c = line->text[i];
        bool fresh = rows->fields[*n - 1] == out->size;
        if (*open && c == '"' && i + 1 < line->size && line->text[i + 1] == '"') {
            buf_append_char(out, '"');
            i++;
        } else if (*open && c == '"') {
            *open = false;
        } else if (!*open && c == '"' && fresh) {
            *open = true;
        } else if (!*open && c == comma) {
            buf_append_char(out, '\0');
            if (!add_field(rows, (*n)++, out->size)) {
                return false;
            }
        } else {
            buf_append_char(out, c);
        }
    }
    return true;
}

/* The next record, which may hold newlines between quotes; *ret_n fields. 0 at the end. */
static enum err_code read_record(struct rows *rows, size_t *ret_n, struct err *err)
{
    struct line line;
    enum reader_state state;
    bool open = false;
    size_t n = 0;
    buf_clear(&rows->record);
    do {
        enum err_code code = reader_next(&rows->reader, true, &state, &line, err);
        if (code != ERR_OK) {
            return code;
        }
        if (state == READER_END) {
            *ret_n = 0;
            return n == 0 ? ERR_OK : rows_bad(rows, err, "a quote is never closed");
        }
        if (n == 0) {
            rows->line = rows->reader.line;
            if (line.size == 0) {
                continue;
            }
            (void)add_field(rows, n++, 0);
        } else {
            buf_append_char(&rows->record, '\n');
        }
        if (!split_line(rows, &line, &open, &n)) {
            return rows_bad(rows, err, "more than 4096 columns in a row");
        }
    } while ((open || n == 0) && !buf_failed(&rows->record));
    buf_append_char(&rows->record, '\0');
    rows->fields[n] = rows->record.size;
    *ret_n = n;
    if (buf_full(&rows->record)) {
        return rows_bad(rows, err, "more than 4 MiB in a row");
    }
    return buf_failed(&rows->record) ? err_nomem(err, rows->record.size) : ERR_OK;
}

/* Sets *ret_field to the column of that name, or FIELD_MISSING. Two of one name can't both be
 * meant.
 */
static enum err_code find_column(const struct rows *rows, const char *name, int *ret_field,
                                 struct err *err)
{
    *ret_field = FIELD_MISSING;
    for (size_t i = 0; name && i < rows->n_fields; i++) {
        if (strcmp(rows->record.data + rows->fields[i], name) != 0) {
            continue;
        }
        if (*ret_field != FIELD_MISSING) {
            return err_set(err, ERR_INVALID, "%s:%llu: the header has two columns \"%s\"",
                           rows->reader.label, (unsigned long long)rows->line, name);
        }
        *ret_field = (int)i;
    }
    return ERR_OK;
}

static enum err_code read_header(struct rows *rows, struct err *err)
{
    const struct rows_columns *columns = rows->columns;
    size_t n = 0;
    enum err_code code = read_record(rows, &n, err);
    if (code != ERR_OK) {
        return code;
    }
    if (n == 0) {
        return err_set(err, ERR_INVALID,
                       "%s: is empty; its header line has to name the column \"%s\"",
                       rows->reader.label, columns->text);
    }
    rows->n_fields = n;
    code = find_column(rows, columns->text, &rows->text_field, err);
    if (code == ERR_OK) {
        code = find_column(rows, columns->group, &rows->group_field, err);
    }
    if (code == ERR_OK) {
        code = find_column(rows, "weight", &rows->weight_field, err);
    }
    for (size_t i = 0; code == ERR_OK && i < columns->n; i++) {
        code = find_column(rows, columns->labels[i], &rows->label_fields[i], err);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (rows->text_field < 0) {
        return err_set(err, ERR_INVALID, "%s:%llu: the header has no column \"%s\" (--text-column)",
                       rows->reader.label, (unsigned long long)rows->line, columns->text);
    }
    if (columns->group && rows->group_field < 0) {
        return rows_bad(rows, err, "the header has no column of --split-by");
    }
    return ERR_OK;
}

/* A cell that may be a number; an empty one is missing. */
static struct cell csv_cell(const struct rows *rows, int field)
{
    struct cell cell = {.kind = CELL_NONE};
    if (field == FIELD_MISSING) {
        return cell;
    }
    cell.text = rows->record.data + rows->fields[field];
    cell.size = rows->fields[field + 1] - rows->fields[field] - 1;
    if (cell.size == 0) {
        return cell;
    }
    char *end;
    cell.kind = CELL_WORD;
    cell.number = strtod(cell.text, &end);
    if (*end != '\0' || end == cell.text) {
        cell.number = NAN;
    }
    errno = 0;
    cell.integer = strtoll(cell.text, &end, 10);
    if (*end != '\0' || end == cell.text || errno != 0) {
        cell.integer = INT64_MIN;
    }
    return cell;
}

static enum err_code next_csv(struct rows *rows, bool *ret_end, struct err *err)
{
    size_t n = 0;
    enum err_code code = read_record(rows, &n, err);
    if (code != ERR_OK || n == 0) {
        *ret_end = code == ERR_OK;
        return code;
    }
    if (n != rows->n_fields) {
        return err_set(err, ERR_INVALID, "%s:%llu: %zu columns, but the header has %zu",
                       rows->reader.label, (unsigned long long)rows->line, n, rows->n_fields);
    }
    rows->text = rows->record.data + rows->fields[rows->text_field];
    rows->text_size = rows->fields[rows->text_field + 1] - rows->fields[rows->text_field] - 1;
    for (size_t i = 0; i < rows->columns->n; i++) {
        rows->labels[i] = csv_cell(rows, rows->label_fields[i]);
    }
    rows->group = csv_cell(rows, rows->group_field);
    struct cell weight = csv_cell(rows, rows->weight_field);
    rows->weight = weight.kind == CELL_NONE ? 1 : weight.number;
    return ERR_OK;
}

/* ---- JSON lines ---- */

static struct cell json_cell(const struct jval *value)
{
    struct cell cell = {.kind = CELL_OTHER, .integer = INT64_MIN, .number = NAN, .typed = true};
    if (!value || jval_is_null(value)) {
        cell.kind = CELL_NONE;
    } else if (jval_string(value, &cell.text, &cell.size)) {
        cell.kind = CELL_WORD;
    } else if (jval_int(value, &cell.integer)) {
        cell.kind = CELL_INTEGER;
        cell.number = (double)cell.integer;
    } else if (jval_double(value, &cell.number)) {
        cell.kind = CELL_NUMBER;
    } else if (jval_is_array(value)) {
        cell.kind = CELL_LIST;
        cell.array = value;
    }
    return cell;
}

static bool is_blank(const struct line *line)
{
    for (size_t i = 0; i < line->size; i++) {
        char c = line->text[i];
        if (c != ' ' && c != '\t' && c != '\r') {
            return false;
        }
    }
    return true;
}

static enum err_code next_json(struct rows *rows, bool *ret_end, struct err *err)
{
    struct line line;
    enum reader_state state;
    do {
        enum err_code code = reader_next(&rows->reader, true, &state, &line, err);
        if (code != ERR_OK || state == READER_END) {
            *ret_end = code == ERR_OK;
            return code;
        }
    } while (is_blank(&line));
    rows->line = rows->reader.line;
    if (line.size > ROWS_LINE_MAX) {
        return rows_bad(rows, err, "longer than 4194304 bytes");
    }
    jval_free(rows->object);
    rows->object = NULL;
    enum err_code code = jval_parse(line.text, line.size, &rows->object, err);
    if (code != ERR_OK) {
        err_prefix(err, "%s:%llu: must be a JSON object", rows->reader.label,
                   (unsigned long long)rows->line);
        return code;
    }
    const struct jval *object = rows->object;
    if (!jval_is_object(object)) {
        return rows_bad(rows, err, "must be a JSON object like {\"text\": \"…\"}");
    }
    if (!jval_string(jval_get(object, rows->columns->text), &rows->text, &rows->text_size)) {
        return err_set(err, ERR_INVALID, "%s:%llu: \"%s\" must be there and a string",
                       rows->reader.label, (unsigned long long)rows->line, rows->columns->text);
    }
    for (size_t i = 0; i < rows->columns->n; i++) {
        rows->labels[i] = json_cell(jval_get(object, rows->columns->labels[i]));
    }
    rows->group = rows->columns->group ? json_cell(jval_get(object, rows->columns->group))
                                       : (struct cell){0};
    struct cell weight = json_cell(jval_get(object, "weight"));
    rows->weight = weight.kind == CELL_NONE ? 1 : weight.number;
    return ERR_OK;
}

/* ---- both ---- */

enum err_code rows_open(const char *path, enum rows_format format,
                        const struct rows_columns *columns, struct rows *ret_rows, struct err *err)
{
    struct rows rows = {.format = format, .columns = columns};
    if (format == ROWS_BY_NAME) {
        rows.format = ends_with(path, ".csv")   ? ROWS_CSV
                      : ends_with(path, ".tsv") ? ROWS_TSV
                                                : ROWS_JSONL;
    }
    enum err_code code = reader_open(path, &rows.reader, err);
    if (code == ERR_OK) {
        code = reader_digest(&rows.reader, err);
    }
    buf_init(&rows.record, ROWS_LINE_MAX);
    if (code == ERR_OK && rows.format != ROWS_JSONL) {
        rows.fields = calloc(ROWS_COLUMNS_MAX + 1, sizeof *rows.fields);
        code = rows.fields ? read_header(&rows, err)
                           : err_nomem(err, ROWS_COLUMNS_MAX * sizeof *rows.fields);
    }
    if (code != ERR_OK) {
        rows_close(&rows);
        return code;
    }
    *ret_rows = rows;
    return ERR_OK;
}

void rows_close(struct rows *rows)
{
    reader_close(&rows->reader);
    jval_free(rows->object);
    buf_done(&rows->record);
    free(rows->fields);
    *rows = (struct rows){0};
}

enum err_code rows_next(struct rows *rows, bool *ret_end, struct err *err)
{
    *ret_end = false;
    enum err_code code = rows->format == ROWS_JSONL ? next_json(rows, ret_end, err)
                                                    : next_csv(rows, ret_end, err);
    if (code == ERR_OK && !*ret_end && !(rows->weight >= 0 && rows->weight <= 1e6)) {
        return rows_bad(rows, err, "\"weight\" must be a number from 0 to 1000000");
    }
    return code;
}
