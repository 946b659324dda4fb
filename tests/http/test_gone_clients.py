"""Clients that go before their answer: their work is dropped, and they are counted as 499, never as 504."""
import socket
import struct
import time

import pytest
from conftest import render

JSON = [("Content-Type", "application/json")]
TEXTS = b'{"inputs":["' + b'","'.join([b"several words of a text that takes its time"] * 500) + b'"]}'


def reset(connection):
    """Closes with RST."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def count(server, code, route="/embed"):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(f'orthrus_requests_total{{route="{route}",code="{code}"}}'):
            return int(float(line.split()[-1]))
    return 0


@pytest.fixture
def waiting(start):
    """A server that lets a request wait for a second for others to fill the batch."""
    return start("--max-wait-us", "1000000", "--threads", "1", "--log-level", "info")


@pytest.mark.parametrize("body", [b'{"inputs":"a"}', b'{"inputs":"' + b"a" + b" " * 40000 + b'"}'])
def test_a_reset_client_is_gone_at_once(waiting, body):
    connections = [waiting.connect() for _ in range(5)]
    for i, connection in enumerate(connections):
        connection.send(render("POST", "/embed", body, [*JSON, ("X-Request-Id", f"gone-{i}")]))
    time.sleep(0.2)
    for connection in connections:
        reset(connection)
    for i in range(5):
        assert waiting.wait_log("request", request_id=f"gone-{i}")["status"] == 499
    assert b"orthrus_batch_texts_count 0\n" in waiting.get("/metrics").body, "they were dropped before their batch"
    assert (count(waiting, 499), count(waiting, 504), count(waiting, 200)) == (5, 0, 0)


def test_who_has_closed_its_side_is_answered_when_nobody_else_waits(waiting):
    with waiting.connect() as connection:
        connection.send(render("POST", "/embed", b'{"inputs":"a"}', [*JSON, ("X-Request-Id", "half")]))
        connection.sock.shutdown(socket.SHUT_WR)
        reply = connection.read_reply()
        assert reply.status == 200 and connection.closed(5)
    assert waiting.wait_log("request", request_id="half")["status"] == 200
    assert count(waiting, 200) == 1


def test_half_closed_together_with_the_request(server):
    """libmicrohttpd sees bytes and end of stream in one event."""
    for path, body, status in (("/embed", b'{"inputs":"a"}', 200), ("/embed", b"{", 400), ("/nosuch", b"x", 404),
                               ("/embed", TEXTS, 200)):
        with server.connect() as connection:
            connection.send(render("POST", path, body, JSON))
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.read_reply().status == status
            assert connection.closed(5)


@pytest.mark.parametrize("hang_up", [reset, lambda connection: connection.close()])
def test_who_sends_much_to_tokenize_and_hangs_up_holds_up_nobody(start, hang_up):
    """Eight that send 3 MB and go; a request behind them waited for 32.7 s before."""
    server = start("--max-client-bytes", str(512 << 20))
    body = b'{"inputs":"' + b"! " * (3 << 19) + b'"}'
    for _ in range(8):
        connection = server.connect()
        connection.send(render("POST", "/tokenize", body, JSON))
        hang_up(connection)
    begin = time.monotonic()
    assert server.post("/embed", {"inputs": ["several words " * 30] * 50}).status == 200
    assert time.monotonic() - begin < 10
    # Nobody is left, and what became of them is the clients' affair.
    end = time.monotonic() + 20
    counts = ""
    while not ("\northrus_connections 0\n" in counts and "\northrus_client_bytes 0\n" in counts):
        assert time.monotonic() < end
        time.sleep(0.05)
        counts = server.get("/metrics", admin=True).body.decode()
    assert not any(f'route="/tokenize",code="5' in line and not line.endswith(" 0") for line in counts.splitlines())


def test_answers_that_cannot_be_written_are_499(start):
    """Half-closed, not reading, then reset while the answer is being sent."""
    server = start()
    with server.connect() as connection:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(render("POST", "/embed", TEXTS, [*JSON, ("X-Request-Id", "unread")]))
        connection.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        reset(connection)
    line = server.wait_log("request", request_id="unread")
    assert line["status"] in (200, 499)
    if line.get("aborted"):
        assert line["status"] == 499


def test_a_discarded_body_that_ends_at_its_deadline(server):
    """The last byte comes as the discard deadline passes: one whole answer or a close, never a mixture."""
    sent = []
    for i in range(60):
        connection = server.connect()
        connection.send(b"POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        sent.append((connection, time.monotonic()))
    for i, (connection, begin) in enumerate(sent):
        time.sleep(max(0, begin + 10 + i % 30 * 0.002 - time.monotonic()))
        try:
            connection.send(b"x")
        except (BrokenPipeError, ConnectionResetError):
            pass
    for connection, _ in sent:
        reply = connection.read_reply()
        assert reply is None or (reply.status == 404 and reply.code == "route_unknown" and reply.header("X-Request-Id"))
        connection.close()
