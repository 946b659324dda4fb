"""A roll from 0.1.0 to this build and back, replica by replica behind HAProxy, under load whose every answer is checked:
nothing fails, and whoever answers does so by heads that were put. With ORTHRUS_FULL=1: 0.1.0 is built from the history."""

import contextlib
import json
import os
import signal
import struct
import time

import first_release
import pytest
from fleet import BIN, HAPROXY, TINY, ask, fleet, sha256, wait_until
from load import Clients, answers, catalogue
from replicas import DRAIN_DELAY_MS, Heads

FULL = os.environ.get("ORTHRUS_FULL") == "1"
pytestmark = [pytest.mark.skipif(not FULL, reason="ORTHRUS_FULL is not set"),
              pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")]
MIXED_S = 15  # between two steps of the roll
TOLERANCE = 1e-5  # 0.1 rounds otherwise


def with_mood(source):
    """The heads file at source and one head more, which 0.1 cannot hold."""
    data = source.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    hidden = header["classifier.weight"]["shape"][1]
    for name, shape in (("mood.weight", [2, hidden]), ("mood.bias", [2])):
        n = shape[0] * (shape[1] if len(shape) == 2 else 1)
        raw = struct.pack(f"<{n}f", *((i % 7 - 3) / 8 for i in range(n)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    header.setdefault("__metadata__", {})["mood.labels"] = '["glad", "sad"]'
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def test_a_roll_of_two_releases_loses_nothing(tmp_path):
    old = first_release.program()
    flags = ["--drain-delay-ms", str(DRAIN_DELAY_MS), "--drain-timeout-s", "20"]
    entries = catalogue()
    with fleet(tmp_path, 3, flags, program=old) as (replicas, balancer), contextlib.ExitStack() as stack:
        heads = Heads(replicas)
        heads.files.append(with_mood(TINY / "heads.safetensors"))
        known = None
        for which in (1, 0):
            heads.put(which)
            wait_until(heads.converged, "the first heads")
            known = answers(replicas[0].address, entries, known)
        assert any(len(by_heads) == 2 for by_heads in known)
        # The third file has the first one's heads and one more: the same answers under another name.
        first, third = (sha256(heads.files[which])[:12] for which in (0, 2))
        for by_heads in known:
            if first in by_heads:
                by_heads[third] = by_heads[first].replace(first, third)
        clients = Clients(balancer.address, entries, known, n=6, tolerance=TOLERANCE)
        stack.callback(clients.stop)
        steps = []

        def kill(replica):
            starts = replica.starts
            replica.signal(signal.SIGKILL)
            wait_until(lambda: replica.starts > starts and replica.ready(), "a killed one's return")

        def mixed(what, victim=None):
            """Swaps of heads that both releases hold, for a while, in whatever the pool is now; one may be killed."""
            before, end = clients.done, time.monotonic() + MIXED_S
            while time.monotonic() < end:
                heads.put(1 - heads.which, spread_s=0.3, broken=heads.serial % 3 == 0)
                time.sleep(1)
                if victim:
                    kill(victim)
                    victim = None
            wait_until(heads.converged, "the same heads in both releases")
            steps.append((what, clients.done - before, heads.swaps))

        mixed("old alone")
        for i, replica in enumerate(replicas):
            assert replica.restart(BIN) == 0
            mixed(f"{i + 1} of 3 are new", replica if i < 2 else None)
        # Heads of the new release alone, once it is everywhere; then a replica of the old one beside them.
        wait_until(lambda: all(r.ready() for r in replicas), "every replica")
        heads.put(2)
        wait_until(heads.converged, "three heads")
        time.sleep(3)
        assert ask(balancer.address, "/heads/mood", "POST", json.dumps({"inputs": "hello"}),
                   {"Content-Type": "application/json"})[0] == 200
        heads.put(0)
        wait_until(heads.converged, "two heads again")
        for i, replica in enumerate(replicas):
            assert replica.restart(old) == 0
            mixed(f"{i + 1} of 3 are old again", replica if i < 2 else None)
        wait_until(lambda: all(r.ready() for r in replicas), "every replica")
        clients.stop()
        retried = balancer.total("haproxy_backend_retry_warnings_total")
    print(json.dumps({"requests": clients.done, "failed": len(clients.failures), "swaps": heads.swaps, "retried": retried,
                      "steps": steps, "slowest_s": round(clients.slowest_s, 2)}))
    assert not clients.failures, clients.failures[:5]
    assert len(clients.heads - {"-"}) >= 2


def test_heads_of_the_new_release_beside_the_old_one(tmp_path):
    """A file that 0.1 cannot hold lies in every replica's folder: 0.1 refuses it and keeps what it serves, this build takes it;
    the routes that both know are answered by both, by the same two heads."""
    old = first_release.program()
    entries = catalogue()
    both = (TINY / "heads.safetensors").read_bytes()
    with fleet(tmp_path, 2, program=old) as (replicas, balancer), contextlib.ExitStack() as stack:
        heads = Heads(replicas)
        heads.files.append(with_mood(TINY / "heads.safetensors"))
        heads.put(0)
        wait_until(heads.converged, "the first heads")
        known = answers(replicas[0].address, entries)
        replicas[1].restart(BIN)
        heads.put(2)
        wait_until(lambda: replicas[1].heads_sha256() == sha256(heads.files[2]), "the new one's heads")
        known = answers(replicas[1].address, entries, known)
        wait_until(lambda: balancer.up() == 2, "both to be up")
        clients = Clients(balancer.address, entries, known, n=4, tolerance=TOLERANCE)
        stack.callback(clients.stop)
        time.sleep(8)
        clients.stop()
        assert replicas[0].heads_sha256() == sha256(both)
        assert not clients.failures, clients.failures[:5]
        assert clients.heads - {"-"} == {sha256(both)[:12], sha256(heads.files[2])[:12]}
