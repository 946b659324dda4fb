/* Any bytes as a heads file, alone, merged and out of a checkpoint. What is accepted gives finite
 * scores, and its file gives the same set again. Seeds: tests/data/golden/tiny-bert. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"
#include "model/heads/heads.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HIDDEN = 32 };

static const struct heads_fit fit = {
    .hidden = HIDDEN,
    .encoder_sha256 = "ce561ced16a83dc73ab32f3381c3304af9977966102858eb51ebf41da4bfe029",
    .pooling = POOLING_MEAN};

/* A set with both heads, all weights zero; never freed, so not a leak. */
static const struct heads *base_set(void)
{
    static struct heads *base;
    static const float zeros[6 * HIDDEN];
    if (!base) {
        const struct tensor_source tensors[] = {{"classifier.weight", 2, {6, HIDDEN}, zeros},
                                                {"classifier.bias", 1, {6}, zeros},
                                                {"sentiment.weight", 2, {3, HIDDEN}, zeros},
                                                {"sentiment.bias", 1, {3}, zeros}};
        struct buf file;
        buf_init(&file, 1 << 20);
        CHECK(safetensors_write(tensors, 4, NULL, 0, &file, NULL) == ERR_OK);
        CHECK(heads_create(file.data, file.size, "base", &fit, true, NULL, &base, NULL) == ERR_OK);
        buf_done(&file);
    }
    return base;
}

static void check_head(const struct head *head)
{
    size_t inner = head->inner ? head->inner : head->width;
    CHECK(head->classes >= 1 && head->classes <= HEADS_CLASSES_MAX && head->width == HIDDEN);
    CHECK(head_name_ok(head->name));
    for (size_t k = 0; k < head->classes; k++) {
        size_t size = strlen(head->labels[k]);
        CHECK(size > 0 && size <= HEADS_LABEL_MAX && utf8_valid(head->labels[k], size));
    }
    CHECK(floats_first_nonfinite(head->weight, head->classes * inner) == head->classes * inner);
    CHECK(floats_first_nonfinite(head->bias, head->classes) == head->classes);
    float embedding[HIDDEN] = {0};
    float scores[HEADS_CLASSES_MAX];
    head_logits(head, embedding, 1, scores);
    head_scores(head, scores, scores);
    float sum = 0;
    for (size_t k = 0; k < head->classes; k++) {
        sum += scores[k];
    }
    CHECK(head->type == HEAD_SIGMOID || head->type == HEAD_SCORE || fabsf(sum - 1) < 1e-3f);
}

static void try_as(const uint8_t *data, size_t size, bool strict, const struct heads *base)
{
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    if (heads_create(data, size, "fuzz", &fit, strict, base, &heads, &err) != ERR_OK) {
        CHECK(err.code != ERR_OK && err.text[0] && !heads);
        return;
    }
    CHECK(heads->n >= (base ? base->n : 1) && heads->n <= HEADS_MAX);
    for (size_t i = 0; i < heads->n; i++) {
        check_head(&heads->list[i]);
        CHECK(i == 0 || strcmp(heads->list[i - 1].name, heads->list[i].name) < 0);
    }
    struct heads *again = NULL;
    CHECK(heads_create(heads->file, heads->file_size, "again", &fit, true, NULL, &again, &err) ==
          ERR_OK);
    CHECK(strcmp(again->sha256, heads->sha256) == 0);
    heads_release(again);
    heads_release(heads);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_as(data, size, true, NULL);
    try_as(data, size, false, NULL);
    try_as(data, size, true, base_set());
    return 0;
}
