"""tools/push-heads: one file to every replica, or to none."""
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
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
