"""docker/haproxy.cfg is valid and repeats what it may; docker/compose.yaml is safe by default."""

import http.server
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
import yaml
from fleet import HAPROXY
from load import catalogue

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "docker" / "haproxy.cfg"


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
def test_haproxy_accepts_its_configuration():
    done = subprocess.run([HAPROXY, "-c", "-f", CONFIG], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


class Replica(http.server.BaseHTTPRequestHandler):
    """Answers the status that the path names, and remembers who was said to ask."""
    forwarded = []

    def do_GET(self):
        self.forwarded.append(self.headers.get_all("X-Forwarded-For"))
        self.send_response(200 if self.path == "/readyz" else int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
def test_what_is_logged_and_forwarded(tmp_path):
    replica = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    threading.Thread(target=replica.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = CONFIG.read_text()
    text = text[:text.index("# The container engine's own name server")]
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("check port 8081", f"check port {replica.server_port}")
    text = re.sub(r"server-template .*", f"server one 127.0.0.1:{replica.server_port}", text)
    (tmp_path / "haproxy.cfg").write_text(text)
    process = subprocess.Popen([HAPROXY, "-f", tmp_path / "haproxy.cfg"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        deadline = time.monotonic() + 20
        seen = []
        for status in (200, 404, 429, 500):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{status}", headers={"X-Forwarded-For": "203.0.113.9"})
            while True:
                try:
                    seen.append(urllib.request.urlopen(request, timeout=10).status)
                    break
                except urllib.error.HTTPError as refused:
                    if refused.code == 503 and time.monotonic() < deadline:
                        time.sleep(0.2)  # the first health check
                        continue
                    seen.append(refused.code)
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        assert seen == [200, 404, 429, 500]
        time.sleep(1)  # a line is written when its connection has ended
    finally:
        process.terminate()
        log = process.communicate(timeout=20)[0]
        replica.shutdown()
    logged = [line for line in log.splitlines() if '"GET /' in line]
    assert [path for path in ("/200", "/404", "/429", "/500") if any(f"GET {path} " in line for line in logged)] == ["/429", "/500"]
    assert {tuple(value) for value in Replica.forwarded if value} == {("127.0.0.1",)}


def test_requests_of_the_proof_fit_the_buffer():
    bufsize = int(re.search(r"tune\.bufsize (\d+)", CONFIG.read_text())[1])
    assert max(len(body) for _, body in catalogue()) < bufsize - 2048


def milliseconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s)", text).groups()
    return int(number) * (1000 if unit == "s" else 1)


def test_a_draining_replica_is_seen_before_it_stops_listening():
    config = CONFIG.read_text()
    inter, fast, timeout = (milliseconds(re.search(rf"\b{name} (\d+m?s)\b", config)[1])
                            for name in ("inter", "fastinter", "timeout check"))
    fall = int(re.search(r"\bfall (\d+)", config)[1])
    slowest = inter + (fall - 1) * max(fast, timeout)
    orthrus = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["orthrus"]
    delay = int(orthrus["environment"]["ORTHRUS_DRAIN_DELAY_MS"])
    assert slowest < delay
    grace = milliseconds(orthrus["stop_grace_period"])
    drain = int(orthrus["environment"]["ORTHRUS_DRAIN_TIMEOUT_S"]) * 1000
    assert delay + drain < grace


def test_deadlines_end_before_the_balancer_gives_up():
    config = CONFIG.read_text()
    small, large = (int(ms) for ms in re.findall(r"set-header X-Request-Timeout-Ms (\d+)", config))
    assert small < milliseconds(re.search(r"set-timeout server (\d+m?s)", config)[1])
    assert large < milliseconds(re.search(r"^ *timeout server (\d+m?s)", config, re.M)[1])


def test_compose_services_are_locked_down():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for mount in service["volumes"]:
            assert mount.endswith(":ro") or re.match(r"[a-z]+:", mount), mount
    assert services["orthrus"]["deploy"]["replicas"] == 2
    assert "ports" not in services["orthrus"]
