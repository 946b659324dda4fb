#include "model/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/text/tokenizer_private.h"

/* --- Encoding --------------------------------------------------------------------------------- */

static enum err_code too_large(size_t size, struct err *err)
{
    return err_set(err, ERR_LIMIT, "a text of %zu bytes, at most %u are allowed", size, UINT32_MAX);
}

static enum err_code encode_text(const struct tokenizer *tokenizer, const char *text, size_t size,
                                 struct token_sink *sink, struct err *err)
{
    enum err_code code = tokenizer->is_bert
                             ? bert_encode(&tokenizer->bert, text, size, sink, err)
                             : pipeline_encode(&tokenizer->rules.pipeline, text, size, sink, err);
    if (code == ERR_OK) {
        token_sink_end(sink);
    }
    return code;
}

/* The template's tokens from piece `from` up to the next text. */
static size_t put_frame(const struct template_row *row, size_t from, bool add,
                        const struct token_sink *sink)
{
    while (from < row->n && row->pieces[from].kind == TEMPLATE_TOKEN) {
        if (add) {
            token_sink_frame(sink, row->pieces[from].id, row->pieces[from].type);
        }
        from++;
    }
    return from;
}

static void tokens_reset(struct tokens *tokens)
{
    tokens->n = 0;
    tokens->truncated = false;
}

enum err_code tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                               const struct encode_options *options, struct tokens *tokens,
                               struct err *err)
{
    const struct template_row *row = &tokenizer->rules.template.single;
    const size_t added = options->add_special_tokens ? row->added : 0;
    tokens_reset(tokens);
    if (options->max_length < added) {
        return err_set(err, ERR_LIMIT, "a text takes at least %zu tokens, the limit is %zu", added,
                       options->max_length);
    }
    if (size > UINT32_MAX) {
        return too_large(size, err);
    }
    struct token_sink sink = {
        .tokens = tokens,
        .keep = options->max_length - added,
        .side = options->side,
        .offsets = options->offsets,
        .part = TOKEN_FIRST,
    };
    enum err_code code = token_sink_reserve(&sink, added, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t piece = put_frame(row, 0, options->add_special_tokens, &sink);
    sink.first = tokens->n;
    sink.type = row->pieces[piece].type;
    code = encode_text(tokenizer, text, size, &sink, err);
    code = code == ERR_OK ? token_sink_reserve(&sink, added, err) : code;
    if (code == ERR_OK) {
        put_frame(row, piece + 1, options->add_special_tokens, &sink);
    }
    return code;
}

/* How many tokens of each text stay, where at most `keep` do together: the longer one is cut down
 * to the shorter one first, then both, an odd one being the longer one's.
 * Reference: huggingface/tokenizers, truncate_encodings. */
static void longest_first(const size_t totals[2], size_t keep, size_t ret_keep[2])
{
    bool swap = totals[0] > totals[1];
    size_t shorter = totals[swap];
    size_t longer = totals[!swap];
    if (longer > keep || shorter > keep - longer) {
        longer = shorter > keep ? shorter : size_max(shorter, keep - shorter);
        if (longer > keep || shorter > keep - longer) {
            shorter = keep / 2;
            longer = keep - shorter;
        }
    }
    ret_keep[swap] = shorter;
    ret_keep[!swap] = longer;
}

static enum err_code encode_both(const struct tokenizer *tokenizer,
                                 const struct tokenizer_text texts[2],
                                 const struct encode_options *options, size_t keep,
                                 struct tokens parts[2], struct err *err)
{
    size_t totals[2];
    struct token_sink sinks[2];
    for (size_t i = 0; i < 2; i++) {
        sinks[i] = (struct token_sink){
            .tokens = &parts[i],
            .keep = keep,
            .side = options->side,
            .offsets = options->offsets,
            .count_all = true,
        };
        if (texts[i].size > UINT32_MAX) {
            return too_large(texts[i].size, err);
        }
        enum err_code code = encode_text(tokenizer, texts[i].text, texts[i].size, &sinks[i], err);
        if (code != ERR_OK) {
            return code;
        }
        totals[i] = sinks[i].total;
    }
    size_t stay[2];
    longest_first(totals, keep, stay);
    for (size_t i = 0; i < 2; i++) {
        if (parts[i].n > stay[i]) {
            token_sink_cut(&sinks[i], stay[i]);
        }
    }
    return ERR_OK;
}

/* Appends n tokens of another result, from `from` on. */
static enum err_code append(struct token_sink *sink, const struct tokens *source, size_t from,
                            size_t n, struct err *err)
{
    enum err_code code = token_sink_reserve(sink, n, err);
    struct tokens *tokens = sink->tokens;
    if (code != ERR_OK || n == 0) {
        return code;
    }
    memcpy(tokens->ids + tokens->n, source->ids + from, n * sizeof *tokens->ids);
    if (sink->offsets) {
        memcpy(tokens->starts + tokens->n, source->starts + from, n * sizeof *tokens->starts);
        memcpy(tokens->stops + tokens->n, source->stops + from, n * sizeof *tokens->stops);
    }
    memset(tokens->types + tokens->n, sink->type, n);
    memset(tokens->parts + tokens->n, sink->part, n);
    tokens->n += n;
    return ERR_OK;
}

static enum err_code assemble(const struct tokenizer *tokenizer, const struct tokens parts[2],
                              const struct encode_options *options, struct tokens *tokens,
                              struct err *err)
{
    const struct template_row *row = &tokenizer->rules.template.pair;
    struct token_sink sink = {.tokens = tokens, .offsets = options->offsets};
    enum err_code code = token_sink_reserve(&sink, row->added + parts[0].n + parts[1].n, err);
    for (size_t i = 0; i < row->n && code == ERR_OK; i++) {
        i = put_frame(row, i, options->add_special_tokens, &sink);
        if (i < row->n) {
            bool second = row->pieces[i].kind == TEMPLATE_SECOND;
            sink.type = row->pieces[i].type;
            sink.part = second ? TOKEN_SECOND : TOKEN_FIRST;
            code = append(&sink, &parts[second], 0, parts[second].n, err);
        }
    }
    tokens->truncated = parts[0].truncated || parts[1].truncated;
    return code;
}

enum err_code tokenizer_encode_pair(const struct tokenizer *tokenizer,
                                    const struct tokenizer_text texts[2],
                                    const struct encode_options *options, struct tokens *tokens,
                                    struct err *err)
{
    const size_t added = options->add_special_tokens ? tokenizer->rules.template.pair.added : 0;
    tokens_reset(tokens);
    if (options->max_length < added) {
        return err_set(err, ERR_LIMIT, "a pair takes at least %zu tokens, the limit is %zu", added,
                       options->max_length);
    }
    struct tokens parts[2] = {{0}, {0}};
    enum err_code code = encode_both(tokenizer, texts, options, options->max_length - added, parts,
                                     err);
    code = code == ERR_OK ? assemble(tokenizer, parts, options, tokens, err) : code;
    tokens_done(&parts[0]);
    tokens_done(&parts[1]);
    return code;
}

size_t tokenizer_added(const struct tokenizer *tokenizer, bool pair)
{
    return pair ? tokenizer->rules.template.pair.added : tokenizer->rules.template.single.added;
}

enum err_code tokenizer_frame(const struct tokenizer *tokenizer, const struct tokens *tokens,
                              size_t from, size_t n, struct tokens *window, struct err *err)
{
    const struct template_row *row = &tokenizer->rules.template.single;
    CHECK(window != tokens && from <= tokens->n && n <= tokens->n - from);
    struct token_sink sink = {
        .tokens = window, .offsets = tokens->starts != NULL, .part = TOKEN_FIRST};
    tokens_reset(window);
    enum err_code code = token_sink_reserve(&sink, n + row->added, err);
    if (code == ERR_OK) {
        size_t piece = put_frame(row, 0, true, &sink);
        sink.type = row->pieces[piece].type;
        code = append(&sink, tokens, from, n, err);
        put_frame(row, piece + 1, true, &sink);
    }
    return code;
}

/* --- What else it knows ----------------------------------------------------------------------- */

bool tokenizer_can_decode(const struct tokenizer *tokenizer)
{
    return !tokenizer->rules.decoder.unknown;
}

enum err_code tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                               bool skip_special, struct buf *text, struct err *err)
{
    if (!tokenizer_can_decode(tokenizer)) {
        return err_set(err, ERR_UNSUPPORTED, "the decoder of this model folder is not known");
    }
    struct word *words = calloc(n ? n : 1, sizeof *words);
    if (!words) {
        return err_nomem(err, n * sizeof *words);
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct added_token *added = added_find(&tokenizer->rules.pipeline.added, ids[i]);
        struct word word = words_at(&tokenizer->rules.pipeline.subword.words, ids[i]);
        if (added) {
            word = (struct word){added->decoded, (uint32_t)added->decoded_size};
        }
        if (word.bytes && !(added && added->skipped && skip_special)) {
            words[count++] = word;
        }
    }
    bool done = decoder_apply(&tokenizer->rules.decoder, words, count, text);
    free(words);
    if (!done && !buf_full(text)) {
        return err_nomem(err, text->size);
    }
    return done ? ERR_OK : err_set(err, ERR_LIMIT, "the decoded text is too large");
}

