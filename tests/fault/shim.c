/* A library to be preloaded: one call of the C library's fails once, as a file that control.h
 * describes says while the program runs. For whole daemons, whose libraries' calls the linker's
 * --wrap does not see. tests/fault_shim.py has the other side. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/fault/control.h"

#define NEXT(function)                                 \
    static __typeof__(function) *real;                 \
    if (!real) {                                       \
        *(void **)&real = dlsym(RTLD_NEXT, #function); \
    }

/* glibc's own, by the names that it exports beside the usual ones. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    int error;
    if (control_allocation_fails(size) ||
        ((size_t)atomic_load(&control->size) == size && control_strikes(CALL_MALLOC, &error))) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return control_allocation_fails(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return control_allocation_fails(size) ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return control_allocation_fails(size) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_data, size_t alignment, size_t size)
{
    void *data = control_allocation_fails(size) ? NULL : __libc_memalign(alignment, size);
    if (!data) {
        return ENOMEM;
    }
    *ret_data = data;
    return 0;
}

/* Memory, not files: those fail in other ways. */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    NEXT(mmap)
    return fd < 0 && control_allocation_fails(size) ? MAP_FAILED
                                                    : real(at, size, protection, flags, fd, offset);
}

/* What a call that moves bytes does: fails, moves half of them, or goes its way. */
#define MOVE(call, result_type, size, whole, less) \
    int error = 0;                                 \
    if (control_strikes(call, &error)) {           \
        if (error) {                               \
            errno = error;                         \
            return -1;                             \
        }                                          \
        if ((size) > 1) {                          \
            return less;                           \
        }                                          \
    }                                              \
    return whole;

/* Of stderr alone: the library's own wake-ups go through write(2) too, and it ends without them. */
ssize_t write(int fd, const void *data, size_t size)
{
    NEXT(write)
    if (fd != STDERR_FILENO) {
        return real(fd, data, size);
    }
    MOVE(CALL_WRITE, ssize_t, size, real(fd, data, size), real(fd, data, size / 2))
}

ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *address,
                 socklen_t *address_size){
    NEXT(recvfrom)
        MOVE(CALL_RECV, ssize_t, size, real(fd, data, size, flags, address, address_size),
             real(fd, data, size / 2, flags, address, address_size))}

ssize_t send(int fd, const void *data, size_t size,
             int flags){NEXT(send) MOVE(CALL_SEND, ssize_t, size, real(fd, data, size, flags),
                                        real(fd, data, size / 2, flags))}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg)
    int error = 0;
    if (control_strikes(CALL_SEND, &error)) {
        if (error) {
            errno = error;
            return -1;
        }
        if (message->msg_iovlen && message->msg_iov[0].iov_len > 1) {
            return send(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len / 2, flags);
        }
    }
    return real(fd, message, flags);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    NEXT(accept4)
    int error = 0;
    if (control_strikes(CALL_ACCEPT, &error)) {
        errno = error;
        return -1;
    }
    return real(fd, address, size, flags);
}

int fsync(int fd)
{
    NEXT(fsync)
    int error = 0;
    if (control_strikes(CALL_FSYNC, &error)) {
        errno = error;
        return -1;
    }
    return real(fd);
}
