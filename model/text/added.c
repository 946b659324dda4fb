#include "model/text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

static void token_done(struct added_token *token)
{
    free(token->content);
    free(token->decoded);
}

void added_done(struct added *added)
{
    for (size_t i = 0; i < added->n; i++) {
        token_done(&added->tokens[i]);
    }
    free(added->tokens);
    trie_done(&added->original);
    trie_done(&added->normalized);
    *added = (struct added){0};
}

/* The place of an id among the tokens, or where it would go. */
static size_t place_of(const struct added *added, int32_t id)
{
    size_t low = 0;
    size_t high = added->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (added->tokens[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static char *copy_of(const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    if (copy) {
        memcpy(copy, bytes, size);
        copy[size] = '\0';
    }
    return copy;
}

enum err_code added_put(struct added *added, const struct added_token *token, struct err *err)
{
    if (token->size > ADDED_BYTES_MAX || token->decoded_size > ADDED_BYTES_MAX) {
        return err_set(err, ERR_LIMIT, "an added token of %zu bytes, at most %d are allowed",
                       token->size, ADDED_BYTES_MAX);
    }
    if (added->n == ADDED_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d added tokens", ADDED_MAX);
    }
    if (added->n == added->room) {
        size_t room = 2 * added->room + 16;
        struct added_token *grown = realloc(added->tokens, room * sizeof *grown);
        if (!grown) {
            return err_nomem(err, room * sizeof *grown);
        }
        added->tokens = grown;
        added->room = room;
    }
    struct added_token copy = *token;
    copy.content = copy_of(token->content, token->size);
    copy.decoded = copy_of(token->decoded, token->decoded_size);
    if (!copy.content || !copy.decoded) {
        token_done(&copy);
        return err_nomem(err, token->size);
    }
    size_t place = place_of(added, token->id);
    if (place < added->n && added->tokens[place].id == token->id) {
        token_done(&added->tokens[place]);
    } else {
        memmove(added->tokens + place + 1, added->tokens + place,
                (added->n - place) * sizeof *added->tokens);
        added->n++;
    }
    added->tokens[place] = copy;
    return ERR_OK;
}

const struct added_token *added_find(const struct added *added, int32_t id)
{
    size_t place = place_of(added, id);
    bool found = place < added->n && added->tokens[place].id == id;
    return found ? &added->tokens[place] : NULL;
}

const struct added_token *added_find_content(const struct added *added, const char *content,
                                             size_t size)
{
    for (size_t i = 0; i < added->n; i++) {
        const struct added_token *token = &added->tokens[i];
        if (token->size == size && memcmp(token->content, content, size) == 0) {
            return token;
        }
    }
    return NULL;
}

static enum err_code build(struct added *added, bool normalized, struct trie *trie,
                           struct trie_word *words, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < added->n; i++) {
        const struct added_token *token = &added->tokens[i];
        if (token->normalized == normalized) {
            const char *bytes = normalized ? token->decoded : token->content;
            size_t size = normalized ? token->decoded_size : token->size;
            if (size == 0) {
                return err_set(err, ERR_INVALID, "the added token %d reads as nothing", token->id);
            }
            words[n++] = (struct trie_word){bytes, (uint32_t)size, (int32_t)i};
        }
    }
    enum err_code code = trie_init(trie, words, n, err);
    for (size_t i = 1; i < n && code == ERR_OK; i++) {
        if (words[i].size == words[i - 1].size &&
            memcmp(words[i].bytes, words[i - 1].bytes, words[i].size) == 0) {
            code = err_set(err, ERR_CONFLICT, "the added tokens %d and %d read alike",
                           added->tokens[words[i - 1].id].id, added->tokens[words[i].id].id);
        }
    }
    return code;
}

enum err_code added_ready(struct added *added, struct err *err)
{
    struct trie_word *words = calloc(added->n + 1, sizeof *words);
    if (!words) {
        return err_nomem(err, added->n * sizeof *words);
    }
    enum err_code code = build(added, false, &added->original, words, err);
    code = code == ERR_OK ? build(added, true, &added->normalized, words, err) : code;
    free(words);
    for (size_t i = 0; i < added->n && code == ERR_OK; i++) {
        struct added_token *token = &added->tokens[i];
        const struct added_token *named = added_find_content(added, token->decoded,
                                                             token->decoded_size);
        token->skipped = named && named->special;
    }
    return code;
}

/* --- Walking ---------------------------------------------------------------------------------- */

struct added_walk added_walk(const struct added *added, bool normalized,
                             const struct scalar_pages *properties, const char *text, size_t size)
{
    return (struct added_walk){
        .added = added,
        .trie = normalized ? &added->normalized : &added->original,
        .properties = properties,
        .text = text,
        .size = size,
    };
}

/* Begin of the character that ends at `end` > 0. */
static size_t before(const char *text, size_t end)
{
    do {
        end--;
    } while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

static bool flag_at(const struct added_walk *walk, size_t at, enum scalar_flag flag)
{
    return scalar_is(walk->properties, utf8_next(walk->text, walk->size, &at), flag);
}

static bool stands_alone(const struct added_walk *walk, size_t from, size_t to)
{
    bool word_before = from > 0 && flag_at(walk, before(walk->text, from), SCALAR_WORD);
    bool word_behind = to < walk->size && flag_at(walk, to, SCALAR_WORD);
    return !word_before && !word_behind;
}

/* Takes the white space before a token, up to what was given. A token that begins in what the one
 * before it took, and takes nothing itself, overlaps with that, as in the reference. */
static size_t take_before(const struct added_walk *walk, size_t from)
{
    from = size_max(from, walk->given);
    while (from > walk->given && flag_at(walk, before(walk->text, from), SCALAR_WHITE)) {
        from = before(walk->text, from);
    }
    return from;
}

static size_t take_behind(struct added_walk *walk, size_t to)
{
    if (to >= walk->white_from && to < walk->white_to) {
        return walk->white_to;
    }
    walk->white_from = to;
    while (to < walk->size && flag_at(walk, to, SCALAR_WHITE)) {
        (void)utf8_next(walk->text, walk->size, &to);
    }
    walk->white_to = to;
    return to;
}

/* The token that begins first, the longest of them, and that counts: false without one. */
static bool find(struct added_walk *walk, struct added_stretch *ret)
{
    while (walk->at < walk->size) {
        size_t size = 0;
        int32_t index = walk->trie->roots[(unsigned char)walk->text[walk->at]]
                            ? trie_longest(walk->trie, 0, walk->text + walk->at,
                                           walk->size - walk->at, &size)
                            : TRIE_NONE;
        if (index == TRIE_NONE) {
            walk->at++;
            continue;
        }
        const struct added_token *token = &walk->added->tokens[index];
        size_t from = walk->at;
        size_t to = from + size;
        walk->at = to;
        if (token->single_word && !stands_alone(walk, from, to)) {
            continue;
        }
        from = token->lstrip ? take_before(walk, from) : from;
        to = token->rstrip ? take_behind(walk, to) : to;
        *ret = (struct added_stretch){from, to, token};
        return true;
    }
    return false;
}

bool added_next(struct added_walk *walk, struct added_stretch *ret)
{
    for (;;) {
        if (!walk->waits) {
            walk->waits = walk->trie->nodes > 1 && find(walk, &walk->next);
        }
        size_t until = walk->waits ? walk->next.from : walk->size;
        if (walk->given < until) {
            *ret = (struct added_stretch){walk->given, until, NULL};
            walk->given = until;
            return true;
        }
        if (!walk->waits) {
            return false;
        }
        /* Nothing is left of a token whose white space the one before it took. */
        *ret = walk->next;
        walk->given = walk->next.to;
        walk->waits = false;
        if (ret->from < ret->to) {
            return true;
        }
    }
}
