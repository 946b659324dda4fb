"""The log as operators rely on it: it holds up nobody, says what it lost, and names who asked."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
from conftest import BIN, TINY, TOKEN, Connection, render

JSON = [("Content-Type", "application/json")]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def stalled(tmp_path, token_file):
    """A server whose stderr nobody reads once the addresses are known; the pipe is small."""
    process = subprocess.Popen([BIN, "serve", "--model", str(TINY), "--log-format", "json", "--listen", "127.0.0.1:0",
                                "--admin-listen", "127.0.0.1:0", "--admin-token-file", token_file,
                                "--drain-timeout-s", "4"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    addresses = {}
    for raw in process.stderr:
        line = json.loads(raw)
        if line["message"] == "listening":
            addresses[line["listener"]] = line["address"]
        if line["message"] == "ready":
            break
    yield process, addresses
    if process.poll() is None:
        process.kill()
    process.wait()


def test_a_reader_that_stops_reading_stops_nobody(stalled):
    process, addresses = stalled
    body = json.dumps({"inputs": "a"}).encode()
    one = render("POST", "/embed", body, [*JSON, ("X-Request-Id", "x" * 128)])
    n = 6000
    with Connection(addresses["main"]) as connection:
        for _ in range(n // 50):
            connection.send(one * 50)
            for _ in range(50):
                assert connection.read_reply().status == 200
    with Connection(addresses["admin"]) as admin:
        auth = [("Authorization", f"Bearer {TOKEN}")]
        assert admin.request("PUT", "/admin/heads?dry_run", b"no heads file", auth).status == 422
        text = admin.request("GET", "/metrics").body.decode()
    (dropped,) = [float(line.split()[1]) for line in text.splitlines() if line.startswith("orthrus_log_lines_dropped")]
    assert 0 < dropped < n
    process.send_signal(signal.SIGTERM)
    lines = [json.loads(raw) for raw in process.stderr]
    assert process.wait(60) == 0
    messages = [line["message"] for line in lines]
    assert {"heads swap", "draining", "stopped"} <= set(messages)
    assert any(line["message"] == "request" and line["route"] == "/admin/heads" for line in lines)
    told = sum(line["lines"] for line in lines if line["message"].startswith("log lines dropped"))
    # What was dropped behind the scrape is told as well: on a slow machine the reader still stands.
    assert dropped <= told <= dropped + 2
    assert n + 1 - told <= messages.count("request") <= n + 1 - dropped


def test_sigterm_works_while_nobody_reads(stalled):
    process, addresses = stalled
    one = render("POST", "/embed", json.dumps({"inputs": "a"}).encode(), [*JSON, ("X-Request-Id", "x" * 128)])
    with Connection(addresses["main"]) as connection:
        for _ in range(20):
            connection.send(one * 50)
            for _ in range(50):
                assert connection.read_reply().status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_connections_without_a_whole_header_section_are_a_sample(start):
    """Slow clients come as fast as they are cut: their lines would be the log."""
    server = start("--drain-timeout-s", "4")
    n = 400
    for _ in range(n):
        with server.connect() as connection:
            connection.send(b"GET /cut HTTP/1.1\r\nX-Slow: ")
    with server.connect() as connection:
        assert connection.post("/embed", {"inputs": "a"}, [("X-Request-Id", "whole")]).status == 200
    assert server.wait_log("request", request_id="whole")["status"] == 200
    server.stop()
    cut = [line for line in server.lines if line["message"] == "request" and line["path"] == "/cut"]
    assert len(cut) < n / 2


def test_trace_and_span_are_fields(start):
    later = "01" + TRACE[2:]
    good = {"traced": TRACE, "later": later, "longer": later + "-what\xe9ver"}
    broken = {"cut": TRACE[:-1], "more": TRACE + "-00", "glued": later + "00", "none": "ff" + TRACE[2:], "short": "00-"}
    server = start("--drain-timeout-s", "4")
    for name, trace in {**good, **broken}.items():
        server.post("/embed", {"inputs": "a"}, [("traceparent", trace), ("X-Request-Id", name)])
    server.stop()
    for name, trace in good.items():
        line = server.find_log("request", request_id=name)
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and line["span_id"] == "b7ad6b7169203331"
        assert line["traceparent"] == trace[:len(TRACE)]
    for name in broken:
        assert not {"traceparent", "trace_id", "span_id"} & set(server.find_log("request", request_id=name))


@pytest.mark.parametrize("networks, believed", [("127.0.0.0/8,::1", True), ("10.0.0.0/8", False), (None, False)])
def test_forwarded_for_of_trusted_peers(start, networks, believed):
    server = start("--drain-timeout-s", "4", *(["--trusted-proxies", networks] if networks else []))
    server.post("/embed", {"inputs": "a"}, [("X-Forwarded-For", "203.0.113.7"), ("X-Request-Id", "one")])
    server.post("/embed", {"inputs": "a"}, [("X-Forwarded-For", "203.0.113.7"), ("x-forwarded-for", "10.1.1.1\xff"),
                                            ("X-Request-Id", "two")])
    server.post("/embed", {"inputs": "a"}, [("X-Request-Id", "none")])
    server.stop()
    found = {i: server.find_log("request", request_id=i).get("forwarded_for") for i in ("one", "two", "none")}
    assert found == ({"one": "203.0.113.7", "two": "203.0.113.7, 10.1.1.1??", "none": None} if believed
                     else dict.fromkeys(found))


V4, V6, DUAL, UNIX = "127.0.0.1:0", "[::1]:0", "[::]:0", "unix"


@pytest.mark.parametrize("listen, source, networks, believed", [
    # The first and the last address of a network, and those beside it.
    (V4, "127.0.0.5", "127.0.0.4/30", True),
    (V4, "127.0.0.7", "127.0.0.4/30", True),
    (V4, "127.0.0.8", "127.0.0.4/30", False),
    (V4, "127.0.0.3", "127.0.0.4/30", False),
    (V4, "127.0.0.5", "127.0.0.5", True),
    (V4, "127.0.0.6", "127.0.0.5/32,::/0", True),
    (V4, "127.0.0.6", "127.0.0.5/32,::1,unix", False),
    (V6, None, "::1/128", True),
    (V6, None, "::2/127", False),
    (V6, None, "0.0.0.0/0", False),
    # A listener of both families names IPv4 peers by IPv6 addresses.
    (DUAL, "127.0.0.5", "127.0.0.5", True),
    (DUAL, "127.0.0.6", "127.0.0.5", False),
    (UNIX, None, "unix", True),
    (UNIX, None, "0.0.0.0/0,::/0", False),
])
def test_who_is_a_trusted_peer(start, tmp_path, listen, source, networks, believed):
    if listen in (V6, DUAL) and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    where = f"unix:{tmp_path}/socket" if listen == UNIX else listen
    server = start("--drain-timeout-s", "4", "--listen", where, "--admin-listen", "off", "--trusted-proxies", networks)
    address = server.address.replace("[::]", "127.0.0.1") if listen == DUAL else server.address
    with Connection(address) as connection:
        if source:
            connection.sock.close()
            port = int(address.rsplit(":", 1)[1])
            connection.sock = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
        headers = [("X-Forwarded-For", "203.0.113.7, 198.51.100.4"), ("X-Request-Id", "asked")]
        assert connection.post("/embed", {"inputs": "a"}, headers).status == 200
    line = server.wait_log("request", request_id="asked")
    assert line.get("forwarded_for") == ("203.0.113.7, 198.51.100.4" if believed else None)
    # What a client says of itself never takes the peer's place.
    assert "203.0.113.7" not in line["remote"] and (not source or source in line["remote"])


def test_wrong_trusted_proxies_end_the_start():
    run = subprocess.run([BIN, "serve", "--model", str(TINY), "--trusted-proxies", "10.0.0.0/99"],
                         capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2 and "--trusted-proxies" in run.stderr and "99" not in run.stderr


def test_a_connection_ends_after_its_requests(start):
    server = start("--drain-timeout-s", "4", "--max-connection-requests", "3")
    with server.connect() as connection:
        for i in range(3):
            reply = connection.post("/embed", {"inputs": "a"})
            assert reply.status == 200
            assert (reply.header("Connection") == "close") == (i == 2)
        assert connection.closed()
    with server.connect(admin=True) as connection:
        for _ in range(5):
            assert connection.request("GET", "/livez").header("Connection") != "close"


def test_every_answer_counts_towards_the_last_one(start):
    """Errors, HEAD and preflights as well; what was sent behind the last one is neither answered nor worked on."""
    server = start("--drain-timeout-s", "4", "--max-connection-requests", "4", "--cors-origin", "https://a.example")
    kinds = {
        "HEAD": (render("HEAD", "/health"), 200),
        "absent": (render("GET", "/nowhere"), 404),
        "method": (render("DELETE", "/embed"), 405),
        "invalid": (render("POST", "/embed", b'{"inputs": 1}', JSON), 422),
        "no JSON": (render("POST", "/embed", b"{", JSON), 400),
        "preflight": (render("OPTIONS", "/embed", b"", [("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST")]), 204),
        "embed": (render("POST", "/embed", b'{"inputs": "a"}', JSON), 200),
    }
    for name, (request, status) in kinds.items():
        with server.connect() as connection:
            for i in range(4):
                connection.send(request)
                reply = connection.read_reply(head=name == "HEAD")
                assert reply.status == status, name
                assert (reply.header("Connection") == "close") == (i == 3), (name, i)
            assert connection.closed(), name
    first = kinds["embed"][0]
    last = render("POST", "/embed", b'{"inputs": "a"}', [*JSON, ("X-Request-Id", "too-many")])
    with server.connect() as connection:
        connection.send(first * 4 + last * 3)
        replies = [connection.read_reply() for _ in range(4)]
        assert [(r.status, r.header("Connection") == "close") for r in replies] == [(200, i == 3) for i in range(4)]
        assert connection.read_reply() is None
    server.stop()
    assert not any(line.get("request_id") == "too-many" for line in server.lines)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_nobody_elses(tmp_path, token_file, closed):
    """A socket or state file that became descriptor 2 would get the log's lines."""
    state, socket = tmp_path / "state", tmp_path / "socket"
    process = subprocess.Popen([BIN, "serve", "--model", str(TINY), "--listen", f"unix:{socket}", "--admin-listen",
                                "127.0.0.1:0", "--state-dir", str(state), "--drain-timeout-s", "4"],
                               preexec_fn=lambda: [os.close(fd) for fd in closed], close_fds=True)
    try:
        end = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        for _ in range(600):
            with Connection(f"unix:{socket}") as connection:
                if connection.request("GET", "/readyz").status == 200:
                    break
            time.sleep(0.05)
        open_fds = {fd: os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in closed}
        assert set(open_fds.values()) == {"/dev/null"}
        with Connection(f"unix:{socket}") as connection:
            assert connection.post("/embed", {"inputs": "a"}).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_the_log_of_a_file_name_that_is_no_utf8_is_json(start, tmp_path):
    folder = tmp_path / "heads"
    folder.mkdir()
    name = os.fsencode(folder) + b"/9\xff\xfe\".safetensors"
    pathlib.Path(os.fsdecode(name)).write_bytes(b"no heads")
    (folder / "1.safetensors").write_bytes((TINY / "heads.safetensors").read_bytes())
    server = start("--drain-timeout-s", "4", "--heads-dir", str(folder))
    line = server.find_log("heads swap", result="refused")
    assert line["what"] == "9\ufffd\ufffd\".safetensors"


def test_tls_on_the_plain_port_is_told_once(start):
    server = start("--drain-timeout-s", "4")
    hello = bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2
    for _ in range(20):
        with server.connect() as connection:
            connection.send(hello)
            assert connection.closed(5)
    line = server.wait_log("TLS on the plain port; TLS ends at the balancer, here it is http://")
    assert line["remote"].startswith("127.0.0.1:") and line["level"] == "warn"
    assert server.post("/embed", {"inputs": "a"}).status == 200
    server.stop()
    assert sum(line["message"].startswith("TLS on") for line in server.lines) <= 2
