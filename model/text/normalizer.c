#include "model/text/normalizer.h"

#include <string.h>

#include "base/utf8.h"

/* One step's work: from one text into the other. Lifetime: the step. */
struct work {
    const struct normalizer *normalizer;
    const struct scalar_pages *properties;
    struct normalizer_scratch *scratch;
    struct aligned *from, *to;
};

/* The other text is the result, and what the next step begins with. */
static void swap(struct work *work)
{
    struct aligned *from = work->from;
    work->from = work->to;
    work->to = from;
}

static struct aligned_writer begin(struct work *work)
{
    return aligned_writer(aligned_all(work->from), work->to);
}

static bool has_bytes_above(const struct aligned *text)
{
    for (size_t i = 0; i < text->size; i++) {
        if ((unsigned char)text->bytes[i] >= 0x80) {
            return true;
        }
    }
    return false;
}

/* --- Filters and maps ------------------------------------------------------------------------- */

static void drop_flagged(struct work *work, enum scalar_flag flag)
{
    struct aligned_writer writer = begin(work);
    struct aligned_filter filter = {.writer = &writer};
    for (size_t at = 0; at < work->from->size;) {
        uint32_t scalar = utf8_next(work->from->bytes, work->from->size, &at);
        aligned_filter_put(&filter, scalar, !scalar_is(work->properties, scalar, flag));
    }
    aligned_filter_end(&filter);
    swap(work);
}

static void clean(struct work *work)
{
    drop_flagged(work, SCALAR_DROP);
    struct aligned_writer writer = begin(work);
    for (size_t at = 0; at < work->from->size;) {
        uint32_t scalar = utf8_next(work->from->bytes, work->from->size, &at);
        aligned_put(&writer, scalar_is(work->properties, scalar, SCALAR_SPACE) ? ' ' : scalar, 0);
    }
    swap(work);
}

static void space_chinese(struct work *work)
{
    struct aligned_writer writer = begin(work);
    for (size_t at = 0; at < work->from->size;) {
        uint32_t scalar = utf8_next(work->from->bytes, work->from->size, &at);
        if (scalar_is(work->properties, scalar, SCALAR_CJK)) {
            aligned_put(&writer, ' ', 0);
            aligned_put(&writer, scalar, 1);
            aligned_put(&writer, ' ', 1);
        } else {
            aligned_put(&writer, scalar, 0);
        }
    }
    swap(work);
}

static void lowercase(struct work *work)
{
    struct aligned_writer writer = begin(work);
    for (size_t at = 0; at < work->from->size;) {
        uint32_t scalar = utf8_next(work->from->bytes, work->from->size, &at);
        size_t n;
        const uint32_t *row = scalar_mapped(&work->normalizer->lower, &scalar, &n);
        for (size_t i = 0; i < n; i++) {
            aligned_put(&writer, row[i], i > 0);
        }
    }
    swap(work);
}

/* --- Unicode's normal forms ------------------------------------------------------------------- */

static void put_plain(void *context, uint32_t scalar, ptrdiff_t change)
{
    aligned_put(context, scalar, change);
}

static enum err_code normal_form(struct work *work, bool compatible, bool composes, struct err *err)
{
    if (!has_bytes_above(work->from)) {
        return ERR_OK; /* ASCII is in every normal form */
    }
    struct aligned_writer writer = begin(work);
    struct compose compose = {
        .properties = work->properties,
        .decompositions = compatible ? &work->normalizer->compatible : &work->normalizer->canonical,
        .composes = composes,
        .scratch = &work->scratch->compose,
        .put = put_plain,
        .context = &writer,
    };
    compose_text(&compose, work->from->bytes, work->from->size);
    swap(work);
    return compose.failed ? err_nomem(err, work->from->size) : ERR_OK;
}

static enum err_code bert(struct work *work, const struct normalizer_step *step, struct err *err)
{
    enum err_code code = ERR_OK;
    if (step->clean) {
        clean(work);
    }
    if (step->chinese) {
        space_chinese(work);
    }
    if (step->strip_accents) {
        code = normal_form(work, false, false, err);
        drop_flagged(work, SCALAR_MARK);
    }
    if (step->lowercase) {
        lowercase(work);
    }
    return code;
}

/* --- Ends and replacements -------------------------------------------------------------------- */

static bool is_white(const struct work *work, size_t at)
{
    return scalar_is(work->properties, utf8_next(work->from->bytes, work->from->size, &at),
                     SCALAR_WHITE);
}

static void strip(struct work *work, const struct normalizer_step *step)
{
    const struct aligned *from = work->from;
    size_t low = 0;
    size_t high = from->size;
    while (step->left && low < high && is_white(work, low)) {
        (void)utf8_next(from->bytes, from->size, &low);
    }
    while (step->right && high > low) {
        size_t last = high - 1;
        while (last > low && ((unsigned char)from->bytes[last] & 0xc0) == 0x80) {
            last--;
        }
        if (!is_white(work, last)) {
            break;
        }
        high = last;
    }
    struct aligned_view all = aligned_all(from);
    struct aligned_view part = aligned_part(&all, low, high);
    aligned_clear(work->to, work->from->bare);
    aligned_add(work->to, &part);
    swap(work);
}

static void prepend(struct work *work, const struct normalizer_step *step)
{
    struct aligned_view all = aligned_all(work->from);
    if (all.size) {
        aligned_clear(work->to, work->from->bare);
        aligned_add_bytes(work->to, step->content, step->content_size, &all, 0);
        aligned_add(work->to, &all);
        swap(work);
    }
}

