"""The proof of replicas.py: short here, 1,000,000 requests and the scaling figures with
ORTHRUS_FULL=1."""

import json
import os

import pytest
import replicas
from fleet import HAPROXY, WRK, ask

FULL = os.environ.get("ORTHRUS_FULL") == "1"
pytestmark = pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")


def test_nothing_is_lost(tmp_path):
    result = replicas.survive(tmp_path, 1_000_000 if FULL else 20_000,
                              say=lambda text: print(text, flush=True))
    print(json.dumps(result))
    assert result["failed"] == 0, result["examples"]
    assert not result["problems"]
    assert result["same_heads"]
    # The trial was one: the balancer had to repeat requests, and both sets of heads answered.
    assert min(result[k] for k in ("restarted", "killed", "frozen", "retried")) > 0, result
    assert result["heads_seen"] == 2


def test_what_is_too_large_to_repeat_still_passes(tmp_path):
    texts = ["word " * 60] * 2000
    with replicas.fleet(tmp_path, 2, ["--max-queue-tokens", "1000000"]) as (_, balancer):
        status, _, body = ask(balancer.address, "/embed", "POST", json.dumps({"inputs": texts}),
                              {"Content-Type": "application/json"}, 60)
    assert status == 200 and len(json.loads(body)) == 2000


@pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL is not set")
@pytest.mark.skipif(not WRK, reason="wrk is not installed")
@pytest.mark.skipif(not os.environ.get("ORTHRUS_TEST_MODEL"), reason="ORTHRUS_TEST_MODEL not set")
def test_two_replicas_do_what_two_threads_do(tmp_path):
    for part in ("one", "two", "tiny"):
        (tmp_path / part).mkdir()
    result = replicas.scaling(tmp_path, os.environ["ORTHRUS_TEST_MODEL"])
    print(json.dumps(result))
    assert result["ratio"] > 0.85, result
