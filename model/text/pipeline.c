#include "model/text/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/text/byte_level.h"
#include "model/text/char_index.h"

/* One thread's, kept from text to text. */
struct pipeline_scratch {
    struct normalizer_scratch normalizer;
    struct pretokenizer_scratch pretokenizer;
    struct subword_scratch subword;
    struct aligned added; /* an added token of the original text */
    struct char_index chars;
};

void pipeline_scratch_destroy(struct pipeline_scratch *scratch)
{
    if (scratch) {
        normalizer_scratch_done(&scratch->normalizer);
        pretokenizer_scratch_done(&scratch->pretokenizer);
        subword_scratch_done(&scratch->subword);
        aligned_done(&scratch->added);
        char_index_done(&scratch->chars);
        free(scratch);
    }
}

/* --- Building --------------------------------------------------------------------------------- */

/* What each normalized token becomes in a normalized text. */
static enum err_code normalize_added(struct pipeline *pipeline, struct err *err)
{
    struct normalizer_scratch scratch = {0};
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < pipeline->added.n && code == ERR_OK; i++) {
        struct added_token *token = &pipeline->added.tokens[i];
        if (!token->normalized) {
            continue;
        }
        struct aligned_view view;
        code = normalizer_apply(&pipeline->normalizer, &pipeline->properties, token->content,
                                token->size, 0, true, &scratch, &view, err);
        char *decoded = code == ERR_OK ? malloc(view.size + 1) : NULL;
        if (code == ERR_OK && !decoded) {
            (void)err_nomem(err, view.size);
            code = ERR_NOMEM;
        }
        if (code == ERR_OK) {
            memcpy(decoded, view.bytes ? view.bytes : "", view.size);
            decoded[view.size] = '\0';
            free(token->decoded);
            token->decoded = decoded;
            token->decoded_size = view.size;
        }
    }
    normalizer_scratch_done(&scratch);
    return code;
}

/* No added token reaches over a space. */
static bool adds_words_only(const struct added *added)
{
    for (size_t i = 0; i < added->n; i++) {
        const struct added_token *token = &added->tokens[i];
        if (memchr(token->content, ' ', token->size) ||
            memchr(token->decoded, ' ', token->decoded_size)) {
            return false;
        }
    }
    return true;
}

enum err_code pipeline_ready(struct pipeline *pipeline, struct err *err)
{
    enum err_code code = scalar_properties_init(&pipeline->properties, err);
    code = code == ERR_OK ? normalizer_ready(&pipeline->normalizer, err) : code;
    code = code == ERR_OK ? subword_ready(&pipeline->subword, err) : code;
    code = code == ERR_OK ? normalize_added(pipeline, err) : code;
    pipeline->cuts = normalizer_keeps_words_apart(&pipeline->normalizer) &&
                     pretokenizer_splits_words(&pipeline->pretokenizer) &&
                     adds_words_only(&pipeline->added);
    return code == ERR_OK ? added_ready(&pipeline->added, err) : code;
}

void pipeline_done(struct pipeline *pipeline)
{
    scalar_pages_done(&pipeline->properties);
    added_done(&pipeline->added);
    normalizer_done(&pipeline->normalizer);
    subword_done(&pipeline->subword);
}

/* --- Tokens ----------------------------------------------------------------------------------- */

/* Lifetime: one encode. */
struct work {
    const struct pipeline *pipeline;
    struct pipeline_scratch *scratch;
    struct token_sink *sink;
    bool bare; /* nobody asks where tokens come from */
    bool full;
};

/* White space, or what stands for it in a byte-level vocabulary, at a word's begin and end. */
static void count_blanks(const struct pipeline *pipeline, const char *word, size_t size,
                         uint32_t *ret_leading, uint32_t *ret_trailing)
{
    const uint32_t space = byte_level_scalar(' ');
    uint32_t leading = 0;
    uint32_t trailing = 0;
    bool only = true;
    for (size_t at = 0; at < size;) {
        uint32_t scalar = utf8_next(word, size, &at);
        bool blank = scalar == space || scalar_is(&pipeline->properties, scalar, SCALAR_WHITE);
        only = only && blank;
        leading += only;
        trailing = blank ? trailing + 1 : 0;
    }
    *ret_leading = leading;
    *ret_trailing = trailing;
}

