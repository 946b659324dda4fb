/* The members "normalizer" and "pre_tokenizer" of a tokenizer.json: a step, or a Sequence of them.
 */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "model/text/rules/rules.h"

static const char *const type_alone[] = {"type", NULL};

static enum err_code too_many(const struct members *step, unsigned max)
{
    return err_set(step->err, ERR_LIMIT, "%s: %s: more than %u steps, or Sequences in %d",
                   step->file, step->way, max, RULES_DEPTH_MAX);
}

static enum err_code copy_text(const struct members *step, const char *key, size_t min, char *out,
                               size_t max, size_t *ret_size)
{
    const char *text = NULL;
    size_t size = 0;
    enum err_code code = members_string(step, key, true, max, &text, &size);
    if (code == ERR_OK && size < min) {
        code = members_wrong(step, key, ERR_UNSUPPORTED, "a text that is not empty");
    }
    if (code == ERR_OK) {
        memcpy(out, text, size);
        *ret_size = size;
    }
    return code;
}

/* --- Normalizers ------------------------------------------------------------------------------ */

enum { SEQUENCE_OF_NORMALIZERS = NORMALIZER_REPLACE_SPACES };

static const char *const normalizers[] = {
    [NORMALIZER_BERT] = "BertNormalizer",
    [NORMALIZER_NFC] = "NFC",
    [NORMALIZER_NFD] = "NFD",
    [NORMALIZER_NFKC] = "NFKC",
    [NORMALIZER_NFKD] = "NFKD",
    [NORMALIZER_LOWERCASE] = "Lowercase",
    [NORMALIZER_STRIP_ACCENTS] = "StripAccents",
    [NORMALIZER_STRIP] = "Strip",
    [NORMALIZER_PREPEND] = "Prepend",
    [NORMALIZER_PRECOMPILED] = "Precompiled",
    [NORMALIZER_REPLACE] = "Replace",
    [SEQUENCE_OF_NORMALIZERS] = "Sequence",
    NULL,
};

static enum err_code read_bert(const struct members *members, struct normalizer_step *step)
{
    static const char *const known[] = {"type",          "clean_text", "handle_chinese_chars",
                                        "strip_accents", "lowercase",  NULL};
    members_known(members, known);
    enum err_code code = members_bool(members, "clean_text", true, &step->clean);
    code = code == ERR_OK ? members_bool(members, "handle_chinese_chars", true, &step->chinese)
                          : code;
    code = code == ERR_OK ? members_bool(members, "lowercase", true, &step->lowercase) : code;
    step->strip_accents = step->lowercase;
    return code == ERR_OK ? members_bool(members, "strip_accents", false, &step->strip_accents)
                          : code;
}

/* {"String": text} or {"Regex": " {2,}"}. */
static enum err_code read_replace(const struct members *members, struct normalizer_step *step)
{
    static const char *const known[] = {"type", "pattern", "content", NULL};
    static const char spaces[] = " {2,}";
    struct members pattern;
    members_known(members, known);
    enum err_code code = members_enter(members, "pattern", &pattern);
    if (code == ERR_OK && jval_get(pattern.object, "Regex")) {
        const char *text = NULL;
        size_t size = 0;
        code = members_string(&pattern, "Regex", true, SIZE_MAX, &text, &size);
        if (code == ERR_OK && (size != sizeof spaces - 1 || memcmp(text, spaces, size) != 0)) {
            code = members_wrong(&pattern, "Regex", ERR_UNSUPPORTED, "\" {2,}\"");
        }
        step->kind = NORMALIZER_REPLACE_SPACES;
    } else if (code == ERR_OK) {
        code = copy_text(&pattern, "String", 1, step->pattern, sizeof step->pattern,
                         &step->pattern_size);
    }
    return code == ERR_OK ? copy_text(members, "content", 0, step->content, sizeof step->content,
                                      &step->content_size)
                          : code;
}

static enum err_code read_charsmap(const struct members *members, struct normalizer_step *step)
{
    static const char *const known[] = {"type", "precompiled_charsmap", NULL};
    const char *map = NULL;
    size_t size = 0;
    char label[3 * MEMBERS_WAY_MAX];
    members_known(members, known);
    (void)snprintf(label, sizeof label, "%.150s: %s.precompiled_charsmap", members->file,
                   members->way);
    enum err_code code = members_string(members, "precompiled_charsmap", true, CHARSMAP_MAX, &map,
                                        &size);
    return code == ERR_OK ? charsmap_init(&step->charsmap, map, size, label, members->err) : code;
}

