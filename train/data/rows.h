/* Labelled data, one row at a time: JSON lines, CSV or TSV with a header line. */
#ifndef ORTHRUS_TRAIN_ROWS_H
#define ORTHRUS_TRAIN_ROWS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/jval.h"
#include "base/reader.h"
#include "train/data/tasks.h"

enum rows_format { ROWS_BY_NAME, ROWS_JSONL, ROWS_CSV, ROWS_TSV };
enum { ROWS_COLUMNS_MAX = 4096, ROWS_LINE_MAX = 4 * 1024 * 1024 };

/* Which columns, or JSON members, are read. Strings are borrowed. */
struct rows_columns {
    const char *text;              /* "text" */
    const char *labels[TASKS_MAX]; /* of each task */
    size_t n;                      /* tasks */
    const char *group;             /* NULL: none */
};

/* A label as it stands in the file. Text is borrowed until the next row. */
enum cell_kind { CELL_NONE, CELL_WORD, CELL_INTEGER, CELL_NUMBER, CELL_LIST, CELL_OTHER };
struct cell {
    enum cell_kind kind;
    const char *text; /* CELL_WORD */
    size_t size;
    int64_t integer;
    double number;            /* CELL_INTEGER too */
    const struct jval *array; /* CELL_LIST of JSON; NULL for the |-separated words in text */
    bool typed;               /* JSON says which of number and text it is; CSV does not */
};

/* Caller's stack. */
struct rows {
    struct reader reader;
    enum rows_format format;
    const struct rows_columns *columns;
    uint64_t line; /* where the row begins, for errors */
    /* The row: */
    const char *text;
    size_t text_size;
    struct cell labels[TASKS_MAX];
    struct cell group;
    double weight; /* 1 where the row has none */
    /* Private. */
    struct jval *object;
    struct buf record; /* CSV: the row's text, its fields NUL-terminated in place */
    size_t *fields;    /* [n_fields+1] starts in record, owned */
    size_t n_fields;   /* of the header */
    int text_field, group_field, weight_field, label_fields[TASKS_MAX]; /* -1: not there */
};

CHECK_RESULT enum err_code rows_format_parse(const char *word, enum rows_format *ret_format,
                                             struct err *err);

/* ROWS_BY_NAME: .csv and .tsv by the path's end, else JSON lines. Errors: those of reader_open;
 * ERR_INVALID for a header without the text column. */
CHECK_RESULT enum err_code rows_open(const char *path, enum rows_format format,
                                     const struct rows_columns *columns, struct rows *ret_rows,
                                     struct err *err);
/* Zeroed structs are fine. */
void rows_close(struct rows *rows);

/* The next row; *ret_end at the end. Errors: ERR_INVALID "file:line: …". */
CHECK_RESULT enum err_code rows_next(struct rows *rows, bool *ret_end, struct err *err);
/* "file:line: what", as all errors about this row are. */
enum err_code rows_bad(const struct rows *rows, struct err *err, const char *what);

#endif
