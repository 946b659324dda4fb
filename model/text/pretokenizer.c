#include "model/text/pretokenizer.h"

#include <string.h>

#include "base/utf8.h"
#include "model/text/byte_level.h"

void pretokenizer_scratch_done(struct pretokenizer_scratch *scratch)
{
    for (size_t i = 0; i < 2 * PRETOKENIZER_STEPS_MAX; i++) {
        aligned_done(&scratch->texts[i]);
    }
}

/* Lifetime: the call. */
struct work {
    const struct pretokenizer *pretokenizer;
    const struct scalar_pages *properties;
    struct pretokenizer_scratch *scratch;
    const struct pretokenizer_output *output;
    bool full;
    struct err *err;
};

static enum err_code run(struct work *work, size_t step, const struct aligned_view *text);

/* Hands from … to on to the next step, if there is anything. */
static enum err_code pass(struct work *work, size_t step, const struct aligned_view *text,
                          size_t from, size_t to)
{
    if (from == to || work->full) {
        return ERR_OK;
    }
    struct aligned_view part = aligned_part(text, from, to);
    return run(work, step + 1, &part);
}

/* --- By the kinds of characters --------------------------------------------------------------- */

enum place { INSIDE, BETWEEN, ALONE, OTHER_WORD };

static enum place place_of(enum pretokenizer_kind kind, uint32_t value)
{
    if (value & SCALAR_WHITE) {
        return BETWEEN;
    }
    if (kind == PRETOKENIZER_BERT) {
        return value & SCALAR_PUNCT ? ALONE : INSIDE;
    }
    return kind == PRETOKENIZER_WHITESPACE && !(value & SCALAR_WORD) ? OTHER_WORD : INSIDE;
}

static enum err_code split_by_kind(struct work *work, size_t step, const struct aligned_view *text)
{
    enum pretokenizer_kind kind = work->pretokenizer->steps[step].kind;
    enum err_code code = ERR_OK;
    enum place before = BETWEEN;
    size_t from = 0;
    for (size_t at = 0; at < text->size && code == ERR_OK && !work->full;) {
        size_t begin = at;
        uint32_t scalar = utf8_next(text->bytes, text->size, &at);
        enum place place = place_of(kind, scalar_value(work->properties, scalar));
        if (place != before || place == ALONE) {
            code = before == BETWEEN ? ERR_OK : pass(work, step, text, from, begin);
            from = begin;
            before = place;
        }
    }
    return code == ERR_OK && before != BETWEEN ? pass(work, step, text, from, text->size) : code;
}

/* --- Metaspace -------------------------------------------------------------------------------- */

static bool begins_with(const struct aligned_view *text, const char *word, size_t size)
{
    return text->size >= size && memcmp(text->bytes, word, size) == 0;
}

/* Puts `size` bytes before a text's first character, in its place. */
static void prepend(struct aligned *to, const struct aligned_view *text, const char *bytes,
                    size_t size)
{
    aligned_add_bytes(to, bytes, size, text, 0);
}

static void meta_spaces(const struct pretokenizer_step *step, const struct aligned_view *text,
                        struct aligned *to)
{
    size_t at = 0;
    while (at < text->size) {
        const char *space = memchr(text->bytes + at, ' ', text->size - at);
        size_t behind = space ? (size_t)(space - text->bytes) : text->size;
        struct aligned_view part = aligned_part(text, at, behind);
        aligned_add(to, &part);
        if (space) {
            aligned_add_bytes(to, step->replacement, step->replacement_size, text, behind);
        }
        at = behind + (space != NULL);
    }
}

/* Splits before each replacement. */
static enum err_code split_meta(struct work *work, size_t index, const struct aligned_view *text)
{
    const struct pretokenizer_step *step = &work->pretokenizer->steps[index];
    enum err_code code = ERR_OK;
    size_t from = 0;
    for (size_t at = 0; at < text->size && code == ERR_OK && !work->full;) {
        struct aligned_view rest = aligned_part(text, at, text->size);
        if (!begins_with(&rest, step->replacement, step->replacement_size)) {
            at++;
            continue;
        }
        code = pass(work, index, text, from, at);
        from = at;
        at += step->replacement_size;
    }
    return code == ERR_OK ? pass(work, index, text, from, text->size) : code;
}