static enum err_code read_strip(const struct members *members, struct normalizer_step *step)
{
    static const char *const known[] = {"type", "strip_left", "strip_right", NULL};
    members_known(members, known);
    enum err_code code = members_bool(members, "strip_left", true, &step->left);
    return code == ERR_OK ? members_bool(members, "strip_right", true, &step->right) : code;
}

static enum err_code read_prepend(const struct members *members, struct normalizer_step *step)
{
    static const char *const known[] = {"type", "prepend", NULL};
    members_known(members, known);
    return copy_text(members, "prepend", 1, step->content, sizeof step->content,
                     &step->content_size);
}

static enum err_code read_normalizer(const struct members *members, unsigned depth,
                                     struct normalizer *normalizer);

static enum err_code read_normalizers(const struct members *members, unsigned depth,
                                      struct normalizer *normalizer)
{
    static const char *const known[] = {"type", "normalizers", NULL};
    const struct jval *list = NULL;
    members_known(members, known);
    enum err_code code = members_array(members, "normalizers", true, &list);
    for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
        struct members inner;
        code = members_enter_at(members, "normalizers", jval_at(list, i), i, &inner);
        code = code == ERR_OK ? read_normalizer(&inner, depth + 1, normalizer) : code;
    }
    return code;
}

static enum err_code read_normalizer(const struct members *members, unsigned depth,
                                     struct normalizer *normalizer)
{
    size_t kind = 0;
    enum err_code code = members_type(members, normalizers, &kind);
    if (code != ERR_OK) {
        return code;
    }
    if (kind == SEQUENCE_OF_NORMALIZERS && depth < RULES_DEPTH_MAX) {
        return read_normalizers(members, depth, normalizer);
    }
    if (kind == SEQUENCE_OF_NORMALIZERS || normalizer->n == NORMALIZER_STEPS_MAX) {
        return too_many(members, NORMALIZER_STEPS_MAX);
    }
    /* Counted before it is read, so that what a failing one holds is freed. */
    struct normalizer_step *step = &normalizer->steps[normalizer->n++];
    step->kind = (enum normalizer_kind)kind;
    switch (step->kind) {
    case NORMALIZER_BERT:
        return read_bert(members, step);
    case NORMALIZER_STRIP:
        return read_strip(members, step);
    case NORMALIZER_PREPEND:
        return read_prepend(members, step);
    case NORMALIZER_PRECOMPILED:
        return read_charsmap(members, step);
    case NORMALIZER_REPLACE:
        return read_replace(members, step);
    default:
        members_known(members, type_alone);
        return ERR_OK;
    }
}

enum err_code rules_read_normalizer(const struct members *file, struct normalizer *normalizer)
{
    struct members inner;
    if (members_absent(file, "normalizer")) {
        return ERR_OK;
    }
    enum err_code code = members_enter(file, "normalizer", &inner);
    return code == ERR_OK ? read_normalizer(&inner, 0, normalizer) : code;
}

/* --- Pre-tokenizers --------------------------------------------------------------------------- */

enum { SEQUENCE_OF_PRETOKENIZERS = PRETOKENIZER_BYTE_LEVEL + 1 };

static const char *const pretokenizers[] = {
    [PRETOKENIZER_BERT] = "BertPreTokenizer",
    [PRETOKENIZER_WHITESPACE] = "Whitespace",
    [PRETOKENIZER_WHITESPACE_SPLIT] = "WhitespaceSplit",
    [PRETOKENIZER_METASPACE] = "Metaspace",
    [PRETOKENIZER_BYTE_LEVEL] = "ByteLevel",
    [SEQUENCE_OF_PRETOKENIZERS] = "Sequence",
    NULL,
};

