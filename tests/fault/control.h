/* Which call fails, told from outside while the program runs: a file of 64 bytes that ORTHRUS_SHIM
 * names. tests/fault_shim.py writes it. Included by one file of a program (wrapped.c) or library
 * (shim.c).
 *
 * Little-endian words of the file: which call (enum call), the number of the call from now on that
 * fails (1: the next; 0: none), what errno it gets (0: a shorter result), how many such calls there
 * were since, for CALL_MALLOC the size that counts, and a double word: how many bytes were asked
 * for. */
#ifndef ORTHRUS_TESTS_FAULT_CONTROL_H
#define ORTHRUS_TESTS_FAULT_CONTROL_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum call {
    CALL_NONE,
    CALL_MALLOC, /* malloc of one size */
    CALL_WRITE,
    CALL_RECV,
    CALL_SEND,
    CALL_ACCEPT,
    CALL_FSYNC,
    CALL_ALLOCATE, /* anything that gives memory */
    /* of sockets, and what waits for them */
    CALL_SOCKET,
    CALL_BIND,
    CALL_LISTEN,
    CALL_SETSOCKOPT,
    CALL_GETSOCKNAME,
    CALL_SHUTDOWN,
    CALL_IOCTL,
    CALL_POLL,
    CALL_EPOLL_CREATE,
    CALL_EPOLL_CTL,
    CALL_EPOLL_WAIT,
    CALL_EVENTFD,
    /* of files */
    CALL_OPEN, /* fopen too */
    CALL_READ, /* of regular files, pread too */
    CALL_STAT, /* fstat, stat, lstat, fstatat, fstatvfs */
    CALL_OPENDIR,
    CALL_READDIR,
    CALL_WRITE_FILE, /* write, pwrite, fwrite, fflush and fclose */
    CALL_FCHMOD,
    CALL_RENAME,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_ACCESS,
    CALL_CLOSE, /* of either: it closes, then says that it failed */
    CALL_INOTIFY,
    CALL_MMAP,     /* of files */
    CALL_THREAD,   /* pthread_create */
    CALL_TRUNCATE, /* ftruncate and truncate */
    CALL_LOCK,     /* flock */
    CALL_FCNTL,
    CALL_PIPE,
    CALL_RANDOM,
    CALL_LIMIT, /* getrlimit, setrlimit, and the CPUs that a thread may have */
};

/* In place of an errno: SIGKILL before the call, halfway through its bytes, behind it. */
enum { KILL_BEFORE = -1, KILL_HALFWAY = -2, KILL_AFTER = -3 };

struct control {
    _Atomic int call, at, error, seen, size, spare;
    _Atomic long bytes;
};

static struct control nothing;
static struct control *control = &nothing;

__attribute__((constructor)) static void control_begin(void)
{
    const char *path = getenv("ORTHRUS_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *data = fd >= 0 ? mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (data != MAP_FAILED) {
        control = data;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* True when this is the call that fails; *ret_error is its errno. */
static bool control_strikes(enum call call, int *ret_error)
{
    if (atomic_load(&control->call) != (int)call) {
        return false;
    }
    (void)atomic_fetch_add(&control->seen, 1);
    int at = atomic_load(&control->at);
    if (at <= 0 || atomic_fetch_sub(&control->at, 1) != 1) {
        return false;
    }
    *ret_error = atomic_load(&control->error);
    return true;
}

static bool control_allocation_fails(size_t size)
{
    int error;
    if (atomic_load(&control->call) == CALL_ALLOCATE) {
        (void)atomic_fetch_add(&control->bytes, (long)size);
    }
    if (!control_strikes(CALL_ALLOCATE, &error)) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

#endif
