"""Start, drain, signals, listeners."""
import os
import signal
import socket
import stat
import subprocess
import threading
import time
import uuid

import pytest
from conftest import BIN, KEY, TINY, TOKEN, Connection, render

JSON = [("Content-Type", "application/json")]


def test_clean_exit_without_connections(start):
    server = start()
    begin = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begin < 5
    assert server.find_log("stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_answers_open_connections(start, number):
    server = start("--drain-timeout-s", "8")
    idle = server.connect()
    assert idle.request("GET", "/health").status == 200
    fresh = server.connect()
    half = server.connect()
    half.send(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
              b"Content-Length: 14\r\n\r\n{\"inp")
    time.sleep(0.2)
    server.signal(number)
    server.wait_log("draining")
    time.sleep(0.5)
    with pytest.raises(OSError):
        server.connect()
    half.send(b'uts":"a"}')
    for reply in (half.read_reply(), idle.post("/embed", {"inputs": "a"}),
                  fresh.post("/embed", {"inputs": "a"})):
        assert reply.status == 200
        assert reply.header("Connection").lower() == "close"
    assert idle.closed(5) and half.closed(5) and fresh.closed(5)
    assert server.wait() == 0


def test_drain_delay_goes_on_accepting(start):
    server = start("--drain-delay-ms", "1500", "--drain-timeout-s", "4")
    with server.connect() as before:
        assert before.request("GET", "/readyz").status == 200
        server.signal()
        server.wait_log("draining")
        reply = before.request("GET", "/readyz")
        assert (reply.status, reply.code) == (503, "draining")
    for admin in (False, True):
        assert server.get("/readyz", admin=admin).status == 503
        assert server.get("/livez", admin=admin).status == 200
    assert server.get("/health").status == 200
    reply = server.post("/embed", {"inputs": "a"})
    assert reply.status == 200 and reply.header("Connection").lower() == "close"
    assert server.wait() == 0


def test_idle_connections_do_not_hold_the_exit(start):
    server = start("--drain-timeout-s", "2")
    with server.connect() as connection:
        assert connection.request("GET", "/health").status == 200
        begin = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - begin < 4


def test_stuck_connections_do_not_hold_the_exit(start):
    server = start("--drain-timeout-s", "2")
    with server.connect() as connection:
        connection.send(render("POST", "/embed", None, [*JSON, ("Content-Length", "100")]) + b"{")
        time.sleep(0.2)
        begin = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - begin < 4


def test_second_signal_exits_at_once(start):
    server = start("--drain-delay-ms", "60000")
    server.signal()
    server.wait_log("draining")
    begin = time.monotonic()
    server.signal()
    assert server.wait() == 1
    assert time.monotonic() - begin < 2


def test_sigterm_under_load_loses_no_request(start):
    server = start("--drain-timeout-s", "20")
    wanted = server.post("/embed", {"inputs": "some text"}).body
    lost, answered, stopping = [], [0], threading.Event()

    def client():
        """What a connection that was accepted sends is answered, or the server said close before."""
        while not stopping.is_set():
            try:
                connection = Connection(server.address)
            except OSError:
                return
            with connection:
                first = True
                while True:
                    try:
                        reply = connection.post("/embed", {"inputs": "some text"})
                    except OSError as error:
                        lost.append(repr(error))
                        return
                    if reply is None or reply.status != 200 or reply.body != wanted:
                        lost.append((first, reply and (reply.status, reply.body)))
                        return
                    answered[0] += 1
                    first = False
                    if (reply.header("Connection") or "").lower() == "close":
                        break

    clients = [threading.Thread(target=client) for _ in range(16)]
    for thread in clients:
        thread.start()
    time.sleep(1)
    server.signal()
    status = server.wait()
    stopping.set()
    for thread in clients:
        thread.join()
    assert status == 0
    assert not lost, lost[:3]
    assert answered[0] > 50


def test_sixty_four_clients_get_what_one_gets(server):
    texts = [f"text {i} " + "and more words " * (i % 7) for i in range(64)]
    alone = [server.post("/embed", {"inputs": text}).json() for text in texts]
    failures = []

    def client(i):
        with server.connect() as connection:
            for _ in range(5):
                reply = connection.post("/embed", {"inputs": texts[i]})
                if reply.status != 200 or max(
                        abs(a - b) for a, b in zip(reply.json()[0], alone[i][0])) > 2e-6:
                    failures.append((i, reply.status))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_unix_socket(start, tmp_path):
    path = tmp_path / "orthrus.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = start("--listen", f"unix:{path}", "--admin-listen", f"unix:{tmp_path}/admin.sock")
    assert server.address == f"unix:{path}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert server.post("/embed", {"inputs": "a"}).status == 200
    assert server.get("/readyz", admin=True).status == 200
    assert server.wait_log("request", path="/embed")["remote"] == "unix"
    second = subprocess.run([BIN, "serve", "--model", str(TINY), "--listen", f"unix:{path}",
                             "--admin-listen", "off"], capture_output=True, timeout=60)
    assert second.returncode == 1 and b"another process listens" in second.stderr
    server.stop()
    assert not path.exists()


def test_unix_socket_leaves_other_files_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    got = subprocess.run([BIN, "serve", "--model", str(TINY), "--listen", f"unix:{path}",
                          "--admin-listen", "off"], capture_output=True, timeout=60)
    assert got.returncode == 1 and b"no socket" in got.stderr
    assert path.read_text() == "data"


def test_ipv6(start):
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6") or not open("/proc/net/if_inet6").read():
        pytest.skip("this machine has no IPv6")
    server = start("--listen", "[::1]:0", "--admin-listen", "off")
    assert server.address.startswith("[::1]:")
    assert server.get("/health").status == 200


@pytest.mark.parametrize("flags, words", [
    (["--listen", "8080"], b"HOST:PORT"),
    (["--listen", "127.0.0.1:99999"], b"65535"),
    (["--listen", "::1:80"], b"brackets"),
    (["--listen", "unix:" + "x" * 200], b"1 to 107 bytes"),
    (["--listen", "192.0.2.1:0"], b"--listen: 192.0.2.1:0"),
    (["--api-key-file", "/nonexistent"], b"--api-key-file: /nonexistent"),
    (["--cors-origin", "a b"], b"--cors-origin"),
    (["--cors-origin", "app.example"], b"--cors-origin"),
    (["--cors-origin", "https://app.example/"], b"--cors-origin"),
    (["--cors-origin", "https://App.example"], b"--cors-origin"),
    (["--cors-origin", "https://a.example,https://b.example"], b"--cors-origin"),
    (["--max-queue-tokens", "automatic"], b"auto or a whole number from 1"),
    (["--model", "/nonexistent"], b"/nonexistent"),
    (["--state-dir", str(TINY / "config.json")], b"config.json: Not a directory"),
])
def test_start_errors_are_one_line(flags, words):
    command = [BIN, "serve", "--model", str(TINY), "--listen", "127.0.0.1:0", "--admin-listen", "off",
               "--log-level", "error", *flags]
    got = subprocess.run(command, capture_output=True, timeout=60)
    assert got.returncode in (1, 2)
    assert words in got.stderr and got.stderr.count(b"\n") == 1, got.stderr


def test_address_in_use(server):
    got = subprocess.run([BIN, "serve", "--model", str(TINY), "--listen", server.address,
                          "--admin-listen", "off", "--log-level", "error"], capture_output=True, timeout=60)
    assert got.returncode == 1 and b"Address already in use" in got.stderr


@pytest.mark.parametrize("text, words", [
    ("ops:short", b":1: a token of 32"),
    ("# only a comment\n", b"no id:token"),
    ("ok:" + "Q" * 32 + "\nno colon here" + "Q" * 32, b":2: id:token"),
    ("b d:" + "Q" * 32, b":1: id:token"),
    ("ops:" + "Q" * 31 + " y", b":1: a token"),
], ids=["short", "none", "no colon", "bad id", "bad token"])
def test_bad_token_files(tmp_path, text, words):
    path = tmp_path / "tokens"
    path.write_text(text)
    got = subprocess.run([BIN, "serve", "--model", str(TINY), "--listen", "127.0.0.1:0",
                          "--admin-listen", "off", "--admin-token-file", str(path)],
                         capture_output=True, timeout=60)
    assert got.returncode == 1 and words in got.stderr
    assert b"QQQ" not in got.stderr


def test_sighup_reloads_keys(start, tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"old:{KEY}\n")
    server = start("--api-key-file", str(path))
    old, new = [("Authorization", f"Bearer {KEY}")], [("Authorization", f"Bearer {TOKEN}")]
    assert server.post("/embed", {"inputs": "a"}, old).status == 200
    path.write_text(f"new:{TOKEN}\n")
    server.signal(signal.SIGHUP)
    server.wait_log("tokens reloaded")
    assert server.post("/embed", {"inputs": "a"}, old).status == 401
    assert server.post("/embed", {"inputs": "a"}, new).status == 200
    path.write_text("broken")
    server.signal(signal.SIGHUP)
    server.wait_log("tokens not reloaded; the old ones stay")
    assert server.post("/embed", {"inputs": "a"}, new).status == 200


def test_a_signal_while_loading_ends_it(tmp_path, start):
    model = tmp_path / "model"
    model.mkdir()
    for file in TINY.iterdir():
        if file.name != "config.json":
            (model / file.name).symlink_to(file)
    os.mkfifo(model / "config.json")
    server = start("--drain-timeout-s", "1", model=model, wait_ready=False)
    server.get("/livez")
    begin = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert time.monotonic() - begin < 4


@pytest.fixture(params=["path", "abstract"])
def manager(tmp_path, request):
    """What a service manager hears at NOTIFY_SOCKET: a path, or a name of the abstract namespace behind an @."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@orthrus-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        sock.settimeout(60)
        yield name, lambda: dict(line.split("=", 1) for line in sock.recv(4096).decode().split("\n"))


def test_the_service_manager_is_told(start, manager, token_file):
    path, heard = manager
    server = start("--drain-timeout-s", "4", "--admin-token-file", token_file, env={"NOTIFY_SOCKET": path})
    assert heard() == {"READY": "1"}
    assert server.get("/readyz", admin=True).status == 200
    server.signal(signal.SIGHUP)
    reloading = heard()
    assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert heard() == {"READY": "1"}
    server.signal()
    assert heard() == {"STOPPING": "1"}
    assert server.wait() == 0


def test_no_word_of_ready_before_it_is(start, manager):
    """A start that fails says nothing."""
    name, heard = manager
    done = subprocess.run([BIN, "serve", "--model", "/nowhere", "--listen", "127.0.0.1:0", "--admin-listen", "off"],
                          env={**os.environ, "NOTIFY_SOCKET": name}, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    server = start("--drain-timeout-s", "4", env={"NOTIFY_SOCKET": name})
    assert heard() == {"READY": "1"}
    server.stop()
    assert heard() == {"STOPPING": "1"}


@pytest.mark.parametrize("name", ["/nowhere/notify", "relative", "@", "/" + "x" * 200])
def test_a_service_manager_that_is_not_there_is_a_warning(start, name):
    server = start("--drain-timeout-s", "4", env={"NOTIFY_SOCKET": name})
    assert server.post("/embed", {"inputs": "a"}).status == 200
    server.stop()
    assert any(line["level"] == "warn" and ("NOTIFY_SOCKET" in line["message"] or "manager" in line["message"])
               for line in server.lines)


def test_a_sighup_while_loading_is_not_lost(start, tmp_path):
    """What --heads names at the signal serves, whether it was read before or after."""
    heads = tmp_path / "heads.safetensors"
    heads.write_bytes((TINY / "heads.safetensors").read_bytes())
    server = start("--drain-timeout-s", "4", "--heads", str(heads), wait_ready=False)
    for _ in range(1000):
        server.signal(signal.SIGHUP)
    server.wait_log("ready")
    assert server.wait_log("heads swap", what="reload")["result"] == "ok"
    # A flood of signals fills no pipe in which the last one would be lost.
    for _ in range(100000):
        server.signal(signal.SIGHUP)
    server.stop()