static enum err_code read_scheme(const struct members *members, struct pretokenizer_step *step)
{
    static const char *const schemes[] = {
        [PREPEND_ALWAYS] = "always", [PREPEND_FIRST] = "first", [PREPEND_NEVER] = "never"};
    bool prefix = true;
    const char *scheme = NULL;
    size_t size = 0;
    enum err_code code = members_bool(members, "add_prefix_space", false, &prefix);
    code = code == ERR_OK ? members_string(members, "prepend_scheme", false, 16, &scheme, &size)
                          : code;
    if (code != ERR_OK) {
        return code;
    }
    if (!scheme) {
        step->prepend = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
        return ERR_OK;
    }
    for (enum prepend_scheme i = 0; i <= PREPEND_NEVER; i++) {
        if (strlen(schemes[i]) == size && memcmp(schemes[i], scheme, size) == 0) {
            step->prepend = i;
            return prefix || i == PREPEND_NEVER
                       ? ERR_OK
                       : members_wrong(members, "prepend_scheme", ERR_INVALID,
                                       "never, beside add_prefix_space false");
        }
    }
    return members_wrong(members, "prepend_scheme", ERR_UNSUPPORTED, "always, first, never");
}

static enum err_code read_metaspace(const struct members *members, struct pretokenizer_step *step)
{
    static const char *const known[] = {
        "type", "replacement", "add_prefix_space", "split", "str_rep", "prepend_scheme", NULL};
    members_known(members, known);
    enum err_code code = copy_text(members, "replacement", 1, step->replacement,
                                   sizeof step->replacement, &step->replacement_size);
    if (code == ERR_OK && utf8_length(step->replacement, step->replacement_size) != 1) {
        code = members_wrong(members, "replacement", ERR_INVALID, "one character");
    }
    step->split = true;
    code = code == ERR_OK ? members_bool(members, "split", false, &step->split) : code;
    return code == ERR_OK ? read_scheme(members, step) : code;
}

static enum err_code read_byte_level(const struct members *members, struct pretokenizer_step *step)
{
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                        NULL};
    bool trim; /* of no influence in a pre-tokenizer */
    members_known(members, known);
    step->use_regex = true;
    enum err_code code = members_bool(members, "add_prefix_space", true, &step->add_prefix_space);
    code = code == ERR_OK ? members_bool(members, "trim_offsets", false, &trim) : code;
    return code == ERR_OK ? members_bool(members, "use_regex", false, &step->use_regex) : code;
}

static enum err_code read_pretokenizer(const struct members *members, unsigned depth,
                                       struct pretokenizer *pretokenizer);

static enum err_code read_pretokenizers(const struct members *members, unsigned depth,
                                        struct pretokenizer *pretokenizer)
{
    static const char *const known[] = {"type", "pretokenizers", NULL};
    const struct jval *list = NULL;
    members_known(members, known);
    enum err_code code = members_array(members, "pretokenizers", true, &list);
    for (size_t i = 0; i < jval_array_size(list) && code == ERR_OK; i++) {
        struct members inner;
        code = members_enter_at(members, "pretokenizers", jval_at(list, i), i, &inner);
        code = code == ERR_OK ? read_pretokenizer(&inner, depth + 1, pretokenizer) : code;
    }
    return code;
}

static enum err_code read_pretokenizer(const struct members *members, unsigned depth,
                                       struct pretokenizer *pretokenizer)
{
    size_t kind = 0;
    enum err_code code = members_type(members, pretokenizers, &kind);
    if (code != ERR_OK) {
        return code;
    }
    if (kind == SEQUENCE_OF_PRETOKENIZERS && depth < RULES_DEPTH_MAX) {
        return read_pretokenizers(members, depth, pretokenizer);
    }
    if (kind == SEQUENCE_OF_PRETOKENIZERS || pretokenizer->n == PRETOKENIZER_STEPS_MAX) {
        return too_many(members, PRETOKENIZER_STEPS_MAX);
    }
    struct pretokenizer_step *step = &pretokenizer->steps[pretokenizer->n++];
    step->kind = (enum pretokenizer_kind)kind;
    if (step->kind == PRETOKENIZER_METASPACE) {
        return read_metaspace(members, step);
    }
    if (step->kind == PRETOKENIZER_BYTE_LEVEL) {
        return read_byte_level(members, step);
    }
    members_known(members, type_alone);
    return ERR_OK;
}

enum err_code rules_read_pretokenizer(const struct members *file, struct pretokenizer *pretokenizer)
{
    struct members inner;
    if (members_absent(file, "pre_tokenizer")) {
        return ERR_OK;
    }
    enum err_code code = members_enter(file, "pre_tokenizer", &inner);
    return code == ERR_OK ? read_pretokenizer(&inner, 0, pretokenizer) : code;
}
