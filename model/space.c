#include "model/space.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/model.h"

enum { TEXT_MAX = 128 * 1024 * 1024 };

const char *space_part_name(enum space_part part)
{
    static const char *const names[SPACE_PARTS] = {
        [SPACE_WEIGHTS] = "weights",
        [SPACE_COMPUTATION] = "computation",
        [SPACE_TOKENIZER] = "tokenizer",
        [SPACE_PROMPTS] = "prompts",
        [SPACE_POOLING] = "pooling",
        [SPACE_MODULES] = "modules",
        [SPACE_NORMALIZATION] = "normalization",
        [SPACE_DIMENSIONS] = "dimensions",
        [SPACE_MAX_LENGTH] = "max_length",
    };
    return names[part];
}

static void describe_computation(const struct config *config, struct buf *out)
{
    buf_printf(out, "heads %zu\neps %a\nactivation %s\npositions from %zu\n", config->heads,
               (double)config->layer_norm_eps, activation_name(config->activation),
               config->position_first);
}

static int compare_prompts(const void *a, const void *b)
{
    const struct prompt *const *left = a;
    const struct prompt *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* By name, with sizes, so that no two lists write the same. A prompt that says nothing is none:
 * libraries add such when they save a folder again. */
static bool describe_prompts(const struct config *config, struct buf *out)
{
    const struct config_lists *lists = config->lists;
    const struct prompt **sorted = calloc(lists->n_prompts + 1, sizeof(void *));
    size_t n = 0;
    for (size_t i = 0; sorted && i < lists->n_prompts; i++) {
        if (lists->prompts[i].text[0]) {
            sorted[n++] = &lists->prompts[i];
        }
    }
    if (!sorted) {
        return false;
    }
    qsort(sorted, n, sizeof(struct prompt *), compare_prompts);
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%zu %s %zu %s\n", strlen(sorted[i]->name), sorted[i]->name,
                   strlen(sorted[i]->text), sorted[i]->text);
    }
    free(sorted);
    const struct prompt *chosen = lists->default_prompt;
    buf_printf(out, "default %s\n", chosen && chosen->text[0] ? chosen->name : "");
    if (n > 0) {
        buf_printf(out, "in the pooling %d\n", config->include_prompt);
    }
    return true;
}

/* True where the part's text is whole. */
static bool describe(const struct model *model, enum space_part part, enum pooling pooling,
                     size_t max_length, struct buf *out)
{
    const struct config *config = &model->config;
    char name[POOLING_TEXT_SIZE];
    bool whole = true;
    switch (part) {
    case SPACE_WEIGHTS:
        buf_append_str(out, model->encoder_sha256);
        break;
    case SPACE_COMPUTATION:
        describe_computation(config, out);
        break;
    case SPACE_TOKENIZER:
        buf_append_str(out, tokenizer_digest(model->tokenizer));
        break;
    case SPACE_PROMPTS:
        whole = describe_prompts(config, out);
        break;
    case SPACE_POOLING:
        buf_append_str(out, pooling_name(pooling, name));
        break;
    case SPACE_MODULES:
        vector_describe(model->vector, out);
        break;
    case SPACE_NORMALIZATION:
        buf_printf(out, "%d", config->folder_normalize);
        break;
    case SPACE_DIMENSIONS:
        buf_printf(out, "%zu", vector_out(model->vector));
        break;
    case SPACE_MAX_LENGTH:
        buf_printf(out, "%zu", max_length);
        break;
    case SPACE_PARTS:
        break;
    }
    return whole && !buf_failed(out);
}

enum err_code space_make(const struct model *model, enum pooling pooling, size_t max_length,
                         struct space *ret_space, struct err *err)
{
    struct space space;
    struct buf text;
    struct buf lines;
    buf_init(&text, TEXT_MAX);
    buf_init(&lines, TEXT_MAX);
    bool good = true;
    for (enum space_part part = 0; good && part < SPACE_PARTS; part++) {
        buf_clear(&text);
        good = describe(model, part, pooling, max_length, &text);
        if (good) {
            sha256_of(text.data, text.size, space.parts[part]);
            buf_printf(&lines, "%s %s\n", space_part_name(part), space.parts[part]);
        }
    }
    good = good && !buf_failed(&lines);
    if (good) {
        sha256_of(lines.data, lines.size, space.id);
        *ret_space = space;
    }
    buf_done(&lines);
    buf_done(&text);
    return good ? ERR_OK : err_nomem(err, TEXT_MAX);
}
