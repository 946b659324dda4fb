"""bert-base under the manifests' 1 GiB with every attack on memory at once: it stays under, and who behaves is answered.

In a cgroup of 1 GiB where one can be made; elsewhere the budget is what such a limit would give."""
import contextlib
import json
import os
import pathlib
import socket
import threading
import time

import conftest
import pytest
from conftest import Connection, Server, render

GIB = 1 << 30
MIB = 1 << 20
JSON = [("Content-Type", "application/json")]
MODEL = os.environ.get("ORTHRUS_TEST_MODEL")
ATTACK_S = 60 if os.environ.get("ORTHRUS_FULL") == "1" else 5

pytestmark = [
    pytest.mark.skipif(not MODEL or not pathlib.Path(MODEL).is_dir(), reason="needs the real model: ORTHRUS_TEST_MODEL"),
    pytest.mark.skipif(bool(os.environ.keys() & {"ASAN_OPTIONS", "TSAN_OPTIONS"}), reason="a sanitizer's own memory is far more"),
]


def make_group():
    """A cgroup below this process's own with a limit of 1 GiB, or None where that is not allowed."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        if names and "memory" not in names.split(","):
            continue
        mount, limit = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if names else ("/sys/fs/cgroup", "memory.max")
        for parent in (mount + group, mount):
            folder = pathlib.Path(parent) / f"orthrus-test-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / limit).write_text(str(GIB))
                return folder
            except OSError:
                folder.rmdir()
    return None


@pytest.fixture
def server(tmp_path, monkeypatch):
    group = make_group()
    flags = []
    if group:
        wrapper = tmp_path / "orthrus"
        wrapper.write_text(f'#!/bin/sh\necho $$ >"{group}/cgroup.procs" || exit 1\nexec "{conftest.BIN}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(conftest, "BIN", str(wrapper))
    else:
        flags = ["--max-client-bytes", str(256 * MIB)]
    server = Server(*flags, "--drain-timeout-s", "4", model=MODEL, drop=("request",))
    yield server
    server.stop()
    if group:
        with contextlib.suppress(OSError):
            group.rmdir()


def anonymous(server):
    """Resident memory that can't be given back: without the pages of the model's file."""
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def keep_trying(stopping, attack, server):
    while not stopping.is_set():
        with contextlib.suppress(OSError, AssertionError):
            with Connection(server.address) as connection:
                connection.sock.settimeout(20)
                attack(connection)


def large_bodies(connection):
    """Sixteen megabytes, the last byte never."""
    connection.send(render("POST", "/embed", None, [*JSON, ("Content-Length", str(16 * MIB))]) + b'{"inputs":"' + b"a" * (15 * MIB))
    time.sleep(2)


def bangs(connection):
    connection.request("POST", "/tokenize", b'{"inputs":"' + b"!" * (8 * MIB) + b'"}', JSON)


def bangs_and_away(connection):
    connection.send(render("POST", "/tokenize", b'{"inputs":"' + b"!" * (3 * MIB) + b'"}', JSON))


def long_texts(connection):
    connection.send(render("POST", "/embed", b'{"inputs":"' + b"a " * (7 * MIB) + b'"}', JSON))
    connection.read_reply()


def unread_answers(connection):
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.send(render("POST", "/embed", json.dumps({"inputs": ["a"] * 2048}).encode(), JSON))
    time.sleep(4)


def slow_headers(connection):
    connection.send(b"POST /embed HTTP/1.1\r\nX-Slow: ")
    time.sleep(1)


def test_all_attacks_at_once(server):
    stopping = threading.Event()
    attackers = [threading.Thread(target=keep_trying, args=(stopping, attack, server), daemon=True)
                 for attack, n in ((large_bodies, 12), (bangs, 4), (bangs_and_away, 4), (long_texts, 4), (unread_answers, 4),
                                   (slow_headers, 8)) for _ in range(n)]
    for attacker in attackers:
        attacker.start()
    most, answered, refused, probes = 0, 0, 0, 0
    end = time.monotonic() + ATTACK_S
    while time.monotonic() < end:
        assert server.process.poll() is None, "the server was killed"
        reply = server.post("/embed", {"inputs": "a well-behaved client"})
        answered += reply.status == 200
        refused += reply.status == 429
        assert reply.status in (200, 429)
        probes += server.get("/readyz", admin=True).status == 200
        most = max(most, anonymous(server))
        time.sleep(0.05)
    stopping.set()
    end = time.monotonic() + 5  # some wait for bytes that will not come
    for attacker in attackers:
        attacker.join(max(0.0, end - time.monotonic()))
    print(f"{answered} answered, {refused} told to wait, {probes} probes, at most {most // MIB} MiB")
    assert answered > 0 and probes > 0
    assert most < GIB
    for _ in range(200):
        if server.post("/embed", {"inputs": "a"}).status == 200:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it does not recover")
