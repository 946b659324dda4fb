#include "model/files/checkpoint_digest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    CHUNK = 4096, /* values converted, checked and hashed at a time: 16 KiB stay in L1 */
    STEP = 2048,  /* bytes hashed between two looks ahead */
    DIGEST_THREADS_MAX = 64
};

/* One tensor's part of the work. Written by the thread that took it, read after the join. */
struct item {
    struct checkpoint_param param;
    unsigned char digest[SHA256_SIZE];
    size_t nonfinite; /* index of the first, or count */
    bool failed;      /* out of memory */
};

struct work {
    struct item *items;  /* [n] by name */
    struct item **order; /* [n] biggest first, so that the last ones to finish are small */
    size_t n;
    atomic_size_t next; /* in order */
};

/* The line that a CPU of either architecture fetches at once. */
enum { LINE = 64 };

/* Hashes the chunk, which is in L1, while the next one comes: SHA's rounds leave memory idle. */
static void hash_and_fetch(struct sha256 *sha, const unsigned char *chunk, size_t size,
                           const unsigned char *next, size_t next_size)
{
    for (size_t at = 0; at < size; at += STEP) {
        size_t n = size_min(STEP, size - at);
        for (size_t line = at; next && line < at + STEP && line < next_size; line += LINE) {
            __builtin_prefetch(next + line);
        }
        sha256_update(sha, chunk + at, n);
    }
}

static void digest_item(struct item *item)
{
    const struct tensor *tensor = item->param.tensor;
    size_t each = dtype_size(tensor->dtype);
    struct sha256 *sha = sha256_create();
    if (!sha) {
        item->failed = true;
        return;
    }
    float room[CHUNK];
    item->nonfinite = tensor->count;
    for (size_t at = 0; at < tensor->count; at += CHUNK) {
        size_t n = size_min(CHUNK, tensor->count - at);
        const float *values = tensor_as_f32(tensor, at, n, room);
        size_t bad = floats_first_nonfinite(values, n);
        if (bad < n) {
            item->nonfinite = at + bad;
            break;
        }
        size_t left = (tensor->count - at - n) * each;
        hash_and_fetch(sha, (const unsigned char *)values, n * sizeof *values,
                       left ? tensor->data + (at + n) * each : NULL, size_min(left, CHUNK * each));
    }
    sha256_finish(sha, item->digest);
}

static void *run(void *context)
{
    struct work *work = context;
    for (;;) {
        size_t i = atomic_fetch_add(&work->next, 1);
        if (i >= work->n) {
            return NULL;
        }
        digest_item(work->order[i]);
    }
}

/* The caller is one of the threads, so a thread that can't be started costs time alone. */
static void run_all(struct work *work, unsigned threads)
{
    pthread_t ids[DIGEST_THREADS_MAX];
    unsigned started = 0;
    threads = threads < DIGEST_THREADS_MAX ? threads : DIGEST_THREADS_MAX;
    while (started + 1 < threads && pthread_create(&ids[started], NULL, run, work) == 0) {
        started++;
    }
    (void)run(work);
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(ids[i], NULL);
    }
}

static int compare_name(const void *a, const void *b)
{
    const struct item *left = a;
    const struct item *right = b;
    return strcmp(left->param.name, right->param.name);
}

static int compare_size(const void *a, const void *b)
{
    const struct item *const *left = a;
    const struct item *const *right = b;
    size_t left_count = (*left)->param.tensor->count;
    size_t right_count = (*right)->param.tensor->count;
    return left_count > right_count ? -1 : left_count < right_count;
}

static enum err_code check_items(const struct checkpoint *checkpoint, const struct work *work,
                                 struct err *err)
{
    for (size_t i = 0; i < work->n; i++) {
        const struct item *item = &work->items[i];
        if (item->failed) {
            return err_nomem(err, SHA256_SIZE);
        }
        if (item->nonfinite < item->param.tensor->count) {
            return err_set(err, ERR_INVALID, "%s: tensor %s: value %zu is not finite",
                           weights_label(checkpoint->weights), item->param.tensor->name,
                           item->nonfinite);
        }
    }
    return ERR_OK;
}

static enum err_code digest_lines(const struct work *work, char out[SHA256_HEX_SIZE + 1],
                                  struct err *err)
{
    struct buf lines;
    buf_init(&lines, work->n * (CHECKPOINT_NAME_SIZE + 64 + SHA256_HEX_SIZE));
    for (size_t i = 0; i < work->n; i++) {
        const struct checkpoint_param *param = &work->items[i].param;
        char hex[SHA256_HEX_SIZE + 1];
        sha256_hex(work->items[i].digest, hex);
        buf_printf(&lines, "%s %zu", param->name, param->shape[0]);
        if (param->rank == 2) {
            buf_printf(&lines, "x%zu", param->shape[1]);
        }
        buf_printf(&lines, " %s\n", hex);
    }
    enum err_code code = buf_failed(&lines) ? err_nomem(err, lines.ceiling) : ERR_OK;
    if (code == ERR_OK) {
        sha256_of(lines.data, lines.size, out);
    }
    buf_done(&lines);
    return code;
}

enum err_code checkpoint_digest(const struct checkpoint *checkpoint, unsigned threads,
                                char out[SHA256_HEX_SIZE + 1], struct err *err)
{
    struct work work = {.n = checkpoint_param_count(&checkpoint->config)};
    work.items = calloc(work.n, sizeof *work.items);
    work.order = calloc(work.n, sizeof(struct item *));
    if (!work.items || !work.order) {
        free(work.order);
        free(work.items);
        return err_nomem(err, work.n * sizeof *work.items);
    }
    for (size_t i = 0; i < work.n; i++) {
        checkpoint_param(&checkpoint->config, checkpoint, i, &work.items[i].param);
    }
    qsort(work.items, work.n, sizeof *work.items, compare_name);
    for (size_t i = 0; i < work.n; i++) {
        work.order[i] = &work.items[i];
    }
    qsort(work.order, work.n, sizeof(struct item *), compare_size);
    run_all(&work, threads);
    enum err_code code = check_items(checkpoint, &work, err);
    if (code == ERR_OK) {
        code = digest_lines(&work, out, err);
    }
    free(work.order);
    free(work.items);
    return code;
}