/* Leaves white space at its ends out of a token, as the reference's process_offsets. */
static void trim(const struct work *work, const char *word, size_t size, struct token *token)
{
    uint32_t word_leading;
    uint32_t trailing;
    count_blanks(work->pipeline, word, size, &word_leading, &trailing);
    for (size_t i = 0; i < work->pipeline->n_trims; i++) {
        bool first = work->sink->total == 0 || token->start == 0;
        bool ours = first && work->pipeline->trims[i] && word_leading == 1;
        uint32_t leading = ours ? 0 : word_leading;
        token->start = (uint32_t)size_min(token->start + leading, token->stop);
        if (trailing && token->stop >= trailing) {
            token->stop = (uint32_t)size_max(token->stop - trailing, token->start);
        }
    }
}

/* Offsets in bytes → in characters: as the reference converts them, those beyond the text stay. */
static void to_chars(const struct work *work, struct token *token)
{
    const struct char_index *chars = &work->scratch->chars;
    if (token->start >= chars->size) {
        return;
    }
    uint32_t start = char_index_at(chars, token->start);
    token->stop = token->stop < chars->size
                      ? char_index_at(chars, token->stop)
                      : (token->stop - 1 < chars->size ? char_index_at(chars, token->stop - 1)
                                                       : start + 1) +
                            1;
    token->start = start;
}

/* Puts from … to of a piece; word is what the reference calls the token's value. */
static enum err_code put(struct work *work, const struct aligned_view *piece, int32_t id,
                         size_t from, size_t to, struct word word, struct err *err)
{
    struct token token = {.id = id};
    if (work->sink->offsets) {
        bool inside = from < to && to <= piece->size;
        token.start = inside ? piece->begins[from] : (uint32_t)from;
        token.stop = inside ? piece->ends[to - 1] : (uint32_t)to;
        to_chars(work, &token);
        if (work->pipeline->n_trims) {
            trim(work, word.bytes, word.size, &token);
        }
    }
    return token_sink_add(work->sink, &token, 1, &work->full, err);
}

static enum err_code put_added(struct work *work, const struct aligned_view *piece,
                               const struct added_token *token, struct err *err)
{
    struct word word = {piece->bytes, (uint32_t)piece->size};
    return put(work, piece, token->id, 0, piece->size, word, err);
}

static enum err_code take_piece(void *context, const struct aligned_view *piece, bool *ret_full,
                                struct err *err)
{
    struct work *work = context;
    const struct subword *subword = &work->pipeline->subword;
    struct subword_scratch *scratch = &work->scratch->subword;
    const struct token_sink *sink = work->sink;
    bool first_ones = sink->side == TRUNCATE_RIGHT && !sink->count_all;
    scratch->wanted = first_ones ? sink->keep - size_min(sink->total, sink->keep) : SIZE_MAX;
    scratch->wanted += scratch->wanted < SIZE_MAX; /* one more tells that there are more */
    enum err_code code = subword_split(subword, piece->bytes, piece->size, scratch, err);
    for (size_t i = 0; i < scratch->n && code == ERR_OK && !work->full; i++) {
        const struct subword_token *token = &scratch->tokens[i];
        struct word word = words_at(&subword->words, token->id);
        if (subword->kind == SUBWORD_UNIGRAM && token->id == subword->unk) {
            word = (struct word){piece->bytes + token->from, token->to - token->from};
        }
        code = put(work, piece, token->id, token->from, token->to, word, err);
    }
    *ret_full = work->full;
    return code;
}

/* --- The way ---------------------------------------------------------------------------------- */

