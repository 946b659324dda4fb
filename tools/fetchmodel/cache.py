"""Where models lie, and how one gets there whole or not at all.

Under the cache's root, for the model NAME:

    NAME/                   the model; the folder appears by one rename, when whole
    NAME/.fetch-model.json  what was laid out: sizes, SHA-256 and modification times
    .NAME.lock              held while one is at work; the others wait
    .NAME.work/hub/         files from the hub, half ones as FILE.part; kept for a resume
    .NAME.work/run-*/       scratch of one run; whoever holds the lock removes what is left
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile

from .errors import FetchError
from .progress import human_bytes, say

MANIFEST = ".fetch-model.json"
MAX_MANIFEST_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20

# What `Slot.state` finds.
ABSENT, WHOLE, BROKEN, FOREIGN = "absent", "whole", "broken", "foreign"


def root(environ):
    """${ORTHRUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orthrus}, absolute."""
    if environ.get("ORTHRUS_CACHE"):
        return os.path.abspath(environ["ORTHRUS_CACHE"])
    base = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.abspath(os.path.join(base, "orthrus"))


def sha256_of(path):
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as f:
        while n := f.readinto(buffer):
            digest.update(view[:n])
    return digest.hexdigest()


def require_space(folder, size):
    """An error where the file system has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise FetchError(f"{folder}: {human_bytes(size)} needed, {human_bytes(free)} free")


