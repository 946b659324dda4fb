#!/usr/bin/env python3
"""Replicas behind HAProxy lose nothing: rolling restarts, kill -9, a frozen replica and swaps of
the heads, under load whose every answer is checked.

usage: replicas.py [--requests N] [--replicas N] [--connections N] [--json FILE]
       replicas.py --scaling MODEL [--json FILE]

Exit status 0 when no request failed and all replicas ended with the same heads."""

import argparse
import collections
import contextlib
import json
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

from fleet import HAPROXY, TINY, WRK, fleet, negated_heads, sha256, wait_until
from load import Clients, Volume, answers, catalogue, wrk_script

DRAIN_DELAY_MS = 2500  # above the 1.3 s in which docker/haproxy.cfg sees that a replica drains
CHUNK_S = 20           # of wrk, which knows seconds but not a number of requests


class Heads:
    """Two sets of heads, swapped in every replica's folder, not at the same instant."""

    def __init__(self, replicas):
        self.replicas = replicas
        self.files = [(TINY / "heads.safetensors").read_bytes(),
                      negated_heads(TINY / "heads.safetensors")]
        self.serial = self.which = self.swaps = 0

    def put(self, which, spread_s=0.0, broken=False):
        """broken: beside the valid file one with a greater name that no replica may take."""
        self.serial += 1
        files = {f"heads-{self.serial:06d}.safetensors": self.files[which]}
        if broken:
            files[f"heads-{self.serial:06d}x.safetensors"] = self.files[which][:-4]
        for replica in self.replicas:
            time.sleep(random.uniform(0, spread_s))
            replica.heads.put(files)
        self.which = which
        self.swaps += 1

    def converged(self):
        """All replicas serve what was put last."""
        wanted = sha256(self.files[self.which])
        return all(replica.heads_sha256() == wanted for replica in self.replicas)


class Chaos:
    """Everything that happens to a fleet, one round after another, until stop(). At any time at
    least one replica is well, as a PodDisruptionBudget sees to."""

    def __init__(self, replicas, heads, freeze_s=11.0):
        self.replicas, self.heads, self.freeze_s = replicas, heads, freeze_s
        self.did = collections.Counter()
        self.problems = []
        self.random = random.Random(4)
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._guard, args=(run,))
                        for run in (self._disrupt, self._swap)]
        for thread in self.threads:
            thread.start()

    def _guard(self, run):
        try:
            while not self.ended.is_set():
                run()
        except Exception as problem:  # told by the test that started this
            self.problems.append(repr(problem))

    def _well(self, but=()):
        return [r for r in self.replicas if r not in but and r.ready()]

    def _kill(self, but=()):
        well = self._well(but)
        if len(well) > 1:
            victim = self.random.choice(well)
            before = victim.starts
            victim.signal(signal.SIGKILL)
            self.did["killed"] += 1
            wait_until(lambda: victim.starts > before and victim.ready(), "a killed one's return")
            # Ready there, and seen by the balancer's next check.
            time.sleep(1)

    def _roll(self):
        for replica in self.replicas:
            if self.ended.is_set():
                return
            status = replica.restart()
            if status != 0:
                self.problems.append(f"{replica.name} ended with {status}")
            self.did["restarted"] += 1
            time.sleep(1)

    def _freeze(self):
        victim = self.random.choice(self.replicas)
        victim.signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + self.freeze_s
            while time.monotonic() < end:
                self._kill(but=(victim,))
                time.sleep(0.2)
        finally:
            victim.signal(signal.SIGCONT)
        self.did["frozen"] += 1
        wait_until(victim.ready, "a frozen one's return")
        time.sleep(1)

    def _disrupt(self):
        self._roll()
        for _ in range(2):
            self._kill()
            time.sleep(1)
        self._freeze()

    def _swap(self):
        serial = self.heads.serial
        self.heads.put(serial % 2, spread_s=0.5, broken=serial % 4 == 3)
        self.ended.wait(1.5)

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(180)


