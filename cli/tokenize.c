/* orthrus tokenize: ids, tokens and offsets for a file of lines. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jval.h"
#include "base/reader.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "model/files/config.h"
#include "model/model.h"

enum { LINE_CEILING = 1 << 30 };

static void append_tokens(struct buf *line, const struct tokenizer *tokenizer,
                          const struct tokens *tokens)
{
    buf_append_str(line, "{\"ids\":[");
    for (size_t i = 0; i < tokens->n; i++) {
        buf_printf(line, "%s%d", i ? "," : "", tokens->ids[i]);
    }
    buf_append_str(line, "],\"tokens\":[");
    for (size_t i = 0; i < tokens->n; i++) {
        const char *word = tokenizer_word(tokenizer, tokens->ids[i]);
        buf_append(line, ",", i != 0);
        jval_append_string(line, word, strlen(word));
    }
    buf_append_str(line, "],\"offsets\":[");
    for (size_t i = 0; i < tokens->n; i++) {
        buf_printf(line, "%s[%u,%u]", i ? "," : "", tokens->starts[i], tokens->stops[i]);
    }
    buf_append_str(line, "]}\n");
}

static enum err_code tokenize_lines(const struct tokenizer *tokenizer, struct reader *reader,
                                    struct err *err)
{
    const struct encode_options options = {
        .max_length = SIZE_MAX, .add_special_tokens = true, .offsets = true};
    struct tokens tokens = {0};
    struct buf line;
    buf_init(&line, LINE_CEILING);
    enum err_code code = ERR_OK;
    while (code == ERR_OK) {
        struct line text;
        enum reader_state state;
        code = reader_next(reader, true, &state, &text, err);
        if (code != ERR_OK || state == READER_END) {
            break;
        }
        code = tokenizer_encode(tokenizer, text.text, text.size, &options, &tokens, err);
        if (code == ERR_OK) {
            buf_clear(&line);
            append_tokens(&line, tokenizer, &tokens);
            if (buf_failed(&line) && !buf_full(&line)) {
                code = err_nomem(err, line.size);
            } else if (buf_failed(&line)) {
                code = err_set(err, ERR_LIMIT, "%s:%llu: its tokens take more than %d bytes",
                               reader->label, (unsigned long long)reader->line, LINE_CEILING);
            } else if (fwrite(line.data, line.size, 1, stdout) != 1) {
                code = err_set_errno(err, ERR_IO, errno, "standard output");
            }
        }
    }
    buf_done(&line);
    tokens_done(&tokens);
    return code;
}

static enum err_code tokenize(const char *model_dir, const char *input, struct err *err)
{
    struct config config;
    struct tokenizer *tokenizer = NULL;
    struct reader reader;
    enum err_code code = config_load(model_dir, &config, err);
    if (code != ERR_OK) {
        return code;
    }
    code = model_open_tokenizer(model_dir, &config, &tokenizer, err);
    command_tell_warnings(&config);
    config_done(&config);
    code = code == ERR_OK ? reader_open(input, &reader, err) : code;
    if (code == ERR_OK) {
        code = tokenize_lines(tokenizer, &reader, err);
        reader_close(&reader);
    }
    tokenizer_destroy(tokenizer);
    return code;
}

int command_tokenize(int argc, char **argv)
{
    const char *model_dir = NULL;
    const char *input = NULL;
    const struct flag flags[] = {
        {"model", 0, FLAG_STRING, &model_dir, "DIR", "the fetched bert-base-uncased",
         "model folder; its tokenizer and configuration are read", 0, 0, true},
        OFFLINE_FLAG_INPUT(input, "standard input"),
        {0},
    };
    const struct command command = {
        .name = "tokenize",
        .arguments = "",
        .summary = "Prints ids, tokens and offsets (in code points) of every line, as one JSON "
                   "object a line; nothing is truncated.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    char *dir = NULL;
    enum err_code code = offline_model_dir(model_dir, &dir, &err);
    if (code == ERR_OK) {
        code = tokenize(dir, input, &err);
    }
    free(dir);
    return code == ERR_OK ? EXIT_DONE : command_fail("tokenize", &err);
}
