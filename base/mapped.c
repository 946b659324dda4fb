#include "base/mapped.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAPPED_MAX = 256 };

/* A slot is its owner's from the exchange of `taken` on; `from` is written last and cleared first,
 * and the handler looks at no slot without it. Who faults has not removed its own mapping, so path
 * is there while the handler reads it. */
static struct slot {
    atomic_bool taken;
    atomic_uintptr_t from; /* 0: nothing to see */
    size_t size;
    char *path;
} slots[MAPPED_MAX]; /* process lifetime: a signal handler has no other way to find them */

bool mapped_add(const void *data, size_t size, const char *path)
{
    size_t i = 0;
    while (i < MAPPED_MAX && atomic_exchange(&slots[i].taken, true)) {
        i++;
    }
    if (i == MAPPED_MAX) {
        return true;
    }
    struct slot *slot = &slots[i];
    slot->path = strdup(path);
    if (!slot->path) {
        atomic_store(&slot->taken, false);
        return false;
    }
    slot->size = size;
    atomic_store(&slot->from, (uintptr_t)data);
    return true;
}

void mapped_remove(const void *data)
{
    for (size_t i = 0; data && i < MAPPED_MAX; i++) {
        if (atomic_load(&slots[i].from) == (uintptr_t)data) {
            atomic_store(&slots[i].from, 0);
            free(slots[i].path);
            atomic_store(&slots[i].taken, false);
            return;
        }
    }
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    for (size_t i = 0; info->si_code > 0 && i < MAPPED_MAX; i++) {
        uintptr_t from = atomic_load(&slots[i].from);
        if (from && at >= from && at - from < slots[i].size) {
            say("orthrus: ");
            say(slots[i].path);
            say(": can't be read any more: it was cut off meanwhile, or its disk fails\n");
            _exit(EXIT_FAILURE);
        }
    }
    /* Not ours: once this has returned it happens again, and ends the process. */
    (void)signal(number, SIG_DFL);
    if (info->si_code <= 0) {
        (void)raise(number);
    }
}

void mapped_tell(void)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    (void)sigaction(SIGBUS, &action, NULL);
}
