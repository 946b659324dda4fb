#!/usr/bin/env python3
"""Three scenarios on the daemon and in the simulation: goodput, p50 and p99 of single requests.

usage: compare.py --model DIR [--seconds N] [--tries N] [-- SERVE FLAGS]

The machine is taken from the daemon: how long full batches take, with all their jitter, from the Server-Timing of runs
that keep it busy, one before and one after each scenario; what a pass costs whatever its size from as busy a run of a
second daemon whose batches are one text. Nothing is tuned. A scenario agrees where the best of the tries is within 30 % in all three. Exit status: 0 when all agree. Needs a
machine of its own: every neighbour is one more thing that the simulation does not know."""

import argparse
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from conftest import PATIENCE_S, Server

BUILD = pathlib.Path(os.environ.get("ORTHRUS_BUILD_DIR", HERE.parents[1] / "build-release"))
TEXT = "the quick brown fox jumps over a lazy dog while seven wizards quietly box up every jug"
BULK_TEXTS = 100
QUANTILES = 24
VIRTUAL = 10  # times as long in virtual time: no large request is cut off by the end
BUSY = 12  # clients a thread: full batches all the time
ENCODE = re.compile(r"encode;dur=([0-9.]+)")
SCENARIOS = [(8, 0), (48, 0), (1, 2)]  # clients with one text, and with a hundred
NEAR = 1.3


def percentile(values, share):
    return sorted(values)[int(len(values) * share)] if values else 0.0


def load(address, singles, bulks, seconds):
    """What the clients saw of the daemon, and what it said of its passes."""
    took = {1: [], BULK_TEXTS: []}
    passes = []
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
                if texts == 1:
                    passes.append(float(ENCODE.search(reply.headers["Server-Timing"]).group(1)) / 1000)

    threads = [threading.Thread(target=run, args=(texts,))
               for texts in [1] * singles + [BULK_TEXTS] * bulks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # By what a request takes: a run that ends amid long ones counts no halves.
    clients = {1: singles, BULK_TEXTS: bulks}
    return {"texts_per_s": sum(clients[texts] * texts * len(times) / sum(times) for texts, times in took.items() if times),
            "single_p50_s": percentile(took[1], 0.5), "single_p99_s": percentile(took[1], 0.99)}, passes


def simulated(machine, singles, bulks, seconds):
    values = [machine[name] for name in ("workers", "pass", "budget", "tokens")]
    out = subprocess.run([BUILD / "tests/simulate", "--like",
                          *map(str, [*values, singles, bulks, seconds, *machine["pass_s"]])],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def distance(real, made):
    """The largest ratio between the two."""
    return max(max(real[name], made[name]) / max(min(real[name], made[name]), 1e-9)
               for name in ("texts_per_s", "single_p50_s", "single_p99_s"))


def described(server):
    """The daemon's own description, in the simulation's terms."""
    info = server.get("/info").json()
    reply = server.post("/embed", {"inputs": TEXT})
    return {"workers": info["threads"], "budget": info["limits"]["max_batch_tokens"],
            "tokens": int(reply.header("X-Compute-Tokens"))}


def pass_tokens(machine, full, small):
    """What a pass costs whatever its size, in tokens, by the times of full batches and of those with one text."""
    tokens = machine["budget"] // machine["tokens"] * machine["tokens"]
    ratio = min(percentile(small, 0.5) / percentile(full, 0.5), 0.9)
    return round(max((tokens * ratio - machine["tokens"]) / (1 - ratio), 0), 2)


def attempt(server, one_text, singles, bulks, seconds):
    machine = described(server)
    passes = []
    small = []
    for scenario in (False, True, False):
        if scenario:
            real, _ = load(server.address, singles, bulks, seconds)
        else:
            passes += load(server.address, BUSY * machine["workers"], 0, seconds / 2)[1]
            small += load(one_text.address, BUSY * machine["workers"], 0, seconds / 4)[1]
    machine["pass"] = pass_tokens(machine, passes, small)
    machine["pass_s"] = [round(percentile(passes, (i + 0.5) / QUANTILES), 5) for i in range(QUANTILES)]
    made = simulated(machine, singles, bulks, VIRTUAL * seconds)
    return distance(real, made), real, made, machine


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--model", metavar="DIR", required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="of serve")
    options = parser.parse_args()
    agree = True
    server = Server(*options.flags, model=pathlib.Path(options.model))
    one_text = Server(*options.flags, "--max-batch-tokens", "1", model=pathlib.Path(options.model))
    try:
        for singles, bulks in SCENARIOS:
            tries = [attempt(server, one_text, singles, bulks, options.seconds) for _ in range(options.tries)]
            best = min(tries, key=lambda one: one[0])
            agree = agree and best[0] <= NEAR
            print(json.dumps({"singles": singles, "bulks": bulks, "ratio": round(best[0], 3),
                              "daemon": best[1], "simulation": best[2], "machine": best[3]}),
                  flush=True)
    finally:
        server.stop()
        one_text.stop()
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
