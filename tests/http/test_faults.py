"""One call of a running daemon fails; the next request is right. See tests/fault/shim.c."""
import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import fault_shim
import pytest
from conftest import BIN, TINY, TOKEN, Connection, render
from fault_shim import (ACCEPT, ACCESS, BIND, CLOSE, EPOLL_CREATE, EPOLL_CTL, EPOLL_WAIT, EVENTFD, FCHMOD, FCNTL, FSYNC, GETSOCKNAME,
                        INOTIFY, IOCTL, KILL_AFTER, KILL_BEFORE, KILL_HALFWAY, LIMIT, LISTEN, MALLOC, MKDIR, MMAP, OPEN, OPENDIR, PIPE,
                        POLL, RANDOM, READ, READDIR, RECV, RENAME, SEND, SETSOCKOPT, SHORT, SHUTDOWN, SOCKET, STAT, THREAD, UNLINK,
                        WRITE, WRITE_FILE)
from test_admin import AUTH, heads_file, put, versions

pytestmark = pytest.mark.skipif(not fault_shim.available(), reason="a build without the shim, or with a sanitizer")
CONNECTION_MEMORY = 32 * 1024  # what libmicrohttpd allocates for a connection
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EAGAIN) if FULL else (errno.EIO,)
AT_MOST = 400 if FULL else 2  # of one call in one scenario


@pytest.fixture
def shim(tmp_path):
    return fault_shim.Shim(tmp_path)


def test_a_connection_that_the_library_gives_up_takes_no_place(start, shim):
    """Its I/O thread has no memory for it, closes it and tells nobody."""
    server = start("--max-connections", "2", "--drain-timeout-s", "4", env=shim.env)
    with shim.fail(MALLOC, size=CONNECTION_MEMORY):
        for _ in range(300):
            shim.again()
            with server.connect() as connection:
                assert connection.closed(10)
    time.sleep(2)  # as long as it may take to notice
    for _ in range(3):
        assert server.post("/embed", {"inputs": "a"}).status == 200
    server.stop()


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EINTR, errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_accept_fails(start, shim, error):
    server = start("--drain-timeout-s", "4", env=shim.env)
    for _ in range(3):
        with shim.fail(ACCEPT, error=error):
            assert server.post("/embed", {"inputs": "a"}).status == 200
            assert shim.struck


def test_a_socket_that_stutters_changes_no_answer(start, shim):
    """Sending alone: no kernel says of bytes that wait to be read that there are none."""
    server = start("--drain-timeout-s", "4", env=shim.env)
    body = {"inputs": ["some words " * 20] * 40}
    expected = server.post("/embed", body).body
    for error in (errno.EINTR, errno.EAGAIN, SHORT):
        for at in range(1, 5):
            with shim.fail(SEND, at=at, error=error), server.connect() as connection:
                assert connection.post("/embed", body).body == expected, (error, at)


@pytest.mark.parametrize("call", [RECV, SEND])
def test_a_socket_that_breaks_ends_its_connection_alone(start, shim, call):
    server = start("--drain-timeout-s", "4", env=shim.env)
    request = render("POST", "/embed", json.dumps({"inputs": "a"}).encode(), [("Content-Type", "application/json")])
    for at in (1, 2):
        for error in (errno.EIO, errno.ECONNRESET, errno.ENOMEM):
            with shim.fail(call, at=at, error=error), server.connect() as connection:
                connection.send(request)
                connection.drained(2)
            assert server.post("/embed", {"inputs": "a"}).status == 200, (error, at)
    server.stop()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EAGAIN, SHORT])
def test_the_log_loses_a_line_and_says_so_or_none(start, shim, error):
    server = start("--drain-timeout-s", "4", env=shim.env)
    n = 20
    for at in range(n):
        with shim.fail(WRITE, error=error):
            assert server.post("/embed", {"inputs": "a"}, [("X-Request-Id", f"r{at}")]).status == 200
            end = time.monotonic() + 10
            while not shim.struck and time.monotonic() < end:
                time.sleep(0.005)
    server.stop()
    got = {line["request_id"] for line in server.lines if line["message"] == "request"}
    told = sum(line["lines"] for line in server.lines if line["message"].startswith("log lines dropped"))
    if error in (errno.EIO, errno.ENOSPC):
        assert len(got) + told == n and told > 0
    else:
        assert len(got) == n and told == 0
    assert server.find_log("stopped")


