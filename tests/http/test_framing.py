"""What two parties could read differently ends the connection."""
import contextlib
import time

import pytest

BODY = b'{"inputs":"a"}'
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def exchange(server, head, body=BODY + SMUGGLED):
    with server.connect() as connection:
        connection.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)
        reply = connection.read_reply()
        # The library's own pages may bring more bytes than they say; no second answer may follow.
        closed = reply is None or not reply.header("X-Request-Id") and connection.drained(5) or connection.closed(5)
        return reply, closed


@pytest.mark.parametrize("lines", [
    "Content-Length: 14\nContent-Length: 14\n",
    "Content-Length: 14\nContent-Length: 5\n",
    "Content-Length: 14\ncontent-length: 14\n",
    "Content-Length: 14\nTransfer-Encoding: chunked\n",
    "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
    "Transfer-Encoding: gzip\n",
    "Transfer-Encoding: gzip, chunked\n",
    "Transfer-Encoding: chunked, identity\n",
    "Transfer-Encoding: xchunked\n",
    "Transfer-Encoding: identity\nContent-Length: 14\n",
    "Content-Length : 14\n",
    "Content Length: 14\n",
    "Content-Length: 14\nHost: other\n",
    "Content-Length: 14\nAuthorization: Bearer a\nAuthorization: Bearer b\n",
    "Content-Length: 14\nX-Odd: a\x01b\n",
    "Content-Length: 14\n(bad): x\n",
])
def test_ambiguous_framing_is_refused_and_closed(server, lines):
    reply, closed = exchange(
        server, "POST /embed HTTP/1.1\nHost: x\nContent-Type: application/json\n" + lines)
    assert reply.status == 400, reply.body
    assert reply.code == "bad_framing"
    assert reply.header("Connection").lower() == "close"
    assert closed


@pytest.mark.parametrize("lines", [
    "Content-Length: +14\n", "Content-Length: -1\n", "Content-Length: 1e1\n", "Content-Length: 0x0e\n",
    "Content-Length: 14, 14\n", "Content-Length: \n", "Content-Length: 99999999999999999999\n",
])
def test_bad_lengths_never_reach_a_handler(server, lines):
    reply, closed = exchange(
        server, "POST /embed HTTP/1.1\nHost: x\nContent-Type: application/json\n" + lines)
    assert reply is None or reply.status in (400, 413)
    assert closed


def test_host_is_needed(server):
    reply, closed = exchange(server, "GET /health HTTP/1.1\n", b"")
    assert (reply.status, reply.code) == (400, "bad_framing") and closed
    reply, closed = exchange(server, "GET /health HTTP/1.0\n", b"")
    assert reply.status == 200 and closed


def test_http_1_0_has_no_chunks(server):
    reply, _ = exchange(server, "POST /embed HTTP/1.0\nContent-Type: application/json\n"
                                "Transfer-Encoding: chunked\n", b"e\r\n" + BODY + b"\r\n0\r\n\r\n")
    assert (reply.status, reply.code) == (400, "bad_framing")


@pytest.mark.parametrize("chunks", [
    b"zz\r\n", b"-1\r\n", b"e\r\n" + BODY + b"XX0\r\n\r\n", b"ffffffffffffffffff\r\n", b"\r\n\r\n",
    b" e\r\n" + BODY + b"\r\n0\r\n\r\n",
])
def test_bad_chunks(server, chunks):
    reply, closed = exchange(server, "POST /embed HTTP/1.1\nHost: x\nContent-Type: application/json\n"
                                     "Transfer-Encoding: chunked\n", chunks)
    assert reply is None or reply.status in (400, 413)
    assert closed


@pytest.mark.parametrize("start_line", [
    b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1 x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
])
def test_malformed_request_lines(server, start_line):
    with server.connect() as connection:
        connection.send(start_line)
        reply = connection.read_reply()
        assert reply is None or reply.status in (400, 404, 505)
    assert server.get("/health").status == 200


