"""Clients that take their time: absolute deadlines, not idle ones."""
import contextlib
import os
import socket
import time

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
    many = [server.connect() for _ in range(100)]
    time.sleep(0.3)
    assert sum(connection.closed(0.05) for connection in many[70:]) == 30
    for connection in many + held[:1]:
        connection.close()
    for _ in range(100):
        reply = server.post("/embed", {"inputs": "a"})
        if reply.status == 200:
            break
        time.sleep(0.05)
    assert reply.status == 200
