"""Clients that take their time: absolute deadlines, not idle ones."""
import contextlib
import json
import multiprocessing
import os
import socket
import time

import conftest
import pytest
from conftest import Server, render

JSON = [("Content-Type", "application/json")]


@pytest.fixture(scope="module")
def hurried():
    server = Server("--header-timeout-ms", "600", "--body-timeout-ms", "800", "--idle-timeout-ms", "900",
                    "--drain-timeout-s", "2", "--max-body-bytes", "100000")
    yield server
    server.stop()


def drip(connection, data, pause_s=0.1):
    """Sends byte after byte until the server has had enough; returns the seconds it took."""
    start = time.monotonic()
    try:
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(pause_s)
            if time.monotonic() - start > 8:
                break
    except (ConnectionResetError, BrokenPipeError):
        pass
    return time.monotonic() - start


def test_slow_headers_are_cut(hurried):
    with hurried.connect() as connection:
        took = drip(connection, b"GET /health HTTP/1.1\r\nX-Slow: " + b"a" * 200)
        assert 0.4 < took < 4
        assert connection.closed(2)


def test_a_silent_connection_is_cut(hurried):
    with hurried.connect() as connection:
        start = time.monotonic()
        assert connection.closed(5)
        assert 0.4 < time.monotonic() - start < 3


def test_slow_bodies_get_408(hurried):
    with hurried.connect() as connection:
        connection.send(render("POST", "/embed", None, [
            *JSON, ("Content-Length", "1000"), ("X-Request-Id", "slow-one")]))
        took = drip(connection, b"a" * 1000)
        assert 0.6 < took < 4
        reply = connection.read_reply()
        assert reply.status == 408
        assert reply.code == "body_timeout" and reply.json()["request_id"] == "slow-one"
        assert connection.closed(2)
    assert hurried.wait_log("request", request_id="slow-one")["status"] == 408


def test_slow_openai_bodies_get_their_form(hurried):
    with hurried.connect() as connection:
        connection.send(render("POST", "/v1/embeddings", None, [*JSON, ("Content-Length", "1000")]))
        reply = connection.read_reply()
        assert reply.status == 408 and reply.json()["error"]["code"] == "body_timeout"


def test_idle_connections_are_cut_later(hurried):
    with hurried.connect() as connection:
        assert connection.request("GET", "/health").status == 200
        start = time.monotonic()
        assert connection.closed(5)
        assert 0.7 < time.monotonic() - start < 3


def test_keep_alive_outlives_the_header_timeout(hurried):
    with hurried.connect() as connection:
        for _ in range(4):
            assert connection.request("GET", "/health").status == 200
            time.sleep(0.3)


def test_a_client_that_does_not_read_is_cut(hurried):
    """Its answer fills the socket's buffers; the thread that sends it goes on with others."""
    with hurried.connect() as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = render("GET", "/openapi.yaml")
        with pytest.raises((ConnectionResetError, BrokenPipeError, TimeoutError)):
            connection.sock.settimeout(6)
            for _ in range(2000):
                connection.send(request * 50)
                time.sleep(0.01)
    assert hurried.get("/health").status == 200


def open_sockets(server):
    folder = f"/proc/{server.process.pid}/fd"
    names = []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"{folder}/{fd}"))
    return sum(name.startswith("socket:") for name in names)


def test_a_disconnected_client_costs_nothing(server):
    for _ in range(20):
        with server.connect() as connection:
            connection.send(render("POST", "/embed", b'{"inputs":"a"}', JSON))
    for _ in range(20):
        with server.connect() as connection:
            connection.send(render("POST", "/embed", None, [*JSON, ("Content-Length", "1000")]) + b"abc")
    assert server.post("/embed", {"inputs": "a"}).status == 200
    for _ in range(100):
        if open_sockets(server) <= 4:
            break
        time.sleep(0.05)
    assert open_sockets(server) <= 4


def eventually(check, within_s=10):
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_connection_limit(start):
    server = start("--max-connections", "4")
    held = [server.connect() for _ in range(4)]
    for connection in held:
        assert connection.request("GET", "/health").status == 200
    with server.connect() as extra:
        assert extra.request("GET", "/livez").status == 200
    with server.connect() as extra:
        reply = extra.post("/embed", {"inputs": "a"})
        assert (reply.status, reply.code) == (429, "overloaded")
        assert reply.header("Connection") == "close"
    assert server.get("/readyz", admin=True).status == 200
    # The two that were refused have gone, and with them their spare places.
    eventually(lambda: b"\northrus_connections 4\n" in server.get("/metrics", admin=True).body)
    many = []
    for _ in range(80):  # all in use: these get an answer, not a place
        many.append(server.connect())
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            many[-1].send(render("GET", "/livez"))
    replies = [connection.read_reply() for connection in many]
    assert 64 <= sum(reply is not None and reply.status == 200 for reply in replies) < 80
    for connection in many + held[:1]:
        connection.close()
    eventually(lambda: getattr(server.post("/embed", {"inputs": "a"}), "status", None) == 200)


def test_who_comes_back_at_once_over_the_limit_waits(start):
    """A connection over the limit is refused and closed; a client that opens the next one at once did so ten thousand
    times a second, and the service did nothing else. The first refusals come at once, then they come later and later."""
    server = start("--max-connections", "4")
    held = [server.connect() for _ in range(4)]
    for connection in held:
        assert connection.request("GET", "/health").status == 200
    began = time.monotonic()
    for _ in range(40):  # of each I/O thread 8 at once, then 64, 128 and ten times 250 ms late
        with server.connect() as extra:
            assert extra.post("/embed", {"inputs": "a"}).status == 429
    assert time.monotonic() - began > 1.5


