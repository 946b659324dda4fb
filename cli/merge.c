/* orthrus merge-heads: one set out of several heads files. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "model/files/config.h"
#include "model/heads/heads.h"

enum { FILES_MAX = HEADS_MAX };

/* What the first file that names them says about encoder, tokenizer and pooling. */
struct origin {
    char encoder[SHA256_HEX_SIZE + 1], tokenizer[SHA256_HEX_SIZE + 1];
    char pooling[64];
    const char *from; /* the file, borrowed */
};

/* "" is no word yet; a second file must say the same. */
static enum err_code agree(const struct jval *metadata, const char *key, const char *path,
                           char *word, size_t size, const char *from, struct err *err)
{
    const char *text;
    size_t length;
    if (!jval_string(jval_get(metadata, key), &text, &length) || length >= size) {
        return ERR_OK;
    }
    if (word[0] != '\0' && strcasecmp(word, text) != 0) {
        return err_set(err, ERR_CONFLICT, "%s: another %s than %s has", path, key, from);
    }
    for (size_t i = 0; i <= length; i++) {
        word[i] = (char)tolower((unsigned char)text[i]); /* hexadecimal digits of either case */
    }
    return ERR_OK;
}

static enum err_code check_origin(const char *path, struct origin *origin, struct err *err)
{
    struct safetensors *file;
    enum err_code code = safetensors_open(path, &file, err);
    if (code != ERR_OK) {
        return code;
    }
    const struct jval *metadata = safetensors_metadata(file);
    const char *from = origin->from ? origin->from : path;
    code = agree(metadata, "encoder.sha256", path, origin->encoder, sizeof origin->encoder, from,
                 err);
    if (code == ERR_OK) {
        code = agree(metadata, "encoder.tokenizer", path, origin->tokenizer,
                     sizeof origin->tokenizer, from, err);
    }
    if (code == ERR_OK) {
        code = agree(metadata, "pooling", path, origin->pooling, sizeof origin->pooling, from, err);
    }
    origin->from = from;
    safetensors_close(file);
    return code;
}

/* Adds a file's heads to the set; one that is there already gives way, as a PUT's does. The set
 * says what it is meant for as its files do: it is written as for that encoder. */
static enum err_code add_file(const char *path, const struct origin *origin, struct heads **set,
                              struct err *err)
{
    struct heads *alone;
    struct heads *merged;
    struct heads_fit fit = {
        .hidden = 0,
        .encoder_sha256 = origin->encoder[0] != '\0' ? origin->encoder : NULL,
        .tokenizer_sha256 = origin->tokenizer[0] != '\0' ? origin->tokenizer : NULL,
    };
    if (origin->pooling[0] != '\0' &&
        pooling_parse(origin->pooling, &fit.pooling, NULL) != ERR_OK) {
        return err_set(err, ERR_INVALID, "%s: pooling must name pooling modes, as mean or cls",
                       path);
    }
    enum err_code code = heads_load(path, &fit, true, &alone, err);
    if (code != ERR_OK) {
        return code;
    }
    for (size_t i = 0; *set && i < alone->n; i++) {
        const struct head *head = &alone->list[i];
        const struct head *old = heads_find(*set, head->name);
        if ((*set)->list[0].width != head->width) {
            code = err_set(err, ERR_MISMATCH, "%s: %s reads %zu numbers, the others' heads %zu",
                           path, head->name, head->width, (*set)->list[0].width);
        } else if (old) {
            (void)fprintf(stderr, "orthrus merge-heads: %s: its %s replaces an earlier file's\n",
                          path, head->name);
        }
    }
    if (code == ERR_OK) {
        code = heads_create(alone->file, alone->file_size, path, &fit, true, *set, &merged, err);
    }
    heads_release(alone);
    if (code == ERR_OK) {
        heads_release(*set);
        *set = merged;
    }
    return code;
}

int command_merge_heads(int argc, char **argv)
{
    const char *output = NULL;
    const struct flag flags[] = {
        {"output", 'o', FLAG_STRING, &output, "FILE", NULL, "where the whole set goes, needed", 0,
         0, false},
        {0},
    };
    const struct command command = {
        .name = "merge-heads",
        .arguments = "FILE…",
        .summary = "Makes one heads file out of several, for --heads and --heads-dir, which hold "
                   "whole sets. Of heads with one name the last file's stays.",
        .flags = flags,
        .min_arguments = 1,
        .max_arguments = FILES_MAX,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct heads *set = NULL;
    struct origin origin = {.from = NULL};
    enum err_code code = output && strcmp(output, "-") != 0
                             ? ERR_OK
                             : err_set(&err, ERR_USAGE, "--output: must be a file (-o FILE)");
    for (size_t i = 0; code == ERR_OK && i < n_arguments; i++) {
        code = check_origin(arguments[i], &origin, &err);
        if (code == ERR_OK) {
            code = add_file(arguments[i], &origin, &set, &err);
        }
    }
    if (code == ERR_OK && set) {
        code = file_write_atomic(output, set->file, set->file_size, &err);
    }
    if (code == ERR_OK && set) {
        printf("%s: %zu heads, sha256 %s\n", output, set->n, set->sha256);
    }
    heads_release(set);
    return code == ERR_OK ? EXIT_DONE : command_fail("merge-heads", &err);
}