class Slot:
    """One model's place in the cache."""

    def __init__(self, cache_root, model):
        self.root = cache_root
        self.model = model
        self.folder = os.path.join(cache_root, model.name)
        self.work = os.path.join(cache_root, f".{model.name}.work")
        self._lock_path = os.path.join(cache_root, f".{model.name}.lock")

    # --- what is there -----------------------------------------------------------------------

    def state(self, thorough=False):
        """ABSENT; WHOLE; BROKEN: ours, but files are missing or wrong; FOREIGN: a folder that
        fetch-model did not make. Sizes and modification times decide, SHA-256 where a time
        differs (a copied cache) and everywhere when `thorough`."""
        if not os.path.lexists(self.folder):
            return ABSENT
        if not os.path.isdir(self.folder):
            return FOREIGN
        manifest = self._read_manifest()
        if manifest is None:
            return self._adopt()
        wanted = next((files for files in map(self._files, self.model.sources())
                       if _lists(manifest, files)), None)
        if wanted is None or manifest.get("complete") is not True:
            return BROKEN
        fresh_times = False
        for file in wanted:
            found = self._stat(file.path)
            if found is None or found.st_size != file.size:
                return BROKEN
            moved = found.st_mtime_ns != manifest["files"][file.path].get("mtime_ns")
            if (thorough or moved) and self._digest(file) != file.sha256:
                return BROKEN
            fresh_times |= moved
        if fresh_times:
            # A cache that can't be written stays as it is and is hashed again next time.
            with contextlib.suppress(OSError):
                self._write_manifest(self.folder, wanted, manifest.get("source"), True)
        return WHOLE

    def _adopt(self):
        """A folder without a manifest is taken over where it holds exactly what we would lay
        out, and left alone otherwise: it may be somebody's own model."""
        for name in self.model.sources():
            files = self._files(name)
            found = [self._stat(f.path) for f in files]
            if any(s is None or s.st_size != f.size for s, f in zip(found, files)):
                continue
            if all(self._digest(f) == f.sha256 for f in files):
                with contextlib.suppress(OSError):
                    self._write_manifest(self.folder, files, name, True)
                return WHOLE
        return FOREIGN

    def _files(self, source):
        return getattr(self.model, source).files

    def _stat(self, path):
        try:
            found = os.stat(os.path.join(self.folder, path))
        except OSError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def _digest(self, file):
        return sha256_of(os.path.join(self.folder, file.path))

    def _read_manifest(self):
        """The manifest; None where there is none; one without files where it is damaged."""
        try:
            with open(os.path.join(self.folder, MANIFEST), "rb") as f:
                manifest = json.loads(f.read(MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            manifest = None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            return {"files": {}}
        return manifest

    def _write_manifest(self, folder, files, source, complete):
        rows = {}
        for file in files:
            row = {"size": file.size, "sha256": file.sha256}
            with contextlib.suppress(FileNotFoundError):
                row["mtime_ns"] = os.stat(os.path.join(folder, file.path)).st_mtime_ns
            rows[file.path] = row
        text = json.dumps({"model": self.model.name, "source": source, "complete": complete,
                           "files": rows}, indent=1) + "\n"
        fd, path = tempfile.mkstemp(prefix=MANIFEST + ".", dir=folder)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as f:
                f.write(text)
                f.flush()
                os.fchmod(f.fileno(), 0o644)
                os.fsync(f.fileno())
            os.replace(path, os.path.join(folder, MANIFEST))
        except BaseException:
            os.unlink(path)
            raise
        _sync_folder(folder)

    # --- getting it there --------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self):
        """Holds the model's lock; the kernel lets go of it however this process ends."""
        os.makedirs(self.root, exist_ok=True)
        with open(self._lock_path, "ab") as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                if e.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                say(f"another fetch-model is at work on {self.model.name}; waiting for it")
                fcntl.lockf(f, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def scratch(self):
        """A folder for one run's files, gone afterwards. Only with the lock: what earlier runs
        left there goes too."""
        os.makedirs(self.work, exist_ok=True)
        for name in os.listdir(self.work):
            if name.startswith("run-"):
                shutil.rmtree(os.path.join(self.work, name))
        folder = tempfile.mkdtemp(prefix="run-", dir=self.work)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def hub_folder(self):
        folder = os.path.join(self.work, "hub")
        os.makedirs(folder, exist_ok=True)
        return folder

    def lend(self, folder, files):
        """Puts what is whole of a broken model into `folder`, so that only the rest is fetched."""
        for file in files:
            target = os.path.join(folder, file.path)
            found = self._stat(file.path)
            if (os.path.lexists(target) or found is None or found.st_size != file.size
                    or self._digest(file) != file.sha256):
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            whole = os.path.join(self.folder, file.path)
            try:
                os.link(whole, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(whole, target)

    def publish(self, staged, files, source):
        """Moves the staged files, all verified by the caller, into place; cleans up."""
        _keep_only(staged, {f.path for f in files})
        for file in files:
            _sync_file(os.path.join(staged, file.path))
        if os.path.isdir(self.folder):
            self._repair(staged, files, source)
        else:
            self._write_manifest(staged, files, source, True)
            for folder, _, _ in os.walk(staged):
                _sync_folder(folder)
            os.rename(staged, self.folder)
        _sync_folder(self.root)
        shutil.rmtree(self.work, ignore_errors=True)

    def _repair(self, staged, files, source):
        """Replaces the files of a broken folder one by one and leaves the user's own (heads,
        say) where they are. Until the last one is in place the manifest says so."""
        self._write_manifest(self.folder, files, source, False)
        for file in files:
            target = os.path.join(self.folder, file.path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(os.path.join(staged, file.path), target)
            _sync_folder(os.path.dirname(target))
        self._write_manifest(self.folder, files, source, True)


def _lists(manifest, files):
    """True where the manifest is of exactly these files."""
    rows = manifest["files"]
    return rows.keys() == {f.path for f in files} and all(
        isinstance(rows[f.path], dict) and rows[f.path].get("size") == f.size
        and rows[f.path].get("sha256") == f.sha256 for f in files)


def _keep_only(folder, wanted):
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.relpath(path, folder).replace(os.sep, "/") not in wanted:
                os.unlink(path)


def _sync_file(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EBADF):  # file systems that know no such thing
            raise
    finally:
        os.close(fd)