@pytest.mark.parametrize("call, error", [(FSYNC, errno.EIO), (FSYNC, errno.ENOSPC)])
def test_a_swap_whose_disk_fails_changes_nothing(start, shim, tmp_path, token_file, call, error):
    state = tmp_path / "state"
    server = start("--drain-timeout-s", "4", "--admin-token-file", token_file, "--state-dir", str(state), env=shim.env)
    assert put(server, heads_file(seed=1)).status == 200
    before = versions(server)
    files = sorted(path.name for path in state.iterdir())
    for at in range(1, 20):
        with shim.fail(call, at=at, error=error):
            reply = put(server, heads_file(seed=2))
            if not shim.struck:
                break
        assert (reply.status, reply.code) == (500, "internal"), at
        assert TOKEN not in reply.json()["error"]
        assert [v["sha256"] for v in versions(server)] == [v["sha256"] for v in before]
        assert sorted(path.name for path in state.iterdir()) == files, at
        reply = server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
        assert reply.status == 200
        reply = server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
        assert reply.status == 200
    assert at == 5  # file, folder, file, folder: each was tried
    now = versions(server)[0]["sha256"]
    server.stop()
    again = start("--drain-timeout-s", "4", "--admin-token-file", token_file, "--state-dir", str(state))
    assert versions(again)[0]["sha256"] == now


def sweep(shim, calls, errors, step):
    """step(name) for every call, error and place, until a scenario is over before its call comes. How many failed."""
    struck = 0
    for call in calls:
        for error in errors:
            for at in range(1, AT_MOST + 1):
                with shim.fail(call, at=at, error=error):
                    step((call, error, at))
                    if not shim.struck:
                        break
                struck += 1
    return struck


def test_every_call_of_a_connection_fails(start, shim):
    """It ends or is answered; the next one is answered, and the end is clean."""
    server = start("--drain-timeout-s", "4", env=shim.env)
    request = render("POST", "/embed", json.dumps({"inputs": "a"}).encode(), [("Content-Type", "application/json")])

    def step(_):
        with contextlib.suppress(OSError), server.connect() as connection:
            connection.send(request)
            connection.send(request)
            connection.drained(0.05)

    struck = 0
    for call in (ACCEPT, RECV, SEND, SETSOCKOPT, SHUTDOWN, IOCTL, POLL, EPOLL_CTL, EPOLL_WAIT, CLOSE):
        struck += sweep(shim, [call], ERRORS, step)
        assert server.post("/embed", {"inputs": "a"}).status == 200, call
    print(f"{struck} failing calls of sockets")
    assert struck > 10
    server.stop()


