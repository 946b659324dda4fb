"""Files of one revision of a repository on the Hugging Face hub, by HTTPS, resumable."""

import hashlib
import http.client
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from .cache import CHUNK_BYTES, require_space, sha256_of
from .errors import FetchError, SourceUnreachable
from .progress import Progress, say

ENDPOINT = "https://huggingface.co"
CONNECT_SECONDS = 5.0  # name look-up, connection and first answer, all together
READ_SECONDS = 30.0  # silence that ends a transfer
TRIES = 5  # in a row that bring nothing new
PAUSE_SECONDS = 0.2  # after the first failed try; doubles

# What a transfer dies of without being anybody's mistake.
_TRANSPORT_ERRORS = (OSError, http.client.HTTPException)


def fetch(hub, folder, environ):
    """Brings every file of the repository into `folder`, resuming what is half there."""
    endpoint = (environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if urllib.parse.urlsplit(endpoint).scheme not in ("http", "https"):
        raise FetchError("HF_ENDPOINT must be an http:// or https:// URL")
    if environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise SourceUnreachable("HF_HUB_OFFLINE is set")
    _probe(_url(endpoint, hub, hub.files[0]))
    say(f"fetching {hub.repository} from the hub")
    missing = [f for f in hub.files if not _is_there(folder, f)]
    require_space(folder, sum(f.size for f in missing))
    for file in missing:
        _fetch_file(_url(endpoint, hub, file), file, os.path.join(folder, file.path))


def _url(endpoint, hub, file):
    quote = urllib.parse.quote
    return f"{endpoint}/{quote(hub.repository)}/resolve/{quote(hub.revision)}/{quote(file.path)}"


def _open(url, first_byte, timeout_s):
    headers = {"User-Agent": "orthrus-fetch-model", "Accept-Encoding": "identity"}
    if first_byte > 0:
        headers["Range"] = f"bytes={first_byte}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _probe(url):
    """Is the hub there? A look-up or a connection may hang far longer than any one time-out (one
    per name server and address), so a thread does it and is left behind when time is up."""
    outcome = []

    def work():
        try:
            _open(url, 0, CONNECT_SECONDS).close()
            outcome.append(None)
        except urllib.error.HTTPError as e:
            e.close()
            outcome.append(f"it answers HTTP status {e.code}")
        except urllib.error.URLError as e:
            outcome.append(str(e.reason))
        except (*_TRANSPORT_ERRORS, ValueError) as e:
            outcome.append(str(e) or type(e).__name__)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not outcome:
        raise SourceUnreachable(f"no answer within {CONNECT_SECONDS:.0f} s")
    if outcome[0] is not None:
        raise SourceUnreachable(outcome[0])


def _is_there(folder, file):
    """True for a file that an interrupted run had finished."""
    path = os.path.join(folder, file.path)
    if not os.path.isfile(path):
        return False
    return os.path.getsize(path) == file.size and sha256_of(path) == file.sha256


def _fetch_file(url, file, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    resumed = _have(part) > 0
    if _download(url, file, part) != file.sha256:
        if resumed:
            # Only the end of it is this run's: the beginning may be damaged.
            say(f"{file.path}: what was there does not fit; once more from the beginning")
            os.unlink(part)
            resumed = False
            digest = _download(url, file, part)
        else:
            digest = None
        if digest != file.sha256:
            os.unlink(part)
            raise FetchError(f"{url}: wrong SHA-256; expected {file.sha256}")
    os.replace(part, path)


def _have(part):
    try:
        return os.path.getsize(part)
    except FileNotFoundError:
        return 0


def _download(url, file, part):
    """Completes `part`; -> its SHA-256. Goes on as long as tries bring something new."""
    failures = 0
    with Progress(file.path, file.size, min(_have(part), file.size)) as progress:
        while True:
            before = _have(part)
            try:
                return _transfer(url, file, part, progress)
            except urllib.error.HTTPError as e:
                e.close()
                if e.code < 500 and e.code not in (408, 416, 429):
                    raise FetchError(f"{url}: HTTP status {e.code}") from e
                if e.code == 416:
                    os.truncate(part, 0)
                reason = f"HTTP status {e.code}"
            except _TRANSPORT_ERRORS as e:
                reason = str(e) or type(e).__name__
            failures = 0 if _have(part) > before else failures + 1
            if failures == TRIES:
                raise FetchError(f"{url}: {reason}; what came so far is kept, run again to go on")
            time.sleep(PAUSE_SECONDS * 2 ** max(failures - 1, 0))


def _transfer(url, file, part, progress):
    """One request's worth of `part`; -> the SHA-256 of all of it, or a transport error."""
    with open(part, "ab") as out:
        have = out.tell()
        if have > file.size:
            out.truncate(0)
            have = 0
        digest = hashlib.sha256()
        if have > 0:
            with open(part, "rb") as f:
                while chunk := f.read(CHUNK_BYTES):
                    digest.update(chunk)
        if have < file.size:
            with _open(url, have, READ_SECONDS) as response:
                if have > 0 and not _continues(response, have, file.size):
                    # The server sends it all again: then all of it is taken again.
                    out.truncate(0)
                    have = 0
                    digest = hashlib.sha256()
                progress.set(have)
                length = response.headers.get("Content-Length")
                if length is not None and length != str(file.size - have):
                    raise FetchError(f"{url}: {length} bytes offered,"
                                     f" {file.size - have} expected")
                while chunk := response.read(min(CHUNK_BYTES, file.size - have + 1)):
                    have += len(chunk)
                    if have > file.size:
                        raise FetchError(f"{url}: longer than {file.size} bytes")
                    out.write(chunk)
                    digest.update(chunk)
                    progress.advance(len(chunk))
        if have < file.size:
            raise ConnectionError("the transfer ended early")
        return digest.hexdigest()


def _continues(response, have, size):
    """True where the answer is the rest of the file, from the byte that was asked for."""
    if response.status != 206:
        return False
    expected = f"bytes {have}-{size - 1}/"
    found = response.headers.get("Content-Range", "")
    if found not in (expected + str(size), expected + "*"):
        raise FetchError(f"the server answered another range: {found[:100]!a}")
    return True
