/* The texts that orthrus embed takes out of its input: every line, or a field of each JSON line,
 * and of those one shard. */
#ifndef ORTHRUS_CLI_CORPUS_H
#define ORTHRUS_CLI_CORPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/reader.h"

/* Strings are borrowed. */
struct corpus_options {
    const char *input;    /* NULL or "-": standard input */
    const char *field;    /* NULL: a line is a text; else lines are JSON objects, this one's text */
    const char *id_field; /* NULL: no ids */
    uint64_t shard, shards; /* line k, counted from 0, is ours where k mod shards = shard */
};

/* Command lifetime. */
struct corpus {
    struct corpus_options options;
    struct reader reader;
    uint64_t texts;  /* given or skipped */
    struct buf text; /* of the last JSON line */
    struct buf id;   /* its id, as JSON */
};

/* "3/8" → 3 and 8. Errors: ERR_USAGE. */
CHECK_RESULT enum err_code corpus_parse_shard(const char *word, uint64_t *ret_shard,
                                              uint64_t *ret_shards, struct err *err);

/* Errors: those of reader_open. */
CHECK_RESULT enum err_code corpus_open(const struct corpus_options *options,
                                       struct corpus *ret_corpus, struct err *err);
/* Zeroed structs are fine. */
void corpus_close(struct corpus *corpus);

/* The next text of this shard; its id is in corpus->id. Empty lines of JSON input are passed over,
 * an empty line of plain text is the empty text. wait and *ret_state are those of reader_next.
 * Errors: those of reader_next; ERR_INVALID "file:line: …" for a line that is no such object. */
CHECK_RESULT enum err_code corpus_next(struct corpus *corpus, bool wait,
                                       enum reader_state *ret_state, struct line *ret_text,
                                       struct err *err);
/* Passes over n texts that an earlier run has done. Errors: ERR_INVALID where there are fewer. */
CHECK_RESULT enum err_code corpus_skip(struct corpus *corpus, uint64_t n, struct err *err);
/* How many texts are ahead, in a regular file; nothing is consumed. */
CHECK_RESULT enum err_code corpus_count(const struct corpus *corpus, uint64_t *ret_texts,
                                        struct err *err);

#endif
