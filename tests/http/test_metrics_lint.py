"""`promtool check metrics` finds nothing, at the first scrape and after traffic of every kind."""

import shutil
import subprocess

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
