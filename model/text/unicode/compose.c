#include "model/text/unicode/compose.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { CLASSES = 256, INSERTION_MAX = 16 };

void compose_scratch_done(struct compose_scratch *scratch)
{
    free(scratch->run.at);
    free(scratch->sorted.at);
    free(scratch->behind.at);
    *scratch = (struct compose_scratch){0};
}

static bool items_reserve(struct compose_items *items, size_t n)
{
    if (n <= items->room) {
        return true;
    }
    size_t room = n + n / 2 + 32;
    struct compose_item *grown = realloc(items->at, room * sizeof *grown);
    if (!grown) {
        return false;
    }
    items->at = grown;
    items->room = room;
    return true;
}

static void items_add(struct compose *compose, struct compose_items *items,
                      struct compose_item item)
{
    if (!items_reserve(items, items->n + 1)) {
        compose->failed = true;
        return;
    }
    items->at[items->n++] = item;
}

static void put(const struct compose *compose, struct compose_item item)
{
    compose->put(compose->context, item.scalar, item.change);
}

static void put_behind(struct compose *compose)
{
    struct compose_items *behind = &compose->scratch->behind;
    for (size_t i = 0; i < behind->n; i++) {
        put(compose, behind->at[i]);
    }
    behind->n = 0;
    compose->last_class = -1;
}

/* A starter that did not compose with the one before it. */
static void take_starter(struct compose *compose, struct compose_item item)
{
    put(compose, compose->starter);
    put_behind(compose);
    compose->starter = item;
}

/* Takes the next character in canonical order. */
static void recompose(struct compose *compose, struct compose_item item)
{
    if (!compose->composes) {
        put(compose, item);
        return;
    }
    if (!compose->has_starter) {
        if (item.class != 0) {
            put(compose, item);
        } else {
            compose->starter = item;
            compose->has_starter = true;
        }
        return;
    }
    bool blocked = compose->last_class >= (int)item.class;
    uint32_t composite = blocked ? 0
                                 : scalar_compose(compose->properties, compose->starter.scalar,
                                                  item.scalar);
    if (composite) {
        compose->starter.scalar = composite;
        compose->starter.change += item.change - 1;
    } else if (item.class == 0) {
        take_starter(compose, item);
    } else {
        items_add(compose, &compose->scratch->behind, item);
        compose->last_class = (int)item.class;
    }
}

static void sort_short(struct compose_items *run)
{
    for (size_t i = 1; i < run->n; i++) {
        struct compose_item item = run->at[i];
        size_t to = i;
        for (; to > 0 && run->at[to - 1].class > item.class; to--) {
            run->at[to] = run->at[to - 1];
        }
        run->at[to] = item;
    }
}

/* Stable, by counting: a row of marks may be as long as the text. */
static bool sort_long(struct compose_items *run, struct compose_items *sorted)
{
    size_t places[CLASSES + 1] = {0};
    if (!items_reserve(sorted, run->n)) {
        return false;
    }
    for (size_t i = 0; i < run->n; i++) {
        places[run->at[i].class + 1]++;
    }
    for (size_t i = 1; i <= CLASSES; i++) {
        places[i] += places[i - 1];
    }
    for (size_t i = 0; i < run->n; i++) {
        sorted->at[places[run->at[i].class]++] = run->at[i];
    }
    memcpy(run->at, sorted->at, run->n * sizeof *run->at);
    return true;
}

static void flush_run(struct compose *compose)
{
    struct compose_items *run = &compose->scratch->run;
    if (run->n > INSERTION_MAX) {
        compose->failed = !sort_long(run, &compose->scratch->sorted) || compose->failed;
    } else {
        sort_short(run);
    }
    for (size_t i = 0; i < run->n; i++) {
        recompose(compose, run->at[i]);
    }
    run->n = 0;
}

static void take_decomposed(struct compose *compose, uint32_t scalar, bool first)
{
    struct compose_item item = {scalar, !first, scalar_class(compose->properties, scalar)};
    if (item.class == 0 && compose->scratch->run.n) {
        flush_run(compose);
    }
    items_add(compose, &compose->scratch->run, item);
}

static void take_hangul(struct compose *compose, uint32_t scalar)
{
    uint32_t syllable = scalar - HANGUL_S;
    uint32_t vowel = syllable / HANGUL_T_COUNT;
    take_decomposed(compose, HANGUL_L + vowel / HANGUL_V_COUNT, true);
    take_decomposed(compose, HANGUL_V + vowel % HANGUL_V_COUNT, false);
    if (syllable % HANGUL_T_COUNT) {
        take_decomposed(compose, HANGUL_T + syllable % HANGUL_T_COUNT, false);
    }
}

void compose_text(struct compose *compose, const char *bytes, size_t size)
{
    compose->last_class = -1;
    compose->has_starter = false;
    compose->scratch->run.n = 0;
    compose->scratch->behind.n = 0;
    for (size_t at = 0; at < size && !compose->failed;) {
        uint32_t scalar = utf8_next(bytes, size, &at);
        if (scalar >= HANGUL_S && scalar < HANGUL_S + HANGUL_S_COUNT) {
            take_hangul(compose, scalar);
            continue;
        }
        size_t n;
        const uint32_t *row = scalar_mapped(compose->decompositions, &scalar, &n);
        for (size_t i = 0; i < n; i++) {
            take_decomposed(compose, row[i], i == 0);
        }
    }
    flush_run(compose);
    if (compose->has_starter) {
        put(compose, compose->starter);
        put_behind(compose);
    }
}
