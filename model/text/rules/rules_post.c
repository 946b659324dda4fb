/* The members "post_processor" and "decoder" of a tokenizer.json. */
#include <string.h>

#include "base/utf8.h"
#include "model/text/rules/rules.h"

/* --- Template --------------------------------------------------------------------------------- */

enum processor { TEMPLATE, BERT, ROBERTA, BYTE_LEVEL, SEQUENCE };

static const char *const processors[] = {
    [TEMPLATE] = "TemplateProcessing", [BERT] = "BertProcessing", [ROBERTA] = "RobertaProcessing",
    [BYTE_LEVEL] = "ByteLevel",        [SEQUENCE] = "Sequence",   NULL};

/* What a post-processor adds up to while its steps are read. */
struct post {
    struct rules *rules;
    bool framed; /* one step has given the template */
};

static bool knows(const struct rules *rules, int64_t id)
{
    return words_at(&rules->pipeline.subword.words, id).bytes ||
           added_find(&rules->pipeline.added, (int32_t)id);
}

/* ["[SEP]", 102] */
static enum err_code read_pair(const struct members *members, const char *key,
                               const struct rules *rules, int32_t *ret_id)
{
    const struct jval *pair = jval_get(members->object, key);
    int64_t id;
    if (jval_array_size(pair) != 2 ||
        !jval_string(jval_at(pair, 0), &(const char *){0}, &(size_t){0}) ||
        !jval_int(jval_at(pair, 1), &id) || !knows(rules, id)) {
        return members_wrong(members, key, ERR_INVALID, "[word, id of the vocabulary]");
    }
    *ret_id = (int32_t)id;
    return ERR_OK;
}

static enum err_code read_ends(const struct members *members, struct post *post, int32_t ret_ids[2])
{
    enum err_code code = read_pair(members, "cls", post->rules, &ret_ids[0]);
    return code == ERR_OK ? read_pair(members, "sep", post->rules, &ret_ids[1]) : code;
}

static enum err_code add_trim(const struct members *members, bool prefix, struct pipeline *pipeline)
{
    if (pipeline->n_trims == PIPELINE_TRIMS_MAX) {
        return err_set(members->err, ERR_LIMIT, "%s: %s: more than %d steps trim offsets",
                       members->file, members->way, PIPELINE_TRIMS_MAX);
    }
    pipeline->trims[pipeline->n_trims++] = prefix;
    return ERR_OK;
}

static enum err_code read_trim(const struct members *members, struct pipeline *pipeline)
{
    bool trim = true;
    bool prefix = true;
    bool regex; /* of no influence in a post-processor */
    enum err_code code = members_bool(members, "trim_offsets", true, &trim);
    code = code == ERR_OK ? members_bool(members, "add_prefix_space", true, &prefix) : code;
    code = code == ERR_OK ? members_bool(members, "use_regex", false, &regex) : code;
    return code == ERR_OK && trim ? add_trim(members, prefix, pipeline) : code;
}

/* {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, …}: the ids of one. */
static enum err_code add_special(const struct members *specials, const char *name, uint8_t type,
                                 const struct rules *rules, struct template_row *row)
{
    struct members special;
    const struct jval *ids = NULL;
    enum err_code code = members_enter(specials, name, &special);
    code = code == ERR_OK ? members_array(&special, "ids", true, &ids) : code;
    for (size_t i = 0; i < jval_array_size(ids) && code == ERR_OK; i++) {
        int64_t id;
        if (!jval_int(jval_at(ids, i), &id) || !knows(rules, id)) {
            code = members_wrong(&special, "ids", ERR_INVALID, "ids of the vocabulary");
        } else if (!template_add(row, (struct template_piece){TEMPLATE_TOKEN, (int32_t)id, type})) {
            code = members_wrong(&special, "ids", ERR_LIMIT, "fewer tokens in the template");
        }
    }
    return code;
}

/* {"Sequence": {"id": "A", "type_id": 0}} or {"SpecialToken": {"id": "[CLS]", "type_id": 0}} */
static enum err_code read_piece(const struct members *piece, const struct members *specials,
                                const struct rules *rules, struct template_row *row)
{
    bool text = jval_get(piece->object, "Sequence") != NULL;
    struct members inner;
    const char *id = NULL;
    size_t size = 0;
    int64_t type = 0;
    enum err_code code = members_enter(piece, text ? "Sequence" : "SpecialToken", &inner);
    code = code == ERR_OK ? members_string(&inner, "id", true, ADDED_BYTES_MAX, &id, &size) : code;
    code = code == ERR_OK ? members_integer(&inner, "type_id", true, 0, RULES_TYPE_MAX, &type)
                          : code;
    if (code != ERR_OK || !text) {
        return code == ERR_OK ? add_special(specials, id, (uint8_t)type, rules, row) : code;
    }
    if (size != 1 || (id[0] != 'A' && id[0] != 'B')) {
        return members_wrong(&inner, "id", ERR_INVALID, "A, B");
    }
    enum template_kind kind = id[0] == 'A' ? TEMPLATE_FIRST : TEMPLATE_SECOND;
    return template_add(row, (struct template_piece){kind, 0, (uint8_t)type})
               ? ERR_OK
               : members_wrong(&inner, "id", ERR_LIMIT, "fewer pieces in the template");
}

