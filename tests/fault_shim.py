"""The other side of tests/fault/shim.c: makes one call of a running daemon fail."""
import contextlib
import errno
import mmap
import pathlib
import struct

from conftest import BIN

BUILD = pathlib.Path(BIN).resolve().parent  # of the program that is tested
LIBRARY = BUILD / "tests" / "libfault_shim.so"
# enum call of control.h
(MALLOC, WRITE, RECV, SEND, ACCEPT, FSYNC, ALLOCATE,
 SOCKET, BIND, LISTEN, SETSOCKOPT, GETSOCKNAME, SHUTDOWN, IOCTL, POLL, EPOLL_CREATE, EPOLL_CTL, EPOLL_WAIT, EVENTFD,
 OPEN, READ, STAT, OPENDIR, READDIR, WRITE_FILE, FCHMOD, RENAME, UNLINK, MKDIR, ACCESS, CLOSE, INOTIFY,
 MMAP, THREAD, TRUNCATE, LOCK, FCNTL, PIPE, RANDOM, LIMIT) = range(1, 41)
SHORT = 0  # in place of an errno: half of the bytes
KILL_BEFORE, KILL_HALFWAY, KILL_AFTER = -1, -2, -3


FAULTY = BUILD / "tests" / "orthrus_faulty"  # the program with its own allocations wrapped: under ASan, for gcov


def available():
    """A sanitizer wants to be first among the preloaded."""
    cache = BUILD / "CMakeCache.txt"
    sanitized = cache.exists() and "ORTHRUS_SANITIZE:STRING=\n" not in cache.read_text()
    return LIBRARY.exists() and not sanitized


class Shim:
    def __init__(self, folder, preload=True):
        path = folder / "shim"
        path.write_bytes(bytes(64))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 64)
        self.env = {"ORTHRUS_SHIM": str(path)}
        if preload and available():
            self.env["LD_PRELOAD"] = str(LIBRARY.resolve())

    def _set(self, *words):
        self.memory[:20] = struct.pack("<5i", *words)

    @contextlib.contextmanager
    def fail(self, call, at=1, error=errno.EIO, size=0):
        """The at-th such call from now on fails."""
        self._set(0, at, error, 0, size)
        self.memory[24:32] = bytes(8)
        self.memory[:4] = struct.pack("<i", call)
        try:
            yield self
        finally:
            self.memory[:4] = struct.pack("<i", 0)

    def again(self):
        """The next one fails, too."""
        self.memory[4:8] = struct.pack("<i", 1)

    @property
    def struck(self):
        return struct.unpack("<i", self.memory[4:8])[0] <= 0

    @property
    def seen(self):
        return struct.unpack("<i", self.memory[12:16])[0]

    @property
    def bytes(self):
        return struct.unpack("<q", self.memory[24:32])[0]
