"""Refusals for want of room: the same words, honest and, for those who do not wait, late."""

import contextlib
import json
import re
import statistics
import threading
import time

import pytest
from conftest import render

JSON = [("Content-Type", "application/json")]
GIANT = json.dumps({"inputs": ["some words that take their time " * 8] * 2048}).encode()
ENOUGH = 24  # refusals in a row: the last ones come as late as they may


@pytest.fixture
def full(start):
    """A server whose queue has no room, most of the time."""
    server = start("--max-queue-requests", "1", "--max-batch-tokens", "64", "--threads", "1")
    ended = threading.Event()

    def keep_busy():
        with contextlib.suppress(OSError), server.connect() as connection:
            reply = True
            while reply and not ended.is_set():
                connection.send(render("POST", "/embed", GIANT, JSON))
                reply = connection.read_reply()

    threads = [threading.Thread(target=keep_busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield server
    ended.set()
    for thread in threads:
        thread.join()


def refused(connection):
    """(reply, seconds) of a request that was, or None."""
    begin = time.monotonic()
    reply = connection.post("/embed", {"inputs": "a"})
    took = time.monotonic() - begin
    return (reply, took) if reply.status == 429 else None


def test_impatient_clients_are_refused_later_and_later(full):
    with full.connect() as connection:
        row = []
        end = time.monotonic() + 60
        while len(row) < ENOUGH and time.monotonic() < end:
            one = refused(connection)
            row = [*row, one] if one else []
        assert len(row) == ENOUGH, "the queue was never full for long enough"
        texts = {reply.json()["error"] for reply, _ in row}
        assert texts == {"the server is full; try again after Retry-After seconds"}
        assert all(int(reply.header("Retry-After")) >= 1 for reply, _ in row)
        last = statistics.median(took for _, took in row[-6:])
        assert last > 0.15 and last > 3 * statistics.median(took for _, took in row[:8])
        # Others, and probes on the same connection, are not kept waiting for it.
        begin = time.monotonic()
        for _ in range(20):
            assert connection.request("GET", "/livez").status == 200
        assert (time.monotonic() - begin) / 20 < last


def test_drain_lets_kept_back_refusals_go(full):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(full.connect()) for _ in range(8)]
        end = time.monotonic() + 60
        for connection in connections:
            row = 0
            while row < 14 and time.monotonic() < end:
                row = row + 1 if refused(connection) else 0
        for connection in connections:
            connection.send(render("POST", "/embed", b'{"inputs": "a"}', JSON))
        full.stop()


def test_refusals_are_a_sample_in_the_log(full):
    """Who comes anew each time is refused at once: the lines would be the log. The metrics count all."""
    refused = 0
    end = time.monotonic() + 60
    while refused < 300 and time.monotonic() < end:
        with full.connect() as connection:
            refused += connection.post("/embed", {"inputs": "a"}).status == 429
    assert refused == 300, "the queue was never full for long enough"
    text = full.get("/metrics", admin=True).body.decode()
    counted = int(re.search(r'^orthrus_requests_total{route="/embed",code="429"} (\d+)$', text, re.M)[1])
    assert counted >= refused
    full.stop()
    logged = [line for line in full.lines if line["message"] == "request" and line["status"] == 429]
    assert 0 < len(logged) < refused / 2
