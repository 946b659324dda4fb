/* The one bulk engine: any number of texts through the encoder on all threads, vectors in order,
 * memory flat. It serves embed, predict, eval, bench and the trainer's frozen encoder.
 *
 * Texts come in windows of at most BULK_WINDOW_TEXTS. Within a window they are sorted by length and
 * packed to the token budget; threads take whole batches, the oldest window's first, and go on with
 * the next window while the caller still writes the last one. A text's vector does not depend on
 * where windows or batches are cut (model/encoder/encoder.h says how exactly). */
#ifndef ORTHRUS_MODEL_BULK_H
#define ORTHRUS_MODEL_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/encoder/encoder.h"
#include "model/text/tokenizer.h"

enum { BULK_WINDOW_TEXTS = 1024, BULK_BATCH_TOKENS = 1024, BULK_BATCH_TEXTS = 256 };

/* What is lent stays alive longer than the engine. */
struct bulk_options {
    const struct encoder *encoder;
    enum pooling pooling;
    bool first;               /* behind each pooled vector its text's first token's state [H] */
    size_t row_floats;        /* room of a row given to take; 0: as what it holds is wide */
    unsigned threads;         /* compute threads, ≥ 1; the caller's own only feeds and writes */
    size_t max_length;        /* tokens of the longest text */
    size_t batch_tokens;      /* 0: BULK_BATCH_TOKENS */
    uint64_t (*now_ns)(void); /* NULL: no times in the counts */
};

/* What has been encoded since the engine was made. */
struct bulk_counts {
    uint64_t tokens;                /* real ones */
    uint64_t encode_ns;             /* summed over threads, as the next */
    uint64_t phase_ns[PHASE_COUNT]; /* by phase */
    double flops;
};

/* Command lifetime; one caller at a time. */
struct bulk;
/* Texts on their way, at most BULK_WINDOW_TEXTS. Lives in the engine, borrowed by the callbacks. */
struct bulk_window;

/* Starts the threads. Where some can't be had the others do their work. Errors: ERR_NOMEM,
 * ERR_LIMIT, ERR_IO (no thread at all). */
CHECK_RESULT enum err_code bulk_create(const struct bulk_options *options, struct bulk **ret_bulk,
                                       struct err *err);
/* NULL is fine. */
void bulk_destroy(struct bulk *bulk);

void bulk_counts(struct bulk *bulk, struct bulk_counts *ret_counts);
/* Before a run: how many first tokens of every text pooling leaves out (a prompt's); 0 as it is
 * made. */
void bulk_leave_out(struct bulk *bulk, size_t tokens);
/* How many windows may be on their way together: what bulk_window_slot counts to. */
size_t bulk_slots(const struct bulk *bulk);

/* Within fill: adds a text. ids are copied, 1 ≤ n ≤ max_length. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code bulk_add(struct bulk_window *window, const int32_t *ids, size_t n,
                                    struct err *err);
/* The same for size bytes of UTF-8, encoded with special tokens and cut at max_length. Errors:
 * those of tokenizer_encode; ERR_INVALID for a text that gives no token. */
CHECK_RESULT enum err_code bulk_add_text(struct bulk_window *window,
                                         const struct tokenizer *tokenizer, const char *text,
                                         size_t size, struct err *err);
size_t bulk_window_room(const struct bulk_window *window); /* texts that may still be added */
size_t bulk_window_n(const struct bulk_window *window);    /* texts in it */
size_t bulk_window_truncated(const struct bulk_window *window);
/* A number below bulk_slots() that no other window on its way has, for what the caller keeps beside
 * its texts. */
size_t bulk_window_slot(const struct bulk_window *window);

/* Where texts come from and vectors go. All of it is called by the thread that called bulk_run. */
struct bulk_stream {
    void *context;
    /* Adds texts until the window is full or no more are at hand. wait: nothing is on its way, and
     * all vectors were taken: block until there is a text or the end. *ret_end: no text follows.
     * May add none only at the end or without wait. */
    enum err_code (*fill)(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err);
    /* Takes the plain pooled vectors [bulk_window_n,H] of a window, in order; with options.first
     * rows of twice the width (with several pooling modes, of one H more). */
    enum err_code (*take)(void *context, const struct bulk_window *window, float *rows,
                          struct err *err);
    /* After each batch: texts done. NULL: nobody asks. */
    void (*on_done)(void *context, uint64_t done);
};

/* Runs a stream to its end or to the first error; then nothing is on its way any more. A vector
 * with a number that is not finite is ERR_INVALID ("text 17: …", counted from 1). */
CHECK_RESULT enum err_code bulk_run(struct bulk *bulk, const struct bulk_stream *stream,
                                    struct err *err);

#endif
