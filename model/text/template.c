#include "model/text/template.h"

#include <string.h>

bool template_add(struct template_row *row, struct template_piece piece)
{
    if (row->n == TEMPLATE_PIECES_MAX) {
        return false;
    }
    row->pieces[row->n++] = piece;
    row->added += piece.kind == TEMPLATE_TOKEN;
    return true;
}

static void add_all(struct template_row *row, const struct template_piece *pieces, size_t n)
{
    memset(row, 0, sizeof *row);
    for (size_t i = 0; i < n; i++) {
        (void)template_add(row, pieces[i]);
    }
}

void template_bert(struct template *template, int32_t cls, int32_t sep)
{
    const struct template_piece pieces[] = {
        {TEMPLATE_TOKEN, cls, 0}, {TEMPLATE_FIRST, 0, 0},   {TEMPLATE_TOKEN, sep, 0},
        {TEMPLATE_SECOND, 0, 1},  {TEMPLATE_TOKEN, sep, 1},
    };
    add_all(&template->single, pieces, 3);
    add_all(&template->pair, pieces, 5);
}

void template_roberta(struct template *template, int32_t cls, int32_t sep)
{
    const struct template_piece pieces[] = {
        {TEMPLATE_TOKEN, cls, 0}, {TEMPLATE_FIRST, 0, 0},  {TEMPLATE_TOKEN, sep, 0},
        {TEMPLATE_TOKEN, sep, 0}, {TEMPLATE_SECOND, 0, 0}, {TEMPLATE_TOKEN, sep, 0},
    };
    add_all(&template->single, pieces, 3);
    add_all(&template->pair, pieces, 6);
}

void template_bare(struct template *template)
{
    const struct template_piece pieces[] = {{TEMPLATE_FIRST, 0, 0}, {TEMPLATE_SECOND, 0, 1}};
    add_all(&template->single, pieces, 1);
    add_all(&template->pair, pieces, 2);
}
