"""Every allocation fails once: of the program and its libraries by a preloaded malloc, under ASan of our own code and
of jansson (orthrus_faulty). What was asked ends with its own answer or with the documented error, the same asked again is
answered as before, and in the end nothing has leaked. ORTHRUS_FULL=1 takes every point, else some of each scenario."""
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import fault_shim
import pytest
from conftest import BIN, ROOT, TINY, TOKEN, Server, render
from fault_shim import ALLOCATE
from test_admin import heads_file as two_heads
from test_named_heads import KINDS, heads_file

WRAPPED = fault_shim.FAULTY.exists()
PROGRAM = str(fault_shim.FAULTY) if WRAPPED else BIN
pytestmark = pytest.mark.skipif(not WRAPPED and not fault_shim.available(), reason="a build without shim and wrapped program")

FULL = os.environ.get("ORTHRUS_FULL") == "1"
# Points of a scenario: all of a request's in full; some of a process's, whose start alone has thousands.
REQUEST_POINTS = 100_000 if FULL else 12
PROCESS_POINTS = (250 if WRAPPED else 1000) if FULL else 8
HANGS_S = 60 if WRAPPED else 30
MODELS = ROOT / "tests/data/models"
BEARER = ("Authorization", f"Bearer {TOKEN}")
TEXT = {"inputs": "the end of it"}
LONG = {"inputs": " ".join(["the", "end", "of", "it"] * 60)}
TALLY = os.environ.get("ORTHRUS_FAULT_TALLY")  # a file that gets a line a scenario


def tally(name, points, seen):
    print(f"{name}: {points} points of {seen} allocations")
    if TALLY:
        with open(TALLY, "a") as file:
            file.write(json.dumps({"scenario": name, "wrapped": WRAPPED, "points": points, "allocations": seen}) + "\n")


