"""Members out of a zip that nobody has looked at yet.

A member is only ever taken by its exact name, into a file whose name is ours. Still an archive
with a hostile entry is refused as a whole: whoever wrote it meant harm.
"""

import hashlib
import stat
import zipfile
import zlib

from .errors import FetchError
from .models import is_safe_path

CHUNK_BYTES = 1 << 20
MAX_MEMBERS = 1000


def open_archive(file, label):
    """A ZipFile over the path or file object, after a look at every entry's name and kind."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as e:
        raise FetchError(f"{label}: not a zip archive: {e}") from e
    try:
        _check_entries(archive, label)
    except FetchError:
        archive.close()
        raise
    return archive


def _check_entries(archive, label):
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise FetchError(f"{label}: {len(entries)} members, more than {MAX_MEMBERS}")
    seen = set()
    for entry in entries:
        # orig_filename: zipfile cuts the other one at a NUL.
        name = entry.orig_filename
        if not is_safe_path(name[:-1] if name.endswith("/") else name):
            raise FetchError(f"{label}: a member's path leaves the archive: {name[:100]!a}")
        if name in seen:
            raise FetchError(f"{label}: two members of one name: {name[:100]!a}")
        seen.add(name)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise FetchError(f"{label}: a symbolic link: {name[:100]!a}")
        if entry.flag_bits & 1:
            raise FetchError(f"{label}: an encrypted member: {name[:100]!a}")


def member_size(archive, name, label):
    """The size that the archive says the member has."""
    try:
        return archive.getinfo(name).file_size
    except KeyError:
        raise FetchError(f"{label}: has no member {name!a}") from None


def read_small(archive, name, limit, label):
    """The bytes of a member of at most `limit` bytes."""
    size = member_size(archive, name, label)
    if size > limit:
        raise FetchError(f"{label}: {name}: {size} bytes, more than {limit}")
    return b"".join(chunks(archive, name, label))


def chunks(archive, name, label):
    """The member's bytes in chunks; an error unless they are as many as the archive says."""
    left = member_size(archive, name, label)
    try:
        with archive.open(name) as stream:
            while left > 0:
                chunk = stream.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise FetchError(f"{label}: {name}: ends {left} bytes early")
                left -= len(chunk)
                yield chunk
            # One read more makes zipfile compare the CRC-32.
            if stream.read(1):
                raise FetchError(f"{label}: {name}: longer than its entry says")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as e:
        raise FetchError(f"{label}: {name}: {e}") from e


def extract(archive, name, path, label, size=None, progress=None):
    """Writes the member to a new file; -> its SHA-256. `size`: what it must be, if known."""
    found = member_size(archive, name, label)
    if size is not None and found != size:
        raise FetchError(f"{label}: {name}: {found} bytes, expected {size}")
    digest = hashlib.sha256()
    with open(path, "xb") as out:
        for chunk in chunks(archive, name, label):
            out.write(chunk)
            digest.update(chunk)
            if progress is not None:
                progress.advance(len(chunk))
    return digest.hexdigest()
