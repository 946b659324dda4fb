#include "server/queue/entries.h"

static void append(struct queue_list *list, struct queue_entry *entry, enum entry_order order)
{
    entry->link[order] = (struct queue_link){.prev = list->last};
    if (list->last) {
        list->last->link[order].next = entry;
    } else {
        list->first = entry;
    }
    list->last = entry;
}

static void take_out(struct queue_list *list, struct queue_entry *entry, enum entry_order order)
{
    struct queue_link *link = &entry->link[order];
    if (link->prev) {
        link->prev->link[order].next = link->next;
    } else {
        list->first = link->next;
    }
    if (link->next) {
        link->next->link[order].prev = link->prev;
    } else {
        list->last = link->prev;
    }
    *link = (struct queue_link){.next = NULL};
}

static struct queue_list *list_of(struct entries *entries, enum entry_stage stage)
{
    switch (stage) {
    case ENTRY_FRESH:
        return &entries->fresh;
    case ENTRY_TURNS:
        return &entries->turns;
    case ENTRY_LAST:
        return &entries->last;
    case ENTRY_NEW:
    case ENTRY_ADMITTED:
    case ENTRY_CUT:
        break;
    }
    return NULL;
}

/* Takes what the entry counts for out of the sums; count_in puts it back once it has changed. */
static void count_out(struct entries *entries, const struct queue_entry *entry)
{
    if (!entry_waits(entry)) {
        return;
    }
    entries->all.requests--;
    entries->all.tokens -= entry->waiting;
    if (entry->stage == ENTRY_LAST) {
        entries->half_closed.requests--;
        entries->half_closed.tokens -= entry->waiting;
    } else {
        entries->next_texts -= entry_next_size(entry);
    }
}

static void count_in(struct entries *entries, const struct queue_entry *entry)
{
    if (!entry_waits(entry)) {
        return;
    }
    entries->all.requests++;
    entries->all.tokens += entry->waiting;
    if (entry->stage == ENTRY_LAST) {
        entries->half_closed.requests++;
        entries->half_closed.tokens += entry->waiting;
    } else {
        entries->next_texts += entry_next_size(entry);
    }
}

void entries_move(struct entries *entries, struct queue_entry *entry, enum entry_stage stage)
{
    struct queue_list *from = list_of(entries, entry->stage);
    struct queue_list *to = list_of(entries, stage);
    bool waited = entry_waits(entry);
    count_out(entries, entry);
    if (from) {
        take_out(from, entry, BY_TURN);
    }
    entry->stage = stage;
    if (to) {
        append(to, entry, BY_TURN);
    }
    if (!waited) {
        append(&entries->ages, entry, BY_AGE);
    } else if (!entry_waits(entry)) {
        take_out(&entries->ages, entry, BY_AGE);
    }
    count_in(entries, entry);
}

void entries_cut_text(struct entries *entries, struct queue_entry *entry)
{
    if (entry->next_text + 1 == entry->n) {
        entries_move(entries, entry, ENTRY_CUT);
        return;
    }
    count_out(entries, entry);
    entry->waiting -= entry_next_size(entry);
    entry->next_text++;
    count_in(entries, entry);
}

struct queue_entry *entries_oldest(const struct entries *entries)
{
    struct queue_entry *entry = entries->ages.first;
    while (entry && !entry_ready(entry)) {
        entry = entry_younger(entry);
    }
    return entry;
}
