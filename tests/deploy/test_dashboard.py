"""The Grafana dashboard: each of its expressions, evaluated by a real Prometheus that scrapes a running daemon."""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "docker" / "grafana" / "orthrus.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What happened in no test has no value: no swap, no second start, nothing staged, no cache.
MAY_BE_EMPTY = {"Heads swapped", "Started", "Shadow disagreement", "Cache in use"}
PATIENCE_S = 60


def expressions():
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def asked(expression):
    """As Grafana sends it: its variables replaced."""
    text = expression.replace("$__rate_interval", "30s").replace("$job", "orthrus").replace("$instance", ".*")
    assert "$" not in text, text
    return text


def test_every_panel_says_what_it_is():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) and len(PANELS) >= 20
    for panel in PANELS:
        assert panel["title"] and panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Saturation", "Cache", "Heads and swaps", "Replicas"]


def test_panels_do_not_overlap():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_metrics_exist(start):
    served = set(re.findall(r"^([a-z_]+)[{ ]", start().get("/metrics", admin=True).body.decode(), re.M))
    for title, expression in expressions():
        names = set(re.findall(r"\b((?:orthrus|process)_\w+)\b", expression))
        assert names and names <= served, f"{title}: {names - served}"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def prometheus(start, tmp_path):
    """(ask, server): a Prometheus that scrapes the server every half second."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    server, port = start(), free_port()
    (tmp_path / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
        "scrape_configs": [{"job_name": "orthrus", "static_configs": [{"targets": [server.admin]}]}]}))
    process = subprocess.Popen(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(expression):
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    try:
        yield ask, server
    finally:
        process.terminate()
        process.wait()


def test_expressions_have_values(prometheus):
    ask, server = prometheus
    deadline = time.monotonic() + PATIENCE_S
    scrapes = 0
    while scrapes < 4:
        server.post("/classify", {"inputs": ["one", "two"]})
        server.post("/sentiment", {"inputs": "three"})
        time.sleep(0.5)
        try:
            found = ask('count_over_time(orthrus_build_info{job="orthrus"}[1m])')
            scrapes = int(found[0]["value"][1]) if found else 0
        except OSError:
            assert time.monotonic() < deadline, "Prometheus does not answer"
    for title, expression in expressions():
        values = [float(series["value"][1]) for series in ask(asked(expression))]
        if title in MAY_BE_EMPTY:
            continue
        assert values, f"{title}: {expression} has no value"
        assert all(value == value for value in values), f"{title}: {expression} is not a number"
