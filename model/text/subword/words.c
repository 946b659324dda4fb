#include "model/text/subword/words.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { SLOTS_MIN = 1024 };

void words_done(struct words *words)
{
    free(words->data);
    free(words->begins);
    free(words->sizes);
    free(words->slots);
    *words = (struct words){0};
}

/* FNV-1a. Whoever chooses the words makes only his own start slow. */
static uint64_t hash(const char *bytes, size_t size)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) {
        value = (value ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    }
    return value ^ value >> 29;
}

static bool grow_ids(struct words *words, size_t ids)
{
    if (ids <= words->room) {
        return true;
    }
    size_t room = size_max(ids, 2 * words->room + 1024);
    size_t *begins = realloc(words->begins, room * sizeof *begins);
    words->begins = begins ? begins : words->begins;
    uint32_t *sizes = begins ? realloc(words->sizes, room * sizeof *sizes) : NULL;
    words->sizes = sizes ? sizes : words->sizes;
    if (!sizes) {
        return false;
    }
    memset(begins + words->room, 0, (room - words->room) * sizeof *begins);
    words->room = room;
    return true;
}

static size_t slot_of(const struct words *words, const char *bytes, size_t size)
{
    size_t slot = hash(bytes, size) & (words->slot_count - 1);
    while (words->slots[slot]) {
        struct word word = words_at(words, words->slots[slot] - 1);
        if (word.bytes && word.size == size && memcmp(word.bytes, bytes, size) == 0) {
            break;
        }
        slot = (slot + 1) & (words->slot_count - 1);
    }
    return slot;
}

static bool grow_slots(struct words *words)
{
    if (2 * (words->count + 1) <= words->slot_count) {
        return true;
    }
    struct words old = *words;
    words->slot_count = old.slot_count ? 4 * old.slot_count : SLOTS_MIN;
    words->slots = calloc(words->slot_count, sizeof *words->slots);
    if (!words->slots) {
        *words = old;
        return false;
    }
    for (size_t i = 0; i < old.slot_count; i++) {
        if (old.slots[i]) {
            struct word word = words_at(words, old.slots[i] - 1);
            words->slots[slot_of(words, word.bytes, word.size)] = old.slots[i];
        }
    }
    free(old.slots);
    return true;
}

static bool grow_data(struct words *words, size_t size)
{
    if (words->data && words->data_room - words->data_size > size) {
        return true;
    }
    size_t room = 2 * words->data_room + size + 4096;
    char *data = realloc(words->data, room);
    if (!data) {
        return false;
    }
    words->data = data;
    words->data_room = room;
    return true;
}

enum err_code words_add(struct words *words, const char *bytes, size_t size, int64_t id,
                        struct err *err)
{
    if (id < 0 || id >= WORDS_MAX) {
        return err_set(err, ERR_LIMIT, "id %lld, allowed is 0 to %d", (long long)id, WORDS_MAX - 1);
    }
    if (words_at(words, id).bytes) {
        return err_set(err, ERR_CONFLICT, "two words have the id %lld", (long long)id);
    }
    if (!grow_ids(words, (size_t)id + 1) || !grow_slots(words) || !grow_data(words, size)) {
        return err_nomem(err, size);
    }
    words->begins[id] = words->data_size + 1;
    words->sizes[id] = (uint32_t)size;
    memcpy(words->data + words->data_size, bytes, size);
    words->data[words->data_size + size] = '\0';
    words->data_size += size + 1;
    words->ids = size_max(words->ids, (size_t)id + 1);
    size_t slot = slot_of(words, bytes, size);
    words->count += words->slots[slot] == 0;
    words->slots[slot] = (uint32_t)id + 1;
    return ERR_OK;
}

int32_t words_find(const struct words *words, const char *bytes, size_t size)
{
    if (words->slot_count == 0) {
        return WORDS_NONE;
    }
    return (int32_t)words->slots[slot_of(words, bytes, size)] - 1;
}

struct word words_at(const struct words *words, int64_t id)
{
    if (id < 0 || (size_t)id >= words->room || words->begins[id] == 0) {
        return (struct word){NULL, 0};
    }
    return (struct word){words->data + words->begins[id] - 1, words->sizes[id]};
}
