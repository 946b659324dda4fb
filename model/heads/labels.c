#include "model/heads/labels.h"

#include <string.h>

#include "base/jval.h"
#include "base/utf8.h"
#include "model/heads/heads_private.h"

static const char *const classifier_labels[] = {"Expression", "Opinion", "Quote",
                                                "Riddle",     "News",    "Other"};
static const char *const sentiment_labels[] = {"Neutral", "Positive", "Negative"};
/* What a file without labels means, by the head's name. */
static const struct {
    const char *name;
    size_t classes;
    const char *const *labels;
} defaults[] = {
    {"classifier", 6, classifier_labels},
    {"sentiment", 3, sentiment_labels},
};

/* A score has one label, which few have a name for; transformers' word. */
static const char *const score_labels[] = {"LABEL_0"};

bool label_is_plain(const char *label, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)label[i] < 0x20 || label[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool label_ok(const char *label, size_t size)
{
    return size > 0 && size <= HEADS_LABEL_MAX && utf8_valid(label, size) &&
           label_is_plain(label, size);
}

static bool same_text(const struct jval *value, const char *text, size_t size)
{
    const char *other;
    size_t other_size;
    return jval_string(value, &other, &other_size) && other_size == size &&
           memcmp(other, text, size) == 0;
}

/* The array's i-th label, copied. */
static enum err_code take_label(const struct jval *array, size_t i, const char *file,
                                const char *key, struct arena *arena, char **ret_label,
                                struct err *err)
{
    const char *label = "";
    size_t size = 0;
    (void)jval_string(jval_at(array, i), &label, &size);
    if (!label_ok(label, size)) {
        return err_set(err, ERR_INVALID,
                       "%s: %s[%zu] must be a string of 1 to %d bytes without control characters",
                       file, key, i, HEADS_LABEL_MAX);
    }
    for (size_t earlier = 0; earlier < i; earlier++) {
        if (same_text(jval_at(array, earlier), label, size)) {
            return err_set(err, ERR_INVALID, "%s: %s[%zu] is the same as [%zu]", file, key, i,
                           earlier);
        }
    }
    char *copy = arena_memdup(arena, label, size);
    if (!copy) {
        return err_nomem(err, size);
    }
    *ret_label = copy;
    return ERR_OK;
}

static enum err_code parse_labels(const char *json, const struct head *head, const char *file,
                                  struct arena *arena, char ***ret_labels, struct err *err)
{
    char key[HEAD_KEY_SIZE];
    size_t classes = head->classes;
    (void)head_key(head->name, HEAD_KEY_LABELS, key);
    char **labels = arena_calloc(arena, classes, sizeof *labels);
    if (!labels) {
        return err_nomem(err, classes * sizeof *labels);
    }
    struct jval *array;
    struct err why = ERR_INIT;
    enum err_code code = jval_parse(json, strlen(json), &array, &why);
    if (code != ERR_OK) {
        return err_set(err, code, "%s: %s: %s", file, key, why.text);
    }
    if (!jval_is_array(array) || jval_array_size(array) != classes) {
        code = err_set(err, ERR_INVALID,
                       "%s: %s must be a JSON array of %zu strings, one for each row of %s.weight",
                       file, key, classes, head->name);
    }
    for (size_t i = 0; code == ERR_OK && i < classes; i++) {
        code = take_label(array, i, file, key, arena, &labels[i], err);
    }
    jval_free(array);
    if (code == ERR_OK) {
        *ret_labels = labels;
    }
    return code;
}

enum err_code labels_copy(const char *const *labels, size_t classes, struct arena *arena,
                          char ***ret_labels, struct err *err)
{
    char **copies = arena_calloc(arena, classes, sizeof *copies);
    if (!copies) {
        return err_nomem(err, classes * sizeof *copies);
    }
    for (size_t i = 0; i < classes; i++) {
        size_t size = strlen(labels[i]);
        copies[i] = arena_memdup(arena, labels[i], size);
        if (!copies[i]) {
            return err_nomem(err, size);
        }
    }
    *ret_labels = copies;
    return ERR_OK;
}

enum err_code labels_read(const char *json, const struct head *head, const char *file,
                          struct arena *arena, char ***ret_labels, struct err *err)
{
    if (json) {
        return parse_labels(json, head, file, arena, ret_labels, err);
    }
    if (head->type == HEAD_SCORE) {
        return labels_copy(score_labels, 1, arena, ret_labels, err);
    }
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        if (strcmp(head->name, defaults[i].name) == 0 && head->classes == defaults[i].classes &&
            head->type == HEAD_SOFTMAX) {
            return labels_copy(defaults[i].labels, head->classes, arena, ret_labels, err);
        }
    }
    return err_set(err, ERR_INVALID,
                   "%s: %s has %zu classes and no labels: add %s.labels, a JSON array of %zu "
                   "strings, to the metadata (tools/label-heads does)",
                   file, head->name, head->classes, head->name, head->classes);
}

bool labels_append(char *const *labels, size_t classes, struct buf *out)
{
    for (size_t i = 0; i < classes; i++) {
        buf_append_char(out, i ? ',' : '[');
        jval_append_string(out, labels[i], strlen(labels[i]));
    }
    return buf_append_char(out, ']');
}
