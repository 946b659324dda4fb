"""tools/push-heads: one file to every replica, or to none."""
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import threading

import pytest
from conftest import TOKEN
from test_admin import active, heads_file, put, versions

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "push-heads"


def push(*arguments, token=TOKEN):
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, check=False,
                          env={**os.environ, "ORTHRUS_ADMIN_TOKEN": token}, timeout=120)


@pytest.fixture
def replicas(start, token_file):
    return [start("--admin-token-file", token_file) for _ in range(3)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new.safetensors"
    path.write_bytes(heads_file(seed=7))
    return path


@contextlib.contextmanager
def bad_replica(sha256):
    """An admin listener that takes the dry run, then fails, as a replica that is restarted would."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(200, {"versions": [{"version": 1, "sha256": "0" * 64}]})

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if "dry_run" in self.path:
                self.answer(200, {"version": 2, "sha256": sha256, "source_sha256": sha256})
            else:
                self.answer(503, {"error": "draining"})

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_replica_serves_it(replicas, file):
    done = push(file, *(replica.admin for replica in replicas))
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"all 3 replicas serve {sha256}" in done.stdout
    for replica in replicas:
        assert versions(replica)[0]["sha256"] == sha256
        assert active(replica) == f"v2-{sha256[:12]}"


def test_dry_run_changes_nothing(replicas, file):
    done = push("--dry-run", file, *(replica.admin for replica in replicas))
    assert done.returncode == 0, done.stderr
    assert all(len(versions(replica)) == 1 for replica in replicas)


def test_one_fails_and_all_go_back(replicas, file):
    before = [active(replica) for replica in replicas]
    with bad_replica(hashlib.sha256(file.read_bytes()).hexdigest()) as bad:
        done = push(file, *(replica.admin for replica in replicas), bad)
    assert done.returncode == 1
    assert f"{bad}: PUT /admin/heads: 503 draining" in done.stderr
    assert "every replica serves what it did before" in done.stderr
    assert [active(replica) for replica in replicas] == before
    assert all(len(versions(replica)) == 2 for replica in replicas)  # it had been there


def test_an_unreachable_replica_stops_it_before_any_change(replicas, file):
    done = push(file, replicas[0].admin, "127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert len(versions(replicas[0])) == 1


def test_a_bad_file_or_token_changes_nothing(replicas, file, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(heads_file(hidden=31))
    done = push(bad, replicas[0].admin)
    assert done.returncode == 1 and "422" in done.stderr
    done = push(file, replicas[0].admin, token="x" * 40)
    assert done.returncode == 1 and "401" in done.stderr
    assert len(versions(replicas[0])) == 1


def test_one_head_onto_different_heads_is_refused(replicas, tmp_path):
    assert put(replicas[0], heads_file(seed=3)).status == 200
    one = tmp_path / "one.safetensors"
    one.write_bytes(heads_file(classes=(6,), names=("classifier",)))
    done = push(one, replicas[0].admin, replicas[1].admin)
    assert done.returncode == 1 and "differs" in done.stderr
    assert push(one, replicas[1].admin, replicas[2].admin).returncode == 0


def test_token_file_and_usage(replicas, file, tmp_path):
    token = tmp_path / "token"
    token.write_text(f"# ours\nops:{TOKEN}\n")
    assert push("--token-file", token, file, replicas[0].admin, token="").returncode == 0
    assert push(file, replicas[0].admin, token="").returncode == 2
    assert push(file, "localhost").returncode == 2
    assert push(file).returncode == 2
    assert push(file, replicas[0].admin, token=f"{TOKEN}\n").returncode == 0  # as $(cat) of a file with CRLF leaves one
    for flags, secret in ((("--timeout", "0"), TOKEN), (("--timeout", "-1"), TOKEN), (("--timeout", "nan"), TOKEN),
                          ((), f"{TOKEN}\nx"), ((), f"{TOKEN}é")):
        done = push(*flags, file, replicas[0].admin, token=secret)
        assert done.returncode == 2 and TOKEN not in done.stderr and "Traceback" not in done.stderr, done
    token.write_bytes(b"ops:\xff\xfe\n")
    done = push("--token-file", token, file, replicas[0].admin)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done


@contextlib.contextmanager
def slow_replica(sha256, answer=None):
    """Takes the dry run, then keeps the PUT until the test says so; or answers it with something odd."""
    reached, go_on = threading.Event(), threading.Event()
    state = {"sha256": "0" * 64}

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, value):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def do_GET(self):
            self.reply({"versions": [{"version": 1, "sha256": state["sha256"]}]})

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            value = {"version": 2, "sha256": sha256, "source_sha256": sha256}
            if "dry_run" in self.path:
                self.reply(value)
                return
            reached.set()
            go_on.wait(60)
            self.reply(value if answer is None else answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", reached, go_on
    finally:
        go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_rolls_back(replicas, file, number):
    before = [active(replica) for replica in replicas]
    with slow_replica(hashlib.sha256(file.read_bytes()).hexdigest()) as (slow, reached, _):
        tool = subprocess.Popen([TOOL, file, *(replica.admin for replica in replicas), slow], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "ORTHRUS_ADMIN_TOKEN": TOKEN},
                                preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
        assert reached.wait(60)
        assert [active(replica) for replica in replicas] != before
        tool.send_signal(number)
        _, errors = tool.communicate(timeout=60)
    assert tool.returncode == 1 and "Traceback" not in errors
    assert f"ended by {signal.Signals(number).name}" in errors
    assert "every replica serves what it did before" in errors
    assert [active(replica) for replica in replicas] == before


@pytest.mark.parametrize("answer", [{}, [], b"nonsense", {"sha256": 1}, {"sha256": None, "source_sha256": "x"},
                                    {"sha256": "g" * 64}])
def test_a_malformed_answer_rolls_back(replicas, file, answer):
    before = [active(replica) for replica in replicas]
    with slow_replica(hashlib.sha256(file.read_bytes()).hexdigest(), answer) as (odd, _, go_on):
        go_on.set()
        done = push(file, replicas[0].admin, odd)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "every replica serves what it did before" in done.stderr
    assert [active(replica) for replica in replicas] == before


def test_a_closed_standard_output_rolls_back(replicas, file):
    before = [active(replica) for replica in replicas]
    with slow_replica(hashlib.sha256(file.read_bytes()).hexdigest()) as (slow, reached, go_on):
        tool = subprocess.Popen([TOOL, file, replicas[0].admin, slow, replicas[1].admin], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "ORTHRUS_ADMIN_TOKEN": TOKEN})
        assert reached.wait(60)
        tool.stdout.close()
        go_on.set()
        errors = tool.stderr.read()
        assert tool.wait(60) == 1
    assert "Traceback" not in errors and "serves what it did before" in errors
    assert [active(replica) for replica in replicas] == before