static enum err_code metaspace(struct work *work, size_t index, const struct aligned_view *text)
{
    const struct pretokenizer_step *step = &work->pretokenizer->steps[index];
    struct aligned *to = &work->scratch->texts[2 * index];
    bool begins = begins_with(text, " ", 1) ||
                  begins_with(text, step->replacement, step->replacement_size);
    bool wanted = step->prepend == PREPEND_ALWAYS ||
                  (step->prepend == PREPEND_FIRST && text->begins[0] == 0);
    aligned_clear(to, text->begins == NULL);
    if (wanted && !begins) {
        prepend(to, text, step->replacement, step->replacement_size);
    }
    meta_spaces(step, text, to);
    if (to->failed) {
        return err_nomem(work->err, text->size);
    }
    struct aligned_view all = aligned_all(to);
    return step->split ? split_meta(work, index, &all) : pass(work, index, &all, 0, all.size);
}

/* --- Byte level ------------------------------------------------------------------------------- */

static enum err_code pass_bytes(struct work *work, size_t index, const struct aligned_view *text,
                                size_t from, size_t to)
{
    struct aligned *bytes = &work->scratch->texts[2 * index + 1];
    aligned_clear(bytes, text->begins == NULL);
    for (size_t i = from; i < to; i++) {
        char character[4];
        size_t size = utf8_put(byte_level_scalar((unsigned char)text->bytes[i]), character);
        aligned_add_bytes(bytes, character, size, text, i);
    }
    if (bytes->failed) {
        return err_nomem(work->err, to - from);
    }
    struct aligned_view all = aligned_all(bytes);
    return pass(work, index, &all, 0, all.size);
}

static enum err_code byte_level(struct work *work, size_t index, const struct aligned_view *text)
{
    const struct pretokenizer_step *step = &work->pretokenizer->steps[index];
    struct aligned_view all = *text;
    if (step->add_prefix_space && text->bytes[0] != ' ') {
        struct aligned *to = &work->scratch->texts[2 * index];
        aligned_clear(to, text->begins == NULL);
        prepend(to, text, " ", 1);
        aligned_add(to, text);
        if (to->failed) {
            return err_nomem(work->err, text->size);
        }
        all = aligned_all(to);
    }
    enum err_code code = ERR_OK;
    for (size_t at = 0; at < all.size && code == ERR_OK && !work->full;) {
        size_t size = step->use_regex
                          ? byte_level_match(work->properties, all.bytes + at, all.size - at)
                          : all.size;
        code = pass_bytes(work, index, &all, at, at + size);
        at += size;
    }
    return code;
}

/* --- Interface -------------------------------------------------------------------------------- */

static enum err_code run(struct work *work, size_t step, const struct aligned_view *text)
{
    if (step == work->pretokenizer->n) {
        return work->output->take(work->output->context, text, &work->full, work->err);
    }
    switch (work->pretokenizer->steps[step].kind) {
    case PRETOKENIZER_METASPACE:
        return metaspace(work, step, text);
    case PRETOKENIZER_BYTE_LEVEL:
        return byte_level(work, step, text);
    case PRETOKENIZER_BERT:
    case PRETOKENIZER_WHITESPACE:
    case PRETOKENIZER_WHITESPACE_SPLIT:
        break;
    }
    return split_by_kind(work, step, text);
}

bool pretokenizer_needs_places(const struct pretokenizer *pretokenizer)
{
    for (size_t i = 0; i < pretokenizer->n; i++) {
        const struct pretokenizer_step *step = &pretokenizer->steps[i];
        if (step->kind == PRETOKENIZER_METASPACE && step->prepend == PREPEND_FIRST) {
            return true;
        }
    }
    return false;
}

bool pretokenizer_splits_words(const struct pretokenizer *pretokenizer)
{
    const struct pretokenizer_step *step = &pretokenizer->steps[0];
    return pretokenizer->n && (step->kind == PRETOKENIZER_METASPACE    ? step->split
                               : step->kind == PRETOKENIZER_BYTE_LEVEL ? step->use_regex
                                                                       : true);
}

enum err_code pretokenizer_apply(const struct pretokenizer *pretokenizer,
                                 const struct scalar_pages *properties,
                                 const struct aligned_view *text,
                                 struct pretokenizer_scratch *scratch,
                                 const struct pretokenizer_output *output, bool *ret_full,
                                 struct err *err)
{
    struct work work = {.pretokenizer = pretokenizer,
                        .properties = properties,
                        .scratch = scratch,
                        .output = output,
                        .err = err};
    enum err_code code = text->size ? run(&work, 0, text) : ERR_OK;
    *ret_full = *ret_full || work.full;
    return code;
}
