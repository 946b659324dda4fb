/* A library to be preloaded: one call of the C library's fails once, as a file that control.h
 * describes says while the program runs. For whole daemons, whose libraries' calls the linker's
 * --wrap does not see. tests/fault_shim.py has the other side. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
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

/* Memory is an allocation, a file is a call of its own. */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    NEXT(mmap)
    int error = 0;
    if (fd < 0 ? control_allocation_fails(size) : control_strikes(CALL_MMAP, &error)) {
        errno = fd < 0 ? ENOMEM : error;
        return MAP_FAILED;
    }
    return real(at, size, protection, flags, fd, offset);
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

static void die(void)
{
    (void)kill(getpid(), SIGKILL);
}

static bool is_regular(int fd)
{
    struct stat st;
    return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* A call that fails or goes its way; what is killed behind it has made it. */
#define CALL(call, type, failed, whole)           \
    int error = 0;                                \
    bool strikes = control_strikes(call, &error); \
    if (strikes && error > 0) {                   \
        errno = error;                            \
        return failed;                            \
    }                                             \
    if (strikes && error != KILL_AFTER) {         \
        die();                                    \
    }                                             \
    type result = whole;                          \
    if (strikes) {                                \
        die();                                    \
    }                                             \
    return result;

/* Bytes that go into a file, by function and what else it is told. */
#define PUT(call, is_counted, size, move)                  \
    int error = 0;                                         \
    if (!(is_counted) || !control_strikes(call, &error)) { \
        return move(size);                                 \
    }                                                      \
    if (error > 0) {                                       \
        errno = error;                                     \
        return -1;                                         \
    }                                                      \
    if (error == KILL_BEFORE) {                            \
        die();                                             \
    }                                                      \
    bool less = error == 0 || error == KILL_HALFWAY;       \
    ssize_t put = move(less ? ((size) + 1) / 2 : (size));  \
    if (error) {                                           \
        die();                                             \
    }                                                      \
    return put;

/* Of stderr and of files: the library's own wake-ups go through write(2) too, and it ends without
 * them. */
ssize_t write(int fd, const void *data, size_t size)
{
    NEXT(write)
    enum call call = fd == STDERR_FILENO ? CALL_WRITE : CALL_WRITE_FILE;
#define WRITE(n) real(fd, data, n)
    PUT(call, call == CALL_WRITE || is_regular(fd), size, WRITE)
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    NEXT(pwrite)
#define PWRITE(n) real(fd, data, n, at)
    PUT(CALL_WRITE_FILE, true, size, PWRITE)
}

/* A stream's bytes, that go when it is full, flushed or closed. None comes back half written. */
static bool stream_fails(FILE *stream, int *ret_kill)
{
    int error = 0;
    if (stream == stderr || !control_strikes(CALL_WRITE_FILE, &error)) {
        return false;
    }
    if (error == KILL_BEFORE) {
        die();
    }
    *ret_kill = error < 0;
    errno = error > 0 ? error : errno;
    return error > 0;
}

size_t fwrite(const void *data, size_t size, size_t n, FILE *stream)
{
    NEXT(fwrite)
    int killed = 0;
    if (stream_fails(stream, &killed)) {
        return 0;
    }
    size_t put = real(data, size, n, stream);
    if (killed) {
        die();
    }
    return put;
}

int fflush(FILE *stream)
{
    NEXT(fflush)
    int killed = 0;
    if (stream && stream_fails(stream, &killed)) {
        return EOF;
    }
    int result = real(stream);
    if (killed) {
        die();
    }
    return result;
}

int fclose(FILE *stream)
{
    NEXT(fclose)
    int killed = 0;
    bool failed = stream_fails(stream, &killed);
    int error = errno;
    int result = real(stream);
    if (killed) {
        die();
    }
    errno = failed ? error : errno;
    return failed ? EOF : result;
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
    CALL(CALL_FSYNC, int, -1, real(fd))
}

int socket(int domain, int type, int protocol)
{
    NEXT(socket)
    CALL(CALL_SOCKET, int, -1, real(domain, type, protocol))
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    NEXT(bind)
    CALL(CALL_BIND, int, -1, real(fd, address, size))
}

int listen(int fd, int backlog)
{
    NEXT(listen)
    CALL(CALL_LISTEN, int, -1, real(fd, backlog))
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    NEXT(setsockopt)
    CALL(CALL_SETSOCKOPT, int, -1, real(fd, level, name, value, size))
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    NEXT(getsockname)
    CALL(CALL_GETSOCKNAME, int, -1, real(fd, address, size))
}

int shutdown(int fd, int how)
{
    NEXT(shutdown)
    CALL(CALL_SHUTDOWN, int, -1, real(fd, how))
}

int ioctl(int fd, unsigned long request, ...)
{
    NEXT(ioctl)
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    CALL(CALL_IOCTL, int, -1, real(fd, request, argument))
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    NEXT(poll)
    CALL(CALL_POLL, int, -1, real(fds, n, timeout_ms))
}

int epoll_create1(int flags)
{
    NEXT(epoll_create1)
    CALL(CALL_EPOLL_CREATE, int, -1, real(flags))
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    NEXT(epoll_ctl)
    /* libmicrohttpd ends the process where one cannot be taken out again, which no kernel does. */
    if (what == EPOLL_CTL_DEL) {
        return real(epoll, what, fd, event);
    }
    CALL(CALL_EPOLL_CTL, int, -1, real(epoll, what, fd, event))
}

int epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    NEXT(epoll_wait)
    CALL(CALL_EPOLL_WAIT, int, -1, real(epoll, events, n, timeout_ms))
}