def survive(folder, requests, n=3, connections=24, rounds=1, say=lambda text: None):
    """Runs the load through chaos until both have had enough; a dictionary of what happened."""
    flags = ["--drain-delay-ms", str(DRAIN_DELAY_MS), "--drain-timeout-s", "20"]
    entries = catalogue()
    with fleet(folder, n, flags) as (replicas, balancer):
        heads = Heads(replicas)
        known = None
        for which in (1, 0):
            heads.put(which)
            wait_until(heads.converged, "the first heads")
            known = answers(replicas[0].address, entries, known)
        assert any(len(by_heads) == 2 for by_heads in known), "the two sets of heads answer alike"
        script = folder / "load.lua"
        wrk_script(script, entries, known)
        begin = time.monotonic()
        chaos = Chaos(replicas, heads)
        clients = Clients(balancer.address, entries, known, n=2 if WRK else 8,
                          pause_s=0.005 if WRK else 0)
        volumes = []
        total = 0
        while not chaos.problems and (total < requests or chaos.did["frozen"] < rounds):
            if WRK:
                volumes.append(Volume(balancer.address, script, CHUNK_S if requests > 50000 else 5,
                                      connections).result())
            else:
                time.sleep(5)
            total = clients.done + int(sum(v["requests"] for v in volumes))
            say(f"{total} requests, {dict(chaos.did)}, {heads.swaps} swaps, failed: "
                f"{len(clients.failures) + sum(v['failed'] for v in volumes)}")
        chaos.stop()
        clients.stop()
        took_s = time.monotonic() - begin
        heads.put(1 - heads.which)
        same_heads = True
        try:
            wait_until(heads.converged, "the same heads everywhere", 20)
        except AssertionError:
            same_heads = False
        examples = clients.failures[:5] + [
            {k: v[k] for k in ("wrong", "connect", "read", "write", "timeout", "example")}
            for v in volumes if v["failed"]][:5]
        return {
            "requests": clients.done + int(sum(v["requests"] for v in volumes)),
            "failed": len(clients.failures) + sum(v["failed"] for v in volumes),
            "examples": examples,
            "problems": chaos.problems,
            "seconds": round(took_s, 1),
            "restarted": chaos.did["restarted"],
            "killed": chaos.did["killed"],
            "frozen": chaos.did["frozen"],
            "swaps": heads.swaps,
            "heads_seen": len(clients.heads - {"-"}),
            "same_heads": same_heads,
            "retried": balancer.total("haproxy_backend_retry_warnings_total"),
            "redispatched": balancer.total("haproxy_backend_redispatch_warnings_total"),
            "slowest_s": round(max([clients.slowest_s] + [v["slowest_us"] / 1e6
                                                          for v in volumes]), 2),
        }


def throughput(address, script, seconds, connections):
    """Requests per second and latencies; every answer checked."""
    result = Volume(address, script, seconds, connections).result()
    assert result["failed"] == 0, result
    return result


def scaling(folder, model, seconds=10, tries=3):
    """Two one-thread replicas through the balancer against one two-thread process, on a model where
    computing is what costs; then what the balancer costs, on the tiny one where it is not."""
    texts = [" ".join(f"word{i} of a sentence" for i in range(5))] * 2
    entries = [("/embed", json.dumps({"inputs": texts}))]
    # Throughput is asked for, not admission.
    flags = ["--max-queue-tokens", "1000000"]

    def measure(name, address, connections=16):
        script = folder / f"{name}.lua"
        wrk_script(script, entries, answers(address, entries))
        throughput(address, script, 2, connections)
        runs = [throughput(address, script, seconds, connections) for _ in range(tries)]
        return max(runs, key=lambda r: r["requests"] / r["seconds"])

    def rate(result):
        return round(result["requests"] / result["seconds"], 1)

    out = {}
    with fleet(folder / "one", 1, flags, model=model, threads=2) as (replicas, _):
        out["one_process_two_threads_rps"] = rate(measure("one", replicas[0].address))
    with fleet(folder / "two", 2, flags, model=model, threads=1) as (_, balancer):
        out["two_replicas_one_thread_rps"] = rate(measure("two", balancer.address))
    out["ratio"] = round(out["two_replicas_one_thread_rps"] / out["one_process_two_threads_rps"],
                         3)
    entries = [("/embed", json.dumps({"inputs": "hello world"}))]
    with fleet(folder / "tiny", 1) as (replicas, balancer):
        direct = measure("direct", replicas[0].address, 1)
        before, used = balancer.cpu_seconds(), 0
        through = measure("through", balancer.address, 1)
        used = balancer.cpu_seconds() - before
        requests = balancer.total("haproxy_frontend_http_requests_total")
        out["direct_p50_us"], out["balanced_p50_us"] = direct["p50_us"], through["p50_us"]
        out["direct_rps"], out["balanced_rps"] = rate(direct), rate(through)
        out["balancer_cpu_us_per_request"] = round(used / requests * 1e6, 1)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--scaling", metavar="MODEL", help="measure throughput instead")
    parser.add_argument("--keep", metavar="DIR", type=pathlib.Path,
                        help="an empty folder for the logs, which then stay")
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    options = parser.parse_args()
    if not HAPROXY:
        sys.exit("replicas.py: haproxy is not installed")
    with contextlib.ExitStack() as stack:
        folder = options.keep or pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="orthrus-replicas-")))
        if options.scaling:
            for part in ("one", "two", "tiny"):
                (folder / part).mkdir()
            result = scaling(folder, options.scaling)
        else:
            result = survive(folder, options.requests, options.replicas, options.connections,
                             say=lambda text: print(text, flush=True))
    print(json.dumps(result, indent=2))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result) + "\n")
    good = options.scaling or (result["failed"] == 0 and not result["problems"]
                               and result["same_heads"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
