"""`promtool check metrics` finds nothing, at the first scrape and after traffic of every kind."""

import os
import re
import shutil
import subprocess
import time

import pytest

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def lint(server, admin=False):
    body = server.get("/metrics", admin=admin).body
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                          check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@promtool
def test_clean_from_the_first_scrape(start):
    lint(start("--drain-timeout-s", "4"))


@promtool
def test_clean_after_traffic(start):
    server = start("--drain-timeout-s", "4")
    for route in ("/embed", "/classify", "/sentiment", "/analyze"):
        assert server.post(route, {"inputs": ["one text", "another " * 200]}).status == 200
    assert server.post("/embed", {"inputs": 1}).status == 422
    assert server.get("/nowhere").status == 404
    assert server.get("/livez").status == 200
    lint(server)
    lint(server, admin=True)


def quantile(buckets, q):
    """Linear inside the bucket, as Prometheus does."""
    total, low, below = buckets[-1][1], 0.0, 0
    for bound, count in buckets:
        if count >= q * total:
            return low + (bound - low) * (q * total - below) / (count - below)
        low, below = bound, count
    return low


@pytest.mark.skipif(os.environ.get("ORTHRUS_FULL") != "1", reason="needs a quiet machine: ORTHRUS_FULL=1")
def test_quantiles_are_the_clients_own(start):
    """p50, p90 and p99 from the buckets within 25 % of what the client saw, refusals beside it or not."""
    server = start("--drain-timeout-s", "4", drop=("request",))
    body = {"inputs": ["some words here and there, and a few more of them"] * 400}
    took = []
    with server.connect() as connection:
        for i in range(400):
            begin = time.monotonic()
            assert connection.post("/embed", body).status == 200
            took.append(time.monotonic() - begin)
            if i % 2:
                assert connection.post("/embed", {"inputs": 1}).status == 422
    rows = re.findall(r'orthrus_request_duration_seconds_bucket\{le="([^"]+)"\} (\d+)',
                      server.get("/metrics").body.decode())
    buckets = [(float(bound), int(count)) for bound, count in rows]
    assert buckets[-1][1] == len(took)
    took.sort()
    for q in (0.5, 0.9, 0.99):
        ratio = took[int(q * len(took))] / quantile(buckets, q)
        assert 1 / 1.25 <= ratio <= 1.25, (q, ratio)