def folder(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_every_call_of_a_change_fails(start, shim, tmp_path, token_file):
    """A change is made, or has left nothing behind; the next is made; another process finds the same."""
    state = tmp_path / "state"
    flags = ["--drain-timeout-s", "4", "--admin-token-file", token_file, "--state-dir", str(state)]
    server = start(*flags, env=shim.env)
    files = [heads_file(seed=seed) for seed in range(3)]
    assert put(server, files[0]).status == put(server, files[1]).status == 200
    turn = 0

    def step(name):
        nonlocal turn
        turn += 1
        before, there = versions(server), folder(state)
        if turn % 3:
            reply = put(server, files[turn % 3])
        else:
            reply = server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
        if reply.status == 200:
            assert versions(server)[0]["sha256"] == reply.json()["sha256"] and len(folder(state)) == len(versions(server)) + 1, name
        else:
            assert (reply.status, reply.code) == (500, "internal") and TOKEN not in reply.json()["error"], name
            # What another change of these could not remove goes with the next start.
            assert versions(server) == before and folder(state).items() >= there.items(), name

    calls = (OPEN, READ, STAT, ACCESS, WRITE_FILE, FCHMOD, FSYNC, CLOSE, RENAME)
    struck = sweep(shim, calls, ERRORS, step) + sweep(shim, [WRITE_FILE, READ], [SHORT], step)
    print(f"{struck} failing calls of changes")
    assert struck > 10
    now = versions(server)
    server.stop()
    again = start(*flags)
    assert [v["sha256"] for v in versions(again)] == [v["sha256"] for v in now]
    assert not [name for name in folder(state) if "damaged" in name or "tmp" in name]


def test_a_disk_that_fails_once_brings_no_older_heads(start, shim, tmp_path):
    """--heads-dir: a name that was not listed, a file that could not be read, says nothing against the newest."""
    heads = tmp_path / "heads"
    heads.mkdir()
    newest = 0

    def lay(name, seed):
        (tmp_path / "new").write_bytes(heads_file(seed=seed))
        (tmp_path / "new").rename(heads / name)

    lay("a.safetensors", 1)
    lay("b.safetensors", 2)
    server = start("--drain-timeout-s", "4", "--heads-dir", str(heads), env=shim.env)

    def digest():
        return server.post("/classify", {"inputs": "a"}).header("X-Heads").split("-")[1]

    served = digest()

    def step(name):
        nonlocal newest
        newest += 1
        lay(f"a{newest:04d}.safetensors", newest + 2)
        end = time.monotonic() + 0.5  # a scan begins 0.2 s after the last change
        while time.monotonic() < end:
            assert digest() == served, name
            time.sleep(0.05)
        for old in sorted(heads.glob("a*"))[:-2]:
            old.unlink()

    calls = (OPEN, READ, STAT, OPENDIR, READDIR, ACCESS, CLOSE, INOTIFY) if FULL else (READ, READDIR)
    assert sweep(shim, calls, ERRORS[:2], step) >= 4
    lay("c.safetensors", 3000)
    end = time.monotonic() + 20
    while digest() == served and time.monotonic() < end:
        time.sleep(0.1)
    assert digest() != served


# By default the calls that one kind of start alone makes are left to --full.
FILES = (OPEN, READ, STAT, ACCESS, CLOSE, MMAP)
STARTS = {
    "first": (OPENDIR, READDIR, SOCKET, BIND, LISTEN, SETSOCKOPT, GETSOCKNAME, EPOLL_CREATE, EPOLL_CTL, EVENTFD, *FILES, MKDIR,
              THREAD, PIPE, FCNTL, RANDOM, LIMIT, POLL),
    "again": (OPENDIR, READDIR, *FILES, WRITE_FILE, FCHMOD, FSYNC, RENAME, UNLINK),
    "watched": (OPENDIR, READDIR, *FILES, INOTIFY, EVENTFD, THREAD),
    "unix": (SOCKET, BIND, LISTEN, STAT, UNLINK, FCHMOD),
}
HANG_S = 150  # of a start, frozen for a while or not


class Start:
    """One start of a kind: it serves what it should, or ends with status 1 and says why."""

    def __init__(self, kind, shim, folder, token_file):
        self.folder, self.shim, self.kind = folder, shim, kind
        self.state, self.seed, self.socket = folder / "state", folder / "seed", folder / "socket"
        self.command = [BIN, "serve", "--model", str(TINY), "--admin-listen", "127.0.0.1:0", "--log-format", "json", "--threads", "2",
                        "--drain-timeout-s", "4", "--admin-token-file", token_file,
                        "--listen", f"unix:{self.socket}" if kind == "unix" else "127.0.0.1:0"]
        if kind == "watched":
            (folder / "heads").mkdir()
            for seed, name in ((1, "a.safetensors"), (2, "b.safetensors")):
                (folder / "heads" / name).write_bytes(heads_file(seed=seed))
            self.command += ["--heads-dir", str(folder / "heads")]
        else:
            self.command += ["--state-dir", str(self.state)]
        self.ended = 0
        self.expected = None
        self.wrong = []

    def lay(self):
        """What the start finds."""
        shutil.rmtree(self.state, ignore_errors=True)
        if self.seed.exists():
            shutil.copytree(self.seed, self.state)
        if self.kind == "unix":  # what a killed one leaves
            self.socket.unlink(missing_ok=True)
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
                left.bind(str(self.socket))

    @staticmethod
    def ask(address):
        for _ in range(3):  # the call may be one of this connection's
            with contextlib.suppress(OSError), Connection(address) as connection:
                replies = [connection.post(route, {"inputs": "a b c"}) for route in ("/embed", "/classify")]
                if all(replies):
                    return [(reply.status, reply.body, (reply.header("X-Heads") or "-").split("-")[1]) for reply in replies]
        return None

    def run(self):
        """(exit status, the answers where it was ready, its log)."""
        process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, **self.shim.env},
                                   text=True)
        hang = threading.Timer(HANG_S, process.kill)
        hang.start()
        log, address, answers = "", None, None
        for line in process.stderr:
            log += line
            told = json.loads(line) if line.startswith("{") and line.endswith("}\n") else {}
            if told.get("message") == "listening" and told["listener"] == "main":
                address = told["address"]
            if told.get("message") == "ready":
                answers = self.ask(address)
                process.terminate()
        status = process.wait()
        hang.cancel()
        return status, answers, log

    def __call__(self, name):
        self.lay()
        status, answers, log = self.run()
        self.expected = self.expected or answers
        self.ended += not answers
        if answers:  # the last that a process writes is standard output's rest
            good = answers == self.expected and (status == 0 or (status == 1 and name[0] == WRITE_FILE))
        else:
            good = status == 1 and "orthrus serve: " in log.splitlines()[-1]
        if not good:
            self.wrong.append((name, status, answers and [answer[0] for answer in answers], log))