/* Each text once: A alone, or A and B. */
static bool has_texts(const struct template_row *row, size_t seconds)
{
    size_t counts[2] = {0, 0};
    for (size_t i = 0; i < row->n; i++) {
        if (row->pieces[i].kind != TEMPLATE_TOKEN) {
            counts[row->pieces[i].kind == TEMPLATE_SECOND]++;
        }
    }
    return counts[0] == 1 && counts[1] == seconds;
}

static enum err_code read_row(const struct members *members, const char *key, size_t seconds,
                              const struct members *specials, const struct rules *rules,
                              struct template_row *row)
{
    const struct jval *list = NULL;
    enum err_code code = members_array(members, key, true, &list);
    for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
        struct members piece;
        code = members_enter_at(members, key, jval_at(list, i), i, &piece);
        code = code == ERR_OK ? read_piece(&piece, specials, rules, row) : code;
    }
    if (code == ERR_OK && !has_texts(row, seconds)) {
        code = members_wrong(members, key, ERR_UNSUPPORTED,
                             seconds ? "A once and B once" : "A once and no B");
    }
    return code;
}

static enum err_code read_template(const struct members *members, struct post *post)
{
    static const char *const known[] = {"type", "single", "pair", "special_tokens", NULL};
    struct template *template = &post->rules->template;
    struct members specials;
    members_known(members, known);
    enum err_code code = members_enter(members, "special_tokens", &specials);
    memset(template, 0, sizeof *template);
    code = code == ERR_OK
               ? read_row(members, "single", 0, &specials, post->rules, &template->single)
               : code;
    return code == ERR_OK ? read_row(members, "pair", 1, &specials, post->rules, &template->pair)
                          : code;
}

static enum err_code read_processor(const struct members *members, unsigned depth,
                                    struct post *post);

static enum err_code read_processors(const struct members *members, unsigned depth,
                                     struct post *post)
{
    static const char *const known[] = {"type", "processors", NULL};
    const struct jval *list = NULL;
    members_known(members, known);
    enum err_code code = members_array(members, "processors", true, &list);
    for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
        struct members inner;
        code = members_enter_at(members, "processors", jval_at(list, i), i, &inner);
        code = code == ERR_OK ? read_processor(&inner, depth + 1, post) : code;
    }
    return code;
}

static enum err_code read_processor(const struct members *members, unsigned depth,
                                    struct post *post)
{
    static const char *const known[] = {"type",         "cls",       "sep", "add_prefix_space",
                                        "trim_offsets", "use_regex", NULL};
    size_t kind = 0;
    int32_t ends[2] = {0, 0};
    enum err_code code = members_type(members, processors, &kind);
    if (code != ERR_OK) {
        return code;
    }
    if (kind == SEQUENCE) {
        return depth < RULES_DEPTH_MAX
                   ? read_processors(members, depth, post)
                   : members_wrong(members, "type", ERR_LIMIT, "fewer Sequences in each other");
    }
    if (kind != BYTE_LEVEL && post->framed) {
        return members_wrong(members, "type", ERR_UNSUPPORTED, "one step that adds tokens");
    }
    post->framed = post->framed || kind != BYTE_LEVEL;
    if (kind == TEMPLATE) {
        return read_template(members, post);
    }
    members_known(members, known);
    if (kind != BYTE_LEVEL) {
        code = read_ends(members, post, ends);
    }
    if (code == ERR_OK && kind != BERT) {
        code = read_trim(members, &post->rules->pipeline);
    }
    if (code == ERR_OK && kind == BERT) {
        template_bert(&post->rules->template, ends[0], ends[1]);
    } else if (code == ERR_OK && kind == ROBERTA) {
        template_roberta(&post->rules->template, ends[0], ends[1]);
    }
    return code;
}

enum err_code rules_read_template(const struct members *file, struct rules *rules)
{
    struct post post = {.rules = rules};
    struct members inner;
    template_bare(&rules->template);
    if (members_absent(file, "post_processor")) {
        return ERR_OK;
    }
    enum err_code code = members_enter(file, "post_processor", &inner);
    return code == ERR_OK ? read_processor(&inner, 0, &post) : code;
}

/* --- Decoder ---------------------------------------------------------------------------------- */

enum { SEQUENCE_OF_DECODERS = DECODER_REPLACE_SPACES };

static const char *const decoders[] = {
    [DECODER_WORDPIECE] = "WordPiece",
    [DECODER_BYTE_LEVEL] = "ByteLevel",
    [DECODER_METASPACE] = "Metaspace",
    [DECODER_BPE] = "BPEDecoder",
    [DECODER_REPLACE] = "Replace",
    [DECODER_FUSE] = "Fuse",
    [DECODER_BYTE_FALLBACK] = "ByteFallback",
    [DECODER_STRIP] = "Strip",
    [SEQUENCE_OF_DECODERS] = "Sequence",
    NULL,
};

