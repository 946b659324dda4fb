/* What stands around a text's tokens and which type each token has, for one text and for a pair.
 * Reference: huggingface/tokenizers, TemplateProcessing and its elder kin. */
#ifndef ORTHRUS_MODEL_TEMPLATE_H
#define ORTHRUS_MODEL_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEMPLATE_PIECES_MAX = 64 };

enum template_kind { TEMPLATE_FIRST, TEMPLATE_SECOND, TEMPLATE_TOKEN };

struct template_piece {
    enum template_kind kind;
    int32_t id; /* of a token */
    uint8_t type;
};

struct template_row {
    size_t n;
    size_t added; /* how many of the pieces are tokens */
    struct template_piece pieces[TEMPLATE_PIECES_MAX];
};

/* Process lifetime. */
struct template
{
    struct template_row single, pair;
};

/* Adds a piece; false when there is no room. */
bool template_add(struct template_row *row, struct template_piece piece);
/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP], the second text and what follows of type 1. */
void template_bert(struct template *template, int32_t cls, int32_t sep);
/* <s> A </s> and <s> A </s></s> B </s>, all of type 0. */
void template_roberta(struct template *template, int32_t cls, int32_t sep);
/* The texts alone, the second one of type 1. */
void template_bare(struct template *template);

#endif