def points(seen, most):
    """Which of a scenario's allocations fail: all, or so many at even distances."""
    stride = max(1, -(-seen // most))
    return range(1, seen + 1, stride)


# name: (method, path, body, on the admin listener)
ASKED = {
    "embed": ("POST", "/embed", {"inputs": ["hello world", "caf\u00e9"], "dimensions": 4}),
    "embed, ids": ("POST", "/embed", {"inputs": [[2, 5, 3], "a"]}),
    "embed, windows": ("POST", "/embed", {**LONG, "long": "windows"}),
    "embed, a large body": ("POST", "/embed", {"inputs": ["some words " * 20] * 12}),
    "/": ("POST", "/", TEXT),
    "openai": ("POST", "/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"}),
    "openai models": ("GET", "/v1/models", None),
    "classify": ("POST", "/classify", {"inputs": ["hello", "world"], "top_k": 2}),
    "classify, explain": ("POST", "/classify", {**TEXT, "explain": True}),
    "classify, windows": ("POST", "/classify", {**LONG, "long": "windows"}),
    "sentiment": ("POST", "/sentiment", TEXT),
    "sigmoid, abstain": ("POST", "/heads/topics", {**TEXT, "abstain": True}),
    "tokens": ("POST", "/heads/tags", {**TEXT, "aggregation_strategy": "first"}),
    "predict": ("POST", "/predict", {"inputs": [["a"], ["b", "c"]]}),
    "rerank": ("POST", "/rerank?head=rank", {"query": "a", "texts": ["b", "c"], "return_text": True}),
    "similarity": ("POST", "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}),
    "embed_all": ("POST", "/embed_all", TEXT),
    "analyze": ("POST", "/analyze", {**TEXT, "tasks": ["embed", "topics", "tags", "sentiment"]}),
    "tokenize": ("POST", "/tokenize", {"inputs": ["hello", "caf\u00e9"]}),
    "decode": ("POST", "/decode", {"ids": [[2, 5, 3]]}),
    "heads": ("GET", "/heads", None),
    "info": ("GET", "/info", None),
    "metrics": ("GET", "/metrics", None),
    "ready": ("GET", "/readyz", None),
    "docs": ("GET", "/docs", None),
    "contract": ("GET", "/openapi.json", None),
    "refused: a field": ("POST", "/embed", {"inputs": "a", "inputz": 1}),
    "refused: no route": ("GET", "/nothing", None),
    "refused: a method": ("DELETE", "/embed", None),
    "refused: a head": ("POST", "/heads/none", TEXT),
    "admin: versions": ("GET", "/admin/heads", None),
    "admin: download": ("GET", "/admin/heads/1", None),
    "admin: dry run": ("PUT", "/admin/heads?dry_run", two_heads(seed=5)),
    "admin: refused": ("PUT", "/admin/heads", b"\x08\0\0\0\0\0\0\0{\"a\":1} "),
}
# What changes from one request to the next; the status counts.
VARIES = {"info", "metrics", "admin: dry run", "admin: versions"}


@pytest.fixture
def shim(tmp_path):
    return fault_shim.Shim(tmp_path, preload=not WRAPPED)


@pytest.fixture
def daemon(tmp_path, shim, token_file):
    shim.env["ORTHRUS_LOG_LEVEL"] = "info"
    server = Server("--admin-token-file", token_file, "--state-dir", str(tmp_path / "state"), "--threads", "1",
                    "--precision", "fp32", "--drain-timeout-s", "8", "--request-timeout-ms", "20000",
                    env=shim.env, program=PROGRAM, drop=["request"])
    assert change(server, "PUT", "/admin/heads", heads_file(KINDS)).status == 200
    yield server
    server.stop()


def ask(server, method, path, body, limit_s=HANGS_S):
    admin = path.startswith("/admin")
    headers = [("X-Request-Id", "r"), *([BEARER] if admin else [])]
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers.append(("Content-Type", "application/json"))
    with server.connect(admin) as connection:
        connection.sock.settimeout(limit_s)
        return connection.request(method, path, body, headers)


def change(server, method, path, body=None):
    return ask(server, method, path, b"" if body is None and method == "POST" else body)


def failed_well(reply):
    """The documented error; a connection without memory for itself or its answer is closed."""
    if reply is None:
        return True
    if reply.status != 500:
        return False
    body = reply.json()
    return body.get("code") == "internal" or body["error"].get("code") == "internal"


@pytest.mark.parametrize("name", ASKED)
def test_a_request(daemon, shim, name):
    method, path, body = ASKED[name]
    for _ in range(2):  # the first makes what stays
        whole = ask(daemon, method, path, body)
    with shim.fail(ALLOCATE, at=0):
        assert ask(daemon, method, path, body).status == whole.status
        time.sleep(0.05)  # the log
        seen = shim.seen
    assert seen > 0
    tried = 0
    for at in points(seen, REQUEST_POINTS):
        with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
            reply = ask(daemon, method, path, body)
            tried += shim.struck
        if reply and reply.status == whole.status:
            assert name in VARIES or reply.body == whole.body, at
        else:
            assert failed_well(reply), (at, reply and (reply.status, reply.body[:300]))
        again = ask(daemon, method, path, body)
        assert again.status == whole.status and (name in VARIES or again.body == whole.body), at
    tally(name, tried, seen)


# name: (how it gets there, the change)
CHANGES = {
    "put": ([], ("PUT", "/admin/heads", two_heads(seed=2))),
    "rollback": ([("PUT", "/admin/heads", two_heads(seed=3))], ("POST", "/admin/heads/rollback", b"")),
    "delete": ([("PUT", "/admin/heads", heads_file(KINDS, 3))], ("DELETE", "/admin/heads/topics", None)),
    "stage": ([], ("PUT", "/admin/heads?stage=shadow", heads_file(KINDS, 4))),
    "promote": ([("PUT", "/admin/heads?stage=shadow", heads_file(KINDS, 5)), ("POST", "/classify", TEXT)],
                ("POST", "/admin/shadow/promote", b"")),
    "unstage": ([("PUT", "/admin/heads?stage=shadow", heads_file(KINDS, 6))], ("DELETE", "/admin/shadow", None)),
    "report": ([("PUT", "/admin/heads?stage=shadow", heads_file(KINDS, 7))], ("GET", "/admin/shadow", None)),
    "watched": ([("PUT", "/admin/heads?stage=shadow", heads_file(KINDS, 8))], ("POST", "/classify", TEXT)),
}


def situation(server):
    reply = ask(server, "GET", "/admin/heads", None)
    staged = ask(server, "GET", "/admin/shadow", None)
    versions = [(v["version"], v["sha256"], v["active"]) for v in reply.json()["versions"]]
    return versions, staged.status == 200 and staged.json()["sha256"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change(daemon, shim, tmp_path, name):
    """All of it or nothing, in memory and on disk."""
    before, call = CHANGES[name]

    def prepare():
        for step in before:
            assert change(daemon, *step).status in (200, 204)

    prepare()
    with shim.fail(ALLOCATE, at=0):
        assert change(daemon, *call).status in (200, 204)
        time.sleep(0.05)
        seen = shim.seen
    tried = 0
    for at in points(seen, REQUEST_POINTS):
        prepare()
        then = situation(daemon)
        files = sorted(path.name for path in (tmp_path / "state").iterdir())
        with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
            reply = change(daemon, *call)
            tried += shim.struck
        if reply is None or reply.status not in (200, 204):
            assert failed_well(reply), (at, reply and (reply.status, reply.body[:300]))
            if reply:  # otherwise nobody knows
                assert situation(daemon) == then, at
                assert sorted(path.name for path in (tmp_path / "state").iterdir()) == files, at
        assert change(daemon, "POST", "/classify", TEXT).status == 200, at
        prepare()
        assert change(daemon, *call).status in (200, 204), at
    tally(name, tried, seen)


def test_a_reload(daemon, shim, token_file):
    """SIGHUP: tokens and heads stay as they were, or are new; the log says which."""
    def reload():
        n = daemon.log().count("okens")
        daemon.signal(signal.SIGHUP)
        end = time.monotonic() + HANGS_S
        while daemon.log().count("okens") == n and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(0.01)

    reload()
    with shim.fail(ALLOCATE, at=0):
        reload()
        seen = shim.seen
    for at in points(seen, REQUEST_POINTS):
        with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
            reload()
        assert ask(daemon, "POST", "/classify", TEXT).status == 200
        assert ask(daemon, "GET", "/admin/heads", None).status == 200
    tally("reload", len(points(seen, REQUEST_POINTS)), seen)


def environment(shim):
    return {**{k: v for k, v in os.environ.items() if not k.startswith("ORTHRUS_")}, **shim.env}


# What OpenBLAS, and the Fortran library that it brings, say before they end the process.
LIBRARIES_END = ("OpenBLAS", "Operating system error: Cannot allocate memory")
# Heads that stand although their command failed: whole, and the message says what is missing.
HEADS_STAND = r"the heads are written, their report is not|heads.safetensors: fsync of its folder"


def message(done):
    return done.stderr if isinstance(done.stderr, str) else done.stderr.decode("utf-8", "replace")


def no_crash(done, at):
    text = message(done)
    assert done.returncode >= 0 and "Sanitizer" not in text and "CHECK" not in text, (at, done.returncode, text[-3000:])
    return text


def run(shim, arguments, at=0, text=None):
    with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
        done = subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True, env=environment(shim),
                              timeout=HANGS_S)
        return done, shim.seen, shim.struck


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "heads.safetensors").write_bytes(two_heads(seed=1))
    (folder / "more.safetensors").write_bytes(heads_file(KINDS))
    rows = [{"text": f"the end of it {i}", "classifier": i % 6, "sentiment": i % 3} for i in range(24)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "data.csv").write_text("text,topic,tags\n" + "".join(f"some words {i},{'ab'[i % 2]},x|y\n" for i in range(24)))
    (folder / "lines").write_text("".join(f"the end of it {i}\n" for i in range(12)))
    return folder


ONE = ["--threads", "1"]
TRAIN = ["train", "--model", TINY, "--epochs", "1", "--batch-size", "8", *ONE, "--embedding-cache", "off", "--overwrite",
         "--output", "{out}/run"]
COMMANDS = {
    "embed": ["embed", "--model", TINY, "-i", "{files}/lines", "-o", "{out}/v.npy", *ONE],
    "embed, ids of JSON": ["embed", "--model", MODELS / "st-prompts", "-i", "{files}/data.jsonl", "--field", "text", "-o",
                           "{out}/v.ndjson", *ONE],
    "embed, Dense": ["embed", "--model", MODELS / "st-dense", "-i", "{files}/lines", "-o", "{out}/v.npy", *ONE],
    "predict": ["predict", "--model", TINY, "--heads", "{files}/heads.safetensors", "-i", "{files}/lines", *ONE],
    "predict, six heads": ["predict", "--model", TINY, "--heads", "{files}/more.safetensors", "-i", "{files}/lines", *ONE],
    "tokenize": ["tokenize", "--model", MODELS / "st-roberta", "-i", "{files}/lines"],
    "eval": ["eval", "--model", TINY, "--heads", "{files}/heads.safetensors", "--data", "{files}/data.jsonl", *ONE],
    "inspect, heads": ["inspect", "{files}/more.safetensors"],
    "inspect, a folder": ["inspect", "--json", TINY],
    "calibrate": ["calibrate", "--model", TINY, "--heads", "{files}/heads.safetensors", "--data", "{files}/data.jsonl",
                  "-o", "{out}/c.safetensors", *ONE],
    "merge-heads": ["merge-heads", "{files}/heads.safetensors", "{files}/more.safetensors", "-o", "{out}/m.safetensors"],
    "train, heads": [*TRAIN, "--data", "{files}/data.jsonl", "--freeze", "backbone", "--eval-split", "0.2"],
    "train, all": [*TRAIN, "--data", "{files}/data.jsonl"],
    "train, CSV": [*TRAIN, "--data", "{files}/data.csv", "--head", "topic:dense=4", "--head", "tags:sigmoid", "--freeze",
                   "backbone"],
    "bench": ["bench", "--model", TINY, *ONE, "--json"],
    "man": ["man", "serve"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command(shim, files, tmp_path, name):
    """Status 0 with the same output, or 1 with a reason and no result."""
    out = tmp_path / "out"
    arguments = [str(a).format(files=files, out=out) for a in COMMANDS[name]]

    def fresh():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    def written():
        return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())

    def contents():
        return {name: (out / name).read_bytes() for name in written()}

    fresh()
    whole, seen, _ = run(shim, arguments)
    assert whole.returncode == 0, whole.stderr
    results, wholes = written(), contents()
    tried = 0
    for at in points(seen, PROCESS_POINTS):
        fresh()
        done, _, struck = run(shim, arguments, at)
        tried += struck
        if done.returncode < 0 and message(done).startswith(LIBRARIES_END):
            continue
        text = no_crash(done, at)
        if done.returncode == 0:
            assert written() == results, at
            assert name == "bench" or name.startswith("train") or done.stdout == whole.stdout, at
        else:
            assert done.returncode == 1 and text.strip(), (at, done.returncode, text)
            assert re.search(r"memory|allocat|thread", text.splitlines()[-1]), (at, text)
            # What came after it may have failed; it is whole or not there.
            left = [] if name.startswith("train") else [path for path, data in contents().items()
                                                        if path in wholes and data != wholes[path]]
            assert not left, (at, left, text)
            assert "run/heads.safetensors" not in written() or re.search(HEADS_STAND, text), (at, text)
    tally(name, tried, seen)


def test_a_report_that_finds_no_memory(shim, files, tmp_path):
    """The heads were written before it: they are whole, and the error says so, with as many bytes as were asked for."""
    out = tmp_path / "out"
    arguments = [str(a).format(files=files, out=out) for a in COMMANDS["train, heads"]]
    whole, seen, _ = run(shim, arguments)
    heads = (out / "run/heads.safetensors").read_bytes()
    said = 0
    for at in range(max(1, seen - 180), seen, 9):
        done, _, _ = run(shim, arguments, at)
        text = no_crash(done, at)
        if done.returncode and "their report is not" in text:
            said += 1
            assert int(re.search(r"out of memory \((\d+) bytes\)", text)[1]) < 1 << 20, text
            assert (out / "run/heads.safetensors").read_bytes() == heads
    assert said, whole.stderr


FOLDERS = [TINY, *sorted(p for p in MODELS.iterdir() if p.is_dir())]


@pytest.mark.parametrize("folder", FOLDERS, ids=[p.name for p in FOLDERS])
def test_a_start(shim, files, tmp_path, token_file, folder):
    """It serves, or ends with status 1 and a reason; either way it ends clean."""
    watched = tmp_path / "watched"
    watched.mkdir()
    flags = ["--admin-token-file", token_file]
    if folder == TINY:
        shutil.copy(files / "heads.safetensors", watched / "a.safetensors")
        flags += ["--heads-dir", str(watched)]
    command = [PROGRAM, "serve", "--model", str(folder), "--listen", f"unix:{tmp_path}/s", "--admin-listen", "off", *ONE,
               "--log-format", "json", "--precision", "fp32", "--drain-timeout-s", "2", *flags]

    def attempt(at):
        with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
            process = subprocess.Popen(command, env=environment(shim), stderr=subprocess.PIPE, text=True)
            lines = []
            for line in process.stderr:
                lines.append(line)
                if '"message":"ready"' in line:
                    break
            seen, struck = shim.seen, shim.struck
            served = process.poll() is None and lines and '"message":"ready"' in lines[-1]
            if served:
                asked = subprocess.run([BIN, "health", f"unix:{tmp_path}/s"], env={}, capture_output=True, timeout=HANGS_S)
                assert asked.returncode == 0, (at, asked.stderr, lines)
                process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            process.wait(HANGS_S)
        text = no_crash(subprocess.CompletedProcess(command, process.returncode, "", "".join(lines) + rest), at)
        assert process.returncode == (0 if served else 1), (at, process.returncode, text)
        assert served or text.strip(), at
        return seen, struck

    seen, _ = attempt(0)
    tried = sum(attempt(at)[1] for at in points(seen, PROCESS_POINTS))
    tally(f"start, {folder.name}", tried, seen)


def test_a_drain(shim, tmp_path):
    """The signal comes while a request is open."""
    body = json.dumps({"inputs": ["the end of it"] * 4}).encode()
    request = render("POST", "/embed", body, [("Content-Type", "application/json")])

    def attempt(at):
        server = Server("--threads", "1", "--drain-timeout-s", "4", "--admin-listen", "off", env=shim.env, program=PROGRAM)
        try:
            with server.connect() as connection:
                connection.sock.settimeout(HANGS_S)
                connection.send(request[:-20])
                with shim.fail(ALLOCATE, at=at, error=errno.ENOMEM):
                    server.signal()
                    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # closed already: read_reply says so
                        connection.send(request[-20:])
                    reply = connection.read_reply()
                    assert reply and reply.status == 200 or failed_well(reply) or reply.status == 503, (at, reply)
                    assert server.wait() == 0, (at, server.log())
                    return shim.seen, shim.struck
        finally:
            server.kill()

    seen, _ = attempt(0)
    tally("drain", sum(attempt(at)[1] for at in points(seen, PROCESS_POINTS)), seen)
