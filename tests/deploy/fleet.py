"""Replicas on loopback addresses behind HAProxy, as pods behind a Service: processes that are
restarted when they end, each with its own copy of a ConfigMap's folder."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ORTHRUS_BIN", str(ROOT / "build" / "orthrus"))
TINY = ROOT / "tests" / "data" / "golden" / "tiny-bert"
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/sbin")
WRK = shutil.which("wrk")
PATIENCE_S = 60


def wait_until(holds, what, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience_s} s for {what}")
        time.sleep(0.05)


def free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def ask(address, path, method="GET", body=None, headers=None, timeout_s=10):
    """(status, {lower-case header: value}, body) of one request on a connection of its own."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def negated_heads(source):
    """The heads file at source with every weight's sign turned: valid, and other answers."""
    data = bytearray(source.read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert tensor["dtype"] == "F32"
        begin, end = tensor["data_offsets"]
        for sign in range(8 + size + begin + 3, 8 + size + end, 4):
            data[sign] ^= 0x80
    return bytes(data)


class ConfigMapFolder:
    """A folder as the kubelet lays it: names are links through ..data, which is swapped whole."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        folder.mkdir()

    def put(self, files):
        """files: {name: bytes}."""
        self.count += 1
        generation = self.folder / f"..generation_{self.count}"
        generation.mkdir()
        for name, data in files.items():
            (generation / name).write_bytes(data)
        data_link = self.folder / "..data"
        old = os.readlink(data_link) if data_link.is_symlink() else None
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(generation.name)
        fresh.rename(data_link)
        for name in files:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        for entry in self.folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        if old:
            shutil.rmtree(self.folder / old)


class Replica:
    """One `orthrus serve`, started again whenever it ends, as a kubelet would."""

    def __init__(self, index, folder, flags=(), model=TINY, threads=1, program=None):
        host = f"127.0.0.{21 + index}"
        self.name = f"orthrus-{index}"
        self.address = f"{host}:{free_port(host)}"
        self.admin = f"{host}:{free_port(host)}"
        self.heads = ConfigMapFolder(folder / f"{self.name}-heads")
        self.log = open(folder / f"{self.name}.log", "ab")
        self.command = [program or BIN, "serve", "--model", str(model), "--listen", self.address,
                        "--admin-listen", self.admin, "--threads", str(threads),
                        "--heads-dir", str(self.heads.folder), "--precision", "fp32",
                        "--log-format", "json", "--log-level", "warn", *flags]
        self.starts = 0
        self.exits = []
        self.lock = threading.Lock()
        self.wanted = True
        self.process = None
        self._start()
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeper.start()

    def _start(self):
        with self.lock:
            if self.wanted:
                self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                                stdout=subprocess.DEVNULL, stderr=self.log)
                self.starts += 1

    def _keep(self):
        while self.wanted:
            self.exits.append(self.process.wait())
            if self.wanted:
                time.sleep(0.3)
                self._start()

    def signal(self, number):
        with self.lock:
            self.process.send_signal(number)

    def ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(self.admin, "/readyz", timeout_s=1)[0] == 200
        return False

    def restart(self, program=None):
        """Ends it the ordinary way and waits for the next one, of another program perhaps, to be ready."""
        before = self.starts
        if program:
            self.command[0] = program
        self.signal(signal.SIGTERM)
        wait_until(lambda: self.starts > before and self.ready(), f"{self.name} to come back")
        return self.exits[-1]

    def heads_sha256(self):
        text = ask(self.admin, "/metrics")[2].decode()
        return re.search(r'orthrus_heads_info\{.*sha256="([0-9a-f]*)"\} 1', text)[1]

    def cpu_seconds(self):
        text = ask(self.admin, "/metrics")[2].decode()
        return float(re.search(r"^process_cpu_seconds_total (\S+)$", text, re.M)[1])

    def stop(self):
        with self.lock:
            self.wanted = False
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.keeper.join(PATIENCE_S)
            self.log.close()


class Balancer:
    """HAProxy with docker/haproxy.cfg: addresses are the only thing that is changed."""

    def __init__(self, folder, replicas):
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.metrics = f"127.0.0.1:{free_port('127.0.0.1')}"
        config = folder / "haproxy.cfg"
        config.write_text(self.configuration(replicas))
        self.log = open(folder / "haproxy.log", "ab")
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)],
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        wait_until(lambda: self.up() == len(replicas), "the balancer to see every replica")

    def configuration(self, replicas):
        text = (ROOT / "docker" / "haproxy.cfg").read_text()
        servers = "\n".join(f"    server {r.name} {r.address} port {r.admin.rsplit(':', 1)[1]}"
                            for r in replicas)
        text, templates = re.subn(r"^ *server-template .*$", servers, text, flags=re.M)
        text, binds = re.subn(r"^( *bind) :8080$", rf"\1 {self.address}", text, flags=re.M)
        text, more = re.subn(r"^( *bind) :8404$", rf"\1 {self.metrics}", text, flags=re.M)
        assert (templates, binds, more) == (1, 1, 1)
        return text

    def counters(self, name):
        """{labels: value} of one of HAProxy's own metrics."""
        text = ask(self.metrics, "/metrics")[2].decode()
        return {m[1]: float(m[2])
                for m in re.finditer(rf"^{name}\{{(.*)\}} (\S+)$", text, re.M)}

    def up(self):
        assert self.process.poll() is None, "haproxy ended; see haproxy.log"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return sum(value for labels, value in self.counters("haproxy_server_status").items()
                       if 'state="UP"' in labels)
        return -1

    def total(self, name):
        return int(sum(self.counters(name).values()))

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def fleet(folder, n, flags=(), **options):
    """n replicas, ready, behind a balancer: (replicas, balancer)."""
    replicas, balancer = [], None
    try:
        for index in range(n):
            replicas.append(Replica(index, folder, flags, **options))
        for replica in replicas:
            wait_until(replica.ready, f"{replica.name} to be ready")
        balancer = Balancer(folder, replicas)
        yield replicas, balancer
    finally:
        if balancer:
            balancer.stop()
        for replica in replicas:
            with contextlib.suppress(subprocess.TimeoutExpired):
                replica.stop()


def sha256(data):
    return hashlib.sha256(data).hexdigest()