static enum err_code encode_normalized(struct work *work, const struct aligned_view *text,
                                       struct err *err)
{
    const struct pipeline *pipeline = work->pipeline;
    const struct pretokenizer_output output = {.take = take_piece, .context = work};
    struct added_walk walk = added_walk(&pipeline->added, true, &pipeline->properties, text->bytes,
                                        text->size);
    struct added_stretch stretch;
    enum err_code code = ERR_OK;
    while (code == ERR_OK && !work->full && added_next(&walk, &stretch)) {
        struct aligned_view part = aligned_part(text, stretch.from, stretch.to);
        code = stretch.token
                   ? put_added(work, &part, stretch.token, err)
                   : pretokenizer_apply(&pipeline->pretokenizer, &pipeline->properties, &part,
                                        &work->scratch->pretokenizer, &output, &work->full, err);
    }
    return code;
}

static enum err_code encode_stretch(struct work *work, const char *text,
                                    const struct added_stretch *stretch, struct err *err)
{
    const char *bytes = text + stretch->from;
    size_t size = stretch->to - stretch->from;
    if (stretch->token) {
        struct aligned *added = &work->scratch->added;
        aligned_clear(added, work->bare);
        aligned_add_original(added, bytes, size, (uint32_t)stretch->from);
        struct aligned_view view = aligned_all(added);
        return added->failed ? err_nomem(err, size) : put_added(work, &view, stretch->token, err);
    }
    struct aligned_view normalized;
    enum err_code code = normalizer_apply(&work->pipeline->normalizer, &work->pipeline->properties,
                                          bytes, size, (uint32_t)stretch->from, work->bare,
                                          &work->scratch->normalizer, &normalized, err);
    return code == ERR_OK ? encode_normalized(work, &normalized, err) : code;
}

static enum err_code encode_all(const struct pipeline *pipeline, const char *text, size_t size,
                                struct token_sink *sink, bool *ret_full, struct err *err)
{
    struct work work = {
        .pipeline = pipeline,
        .scratch = sink->tokens->scratch,
        .sink = sink,
        .bare = !sink->offsets && !pretokenizer_needs_places(&pipeline->pretokenizer),
    };
    struct added_walk walk = added_walk(&pipeline->added, false, &pipeline->properties, text, size);
    struct added_stretch stretch;
    enum err_code code = ERR_OK;
    while (code == ERR_OK && !work.full && added_next(&walk, &stretch)) {
        code = encode_stretch(&work, text, &stretch, err);
    }
    *ret_full = work.full;
    return code;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The first place at or behind `from` that has a letter before it, and behind it a space and a
 * letter; the size where there is none. */
static size_t find_cut(const char *text, size_t size, size_t from)
{
    for (size_t at = from; at + 1 < size; at++) {
        const char *space = memchr(text + at, ' ', size - at);
        if (!space) {
            break;
        }
        at = (size_t)(space - text);
        if (at > 0 && at + 1 < size && is_letter(text[at - 1]) && is_letter(text[at + 1])) {
            return at;
        }
    }
    return size;
}

enum err_code pipeline_encode(const struct pipeline *pipeline, const char *text, size_t size,
                              struct token_sink *sink, struct err *err)
{
    enum { WINDOW_MIN = 1 << 14, WINDOW_PER_TOKEN = 16, WINDOW_GROWTH = 4 };
    struct tokens *tokens = sink->tokens;
    if (!tokens->scratch) {
        tokens->scratch = calloc(1, sizeof *tokens->scratch);
    }
    if (!tokens->scratch ||
        (sink->offsets && !char_index_set(&tokens->scratch->chars, text, size))) {
        return err_nomem(err, size);
    }
    bool cuts = pipeline->cuts && !sink->offsets && !sink->count_all &&
                sink->side == TRUNCATE_RIGHT && sink->keep < size / WINDOW_PER_TOKEN;
    size_t window = cuts ? WINDOW_MIN + WINDOW_PER_TOKEN * sink->keep : size;
    for (;;) {
        size_t end = window < size ? find_cut(text, size, window) : size;
        bool full = false;
        tokens->n = sink->first;
        tokens->truncated = false;
        sink->total = 0;
        enum err_code code = encode_all(pipeline, text, end, sink, &full, err);
        if (code != ERR_OK || full || end == size) {
            return code;
        }
        window *= WINDOW_GROWTH;
    }
}
