#!/usr/bin/env python3
"""Three scenarios on the daemon and in the simulation: goodput, p50 and p99 of single requests.

usage: compare.py --model DIR [--seconds N] [--tries N] [-- SERVE FLAGS]

The daemon's speed is taken from a run of its own that keeps it busy. A scenario agrees where the best
of the tries is within 30 % in all three. Exit status: 0 when all agree. Needs a machine of its own:
every neighbour is one more thing that the simulation does not know."""

import argparse
import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from conftest import PATIENCE_S, Server  # noqa: E402

BUILD = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", HERE.parents[1] / "build-release"))
TEXT = "the quick brown fox jumps over a lazy dog while seven wizards quietly box up every jug"
BULK_TEXTS = 100
PASS_TOKENS = 4  # what a pass costs whatever its size: about a fifth of a short sentence
SCENARIOS = [(8, 0), (48, 0), (1, 2)]  # clients with one text, and with a hundred
NEAR = 1.3


def percentile(values, share):
    return sorted(values)[int(len(values) * share)] if values else 0.0


def load(address, singles, bulks, seconds):
    """What the clients saw of the daemon."""
    took = {1: [], BULK_TEXTS: []}
    end = time.monotonic() + seconds

    def run(texts):
        body = json.dumps({"inputs": [TEXT] * texts})
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        while time.monotonic() < end:
            begin = time.monotonic()
            connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            if reply.status == 200:
                took[texts].append(time.monotonic() - begin)

    threads = [threading.Thread(target=run, args=(texts,))
               for texts in [1] * singles + [BULK_TEXTS] * bulks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"texts_per_s": sum(texts * len(times) for texts, times in took.items()) / seconds,
            "single_p50_s": percentile(took[1], 0.5), "single_p99_s": percentile(took[1], 0.99)}


def simulated(machine, singles, bulks, seconds):
    values = [machine[name] for name in ("workers", "speed", "pass", "budget", "tokens")]
    out = subprocess.run([BUILD / "tests/simulate", "--like",
                          *map(str, [*values, singles, bulks, seconds])],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def distance(real, made):
    """The largest ratio between the two."""
    return max(max(real[name], made[name]) / max(min(real[name], made[name]), 1e-9)
               for name in ("texts_per_s", "single_p50_s", "single_p99_s"))


def measured(server, address, seconds):
    """The machine in the simulation's terms."""
    info = server.get("/info").json()
    reply = server.post("/embed", {"inputs": TEXT})
    tokens = int(reply.header("X-Compute-Tokens"))
    workers, budget = info["threads"], info["limits"]["max_batch_tokens"]
    busy = load(address, 24 * workers, 0, seconds)["texts_per_s"] * tokens / workers
    full = max(budget // tokens, 1) * tokens
    return {"workers": workers, "budget": budget, "tokens": tokens, "pass": PASS_TOKENS,
            "speed": round(busy * (full + PASS_TOKENS) / full, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--model", metavar="DIR", required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="of serve")
    options = parser.parse_args()
    agree = True
    server = Server(*options.flags, model=pathlib.Path(options.model))
    try:
        address = server.address
        for singles, bulks in SCENARIOS:
            tries = []
            for _ in range(options.tries):
                machine = measured(server, address, options.seconds / 2)
                real = load(address, singles, bulks, options.seconds)
                made = simulated(machine, singles, bulks, options.seconds)
                tries.append((distance(real, made), real, made, machine))
            best = min(tries, key=lambda one: one[0])
            agree = agree and best[0] <= NEAR
            print(json.dumps({"singles": singles, "bulks": bulks, "ratio": round(best[0], 3),
                              "daemon": best[1], "simulation": best[2], "machine": best[3]}),
                  flush=True)
    finally:
        server.stop()
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