const char *tokenizer_digest(const struct tokenizer *tokenizer)
{
    return tokenizer->digest;
}

size_t tokenizer_warnings(const struct tokenizer *tokenizer)
{
    return tokenizer->warnings.n;
}

const char *tokenizer_warning(const struct tokenizer *tokenizer, size_t index)
{
    return tokenizer->warnings.texts[index];
}

const char *tokenizer_source(const struct tokenizer *tokenizer)
{
    return tokenizer->source;
}

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    const struct pipeline *pipeline = &tokenizer->rules.pipeline;
    size_t added = pipeline->added.n ? (size_t)pipeline->added.tokens[pipeline->added.n - 1].id + 1
                                     : 0;
    return size_max(pipeline->subword.words.ids, added);
}

size_t tokenizer_types(const struct tokenizer *tokenizer, bool pair)
{
    const struct template_row *row = pair ? &tokenizer->rules.template.pair
                                          : &tokenizer->rules.template.single;
    size_t types = 0;
    for (size_t i = 0; i < row->n; i++) {
        types = size_max(types, (size_t)row->pieces[i].type + 1);
    }
    return types;
}

const char *tokenizer_word(const struct tokenizer *tokenizer, int32_t id)
{
    const struct added_token *added = added_find(&tokenizer->rules.pipeline.added, id);
    return added ? added->decoded : words_at(&tokenizer->rules.pipeline.subword.words, id).bytes;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    const struct added_token *added = added_find(&tokenizer->rules.pipeline.added, id);
    return added && added->special;
}