def test_large_headers(server):
    with server.connect() as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 100_000)
        reply = connection.read_reply()
        assert reply is None or reply.status in (413, 414, 431)
    with server.connect() as connection:
        connection.send(b"GET /" + b"a" * 100_000)
        reply = connection.read_reply()
        assert reply is None or reply.status in (413, 414, 431)
    many = "".join(f"X-{i}: {i}\r\n" for i in range(3000))
    with server.connect() as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + many.encode() + b"\r\n")
        reply = connection.read_reply()
        assert reply is None or reply.status in (413, 431)
    cookie = "; ".join(f"c{i}=1" for i in range(2000))
    with server.connect() as connection:
        connection.send(f"GET /health HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
        reply = connection.read_reply()
        assert reply is None or reply.status in (200, 413, 431)
    assert server.get("/health").status == 200


def test_many_query_arguments_end_the_connection(server):
    """libmicrohttpd 0.9.75, left alone, would neither answer nor close."""
    begin = time.monotonic()
    for n in (100, 600, 4000):
        with server.connect() as connection:
            connection.send(b"GET /health?" + b"a&" * n + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.read_reply() is None
    assert time.monotonic() - begin < 5
    long_query = server.get("/health?" + "a" * 600)
    assert (long_query.status, long_query.code) == (400, "bad_framing")


def test_chunked_bodies_in_any_pieces(server):
    alone = server.post("/embed", {"inputs": "a"}).body
    head = (b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: Chunked\r\n\r\n")
    chunks = b"5;ext=1\r\n" + BODY[:5] + b"\r\n" + b"9\r\n" + BODY[5:] + b"\r\n0\r\nX-Trailer: t\r\n\r\n"
    with server.connect() as connection:
        for byte in head + chunks:
            connection.send(bytes([byte]))
        reply = connection.read_reply()
        assert (reply.status, reply.body) == (200, alone)
        # Two readers may see two ends of a chunked body: nothing follows it.
        assert reply.header("Connection") == "close" and connection.closed(5)


@pytest.mark.parametrize("chunk", [b"1;" + b"x" * 100_000, b"0" * 100_000 + b"1"])
def test_a_chunk_header_without_end_is_the_clients_fault(start, chunk):
    """libmicrohttpd, left alone, calls it an internal error: such would page somebody at a client's will."""
    server = start()
    with server.connect() as connection:
        connection.send(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"X-Request-Id: endless\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.send(chunk + b"\r\n{\r\n0\r\n\r\n" + SMUGGLED)
        assert connection.drained(5)
    assert server.wait_log("request", request_id="endless")["status"] == 400
    counts = server.get("/metrics").body.decode()
    assert 'orthrus_requests_total{route="/embed",code="400"} 1' in counts and 'code="500"} 1' not in counts


def test_whoever_has_closed_its_side_gets_what_it_asked_in_a_row(server):
    """Pipelined requests, then the end of the stream: all that came before is answered."""
    from conftest import render
    import json
    import socket
    embed = render("POST", "/embed", json.dumps({"inputs": "a"}).encode(), [("Content-Type", "application/json")])
    for requests, n in ((embed * 50, 50), (render("GET", "/health") * 300, 300), ((embed + render("GET", "/nosuch")) * 40, 80)):
        with server.connect() as connection:
            connection.send(requests)
            connection.sock.shutdown(socket.SHUT_WR)
            for _ in range(n):
                assert connection.read_reply().status in (200, 404)
            assert connection.closed(5)


def test_expectations_in_any_order(server):
    """100-continue before, with and without the body; what is refused says so before it."""
    from conftest import render
    expects = [("Content-Type", "application/json"), ("Expect", "100-continue"), ("Content-Length", "14")]
    with server.connect() as connection:
        connection.send((render("POST", "/embed", None, expects) + BODY) * 20)
        statuses = [connection.read_reply().status for _ in range(40)]
        assert statuses.count(200) == 20 and statuses.count(100) == 20
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [("Content-Type", "text/plain"), *expects[1:]]))
        assert connection.read_reply().status == 415
    for lines, status in (([("Expect", "200-ok")], 200), ([("Expect", "100-continue, x")], 200)):
        reply = server.request("POST", "/embed", BODY, [expects[0], *lines])
        assert reply.status == status


def test_trailers_are_read_and_forgotten(server):
    for trailers, statuses in ((b"Content-Length: 50\r\nTransfer-Encoding: chunked\r\n", (200,)), (b"X: y\r\n" * 100_000, (200, 431, None))):
        with server.connect() as connection:
            connection.send(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.send(b"e\r\n" + BODY + b"\r\n0\r\n" + trailers + b"\r\n" + SMUGGLED)
            reply = connection.read_reply()
            assert (reply and reply.status) in statuses
            assert connection.drained(5)


def test_pipelined_requests_are_answered_in_order(server):
    from conftest import render
    import json
    texts = [f"text number {i}" for i in range(20)]
    wanted = [server.post("/embed", {"inputs": text}).body for text in texts]
    with server.connect() as connection:
        connection.send(b"".join(
            render("POST", "/embed", json.dumps({"inputs": text}).encode(),
                   [("Content-Type", "application/json")]) + render("GET", "/health")
            for text in texts))
        for body in wanted:
            assert connection.read_reply().body == body
            assert connection.read_reply().status == 200


@pytest.mark.parametrize("section", [
    b"Content-Length:\r\n 34\r\n\r\n",      # libmicrohttpd: a header without value, no body
    b": y\r\nContent-Length: 34\r\n\r\n",   # the end of the headers
    b":\nContent-Length: 34\r\n\r\n",
    b"\0\nContent-Length: 34\r\n\r\n",
    b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    b"X: a\0\nContent-Length: 0\r\n\r\n",
    b"X: a\nContent-Length: 0\r\n\r\n",
    b"Content-Length: 0\r\n\n",
    b"Content-Length-X: 34\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n1\n{\n0\n\n",
    b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n",
])
def test_what_is_not_plain_is_the_last(server, section):
    """Nothing behind such a request is answered, whatever was made of the request itself."""
    with server.connect() as connection:
        connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + section + SMUGGLED)
        reply = connection.read_reply()
        assert reply.status >= 400 and reply.header("Connection").lower() == "close"
        assert connection.closed(5)


@pytest.mark.parametrize("head", [
    b"POST /embed\0x HTTP/1.1\r\nHost: x\r\n",
    b"\r\nPOST /embed\0x HTTP/1.1\r\nHost: x\r\n",
    b"POST  /embed\0 HTTP/1.1\r\nHost: x\r\n",
    b"POST /embed?a=b\0c HTTP/1.1\r\nHost: x\r\n",
    b"POST /embed HTTP/1.1\r\nHost: x\0y\r\n",
    b"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\0b\r\n",
    b"POST /embed HTTP/1.1\nHost: x\nX: a\0b\r\n",
])
def test_nul_in_a_header_section_is_refused(server, head):
    """libmicrohttpd ends the path, or the value, there: what it served would not be what was asked for."""
    with server.connect() as connection:
        connection.send(head + b"Content-Type: application/json\r\nContent-Length: 14\r\n\r\n" + BODY + SMUGGLED)
        reply = connection.read_reply()
        assert (reply.status, reply.code) == (400, "bad_framing")
        assert reply.header("Connection").lower() == "close" and connection.closed(5)


def test_plain_requests_keep_their_connection(server):
    with server.connect() as connection:
        for lines in (b"Host: x\r\n", b"Host:x\r\nX-Blank:\r\nX-Wide: \t a b \t\r\n", b"Host: x\r\nContent-Length: 0\r\n"):
            connection.send(b"GET /health HTTP/1.1\r\n" + lines + b"\r\n")
            reply = connection.read_reply()
            assert reply.status == 200 and reply.header("Connection") != "close"


def test_a_body_route_without_a_length_has_an_empty_body(server):
    with server.connect() as connection:
        for _ in range(2):
            connection.send(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
            reply = connection.read_reply()
            assert (reply.status, reply.code) == (400, "empty_body")
        assert connection.request("GET", "/health").status == 200


@pytest.mark.parametrize("authority", ["http://127.0.0.1:18100", "HTTP://other.example", "https://user@x:1"])
def test_absolute_targets(server, authority):
    """RFC 9112, section 3.2.2: a server must take them."""
    wanted = server.post("/embed", {"inputs": "hi"}).body
    assert server.post(f"{authority}/embed", {"inputs": "hi"}).body == wanted
    assert server.get(f"{authority}/health").status == 200
    assert server.get(f"{authority}/predict?head=x").status == 405
    assert server.get(authority).header("Content-Type").startswith("text/html")
    assert server.get(f"{authority}/nosuch").status == 404


def test_options_of_the_whole_server(server):
    for target in ("*", "http://x"):
        reply = server.request("OPTIONS", target)
        assert reply.status == 204 and "POST" in reply.header("Allow")
    assert "PUT" in server.request("OPTIONS", "*", admin=True).header("Allow")
