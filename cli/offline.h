/* What the offline commands share: their flags, the model they name, its heads, the bulk engine. */
#ifndef ORTHRUS_CLI_OFFLINE_H
#define ORTHRUS_CLI_OFFLINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/bulk/bulk.h"
#include "model/model.h"

/* As the user gave them. */
struct offline_flags {
    const char *model_dir; /* NULL: the default model */
    const char *precision; /* NULL: "auto" */
    const char *isa;       /* NULL: "auto" */
    unsigned threads;      /* 0: the CPUs allowed */
    size_t max_length;     /* 0: the model's */
    size_t batch_tokens;   /* 0: BULK_BATCH_TOKENS */
    bool first_token;      /* rows for heads that read it too, see struct bulk_options */
};

/* Their entries for a command's table of flags (cli/flags.h). */
#define OFFLINE_FLAG_MODEL(target)                                                  \
    {                                                                               \
        "model", 0, FLAG_STRING, &(target), "DIR", "the fetched bert-base-uncased", \
            "model folder", 0, 0, true                                              \
    }
#define OFFLINE_FLAG_THREADS(target)                                                             \
    {                                                                                            \
        "threads", 0, FLAG_UINT, &(target), "N", "the CPUs allowed", "compute threads", 1, 1024, \
            true                                                                                 \
    }
#define OFFLINE_FLAG_HEADS(target)                                                               \
    {                                                                                            \
        "heads", 0, FLAG_STRING, &(target), "FILE", "the model folder's, else the shipped ones", \
            "heads file", 0, 0, true                                                             \
    }
#define OFFLINE_FLAG_INPUT(target, initial)                            \
    {                                                                  \
        "input", 'i', FLAG_STRING, &(target), "FILE", initial,         \
            "one text a line, UTF-8; - is standard input", 0, 0, false \
    }
#define OFFLINE_FLAGS_COLUMNS(format, text, labels)                                   \
    {"format",                                                                        \
     0,                                                                               \
     FLAG_STRING,                                                                     \
     &(format),                                                                       \
     "F",                                                                             \
     "by the file's name, else jsonl",                                                \
     "jsonl, csv or tsv (the latter with a header line)",                             \
     0,                                                                               \
     0,                                                                               \
     false},                                                                          \
        {"text-column",           0, FLAG_STRING, &(text), "NAME", "text",            \
         "where the text stands", 0, 0,           false},                             \
    {                                                                                 \
        "label-column", 0, FLAG_STRINGS, &(labels), "HEAD=COLUMN", "the head's name", \
            "where a head's label stands (repeatable)", 0, 0, false                   \
    }
#define OFFLINE_FLAGS_ENCODER(flags)                                                               \
    {"max-length",                                                                                 \
     0,                                                                                            \
     FLAG_SIZE,                                                                                    \
     &(flags).max_length,                                                                          \
     "N",                                                                                          \
     "the model's, else 128",                                                                      \
     "tokens per text",                                                                            \
     2,                                                                                            \
     65536,                                                                                        \
     true},                                                                                        \
        {"precision", 0, FLAG_STRING, &(flags).precision, "P", "auto", "auto, fp32, bf16 or int8", \
         0,           0, true},                                                                    \
        {"isa", 0, FLAG_STRING, &(flags).isa, "LEVEL", "auto", "highest instruction set to use",   \
         0,     0, true},                                                                          \
        OFFLINE_FLAG_THREADS((flags).threads)

/* Command lifetime. */
struct offline {
    struct model *model; /* owned */
    unsigned threads;
    size_t max_length, batch_tokens;
    struct bulk *bulk; /* owned */
};

/* Loads the model and starts the engine. */
CHECK_RESULT enum err_code offline_open(const struct offline_flags *flags,
                                        struct offline *ret_offline, struct err *err);
void offline_close(struct offline *offline);

/* The folder that --model names, or the default one; malloc'ed. Errors: ERR_USAGE, ERR_NOMEM. */
CHECK_RESULT enum err_code offline_model_dir(const char *flag, char **ret_dir, struct err *err);

/* The heads that --heads names, or the model's own, or the shipped ones, as serve chooses them; one
 * reference. Errors: those of heads_load; ERR_NOT_FOUND where none fit. */
CHECK_RESULT enum err_code offline_heads(const struct model *model, const char *flag,
                                         struct heads **ret_heads, struct err *err);

/* Says of each head that the command can't ask that it is left out, in a line on stderr: those for
 * tokens, and without first_token those that read the first one. Errors: ERR_UNSUPPORTED where no
 * head is left. */
CHECK_RESULT enum err_code offline_tell_left_out(const char *command, const struct heads *heads,
                                                 bool first_token, struct err *err);

#endif
