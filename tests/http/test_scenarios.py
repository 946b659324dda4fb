"""tests/http/scenarios/*.txt: the bytes that go in, the bytes and log lines that come out.

A file begins with its reason (#), then may have
  flags …              a daemon of its own with these flags
  most 50, 90000       at most so many allocations and bytes asked for, the libraries' included, while it runs
and then, in order, on one connection ("admin" before them: to the admin listener; "hold": the one so far is left open and a
new one begins):
  > text               is sent, with CR LF behind it; >> text: as it is. \\n \\r \\t \\0 \\\\ \\xNN are escapes
  < text               must come, with CR LF behind it; << text: as it is. {date}, {id}, {timing}, {number} and {any} stand for
                       what differs; what a line does not say must not come
  ...                  anything may come (a page of the library's), up to the end of the connection
  half-close           no more will be sent
  closed               and then the end, with no byte more
  open                 no byte more, and no end
  log {json}           a log line with these members comes

ORTHRUS_RECORD=1 writes what came in place of what should have; read it before you commit it."""
import json
import os
import pathlib
import re
import socket
import time

import fault_shim
import pytest
from conftest import Server
from fault_shim import ALLOCATE

FOLDER = pathlib.Path(__file__).parent / "scenarios"
RECORD = os.environ.get("ORTHRUS_RECORD") == "1"
STANDS = {
    "date": r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    "id": r"[0-9a-f]{32}",
    "timing": r"tokenize;dur=[\d.]+, queue;dur=[\d.]+, encode;dur=[\d.]+",
    "number": r"\d+",
    "any": r"[^\r\n]*",
}
PATIENCE_S = 20
QUIET_S, OPEN_S = 0.3, 0.05
CONNECTION_BYTES = 34000  # what every connection costs, nearly all of it in one piece


