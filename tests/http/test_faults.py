"""One call of a running daemon fails; the next request is right. See tests/fault/shim.c."""
import errno
import json
import time

import fault_shim
import pytest
from conftest import TOKEN, render
from fault_shim import ACCEPT, FSYNC, MALLOC, RECV, SEND, SHORT, WRITE
from test_admin import AUTH, heads_file, put, versions

pytestmark = pytest.mark.skipif(not fault_shim.available(), reason="a build without the shim, or with a sanitizer")
CONNECTION_MEMORY = 32 * 1024  # what libmicrohttpd allocates for a connection


@pytest.fixture
def shim(tmp_path):
    return fault_shim.Shim(tmp_path)


def test_a_connection_that_the_library_gives_up_takes_no_place(start, shim):
    """Its I/O thread has no memory for it, closes it and tells nobody."""
    server = start("--max-connections", "2", "--drain-timeout-s", "4", env=shim.env)
    with shim.fail(MALLOC, size=CONNECTION_MEMORY):
        for _ in range(300):
            shim.again()
            with server.connect() as connection:
                assert connection.closed(10)
    time.sleep(2)  # as long as it may take to notice
    for _ in range(3):
        assert server.post("/embed", {"inputs": "a"}).status == 200
    server.stop()


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EINTR, errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_accept_fails(start, shim, error):
    server = start("--drain-timeout-s", "4", env=shim.env)
    for _ in range(3):
        with shim.fail(ACCEPT, error=error):
            assert server.post("/embed", {"inputs": "a"}).status == 200
            assert shim.struck


def test_a_socket_that_stutters_changes_no_answer(start, shim):
    """Sending alone: no kernel says of bytes that wait to be read that there are none."""
    server = start("--drain-timeout-s", "4", env=shim.env)
    body = {"inputs": ["some words " * 20] * 40}
    expected = server.post("/embed", body).body
    for error in (errno.EINTR, errno.EAGAIN, SHORT):
        for at in range(1, 5):
            with shim.fail(SEND, at=at, error=error), server.connect() as connection:
                assert connection.post("/embed", body).body == expected, (error, at)


@pytest.mark.parametrize("call", [RECV, SEND])
def test_a_socket_that_breaks_ends_its_connection_alone(start, shim, call):
    server = start("--drain-timeout-s", "4", env=shim.env)
    request = render("POST", "/embed", json.dumps({"inputs": "a"}).encode(), [("Content-Type", "application/json")])
    for at in (1, 2):
        for error in (errno.EIO, errno.ECONNRESET, errno.ENOMEM):
            with shim.fail(call, at=at, error=error), server.connect() as connection:
                connection.send(request)
                connection.drained(2)
            assert server.post("/embed", {"inputs": "a"}).status == 200, (error, at)
    server.stop()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EAGAIN, SHORT])
def test_the_log_loses_a_line_and_says_so_or_none(start, shim, error):
    server = start("--drain-timeout-s", "4", env=shim.env)
    n = 20
    for at in range(n):
        with shim.fail(WRITE, error=error):
            assert server.post("/embed", {"inputs": "a"}, [("X-Request-Id", f"r{at}")]).status == 200
            end = time.monotonic() + 10
            while not shim.struck and time.monotonic() < end:
                time.sleep(0.005)
    server.stop()
    got = {line["request_id"] for line in server.lines if line["message"] == "request"}
    told = sum(line["lines"] for line in server.lines if line["message"].startswith("log lines dropped"))
    if error in (errno.EIO, errno.ENOSPC):
        assert len(got) + told == n and told > 0
    else:
        assert len(got) == n and told == 0
    assert server.find_log("stopped")


@pytest.mark.parametrize("call, error", [(FSYNC, errno.EIO), (FSYNC, errno.ENOSPC)])
def test_a_swap_whose_disk_fails_changes_nothing(start, shim, tmp_path, token_file, call, error):
    state = tmp_path / "state"
    server = start("--drain-timeout-s", "4", "--admin-token-file", token_file, "--state-dir", str(state), env=shim.env)
    assert put(server, heads_file(seed=1)).status == 200
    before = versions(server)
    files = sorted(path.name for path in state.iterdir())
    for at in range(1, 20):
        with shim.fail(call, at=at, error=error):
            reply = put(server, heads_file(seed=2))
            if not shim.struck:
                break
        assert (reply.status, reply.code) == (500, "internal"), at
        assert TOKEN not in reply.json()["error"]
        assert [v["sha256"] for v in versions(server)] == [v["sha256"] for v in before]
        assert sorted(path.name for path in state.iterdir()) == files, at
        reply = server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
        assert reply.status == 200
        reply = server.request("POST", "/admin/heads/rollback", None, AUTH, admin=True)
        assert reply.status == 200
    assert at == 5  # file, folder, file, folder: each was tried
    now = versions(server)[0]["sha256"]
    server.stop()
    again = start("--drain-timeout-s", "4", "--admin-token-file", token_file, "--state-dir", str(state))
    assert versions(again)[0]["sha256"] == now