@pytest.mark.parametrize("kind", STARTS)
def test_every_call_of_a_start_fails(start, shim, tmp_path, token_file, kind):
    step = Start(kind, shim, tmp_path, token_file)
    step("without")
    if kind == "again":  # a state folder with versions
        server = start("--admin-token-file", token_file, "--state-dir", str(step.seed))
        assert [put(server, heads_file(seed=seed)).status for seed in range(3)] == [200] * 3
        server.stop()
        step.expected = None
        step("without")
    calls = STARTS[kind] if FULL or kind == "first" else STARTS[kind][:2]
    struck = sweep(shim, calls, ERRORS, step) + sweep(shim, [call for call in (READ, WRITE_FILE) if call in calls], [SHORT], step)
    print(f"{struck} failing calls of starts ({kind}), {step.ended} ended it")
    assert struck > (10 if kind == "first" else 1)
    step("without")
    assert not step.wrong, f"{len(step.wrong)} wrong, the first: {step.wrong[:5]}"


@pytest.mark.skipif(not FULL, reason="test_fault_persist kills by default; ORTHRUS_FULL=1: the whole program")
def test_kill_at_every_call_of_a_change(start, shim, tmp_path, token_file):
    """The next start serves the heads of before or of after, and what was reported as done."""
    state, seed = tmp_path / "state", tmp_path / "seed"
    flags = ["--admin-token-file", token_file, "--state-dir", str(state)]
    server = start(*flags)
    old = put(server, heads_file(seed=1)).json()["sha256"]
    assert put(server, heads_file(seed=2)).status == 200
    assert server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True).status == 200
    server.stop()
    shutil.copytree(state, seed)
    file = heads_file(seed=3)
    new = hashlib.sha256(file).hexdigest()
    kills, seen = 0, set()
    for call in (OPEN, READ, STAT, ACCESS, WRITE_FILE, FCHMOD, FSYNC, CLOSE, RENAME, UNLINK):
        for moment in (KILL_BEFORE, KILL_AFTER) + ((KILL_HALFWAY,) if call == WRITE_FILE else ()):
            for at in range(1, 100):
                shutil.rmtree(state)
                shutil.copytree(seed, state)
                server = start(*flags, env=shim.env)
                told = None
                with shim.fail(call, at=at, error=moment):
                    with contextlib.suppress(OSError):
                        reply = put(server, file)
                        told = reply.json()["sha256"] if reply else None
                    struck = shim.struck
                server.kill()
                server = start(*flags)
                now = versions(server)[0]["sha256"]
                assert now in (old, new) and (told is None or now == told == new), (call, moment, at)
                assert put(server, heads_file(seed=4)).status == 200
                server.stop()
                seen.add(now)
                if not struck:
                    break
                kills += 1
    print(f"{kills} kills")
    assert kills > 40 and seen == {old, new}
