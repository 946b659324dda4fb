"""What holds under load: probes, memory, every answer the same. Long with ORTHRUS_FULL=1."""
import json
import os
import threading
import time

import pytest
from conftest import render

FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
SANITIZED = "san" in os.environ.get("ORTHRUS_BIN", "")
JSON = [("Content-Type", "application/json")]


class Load:
    """Clients in threads that post the same request over and over and keep the answers' statuses."""

    def __init__(self, server, clients, body, pipeline=1, requests=None):
        self.server = server
        self.data = render("POST", "/embed", json.dumps(body).encode(), JSON) * pipeline
        self.pipeline = pipeline
        self.left = requests
        self.lock = threading.Lock()
        self.bodies = set()
        self.statuses = {}
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _more(self):
        with self.lock:
            if self.left is not None:
                self.left -= self.pipeline
            return not self.stopping.is_set() and (self.left is None or self.left >= 0)

    def _run(self):
        statuses = {}
        with self.server.connect() as connection:
            while self._more():
                connection.send(self.data)
                for _ in range(self.pipeline):
                    reply = connection.read_reply()
                    statuses[reply.status] = statuses.get(reply.status, 0) + 1
                    if reply.status == 200 and len(self.bodies) < 10:
                        self.bodies.add(reply.body)
        with self.lock:
            for status, n in statuses.items():
                self.statuses[status] = self.statuses.get(status, 0) + n

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()

    def join(self):
        for thread in self.threads:
            thread.join()


def resident_kib(server):
    with open(f"/proc/{server.process.pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))


def test_probes_answer_under_full_load(start):
    server = start("--drain-timeout-s", "4")
    took = []
    with Load(server, 4, {"inputs": ["some words of a text " * 6] * 512}), server.connect() as main, \
            server.connect(admin=True) as admin:
        end = time.monotonic() + (20 if FULL else 4)
        while time.monotonic() < end:
            for connection, path in ((main, "/health"), (main, "/readyz"), (admin, "/livez"), (main, "/metrics")):
                begin = time.monotonic()
                assert connection.request("GET", path).status == 200
                took.append(time.monotonic() - begin)
            time.sleep(0.01)
    took.sort()
    p99_ms = took[int(len(took) * 0.99)] * 1000
    # The contract is 50 ms; machines that run other tests beside get leave to be slower.
    assert p99_ms < (50 if FULL and not SANITIZED else 500), f"p99 {p99_ms:.1f} ms of {len(took)}"


def test_soak(start):
    """Resident memory stays where it is, every answer is the same, the exit is clean."""
    server = start("--drain-timeout-s", "4", drop=["request"])
    total = 1_000_000 if FULL else 20_000
    body = {"inputs": "a sentence that comes again and again"}

    def run(requests):
        load = Load(server, 8, body, pipeline=16, requests=requests)
        with load:
            load.join()
        assert set(load.statuses) == {200} and len(load.bodies) == 1
        return sum(load.statuses.values())

    run(max(total // 10, 10_000))
    before = resident_kib(server)
    assert run(total) > total * 0.9
    grown = resident_kib(server) - before
    if not SANITIZED:
        assert grown <= before * 0.01, f"{grown} KiB on {before} KiB after {total} requests"


@pytest.mark.skipif(not FULL, reason="takes half a minute: only with ORTHRUS_FULL=1")
def test_a_refused_body_is_read_for_ten_seconds(server):
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [*JSON, ("Content-Length", str(32 << 20))]))
        begin = time.monotonic()
        try:
            for _ in range(200):
                connection.send(b"x" * 100)
                time.sleep(0.1)
        except OSError:
            pass
        assert 9 < time.monotonic() - begin < 13
        reply = connection.read_reply()
        assert reply is None or reply.status == 413
