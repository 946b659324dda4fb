#include "train/labels.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/jval.h"
#include "model/heads/labels.h"

enum { WORDS_MAX = 1024 * 1024 };

/* "A,B,C" → its set, checked as a heads file's labels are. */
static enum err_code parse_words(const char *words, enum head_kind kind, struct arena *arena,
                                 struct label_set *ret_set, struct err *err)
{
    struct buf json;
    buf_init(&json, WORDS_MAX);
    buf_append_char(&json, '[');
    size_t n = 0;
    for (const char *at = words;; n++) {
        size_t length = strcspn(at, ",");
        buf_append_str(&json, n == 0 ? "" : ",");
        jval_append_string(&json, at, length);
        if (at[length] == '\0') {
            n++;
            break;
        }
        at += length + 1;
    }
    buf_append_char(&json, ']');
    enum err_code code;
    if (buf_failed(&json)) {
        code = err_set(err, ERR_LIMIT, "--labels: more than %d bytes", WORDS_MAX);
    } else if (n < 2 || n > HEADS_CLASSES_MAX) {
        code = err_set(err, ERR_USAGE, "--labels: %s needs 2 to %d labels", head_name(kind),
                       HEADS_CLASSES_MAX);
    } else {
        code = labels_read(json.data, &(struct head){.name = head_name(kind), .classes = n},
                           "--labels", arena, &ret_set->at, err);
        ret_set->n = code == ERR_OK ? n : 0;
    }
    buf_done(&json);
    return code;
}

static enum err_code read_flag(const char *flag, const struct heads *heads, struct arena *arena,
                               struct label_set sets[HEAD_COUNT], struct err *err)
{
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        const char *name = head_name(kind);
        size_t length = strlen(name);
        if (strncmp(flag, name, length) != 0 || flag[length] != '=') {
            continue;
        }
        struct label_set set = {0};
        enum err_code code = parse_words(flag + length + 1, kind, arena, &set, err);
        if (code != ERR_OK) {
            return code;
        }
        if (heads_has(heads, kind) && kinds_head(heads, kind)->classes != set.n) {
            return err_set(err, ERR_MISMATCH,
                           "--labels: %s has %zu labels, but --init-heads has %zu", name, set.n,
                           kinds_head(heads, kind)->classes);
        }
        sets[kind] = set;
        return ERR_OK;
    }
    return err_set(err, ERR_USAGE, "--labels: must be like classifier=A,B,C or sentiment=A,B,C");
}

enum err_code label_sets_make(const char *const *words, size_t n_words, const struct heads *heads,
                              struct arena *arena, struct label_set ret_sets[HEAD_COUNT],
                              struct err *err)
{
    static const size_t known[HEAD_COUNT] = {[HEAD_CLASSIFIER] = 6, [HEAD_SENTIMENT] = 3};
    struct label_set sets[HEAD_COUNT] = {{0}};
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        bool given = heads_has(heads, kind);
        sets[kind].n = given ? kinds_head(heads, kind)->classes : known[kind];
        enum err_code code = given
                                 ? labels_copy((const char *const *)kinds_head(heads, kind)->labels,
                                               sets[kind].n, arena, &sets[kind].at, err)
                                 : labels_read(NULL,
                                               &(struct head){.name = head_name(kind),
                                                              .classes = known[kind]},
                                               "", arena, &sets[kind].at, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    for (size_t i = 0; i < n_words; i++) {
        enum err_code code = read_flag(words[i], heads, arena, sets, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    memcpy(ret_sets, sets, sizeof sets);
    return ERR_OK;
}

int32_t label_set_find(const struct label_set *set, const char *text, size_t size)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strlen(set->at[i]) == size && memcmp(set->at[i], text, size) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

void label_set_text(const struct label_set *set, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < set->n; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", set->at[i]);
        if (n < 0 || (size_t)n >= size - used) {
            snprintf(out + used, size - used, "…");
            return;
        }
        used += (size_t)n;
    }
}