int eventfd(unsigned count, int flags)
{
    NEXT(eventfd)
    CALL(CALL_EVENTFD, int, -1, real(count, flags))
}

int inotify_init1(int flags)
{
    NEXT(inotify_init1)
    CALL(CALL_INOTIFY, int, -1, real(flags))
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    NEXT(inotify_add_watch)
    CALL(CALL_INOTIFY, int, -1, real(fd, path, mask))
}

int open(const char *path, int flags, ...)
{
    NEXT(open)
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    CALL(CALL_OPEN, int, -1, real(path, flags, mode))
}

int mkostemp(char *pattern,
             int flags){NEXT(mkostemp) CALL(CALL_OPEN, int, -1, real(pattern, flags))}

FILE *fopen(const char *path, const char *mode)
{
    NEXT(fopen)
    CALL(CALL_OPEN, FILE *, NULL, real(path, mode))
}

/* True for a read that fails; less of it comes where *ret_size says so. */
static bool read_fails(int fd, size_t *ret_size)
{
    int error = 0;
    if (atomic_load(&control->call) != CALL_READ || !is_regular(fd) ||
        !control_strikes(CALL_READ, &error)) {
        return false;
    }
    errno = error > 0 ? error : errno;
    *ret_size = error > 0 ? *ret_size : (*ret_size + 1) / 2;
    return error > 0;
}

ssize_t read(int fd, void *data, size_t size)
{
    NEXT(read)
    return read_fails(fd, &size) ? -1 : real(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    NEXT(pread)
    return read_fails(fd, &size) ? -1 : real(fd, data, size, at);
}

int fstat(int fd, struct stat *status)
{
    NEXT(fstat)
    CALL(CALL_STAT, int, -1, real(fd, status))
}

int stat(const char *path, struct stat *status)
{
    NEXT(stat)
    CALL(CALL_STAT, int, -1, real(path, status))
}

int lstat(const char *path, struct stat *status)
{
    NEXT(lstat)
    CALL(CALL_STAT, int, -1, real(path, status))
}

int fstatat(int folder, const char *path, struct stat *status, int flags)
{
    NEXT(fstatat)
    CALL(CALL_STAT, int, -1, real(folder, path, status, flags))
}

int fstatvfs(int fd,
             struct statvfs *status){NEXT(fstatvfs) CALL(CALL_STAT, int, -1, real(fd, status))}

DIR *opendir(const char *path)
{
    NEXT(opendir)
    CALL(CALL_OPENDIR, DIR *, NULL, real(path))
}

struct dirent *readdir(DIR *folder)
{
    NEXT(readdir)
    CALL(CALL_READDIR, struct dirent *, NULL, real(folder))
}

int fchmod(int fd, mode_t mode)
{
    NEXT(fchmod)
    CALL(CALL_FCHMOD, int, -1, real(fd, mode))
}

int rename(const char *from, const char *to)
{
    NEXT(rename)
    CALL(CALL_RENAME, int, -1, real(from, to))
}

int unlink(const char *path)
{
    NEXT(unlink)
    CALL(CALL_UNLINK, int, -1, real(path))
}

int unlinkat(int folder, const char *path, int flags)
{
    NEXT(unlinkat)
    CALL(CALL_UNLINK, int, -1, real(folder, path, flags))
}

int mkdir(const char *path, mode_t mode)
{
    NEXT(mkdir)
    CALL(CALL_MKDIR, int, -1, real(path, mode))
}

int access(const char *path, int mode)
{
    NEXT(access)
    CALL(CALL_ACCESS, int, -1, real(path, mode))
}

int faccessat(int folder, const char *path, int mode, int flags)
{
    NEXT(faccessat)
    CALL(CALL_ACCESS, int, -1, real(folder, path, mode, flags))
}

int ftruncate(int fd, off_t size)
{
    NEXT(ftruncate)
    CALL(CALL_TRUNCATE, int, -1, real(fd, size))
}

int truncate(const char *path, off_t size)
{
    NEXT(truncate)
    CALL(CALL_TRUNCATE, int, -1, real(path, size))
}

int flock(int fd, int what)
{
    NEXT(flock)
    CALL(CALL_LOCK, int, -1, real(fd, what))
}

int fcntl(int fd, int what, ...)
{
    NEXT(fcntl)
    va_list arguments;
    va_start(arguments, what);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    CALL(CALL_FCNTL, int, -1, real(fd, what, argument))
}

int pipe2(int fds[2], int flags){NEXT(pipe2) CALL(CALL_PIPE, int, -1, real(fds, flags))}

ssize_t getrandom(void *data, size_t size, unsigned flags)
{
    NEXT(getrandom)
    CALL(CALL_RANDOM, ssize_t, -1, real(data, size, flags))
}

int getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
    NEXT(getrlimit)
    CALL(CALL_LIMIT, int, -1, real(what, limit))
}

int setrlimit(__rlimit_resource_t what, const struct rlimit *limit)
{
    NEXT(setrlimit)
    CALL(CALL_LIMIT, int, -1, real(what, limit))
}

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set)
{
    NEXT(sched_getaffinity)
    CALL(CALL_LIMIT, int, -1, real(process, size, set))
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *context)
{
    NEXT(pthread_create)
    int error = 0;
    return control_strikes(CALL_THREAD, &error) ? error : real(thread, attributes, run, context);
}

int close(int fd)
{
    NEXT(close)
    int error = 0;
    if (!control_strikes(CALL_CLOSE, &error)) {
        return real(fd);
    }
    if (error == KILL_BEFORE) {
        die();
    }
    int result = real(fd);
    if (error < 0) {
        die();
    }
    errno = error;
    return error ? -1 : result;
}
