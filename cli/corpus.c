#include "cli/corpus.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/jval.h"

enum { SHARDS_MAX = 1000000, ID_MAX = 4096 };

enum err_code corpus_parse_shard(const char *word, uint64_t *ret_shard, uint64_t *ret_shards,
                                 struct err *err)
{
    char *slash = NULL;
    char *end = NULL;
    unsigned long shard = 0;
    unsigned long shards = 0;
    errno = 0;
    if (isdigit((unsigned char)word[0])) {
        shard = strtoul(word, &slash, 10);
    }
    if (slash && *slash == '/' && isdigit((unsigned char)slash[1])) {
        shards = strtoul(slash + 1, &end, 10);
    }
    if (errno != 0 || !end || *end != '\0' || shards < 1 || shards > SHARDS_MAX ||
        shard >= shards) {
        return err_set(err, ERR_USAGE,
                       "--shard: must be I/N, like 0/4, with I from 0 to N-1 and N at most %d",
                       SHARDS_MAX);
    }
    *ret_shard = shard;
    *ret_shards = shards;
    return ERR_OK;
}

enum err_code corpus_open(const struct corpus_options *options, struct corpus *ret_corpus,
                          struct err *err)
{
    struct corpus corpus = {.options = *options};
    enum err_code code = reader_open(options->input, &corpus.reader, err);
    if (code != ERR_OK) {
        return code;
    }
    buf_init(&corpus.text, READER_LINE_MAX);
    buf_init(&corpus.id, (size_t)ID_MAX * 6 + 2); /* an escape takes six bytes */
    *ret_corpus = corpus;
    return ERR_OK;
}

void corpus_close(struct corpus *corpus)
{
    reader_close(&corpus->reader);
    buf_done(&corpus->text);
    buf_done(&corpus->id);
}

static bool is_blank(const struct line *line)
{
    for (size_t i = 0; i < line->size; i++) {
        if (!strchr(" \t\r", line->text[i]) || line->text[i] == '\0') {
            return false;
        }
    }
    return true;
}

/* The next line that is a text of this shard, as it stands in the file. */
static enum err_code next_line(struct corpus *corpus, bool wait, enum reader_state *ret_state,
                               struct line *ret_line, struct err *err)
{
    const struct corpus_options *options = &corpus->options;
    for (;;) {
        enum err_code code = reader_next(&corpus->reader, wait, ret_state, ret_line, err);
        if (code != ERR_OK || *ret_state != READER_LINE) {
            return code;
        }
        bool ours = (corpus->reader.line - 1) % options->shards == options->shard;
        if (ours && !(options->field && is_blank(ret_line))) {
            corpus->texts++;
            return ERR_OK;
        }
    }
}

static enum err_code bad_line(const struct corpus *corpus, const char *field, const char *what,
                              struct err *err)
{
    return err_set(err, ERR_INVALID, "%s:%llu: \"%s\" must be %s", corpus->reader.label,
                   (unsigned long long)corpus->reader.line, field, what);
}

static enum err_code read_object(struct corpus *corpus, const struct jval *object, struct err *err)
{
    const struct corpus_options *options = &corpus->options;
    const char *text;
    size_t size;
    if (!jval_string(jval_get(object, options->field), &text, &size)) {
        return bad_line(corpus, options->field, "there and a string", err);
    }
    buf_clear(&corpus->text);
    buf_clear(&corpus->id);
    if (!buf_append(&corpus->text, text, size)) {
        return err_nomem(err, size);
    }
    if (!options->id_field) {
        return ERR_OK;
    }
    const struct jval *id = jval_get(object, options->id_field);
    int64_t number;
    if (jval_int(id, &number)) {
        buf_printf(&corpus->id, "%lld", (long long)number);
    } else if (jval_string(id, &text, &size) && size <= ID_MAX) {
        jval_append_string(&corpus->id, text, size);
    } else {
        return bad_line(corpus, options->id_field,
                        "there, and a whole number or a string of at most 4096 bytes", err);
    }
    return buf_failed(&corpus->id) ? err_nomem(err, size) : ERR_OK;
}

enum err_code corpus_next(struct corpus *corpus, bool wait, enum reader_state *ret_state,
                          struct line *ret_text, struct err *err)
{
    struct line line;
    enum err_code code = next_line(corpus, wait, ret_state, &line, err);
    if (code != ERR_OK || *ret_state != READER_LINE) {
        return code;
    }
    if (!corpus->options.field) {
        *ret_text = line;
        return ERR_OK;
    }
    struct jval *object;
    code = jval_parse(line.text, line.size, &object, err);
    if (code == ERR_OK) {
        code = jval_is_object(object)
                   ? read_object(corpus, object, err)
                   : err_set(err, ERR_INVALID, "%s:%llu: must be a JSON object",
                             corpus->reader.label, (unsigned long long)corpus->reader.line);
        jval_free(object);
    } else {
        err_prefix(err, "%s:%llu: must be a JSON object", corpus->reader.label,
                   (unsigned long long)corpus->reader.line);
    }
    *ret_text = (struct line){corpus->text.data ? corpus->text.data : "", corpus->text.size};
    return code;
}

enum err_code corpus_skip(struct corpus *corpus, uint64_t n, struct err *err)
{
    while (corpus->texts < n) {
        struct line line;
        enum reader_state state;
        enum err_code code = next_line(corpus, true, &state, &line, err);
        if (code != ERR_OK) {
            return code;
        }
        if (state == READER_END) {
            return err_set(
                err, ERR_INVALID, "--resume: %s has %llu texts, but %llu were embedded before",
                corpus->reader.label, (unsigned long long)corpus->texts, (unsigned long long)n);
        }
    }
    return ERR_OK;
}

enum err_code corpus_count(const struct corpus *corpus, uint64_t *ret_texts, struct err *err)
{
    /* A second reader over the same descriptor: both read by position. */
    struct corpus twin = {.options = corpus->options};
    twin.reader = (struct reader){.label = corpus->reader.label,
                                  .fd = corpus->reader.fd,
                                  .regular = true,
                                  .offset = corpus->reader.offset};
    enum reader_state state = READER_LINE;
    enum err_code code = ERR_OK;
    while (code == ERR_OK && state == READER_LINE) {
        struct line line;
        code = next_line(&twin, true, &state, &line, err);
    }
    reader_close(&twin.reader);
    *ret_texts = twin.texts;
    return code;
}