/* The next match at or behind `at`; false without one. */
static bool find_match(const struct normalizer_step *step, const struct aligned *text, size_t at,
                       size_t *ret_from, size_t *ret_to)
{
    const char *pattern = step->kind == NORMALIZER_REPLACE ? step->pattern : "  ";
    size_t size = step->kind == NORMALIZER_REPLACE ? step->pattern_size : 2;
    const char *found = memmem(text->bytes + at, text->size - at, pattern, size);
    if (!found) {
        return false;
    }
    *ret_from = (size_t)(found - text->bytes);
    *ret_to = *ret_from + size;
    while (step->kind == NORMALIZER_REPLACE_SPACES && *ret_to < text->size &&
           text->bytes[*ret_to] == ' ') {
        (*ret_to)++;
    }
    return true;
}

static void replace(struct work *work, const struct normalizer_step *step)
{
    struct aligned_view all = aligned_all(work->from);
    size_t at = 0;
    size_t from;
    size_t to;
    if (all.size == 0 || !find_match(step, work->from, 0, &from, &to)) {
        return;
    }
    aligned_clear(work->to, work->from->bare);
    do {
        struct aligned_view before = aligned_part(&all, at, from);
        aligned_add(work->to, &before);
        aligned_add_bytes(work->to, step->content, step->content_size, &all, to - 1);
        at = to;
    } while (find_match(step, work->from, at, &from, &to));
    struct aligned_view rest = aligned_part(&all, at, all.size);
    aligned_add(work->to, &rest);
    swap(work);
}

/* --- Interface -------------------------------------------------------------------------------- */

static enum err_code run(struct work *work, const struct normalizer_step *step, struct err *err)
{
    switch (step->kind) {
    case NORMALIZER_BERT:
        return bert(work, step, err);
    case NORMALIZER_NFC:
        return normal_form(work, false, true, err);
    case NORMALIZER_NFD:
        return normal_form(work, false, false, err);
    case NORMALIZER_NFKC:
        return normal_form(work, true, true, err);
    case NORMALIZER_NFKD:
        return normal_form(work, true, false, err);
    case NORMALIZER_LOWERCASE:
        lowercase(work);
        break;
    case NORMALIZER_STRIP_ACCENTS:
        drop_flagged(work, SCALAR_COMBINING);
        break;
    case NORMALIZER_STRIP:
        strip(work, step);
        break;
    case NORMALIZER_PREPEND:
        prepend(work, step);
        break;
    case NORMALIZER_PRECOMPILED:
        if (charsmap_apply(&step->charsmap, work->properties, aligned_all(work->from), work->to)) {
            swap(work);
        }
        break;
    case NORMALIZER_REPLACE:
    case NORMALIZER_REPLACE_SPACES:
        replace(work, step);
        break;
    }
    return ERR_OK;
}

enum err_code normalizer_ready(struct normalizer *normalizer, struct err *err)
{
    bool lower = false;
    bool canonical = false;
    bool compatible = false;
    for (size_t i = 0; i < normalizer->n; i++) {
        const struct normalizer_step *step = &normalizer->steps[i];
        bool bert_step = step->kind == NORMALIZER_BERT;
        lower = lower || step->kind == NORMALIZER_LOWERCASE || (bert_step && step->lowercase);
        canonical = canonical || step->kind == NORMALIZER_NFC || step->kind == NORMALIZER_NFD ||
                    (bert_step && step->strip_accents);
        compatible = compatible || step->kind == NORMALIZER_NFKC || step->kind == NORMALIZER_NFKD;
    }
    enum err_code code = ERR_OK;
    if (lower) {
        code = scalar_map_init(&normalizer->lower, SCALAR_LOWER, err);
    }
    if (code == ERR_OK && canonical) {
        code = scalar_map_init(&normalizer->canonical, SCALAR_CANONICAL, err);
    }
    if (code == ERR_OK && compatible) {
        code = scalar_map_init(&normalizer->compatible, SCALAR_COMPATIBLE_TOO, err);
    }
    return code;
}

bool normalizer_keeps_words_apart(const struct normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n; i++) {
        const struct normalizer_step *step = &normalizer->steps[i];
        bool replaces = step->kind == NORMALIZER_REPLACE &&
                        memchr(step->pattern, ' ', step->pattern_size);
        if (replaces ||
            (step->kind == NORMALIZER_PRECOMPILED && charsmap_knows(&step->charsmap, " "))) {
            return false;
        }
    }
    return true;
}

void normalizer_done(struct normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n; i++) {
        charsmap_done(&normalizer->steps[i].charsmap);
    }
    scalar_map_done(&normalizer->lower);
    scalar_map_done(&normalizer->canonical);
    scalar_map_done(&normalizer->compatible);
}

void normalizer_scratch_done(struct normalizer_scratch *scratch)
{
    aligned_done(&scratch->texts[0]);
    aligned_done(&scratch->texts[1]);
    compose_scratch_done(&scratch->compose);
}

enum err_code normalizer_apply(const struct normalizer *normalizer,
                               const struct scalar_pages *properties, const char *text, size_t size,
                               uint32_t shift, bool bare, struct normalizer_scratch *scratch,
                               struct aligned_view *ret, struct err *err)
{
    struct work work = {
        .normalizer = normalizer,
        .properties = properties,
        .scratch = scratch,
        .from = &scratch->texts[0],
        .to = &scratch->texts[1],
    };
    aligned_clear(work.from, bare);
    aligned_add_original(work.from, text, size, shift);
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < normalizer->n && code == ERR_OK && work.from->size; i++) {
        code = run(&work, &normalizer->steps[i], err);
    }
    if (code == ERR_OK && (work.from->failed || work.to->failed)) {
        code = err_nomem(err, size);
    }
    if (code == ERR_OK) {
        *ret = aligned_all(work.from);
    }
    return code;
}