def test_silent_connections_make_way(start):
    """Who waits longest with no whole header section loses the place to a newcomer; a kept connection
    that begins its next request has not waited long, however old it is."""
    server = start("--max-connections", "40")
    idle = server.connect()
    assert idle.request("GET", "/health").status == 200
    slow = []
    for i in range(200):
        slow.append(server.connect())
        if i % 2:
            slow[-1].send(b"POST /embed HTTP/1.1\r\nHost: x\r\n")
        if i % 20 == 0:
            with server.connect() as good:
                assert good.post("/embed", {"inputs": "a"}).status == 200
        if i == 180:
            assert idle.request("GET", "/health").status == 200
            idle.send(b"GET /health HTTP/1.1\r\n")
            time.sleep(0.2)  # until it has arrived, before those that come now
    idle.send(b"Host: x\r\n\r\n")
    assert idle.read_reply().status == 200
    assert all(connection.closed(5) for connection in slow[:140])
    assert not any(connection.closed(0.05) for connection in slow[-4:])
    assert server.get("/info").json()["limits"]["max_connections"] == 40


def test_few_descriptors(start, monkeypatch, tmp_path):
    """The main listener takes what is there and leaves the admin listener its own."""
    wrapper = tmp_path / "orthrus"
    wrapper.write_text(f'#!/bin/sh\nulimit -n 64\nexec "{conftest.BIN}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(conftest, "BIN", str(wrapper))
    server = start()
    limit = server.get("/info").json()["limits"]["max_connections"]
    assert 8 <= limit < 60
    held = []
    for _ in range(limit):
        held.append(server.connect())
        assert held[-1].request("GET", "/health").status == 200
    more = [server.connect() for _ in range(100)]
    for _ in range(3):
        assert server.get("/livez", admin=True).status == 200
        assert server.get("/metrics", admin=True).status == 200
    assert held[0].post("/embed", {"inputs": "a"}).status == 200
    for connection in held + more:
        connection.close()
    assert "no descriptors left" not in server.log()


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1", reason="a long proof: ORTHRUS_FULL=1")
def test_five_thousand_slow_clients(start):
    """At the default of 1,000 connections a good client's p99 stays within 1.2 times, and probes are answered.

    The slow clients and the kernel's work for them take this machine's CPUs whomever they molest, so what is compared
    with is the same clients at another server beside: the better of two rounds each."""
    server, neighbour = start(drop=("request",)), start(drop=("request",))

    def ask(times, ask_once, n):
        for _ in range(n):
            begin = time.monotonic()
            assert ask_once().status == 200
            times.append(time.monotonic() - begin)

    def p99(molested=None):
        good, probes, reconnects = [], [], 0
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            if molested:
                slow = pool.apply_async(slow_clients, (molested.address, 5000, 12))
                time.sleep(3)
            for _ in range(15):
                ask(good, lambda: server.post("/embed", {"inputs": "a good client"}), 100)
                for path, admin in (("/livez", False), ("/readyz", False), ("/livez", True), ("/readyz", True), ("/metrics", True)):
                    ask(probes, lambda path=path, admin=admin: server.get(path, admin=admin), 4)
            if molested:
                reconnects = slow.get()
        at = [sorted(times)[len(times) * 99 // 100] * 1e3 for times in (good, probes)]
        print(f"p99 of requests {at[0]:.2f} ms, of probes {at[1]:.2f} ms, {reconnects} slow connections", "here" if molested is server else "beside")
        return at

    alone = p99()
    rounds = [(p99(neighbour), p99(server)) for _ in range(2)]
    beside = min(there[0] for there, _ in rounds)
    among = min(here[0] for _, here in rounds)
    assert among <= 1.2 * max(alone[0], beside) + 0.5
    assert all(here[1] <= 50 for _, here in rounds)


def slow_clients(address, n, seconds):
    """n clients that send a header's byte now and then and come back when they are cut."""
    host, port = address.rsplit(":", 1)
    held, made, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        while len(held) < n and time.monotonic() < end:
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((host, int(port)), timeout=5))
                held[-1].setblocking(False)
                held[-1].send(b"GET /health HTTP/1.1\r\nX-Slow: ")
                made += 1
            if made % 50 == 0:
                time.sleep(0.01)
        alive = []
        for connection in held:
            try:
                connection.send(b"a")
                alive.append(connection)
            except OSError:
                connection.close()
        held = alive
        time.sleep(0.2)
    return made


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_has_more_time_than_a_small_one(start, chunked):
    """64 KiB a second is not slow, however much there is to send."""
    server = start("--body-timeout-ms", "400", "--drain-timeout-s", "4")
    text = json.dumps({"inputs": "a" * (192 * 1024)}).encode()
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(text)))
    step = len(text) // 12 + 1
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [("Content-Type", "application/json"), framing]))
        for at in range(0, len(text), step):
            part = text[at:at + step]
            connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            time.sleep(0.1)
        if chunked:
            connection.send(b"0\r\n\r\n")
        assert connection.read_reply().status == 200
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [("Content-Type", "application/json"), ("Content-Length", "9")]))
        assert connection.read_reply().status == 408
