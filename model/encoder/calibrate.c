/* Which columns int8 keeps out, from built-in text. */
#include <stdlib.h>

#include "base/size.h"
#include "model/encoder/encoder_private.h"

enum { TEXTS = 9, LENGTH_MAX = 20 };

/* Eight sentences of the project's own (prose, praise, business, complaint, recipe, chat, speech,
 * question) in the vocabulary that Google's BERTs share, each closed by its 0. What counts is less
 * the words than that [CLS], [SEP] and punctuation stand where they stand in real texts: their
 * vectors have the largest numbers. With another vocabulary the ids are just tokens. */
static const int32_t sentences[TEXTS][LENGTH_MAX + 1] = {
    {101, 1996, 2305, 3345, 2187, 1996, 2214, 2276, 2012, 11501, 1010, 1998, 6343, 2006, 1996, 4132,
     7147, 1012, 102},
    {101,  1045, 2064, 1005, 1056,  2903, 2129, 2204, 2023, 3042,
     2003, 1025, 1996, 6046, 16180, 2005, 2048, 2420, 999,  102},
    {101, 6661, 1997, 1996, 2194, 3062, 1018, 1012, 1019, 1003, 2006, 9857, 2044, 1037, 5410, 3189,
     1012, 102},
    {101, 2339, 2052, 3087, 3477, 1002, 2322, 2005, 2107, 1037, 11771, 1010, 6649, 2517, 2338, 1029,
     102},
    {101, 4666, 1996, 13724, 2007, 2048, 6763, 1010, 2059, 8670, 3489, 2009, 2005, 2382, 2781, 1012,
     102},
    {101, 1030, 4698, 4283, 1024, 1007, 2156, 2017, 4826, 1001, 5353, 102},
    {101,  2002, 2056, 1024, 1000, 2057, 2097, 2025, 2175, 2067,
     1010, 1000, 2021, 1996, 2704, 2106, 2025, 3437, 1012, 102},
    {101, 2054, 2003, 1996, 3007, 1997, 2605, 102},
    {101, 102},
};

static enum err_code fill_batch(const struct config *config, struct batch *batch, struct err *err)
{
    if (!batch_init(batch, TEXTS, TEXTS * LENGTH_MAX)) {
        return err_nomem(err, TEXTS * LENGTH_MAX * sizeof(int32_t));
    }
    for (size_t text = 0; text < TEXTS; text++) {
        int32_t ids[LENGTH_MAX];
        size_t n = 0;
        while (n < config->positions && n < LENGTH_MAX && sentences[text][n] != 0) {
            ids[n] = (int32_t)((size_t)sentences[text][n] % config->vocab);
            n++;
        }
        (void)batch_add(batch, ids, n); /* fits: the batch is as large as the table */
    }
    return ERR_OK;
}

static enum err_code run_calibration(struct encoder *encoder, struct workspace *workspace,
                                     const struct batch *batch, unsigned members, struct err *err)
{
    const struct config *config = &encoder->config;
    size_t widest = size_max(config->hidden, config->intermediate);
    size_t rows = config->layers * MATRIX_COUNT;
    float *largest = calloc(members, rows * widest * sizeof *largest);
    float *out = calloc(TEXTS, config->hidden * sizeof *out);
    if (!largest || !out) {
        free(out);
        free(largest);
        return err_nomem(err, members * rows * widest * sizeof *largest);
    }
    workspace->largest = largest;
    encoder_forward_together(encoder, workspace, batch, POOLING_MEAN, members,
                             &(struct outputs){.pooled = out});
    for (size_t i = rows * widest; i < members * rows * widest; i++) {
        float *all = &largest[i % (rows * widest)];
        *all = largest[i] > *all ? largest[i] : *all;
    }
    for (size_t row = 0; row < rows; row++) {
        linear_choose_wide(&encoder->layers[row / MATRIX_COUNT].linear[row % MATRIX_COUNT],
                           largest + row * widest);
    }
    free(out);
    free(largest);
    return ERR_OK;
}

enum err_code encoder_calibrate(struct encoder *encoder, unsigned threads, struct err *err)
{
    struct workspace *workspace;
    struct batch batch = {0};
    unsigned members = threads < 1 ? 1 : threads < TOGETHER_MAX ? threads : TOGETHER_MAX;
    enum err_code code = workspace_create(encoder, TEXTS, TEXTS * LENGTH_MAX, &workspace, err);
    if (code != ERR_OK) {
        return code;
    }
    code = fill_batch(&encoder->config, &batch, err);
    if (code == ERR_OK) {
        code = run_calibration(encoder, workspace, &batch, members, err);
    }
    batch_done(&batch);
    workspace_destroy(workspace);
    return code;
}
