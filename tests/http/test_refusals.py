"""Refusals for want of room: the same words, honest and, for those who do not wait, late."""

import concurrent.futures
import contextlib
import email.utils
import json
import re
import select
import signal
import socket
import statistics
import struct
import threading
import time

import pytest
from conftest import render

JSON = [("Content-Type", "application/json")]
GIANT = json.dumps({"inputs": ["some words that take their time " * 8] * 2048}).encode()
ENOUGH = 24  # refusals in a row: the last ones come as late as they may


@contextlib.contextmanager
def filled(server, headers=JSON):
    """The server's queue has no room, most of the time."""
    ended = threading.Event()

    def keep_busy():
        with contextlib.suppress(OSError), server.connect() as connection:
            reply = True
            while reply and not ended.is_set():
                connection.send(render("POST", "/embed", GIANT, headers))
                reply = connection.read_reply()

    threads = [threading.Thread(target=keep_busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        ended.set()
        for thread in threads:
            thread.join()


SMALL_QUEUE = ("--max-queue-requests", "1", "--max-batch-tokens", "64", "--threads", "1")


@pytest.fixture
def full(start):
    with filled(start(*SMALL_QUEUE)) as server:
        yield server


def refused(connection, path="/embed", headers=()):
    """(reply, seconds) of a request that was, or None."""
    begin = time.monotonic()
    reply = connection.post(path, {"inputs": "a"}, headers)
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


def impatient(connection, path="/embed", headers=()):
    """Makes the connection one whose refusals come late and, after the first of these, are all that is read."""
    row = []
    end = time.monotonic() + 60
    while len(row) < 10 and time.monotonic() < end:
        one = refused(connection, path, headers)
        row = [*row, one[0]] if one else []
    assert len(row) == 10, "the queue was never full for long enough"
    return row


def counted(server):
    text = server.get("/metrics", admin=True).body.decode()
    return sum(map(int, re.findall(r'^orthrus_requests_total{route="/embed",code="(?:200|429|499)"} (\d+)$', text, re.M)))


def test_repeated_requests_are_refused_in_the_same_words(full):
    """They never reach libmicrohttpd; nobody can tell."""
    with full.connect() as connection:
        row = impatient(connection)
        row += [one[0] for one in (refused(connection) for _ in range(3)) if one]
        names = {tuple(sorted(name for name, _ in reply.headers)) for reply in row}
        assert len(names) == 1, names
        assert len({reply.header("x-request-id") for reply in row}) == len(row)
        for reply in row:
            assert reply.json()["request_id"] == reply.header("x-request-id")
            assert email.utils.parsedate_to_datetime(reply.header("date"))
        # Other lengths are the same request, other heads are another: they may bring their own id.
        for inputs in ("b" * 20, "c" * 400, ""):
            assert connection.post("/embed", {"inputs": inputs}).status in (200, 429)
        body = b'{"inputs": "a"}'
        connection.send(render("POST", "/embed", body, [*JSON, ("X-Request-Id", "mine")]))
        assert connection.read_reply().header("x-request-id") == "mine"
        assert connection.post("/classify", {"inputs": "a"}).status in (200, 404, 429)
        assert connection.request("GET", "/livez").status == 200


def test_another_request_is_refused_no_later_than_a_repeated_one(full):
    """It lay unread as long as the refusal of a repeated one would have taken, and is not kept back anew."""
    headers = [(), [("X-Other", "1")]]

    def median(heads):
        with full.connect() as connection:
            impatient(connection)
            row = [refused(connection, headers=heads[i % len(heads)]) for i in range(10)]
            return statistics.median(took for _, took in row) if all(row) else 0

    end = time.monotonic() + 60
    same = other = 0
    while not (same and other) and time.monotonic() < end:
        same, other = same or median(headers[:1]), other or median(headers)
    assert same and other, "the queue was never full for long enough"
    assert other < 1.5 * same


def test_what_comes_beside_a_repeated_request_is_answered_in_order(full):
    body = b'{"inputs": "a"}'
    request = render("POST", "/embed", body, JSON)
    with full.connect() as connection:  # in pieces
        impatient(connection)
        for cut in (1, 30, len(request) - len(body), len(request) - 1):
            connection.send(request[:cut])
            time.sleep(0.02)
            connection.send(request[cut:])
            assert connection.read_reply().status in (200, 429)
    with full.connect() as connection:  # two at once, and more while one is kept back
        impatient(connection)
        connection.send(request + render("GET", "/livez", b"", []))
        assert [connection.read_reply().status, connection.read_reply().status][1] == 200
        impatient(connection)
        connection.send(request)
        time.sleep(0.02)
        connection.send(render("GET", "/livez", b"", []))
        assert connection.read_reply().status in (200, 429)
        assert connection.read_reply().status == 200
        assert len(impatient(connection)) == 10
    with full.connect() as connection:  # a body that ends like a request, and one behind it
        impatient(connection)
        connection.send(render("POST", "/embed", b" " * 100 + request, JSON)[:-len(request)])
        time.sleep(0.02)
        connection.send(request + request)
        assert connection.read_reply().status in (400, 422, 429)
        assert connection.read_reply().status in (200, 429)
    with full.connect() as connection:  # nothing more will come
        impatient(connection)
        connection.send(request)
        time.sleep(0.02)
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.read_reply().status in (200, 429)
        assert connection.closed(5)
    before = counted(full)
    for _ in range(3):  # who goes is forgotten
        with full.connect() as connection:
            impatient(connection)
            connection.send(request)
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while counted(full) < before + 3 * 11 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counted(full) >= before + 3 * 11


def test_what_fills_the_buffer_hides_nothing(full):
    """libmicrohttpd's buffer takes a repeated request to the byte, and more has come behind it."""
    for size in (16384, 32768):
        with full.connect() as connection:
            impatient(connection)
            head = len(render("POST", "/embed", b" " * size, JSON)) - size
            request = render("POST", "/embed", b" " * (size - head), JSON)
            assert len(request) == size
            connection.send(request + render("GET", "/livez", b"", []))
            assert connection.read_reply().status in (200, 400, 422, 429)
            assert connection.read_reply().status == 200


def test_a_late_refusal_reaches_who_has_closed_its_side(full):
    """Some of them: before libmicrohttpd was resumed it had not looked for more, or it had."""
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(24) as threads:
        connections = [stack.enter_context(full.connect()) for _ in range(24)]
        list(threads.map(impatient, connections))
        for connection in connections:
            connection.send(render("POST", "/embed", b'{"inputs": "a"}', JSON))
        time.sleep(0.02)
        for connection in connections:
            connection.sock.shutdown(socket.SHUT_WR)
        replies = [connection.read_reply() for connection in connections]
        assert {reply and reply.status for reply in replies} <= {200, 429}


def test_a_sleeping_connection_wakes(start):
    """For room, after silence, and when its client goes."""
    server = start(*SMALL_QUEUE)
    with contextlib.ExitStack() as stack:
        with filled(server):
            connections = [stack.enter_context(server.connect()) for _ in range(4)]
            for connection in connections:
                impatient(connection)
            silent, asking, leaving, resetting = connections
            asking.send(render("POST", "/embed", b'{"inputs": "a"}', JSON))
            leaving.close()
            resetting.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            resetting.close()
        status = asking.read_reply().status
        end = time.monotonic() + 60
        while status == 429 and time.monotonic() < end:
            status = asking.post("/embed", {"inputs": "a"}).status
        assert status == 200
        time.sleep(0.6)
        assert silent.post("/embed", {"inputs": "a"}).status == 200
        while server.metric("orthrus_connections", admin=True) > 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert server.metric("orthrus_connections", admin=True) == 2


def test_repeated_requests_are_counted_once(full):
    with full.connect() as connection:
        refusals = 'orthrus_requests_total{route="/similarity",code="429"}'
        impatient(connection, "/similarity")
        before = full.metric(refusals, admin=True)
        for _ in range(5):
            status = connection.post("/similarity", {"inputs": "a"}).status
            before += status == 429
            assert full.metric(refusals, admin=True) == before


def test_a_revoked_key_is_refused_for_that(start, key_file):
    with open(key_file) as file:
        busy, revoked = (line.split(":")[1].strip() for line in file if ":" in line)
    headers = [("Authorization", f"Bearer {revoked}")]
    server = start(*SMALL_QUEUE, "--api-key-file", key_file)
    with filled(server, [*JSON, ("Authorization", f"Bearer {busy}")]), server.connect() as connection:
        impatient(connection, headers=headers)
        with open(key_file, "w") as file:
            file.write(f"team-a:{busy}\n")
        server.signal(signal.SIGHUP)
        server.wait_log("tokens reloaded")
        assert connection.post("/embed", {"inputs": "a"}, headers).status == 401


def test_a_refusal_kept_back_into_a_drain_is_the_last(full):
    with full.connect() as connection:
        impatient(connection)
        connection.send(render("POST", "/embed", b'{"inputs": "a"}', JSON))
        full.signal()
        full.wait_log("draining")
        late = not select.select([connection.sock], [], [], 0)[0]
        reply = connection.read_reply()
        if late:  # else it went out before
            assert reply.header("connection") == "close"
            assert connection.closed(10)
    assert full.wait() == 0


def test_drain_lets_kept_back_refusals_go(full):
    with contextlib.ExitStack() as stack:
        connections = []
        end = time.monotonic() + 60
        for _ in range(8):
            connection = stack.enter_context(full.connect())
            connections.append(connection)
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