def unescape(text):
    return re.sub(rb"\\(n|r|t|0|\\|x[0-9a-fA-F]{2})", lambda m: {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
                  .get(m[1]) or bytes([int(m[1][1:], 16)]), text.encode())


def pattern(text):
    parts = re.split(r"\{(%s)\}" % "|".join(STANDS), text)
    return b"".join(STANDS[part].encode() if i % 2 else re.escape(unescape(part)) for i, part in enumerate(parts))


class Scenario:
    def __init__(self, path):
        self.path = path
        self.flags, self.most, self.admin, self.steps = [], None, False, []
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if not line.strip() or word == "#":
                continue
            if word == "flags":
                self.flags = rest.split()
            elif word == "most":
                self.most = [int(n) for n in rest.split(",")]
            elif word == "admin":
                self.admin = True
            else:
                assert word in (">", ">>", "<", "<<", "...", "half-close", "closed", "open", "log", "hold"), (path, line)
                self.steps.append((word, rest))


class Wire:
    def __init__(self, server, admin):
        host, port = (server.admin if admin else server.address).rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.got = b""

    def more(self, within_s):
        """False at the end of the connection, None when nothing comes."""
        self.sock.settimeout(within_s)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return False
        self.got += data
        return bool(data)

    def expect(self, wanted):
        end = time.monotonic() + PATIENCE_S
        while True:
            found = re.match(wanted, self.got)
            if found:
                self.got = self.got[found.end():]
                return
            assert self.more(max(0.01, end - time.monotonic())), f"came:\n{self.got.decode('latin-1')}\nwanted:\n{wanted.decode('latin-1')}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    made = {}

    def get(flags):
        key = tuple(flags)
        if key not in made:
            folder = tmp_path_factory.mktemp("scenario")
            shim = fault_shim.Shim(folder)
            made[key] = Server("--threads", "1", "--precision", "fp32", "--drain-timeout-s", "4", *flags,
                               env=shim.env if fault_shim.available() else None), shim
        return made[key]

    yield get
    for server, _ in made.values():
        server.stop()


def blocks(steps):
    """Lines that are sent or expected one after the other are one piece."""
    at = 0
    while at < len(steps):
        word = steps[at][0]
        end = at + 1
        if word[0] in "<>":
            while end < len(steps) and steps[end][0][0] == word[0]:
                end += 1
        yield word[0] if word[0] in "<>" else word, steps[at:end]
        at = end


def run(server, scenario):
    wire, held, since, ended = Wire(server, scenario.admin), [], len(server.lines), False
    for word, lines in blocks(scenario.steps):
        if word == ">":
            wire.sock.sendall(b"".join(unescape(text) + (b"\r\n" if w == ">" else b"") for w, text in lines))
        elif word == "<":
            wire.expect(b"".join(pattern(text) + (b"\r\n" if w == "<" else b"") for w, text in lines))
        elif word == "half-close":
            wire.sock.shutdown(socket.SHUT_WR)
        elif word == "hold":
            time.sleep(QUIET_S)
            held.append(wire)
            wire = Wire(server, scenario.admin)
        elif word == "...":
            while wire.more(PATIENCE_S):
                pass
            wire.got, ended = b"", True
        elif word == "closed":
            assert not wire.got and wire.more(PATIENCE_S) is False and not wire.got, wire.got
        elif word == "open":
            assert not wire.got and wire.more(OPEN_S) is None, wire.got
        elif word == "log":
            wanted, end = json.loads(lines[0][1]), time.monotonic() + PATIENCE_S
            while not any(wanted.items() <= line.items() for line in server.lines[since:]):
                assert time.monotonic() < end, (wanted, server.lines[since:])
                time.sleep(0.01)
    assert ended or scenario.steps[-1][0] in ("closed", "open", "log")
    for one in [wire, *held]:
        one.sock.close()


def escape(data):
    text = data.decode("latin-1").replace("\\", "\\\\")
    return re.sub(r"[\x00-\x1f\x7f-\xff]", lambda m: {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}.get(m[0], f"\\x{ord(m[0]):02x}"), text)


def as_lines(data):
    out = []
    pieces = data.split(b"\r\n")
    for i, piece in enumerate(pieces):
        if i + 1 == len(pieces) and not piece:
            break
        text = escape(piece)
        text = re.sub(rf"^Date: {STANDS['date']}$", "Date: {date}", text)
        text = re.sub(r"^(X-Request-Id: )[0-9a-f]{32}$", r"\1{id}", text)
        text = re.sub(r'("request_id":")[0-9a-f]{32}', r"\1{id}", text)
        text = re.sub(rf"^Server-Timing: {STANDS['timing']}$", "Server-Timing: {timing}", text)
        out.append(("<< " if i + 1 == len(pieces) else "< ") + text)
    return out


def record(server, scenario, shim):
    """Runs what is sent, and writes what came behind it."""
    wire, held, out, logs = Wire(server, scenario.admin), [], [], []
    head = [line for line in scenario.path.read_text().splitlines() if line.split(" ")[0] in ("#", "flags", "admin")]
    ends = False
    with shim.fail(ALLOCATE, at=0):
        groups = list(blocks(scenario.steps))
        for i, (word, lines) in enumerate(groups):
            if word == ">":
                out += [f"{w} {text}".rstrip() if not text else f"{w} {text}" for w, text in lines]
                wire.sock.sendall(b"".join(unescape(text) + (b"\r\n" if w == ">" else b"") for w, text in lines))
                waits = i + 1 < len(groups) and groups[i + 1][0] in ("half-close", "hold")
            elif word == "half-close":
                out.append(word)
                wire.sock.shutdown(socket.SHUT_WR)
                waits = False
            elif word == "hold":
                out.append(word)
                time.sleep(QUIET_S)
                held.append(wire)
                wire = Wire(server, scenario.admin)
                continue
            else:
                logs += [f"log {text}" for _, text in lines if word == "log"]
                continue
            if not waits:
                state = True
                while state:
                    state = wire.more(1.5)
                ends = state is False
                library = b"<html>" in wire.got
                out += ["..."] if library else as_lines(wire.got)
                wire.got = b""
    out = [line for line in out if line not in ("closed", "open")]
    if "..." not in out:
        out.append("closed" if ends else "open")
    out += logs
    # A connection's 32 KiB are the library's, sometimes before the count begins.
    most = f"most {shim.seen * 3 // 2 + 10}, {(shim.bytes % CONNECTION_BYTES) * 3 // 2 // 1000 * 1000 + 1000 + (1 + len(held)) * CONNECTION_BYTES}"
    scenario.path.write_text("\n".join([*head, most, "", *out]) + "\n")
    for one in [wire, *held]:
        one.sock.close()


SCENARIOS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=[p.stem for p in SCENARIOS])
def test_scenario(servers, path):
    scenario = Scenario(path)
    server, shim = servers(scenario.flags)
    if RECORD:
        record(server, scenario, shim)
        return
    with shim.fail(ALLOCATE, at=0):
        run(server, scenario)
    if scenario.most and fault_shim.available():
        assert shim.seen <= scenario.most[0] and shim.bytes <= scenario.most[1], (shim.seen, shim.bytes)