static enum err_code copy_text(const struct members *members, const char *key, size_t min,
                               char *out, size_t *ret_size)
{
    const char *text = "";
    size_t size = 0;
    enum err_code code = members_string(members, key, true, DECODER_TEXT_MAX, &text, &size);
    if (code == ERR_OK && size < min) {
        code = members_wrong(members, key, ERR_UNSUPPORTED, "a text that is not empty");
    }
    if (code == ERR_OK) {
        memcpy(out, text, size);
        *ret_size = size;
    }
    return code;
}

static enum err_code read_decoder_replace(const struct members *members, struct decoder_step *step)
{
    static const char spaces[] = " {2,}";
    struct members pattern;
    enum err_code code = members_enter(members, "pattern", &pattern);
    if (code == ERR_OK && jval_get(pattern.object, "Regex")) {
        const char *text = "";
        size_t size = 0;
        code = members_string(&pattern, "Regex", true, SIZE_MAX, &text, &size);
        if (code == ERR_OK && (size != sizeof spaces - 1 || memcmp(text, spaces, size) != 0)) {
            code = members_wrong(&pattern, "Regex", ERR_UNSUPPORTED, "\" {2,}\"");
        }
        step->kind = DECODER_REPLACE_SPACES;
    } else if (code == ERR_OK) {
        code = copy_text(&pattern, "String", 1, step->text, &step->text_size);
    }
    return code == ERR_OK ? copy_text(members, "content", 0, step->content, &step->content_size)
                          : code;
}

static enum err_code read_decoder_strip(const struct members *members, struct decoder_step *step)
{
    int64_t start = 0;
    int64_t stop = 0;
    enum err_code code = copy_text(members, "content", 1, step->text, &step->text_size);
    code = code == ERR_OK ? members_integer(members, "start", true, 0, DECODER_STRIP_MAX, &start)
                          : code;
    code = code == ERR_OK ? members_integer(members, "stop", true, 0, DECODER_STRIP_MAX, &stop)
                          : code;
    step->start = (size_t)start;
    step->stop = (size_t)stop;
    return code;
}

static enum err_code read_decoder_metaspace(const struct members *members,
                                            struct decoder_step *step)
{
    const char *scheme = "";
    size_t size = 0;
    bool prefix = true;
    enum err_code code = copy_text(members, "replacement", 1, step->text, &step->text_size);
    code = code == ERR_OK ? members_bool(members, "add_prefix_space", false, &prefix) : code;
    code = code == ERR_OK ? members_string(members, "prepend_scheme", false, 16, &scheme, &size)
                          : code;
    step->drops_first = prefix && !(size == 5 && memcmp(scheme, "never", 5) == 0);
    return code;
}

static enum err_code read_decoder_step(const struct members *members, struct decoder_step *step)
{
    switch (step->kind) {
    case DECODER_WORDPIECE: {
        enum err_code code = copy_text(members, "prefix", 0, step->text, &step->text_size);
        return code == ERR_OK ? members_bool(members, "cleanup", true, &step->cleanup) : code;
    }
    case DECODER_METASPACE:
        return read_decoder_metaspace(members, step);
    case DECODER_BPE:
        return copy_text(members, "suffix", 1, step->text, &step->text_size);
    case DECODER_REPLACE:
        return read_decoder_replace(members, step);
    case DECODER_STRIP:
        return read_decoder_strip(members, step);
    default:
        return ERR_OK;
    }
}

static enum err_code read_step(const struct members *members, unsigned depth,
                               struct decoder *decoder)
{
    size_t kind = 0;
    enum err_code code = members_type(members, decoders, &kind);
    if (code == ERR_OK && kind == SEQUENCE_OF_DECODERS && depth < RULES_DEPTH_MAX) {
        const struct jval *list = NULL;
        code = members_array(members, "decoders", true, &list);
        for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
            struct members inner;
            code = members_enter_at(members, "decoders", jval_at(list, i), i, &inner);
            code = code == ERR_OK ? read_step(&inner, depth + 1, decoder) : code;
        }
        return code;
    }
    if (code == ERR_OK && (kind == SEQUENCE_OF_DECODERS || decoder->n == DECODER_STEPS_MAX)) {
        return members_wrong(members, "type", ERR_LIMIT, "fewer decoders");
    }
    if (code == ERR_OK) {
        struct decoder_step *step = &decoder->steps[decoder->n++];
        step->kind = (enum decoder_kind)kind;
        code = read_decoder_step(members, step);
    }
    return code;
}

enum err_code rules_read_decoder(const struct members *file, struct decoder *decoder)
{
    if (members_absent(file, "decoder")) {
        decoder->spaced = true;
        return ERR_OK;
    }
    struct err why = ERR_INIT;
    struct members lenient = *file;
    struct members inner;
    lenient.err = &why;
    enum err_code code = members_enter(&lenient, "decoder", &inner);
    code = code == ERR_OK ? read_step(&inner, 0, decoder) : code;
    if (code != ERR_OK) {
        decoder->unknown = true;
        warnings_add(file->warnings, "%s; /decode is off", why.text);
    }
    return ERR_OK;
}
