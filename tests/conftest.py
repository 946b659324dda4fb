"""Fixtures that start `orthrus serve` on the tiny model and talk to it over real sockets.

ORTHRUS_BIN names the program (default: build/orthrus)."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build" / "orthrus"))
TINY = ROOT / "tests" / "data" / "golden" / "tiny-bert"
# Sanitizer builds on a busy machine are slow to start; nothing waits this long when all is well.
PATIENCE_S = 60

TOKEN = "admin-token-0123456789-0123456789-abcdef"
KEY = "client-key-0123456789-0123456789-abcdefg"


class Reply:
    """One HTTP response as it came over the wire."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # [(lower-case name, value)]
        self.body = body

    def header(self, name):
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} twice: {values}"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json()["code"]


class Connection:
    """A plain socket with just enough HTTP, so that tests decide about every byte."""

    def __init__(self, address):
        if address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE_S)
            self.sock.connect(address[5:])
        else:
            host, port = address.rsplit(":", 1)
            self.sock = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _more(self):
        data = self.sock.recv(65536)
        self.pending += data
        return bool(data)

    def read_reply(self, head=False):
        """The next response; None when the server closed instead."""
        while b"\r\n\r\n" not in self.pending:
            try:
                if not self._more():
                    assert not self.pending, f"half a response: {self.pending[:200]!r}"
                    return None
            except ConnectionResetError:
                return None
        top, self.pending = self.pending.split(b"\r\n\r\n", 1)
        status_line, *lines = top.decode("latin-1").split("\r\n")
        status = int(status_line.split()[1])
        headers = [(k.strip().lower(), v.strip()) for k, v in (line.split(":", 1) for line in lines)]
        if status == 100:
            return Reply(status, headers, b"")
        size = int(dict(headers).get("content-length", 0))
        if head or status == 204:
            size = 0
        while len(self.pending) < size:
            assert self._more(), "the body ended early"
        body, self.pending = self.pending[:size], self.pending[size:]
        return Reply(status, headers, body)

    def closed(self, within_s=PATIENCE_S):
        """True when the server closes the connection without another byte."""
        self.sock.settimeout(within_s)
        try:
            return not self.pending and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def drained(self, within_s=PATIENCE_S):
        """True when the server closes the connection, after whatever else it sends."""
        self.sock.settimeout(within_s)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while self._more():
                pass
            self.pending = b""
            return True
        return False

    def request(self, method, path, body=None, headers=(), head=None):
        self.send(render(method, path, body, headers))
        return self.read_reply(head=method == "HEAD" if head is None else head)

    def post(self, path, value, headers=()):
        return self.request("POST", path, json.dumps(value).encode(),
                            [("Content-Type", "application/json"), *headers])


def render(method, path, body=None, headers=()):
    lines = [f"{method} {path} HTTP/1.1"]
    given = {name.lower() for name, _ in headers}
    if "host" not in given:
        lines.append("Host: test")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class Server:
    def __init__(self, *flags, env=None, model=TINY, wait_ready=True, drop=(), program=None):
        """drop: messages of which there will be too many to keep their log lines. program: another than BIN."""
        command = [program or BIN, "serve", "--model", str(model), "--log-format", "json", *flags]
        if not any(f.startswith("--listen") for f in flags):
            command += ["--listen", "127.0.0.1:0"]
        if not any(f.startswith("--admin-listen") for f in flags):
            command += ["--admin-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})})
        self.dropped = [f'"message":"{message}"'.encode() for message in drop]
        self.lines = []
        self.raw = []
        self._arrived = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.address = self.wait_log("listening", listener="main")["address"]
            self.admin = None
            if "off" not in flags:
                self.admin = self.wait_log("listening", listener="admin")["address"]
            if wait_ready:
                self.wait_log("ready")
        except Exception:
            self.kill()
            raise

    def _read(self):
        for line in self.process.stderr:
            if any(message in line for message in self.dropped):
                continue
            self.raw.append(line.decode("utf-8", "replace"))
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))
                self._arrived.put(None)
        self._arrived.put(None)

    def find_log(self, message, **fields):
        for line in list(self.lines):
            if line["message"] == message and all(line.get(k) == v for k, v in fields.items()):
                return line
        return None

    def wait_log(self, message, **fields):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = self.find_log(message, **fields)
            if found:
                return found
            if not self._reader.is_alive():
                break
            with contextlib.suppress(queue.Empty):
                self._arrived.get(timeout=0.1)
        raise AssertionError(f"no log line {message!r} {fields}:\n{self.log()}")

    def log(self):
        return "".join(self.raw)

    def connect(self, admin=False):
        return Connection(self.admin if admin else self.address)

    def request(self, method, path, body=None, headers=(), admin=False):
        with self.connect(admin) as connection:
            return connection.request(method, path, body, headers)

    def get(self, path, headers=(), admin=False):
        return self.request("GET", path, None, headers, admin)

    def post(self, path, value, headers=()):
        with self.connect() as connection:
            return connection.post(path, value, headers)

    def metric(self, name, admin=False):
        """The value of the one sample of that name and labels."""
        lines = self.get("/metrics", admin=admin).body.decode().splitlines()
        (value,) = [float(line.split()[1]) for line in lines if line.split()[0] == name]
        return value

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, timeout=PATIENCE_S):
        status = self.process.wait(timeout)
        self._reader.join(PATIENCE_S)
        return status

    def stop(self):
        """Ends it the ordinary way; a leak or a sanitizer's finding is a failure."""
        if self.process.poll() is None:
            self.signal()
        status = self.wait()
        assert status == 0, f"exit status {status}:\n{self.log()}"
        assert "Sanitizer" not in self.log(), self.log()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)


@pytest.fixture
def start():
    """start(*flags) gives a server of one's own; all end with the test."""
    servers = []

    def run(*flags, **options):
        server = Server(*flags, **options)
        servers.append(server)
        return server

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server():
    """A server with the defaults (and a short drain), for tests that change nothing."""
    running = Server("--drain-timeout-s", "4")
    yield running
    running.stop()


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may swap\nops:{TOKEN}\n")
    return str(path)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"team-a:{KEY}\n\nteam-b:{KEY[::-1]}\n")
    return str(path)


def kill_until_done(command, draw, longest, kills):
    """Runs command() and kills it after a random time up to `longest` s, until a run ends by itself; it goes on from what
    is there. How many were killed."""
    killed = 0
    while True:
        process = subprocess.Popen(command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(None if killed >= kills else draw.uniform(longest / 50, longest))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        _, error = process.communicate()
        if process.returncode != -9:
            assert process.returncode == 0, error
            return killed
