#include "train/data/frozen.h"

#include <string.h>

#include "base/size.h"
#include "model/bulk/bulk.h"

struct pass {
    const struct dataset *dataset;
    const struct frozen_progress *progress;
    size_t hidden;
    size_t given, taken; /* examples */
    bool stopped;
    float *out;
};

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct pass *pass = context;
    const struct dataset *dataset = pass->dataset;
    (void)wait;
    if (pass->stopped) {
        return err_set(err, ERR_CONFLICT, "stopped while the sentences were embedded");
    }
    while (pass->given < dataset->n && bulk_window_room(window) > 0) {
        enum err_code code = bulk_add(window, dataset->ids + dataset->starts[pass->given],
                                      dataset_length(dataset, pass->given), err);
        if (code != ERR_OK) {
            return code;
        }
        pass->given++;
    }
    *ret_end = pass->given == dataset->n;
    return ERR_OK;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    struct pass *pass = context;
    (void)err;
    memcpy(pass->out + pass->taken * pass->hidden, rows,
           bulk_window_n(window) * pass->hidden * sizeof *rows);
    pass->taken += bulk_window_n(window);
    return ERR_OK;
}

static void on_done(void *context, uint64_t done)
{
    struct pass *pass = context;
    if (pass->progress && pass->progress->on_done &&
        !pass->progress->on_done(pass->progress->context, done, pass->dataset->n)) {
        pass->stopped = true;
    }
}

enum err_code frozen_embed(const struct encoder *encoder, const struct dataset *dataset,
                           enum pooling pooling, unsigned threads,
                           const struct frozen_progress *progress, float *out, struct err *err)
{
    const struct bulk_options options = {
        .encoder = encoder,
        .pooling = pooling,
        .threads = threads,
        .max_length = size_max(dataset->longest, 1),
    };
    struct pass pass = {.dataset = dataset,
                        .progress = progress,
                        .hidden = pooling_count(pooling) * encoder_config(encoder)->hidden,
                        .out = out};
    const struct bulk_stream stream = {
        .context = &pass, .fill = fill, .take = take, .on_done = on_done};
    struct bulk *bulk;
    enum err_code code = bulk_create(&options, &bulk, err);
    if (code == ERR_OK) {
        code = bulk_run(bulk, &stream, err);
        bulk_destroy(bulk);
    }
    return code;
}
