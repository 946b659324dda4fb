/* A library to be preloaded: one call of the C library's fails once, as a file of 64 bytes that
 * ORTHRUS_SHIM names says while the program runs. For whole daemons, whose libraries' calls the
 * linker's --wrap does not see. tests/fault_shim.py has the other side.
 *
 * Little-endian words of the file: which call (enum call), the number of the call from now on that
 * fails (1: the next; 0: none), what errno it gets (0: a shorter result), how many such calls there
 * were since, and for malloc the size that counts. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { CALL_NONE, CALL_MALLOC, CALL_WRITE, CALL_RECV, CALL_SEND, CALL_ACCEPT, CALL_FSYNC };

struct control {
    _Atomic int call, at, error, seen, size;
};

static struct control nothing;
static struct control *control = &nothing;

#define NEXT(function)                                 \
    static __typeof__(function) *real;                 \
    if (!real) {                                       \
        *(void **)&real = dlsym(RTLD_NEXT, #function); \
    }

__attribute__((constructor)) static void begin(void)
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
static int strikes(enum call call, int *ret_error)
{
    if (atomic_load(&control->call) != (int)call) {
        return 0;
    }
    (void)atomic_fetch_add(&control->seen, 1);
    int at = atomic_load(&control->at);
    if (at <= 0 || atomic_fetch_sub(&control->at, 1) != 1) {
        return 0;
    }
    *ret_error = atomic_load(&control->error);
    return 1;
}

void *malloc(size_t size)
{
    NEXT(malloc)
    int error;
    if ((size_t)atomic_load(&control->size) == size && strikes(CALL_MALLOC, &error)) {
        errno = ENOMEM;
        return NULL;
    }
    return real(size);
}

/* What a call that moves bytes does: fails, moves half of them, or goes its way. */
#define MOVE(call, result_type, size, whole, less) \
    int error = 0;                                 \
    if (strikes(call, &error)) {                   \
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
    if (strikes(CALL_SEND, &error)) {
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
    if (strikes(CALL_ACCEPT, &error)) {
        errno = error;
        return -1;
    }
    return real(fd, address, size, flags);
}

int fsync(int fd)
{
    NEXT(fsync)
    int error = 0;
    if (strikes(CALL_FSYNC, &error)) {
        errno = error;
        return -1;
    }
    return real(fd);
}
