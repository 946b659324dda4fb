/* Where orthrus embed writes: standard output, or FILE by way of FILE.partial, which --resume goes
 * on from after a death at any point.
 *
 * Beside FILE.partial stands FILE.partial.json, what the run depends on (base/facts.h); at the end
 * FILE.partial is renamed to FILE, FILE.manifest.json is written, and FILE.partial.json goes. */
#ifndef ORTHRUS_CLI_TARGET_H
#define ORTHRUS_CLI_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "cli/vectors.h"

struct target_options {
    const char *path; /* NULL or "-": standard output */
    enum vector_format format;
    enum vector_dtype dtype;
    size_t width; /* dimensions of a vector */
    bool resume;
    const char *facts; /* a JSON object of strings */
};

/* Command lifetime. */
struct target {
    struct target_options options;
    const char *label; /* the path, or "standard output" */
    int fd;
    bool opened;
    bool seekable;      /* the header can be written at the end */
    off_t start;        /* where the output begins in a seekable file */
    uint64_t rows;      /* written, by earlier runs too */
    bool complete;      /* --resume found the finished file: nothing is left to do */
    struct sha256 *sha; /* of the first `digested` bytes, owned; NULL: none yet */
    off_t digested;
    size_t unsent; /* bytes written since the disk was last asked to begin with them */
    char *partial, *facts_path, *manifest; /* owned; NULL for standard output */
};

/* Opens the output. With resume, rows says how many whole rows FILE.partial has; what is behind
 * them is cut off. Errors: ERR_IO; ERR_CONFLICT where another process writes FILE.partial;
 * ERR_MISMATCH where FILE.partial was made differently; ERR_USAGE (--resume to standard output). */
CHECK_RESULT enum err_code target_open(const struct target_options *options,
                                       struct target *ret_target, struct err *err);
/* Leaves FILE.partial where it is. Zeroed structs are fine. */
void target_close(struct target *target);

/* Writes npy's header: at the start, with the rows of the whole output where they are known. */
CHECK_RESULT enum err_code target_header(struct target *target, uint64_t rows, struct err *err);
/* Writes whole rows, without a buffer of its own: they are with the system when it returns. */
CHECK_RESULT enum err_code target_put(struct target *target, const struct buf *rows, uint64_t n,
                                      struct err *err);

/* Completes the output: header, fsync, rename. ret_sha256 is of the finished file. */
CHECK_RESULT enum err_code target_finish(struct target *target,
                                         char ret_sha256[SHA256_HEX_SIZE + 1], struct err *err);
/* Writes the manifest, then forgets the facts; nothing for standard output. */
CHECK_RESULT enum err_code target_manifest(struct target *target, const struct buf *json,
                                           struct err *err);

/* True if writing to the target would change the file behind fd. */
bool target_is_file(const struct target_options *options, int fd);

#endif
