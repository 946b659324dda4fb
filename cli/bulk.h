/* Bulk embedding for the offline commands: many texts, all threads, results in order. */
#ifndef ORTHRUS_CLI_BULK_H
#define ORTHRUS_CLI_BULK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/lines.h"
#include "model/model.h"

enum { BULK_CHUNK_TEXTS = 4096 };

/* The flags that the offline commands share, as the user gave them. */
struct bulk_flags {
    const char *model_dir; /* NULL: the default model */
    const char *precision; /* "auto" */
    const char *isa;       /* "auto" */
    unsigned threads;      /* 0: the CPUs allowed */
    size_t max_length;     /* 0: the model's */
    size_t batch_tokens;   /* 0: BULK_BATCH_TOKENS */
};

enum { BULK_BATCH_TOKENS = 1024 };

/* Their entries for a command's table of flags (cli/flags.h). */
#define BULK_FLAG_MODEL(bulk)                                                               \
    {                                                                                       \
        "model", 0, FLAG_STRING, &(bulk).model_dir, "DIR", "the fetched bert-base-uncased", \
            "model folder", 0, 0, true                                                      \
    }
#define BULK_FLAGS_ENCODER(bulk)                                                                  \
    {"max-length",                                                                                \
     0,                                                                                           \
     FLAG_SIZE,                                                                                   \
     &(bulk).max_length,                                                                          \
     "N",                                                                                         \
     "the model's, else 128",                                                                     \
     "tokens per text",                                                                           \
     2,                                                                                           \
     65536,                                                                                       \
     true},                                                                                       \
        {"precision", 0, FLAG_STRING, &(bulk).precision, "P", "auto", "auto, fp32, bf16 or int8", \
         0,           0, true},                                                                   \
        {"isa", 0, FLAG_STRING, &(bulk).isa, "LEVEL", "auto", "highest instruction set to use",   \
         0,     0, true},                                                                         \
    {                                                                                             \
        "threads", 0, FLAG_UINT, &(bulk).threads, "N", "the CPUs allowed", "compute threads", 1,  \
            1024, true                                                                            \
    }

/* Command lifetime; one caller at a time. */
struct bulk {
    struct model *model; /* owned */
    unsigned threads;
    size_t max_length;
    size_t batch_tokens;
    struct bulk_worker *workers; /* [threads], owned */
    /* Filled by bulk_embed: */
    uint64_t encode_ns; /* summed over threads */
    uint64_t tokens;    /* real tokens encoded */
    double flops;
    uint64_t phase_ns[PHASE_COUNT]; /* summed over threads */
};

/* Loads the model and makes one workspace per thread. */
CHECK_RESULT enum err_code bulk_open(const struct bulk_flags *flags, struct bulk *ret_bulk,
                                     struct err *err);
void bulk_close(struct bulk *bulk);

/* Embeds n ≤ BULK_CHUNK_TEXTS texts into out [n,H], plain pooled vectors. Texts are sorted by
 * length, packed to the batch budget, and taken by the threads as they come free. */
CHECK_RESULT enum err_code bulk_embed(struct bulk *bulk, const struct line *texts, size_t n,
                                      float *out, struct err *err);

#endif
