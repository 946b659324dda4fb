#include "model/files/checkpoint_digest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    ROOM = 4096, /* values converted, checked and hashed at a time: 16 KiB stay in L1 */
    STEP = 2048, /* bytes hashed between two looks ahead */
    DIGEST_THREADS_MAX = 64,
    BLOCK_VALUES = SHA256_BLOCK / sizeof(float),
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
    size_t lanes;       /* tensors that a thread hashes side by side */
    size_t alone;       /* of order: so big that they would still run when the others are through */
    atomic_size_t next; /* in order */
};

/* A tensor that a thread is hashing. */
struct lane {
    struct item *item;
    struct sha256 *sha;
    size_t at; /* the value that comes next */
    bool alone;
};

static bool lane_begin(struct work *work, struct lane *ret_lane)
{
    for (;;) {
        size_t i = atomic_fetch_add(&work->next, 1);
        if (i >= work->n) {
            return false;
        }
        struct item *item = work->order[i];
        struct sha256 *sha = sha256_create();
        item->nonfinite = item->param.tensor->count;
        item->failed = !sha;
        if (sha) {
            *ret_lane = (struct lane){.item = item, .sha = sha, .alone = i < work->alone};
            return true;
        }
    }
}

static size_t lane_left(const struct lane *lane)
{
    return lane->item->param.tensor->count - lane->at;
}

/* The line that a CPU of either architecture fetches at once. */
enum { LINE = 64 };

/* Hashes n values, which are in L1, while the next ones come: SHA's rounds leave memory idle. */
static void hash_and_fetch(const struct lane *lane, const void *values, size_t n)
{
    const struct tensor *tensor = lane->item->param.tensor;
    size_t each = dtype_size(tensor->dtype);
    const unsigned char *next = tensor->data + (lane->at + n) * each;
    size_t next_size = size_min(lane_left(lane) - n, n) * each;
    size_t size = n * sizeof(float);
    for (size_t at = 0; at < size; at += STEP) {
        for (size_t line = at; line < at + STEP && line < next_size; line += LINE) {
            __builtin_prefetch(next + line);
        }
        sha256_update(lane->sha, (const unsigned char *)values + at, size_min(STEP, size - at));
    }
}

/* Checks and hashes the next n values of each lane. A value that is not finite ends its lane. */
static void lanes_step(struct lane *lanes, size_t n_lanes, size_t n, float *room)
{
    struct sha256 *shas[SHA256_LANES] = {0};
    const void *values[SHA256_LANES] = {0};
    size_t finite[SHA256_LANES];
    for (size_t i = 0; i < n_lanes; i++) {
        const struct lane *lane = &lanes[i];
        const float *some = tensor_as_f32(lane->item->param.tensor, lane->at, n, room + i * n);
        finite[i] = floats_first_nonfinite(some, n);
        values[i] = some;
        shas[i] = lane->sha;
    }
    if (n_lanes == 1) {
        hash_and_fetch(lanes, values[0], n);
    } else {
        sha256_update_each(shas, values, n_lanes, n * sizeof(float));
    }
    for (size_t i = 0; i < n_lanes; i++) {
        struct lane *lane = &lanes[i];
        if (finite[i] < n) {
            lane->item->nonfinite = lane->at + finite[i];
            lane->at = lane->item->param.tensor->count;
        } else {
            lane->at += n;
        }
    }
}

/* Ends the lanes that have no whole block left, so that none keeps the others from whole blocks;
 * returns how many go on. */
static size_t lanes_end(struct lane *lanes, size_t n_lanes, float *room)
{
    size_t kept = 0;
    for (size_t i = 0; i < n_lanes; i++) {
        struct lane lane = lanes[i];
        size_t left = lane_left(&lane);
        if (left >= BLOCK_VALUES) {
            lanes[kept++] = lane;
        } else {
            lanes_step(&lane, 1, left, room);
            sha256_finish(lane.sha, lane.item->digest);
        }
    }
    return kept;
}

static void *run(void *context)
{
    struct work *work = context;
    struct lane lanes[SHA256_LANES];
    float room[ROOM];
    size_t n = 0;
    for (;;) {
        while (n < work->lanes && !(n > 0 && lanes[0].alone) && lane_begin(work, &lanes[n])) {
            n++;
        }
        if (n == 0) {
            return NULL;
        }
        size_t values = ROOM / n;
        for (size_t i = 0; i < n; i++) {
            values = size_min(values, lane_left(&lanes[i]));
        }
        lanes_step(lanes, n, values - values % BLOCK_VALUES, room);
        n = lanes_end(lanes, n, room);
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

/* order is sorted. */
static size_t count_alone(const struct work *work)
{
    size_t sum = 0;
    for (size_t i = 0; i < work->n; i++) {
        sum += work->items[i].param.tensor->count;
    }
    size_t n = 0;
    while (n < work->n && work->order[n]->param.tensor->count > sum / work->lanes) {
        n++;
    }
    return n;
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
    work.lanes = sha256_lanes();
    work.alone = count_alone(&work);
    run_all(&work, threads);
    enum err_code code = check_items(checkpoint, &work, err);
    if (code == ERR_OK) {
        code = digest_lines(&work, out, err);
    }
    free(work.order);
    free(work.items);
    return code;
}
